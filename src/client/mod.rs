//! How does keyward talk to a running keyward? HTTP over its Unix sockets, after a look at who is listening there. And how
//! does it read a small public document from a web server: see [`fetch`].
//! This module never follows a redirect, never retries what may have begun, and never keeps a body unwiped.

mod body;
mod fetch;
mod line;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::Timer;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::names::RequestId;
use crate::secret::SecretBytes;

pub use fetch::{FetchError, FetchUrl, Post, Trust, UrlError, fetch, post, tls};
pub use line::{Address, AddressError, TlsLine, tls_line};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("there is no keyward at {0}")]
    NotRunning(PathBuf),
    /// The file system does not let us connect.
    #[error("{0} may not be used by this user; run as its owner or ask for the right")]
    Forbidden(PathBuf),
    /// Somebody else listens there: nothing was sent.
    #[error("{path} is served by user {found}, not by user {expected} or root; nothing was sent")]
    WrongServer {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        found: u32,
        /// Who should.
        expected: u32,
    },
    /// The connection could not be made.
    #[error("{path} cannot be connected to")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path or the request id does not make a request.
    #[error("this is not a request")]
    Request(#[from] http::Error),
    /// The connection ended before the answer.
    #[error("the answer did not come whole; the request may have been carried out")]
    Broken(#[from] hyper::Error),
    /// No answer within the time.
    #[error("no answer within {} seconds; the request may have been carried out", .0.as_secs())]
    TimedOut(Duration),
    /// The answer is larger than the limit.
    #[error("the answer is larger than {MAX_REPLY_BYTES} bytes")]
    TooLarge,
}

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body: it may hold plaintext.
    pub body: SecretBytes,
}

/// Talks to one socket, over one connection that is kept for the next request. Requests wait for each other.
pub struct Client {
    path: PathBuf,
    server: u32,
    timeout: Duration,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// The largest answer: 1,000 opened items of a request of 8 MiB, each character escaped, and their frame.
pub const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

impl Client {
    /// Connects and checks that the listener is this user or root. Must be called within a runtime.
    pub async fn connect(path: &Path, expected_uid: u32, timeout: Duration) -> Result<Self, ClientError> {
        let client = Self { path: path.to_owned(), server: expected_uid, timeout, connection: Mutex::new(None) };
        let first = client.dial().await?;
        *client.connection.lock().await = Some(first);
        Ok(client)
    }

    /// Sends a request, with a JSON body if one is given, and waits for the whole answer.
    pub async fn request(&self, method: Method, path: &str, json: Option<SecretBytes>) -> Result<Reply, ClientError> {
        self.send(method, path, json, None).await
    }

    /// The same under a request id of the caller.
    pub async fn request_as(
        &self,
        id: &RequestId,
        method: Method,
        path: &str,
        json: Option<SecretBytes>,
    ) -> Result<Reply, ClientError> {
        self.send(method, path, json, Some(id)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        json: Option<SecretBytes>,
        id: Option<&RequestId>,
    ) -> Result<Reply, ClientError> {
        let request = build(method, path, json, id)?;
        // The lock is held for the whole exchange: HTTP/1.1 answers in order.
        let mut connection = self.connection.lock().await;
        tokio::select! {
            reply = self.exchange(&mut connection, request) => reply,
            () = TokioTimer::new().sleep(self.timeout) => {
                // An answer that is still under way belongs to a request that nobody waits for.
                *connection = None;
                Err(ClientError::TimedOut(self.timeout))
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, ClientError> {
        let mut sender = match connection.take() {
            Some(kept) => kept,
            None => self.dial().await?,
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            // The kept connection had been closed before anything was sent: the request is whole and goes out anew.
            Err(mut unsent) => match unsent.take_message() {
                Some(request) => {
                    sender = self.dial().await?;
                    sender.send_request(request).await?
                }
                None => return Err(unsent.into_error().into()),
            },
        };
        let reply = read(response).await?;
        *connection = Some(sender);
        Ok(reply)
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|source| self.unreachable(source))?;
        let wrong = |source| ClientError::Connect { path: self.path.clone(), source };
        let found = stream.peer_cred().map_err(wrong)?.uid();
        if found != self.server && found != 0 && !self.is_keeper(found) {
            return Err(ClientError::WrongServer { path: self.path.clone(), found, expected: self.server });
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong on it, the request hears too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Whether the socket and its directory say that this user serves here: nobody else can put a socket there. Custodians
    /// and operators have accounts of their own, and whoever chose the path chose whom to believe.
    fn is_keeper(&self, uid: u32) -> bool {
        use std::os::unix::fs::MetadataExt;
        let socket = std::fs::symlink_metadata(&self.path).is_ok_and(|socket| socket.uid() == uid);
        let directory = self.path.parent().and_then(|parent| std::fs::metadata(parent).ok());
        let kept = |found: std::fs::Metadata| (found.uid() == uid || found.uid() == 0) && found.mode() & 0o022 == 0;
        socket && directory.is_some_and(kept)
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path),
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(path),
            _ => ClientError::Connect { path, source },
        }
    }
}

fn build(
    method: Method,
    path: &str,
    json: Option<SecretBytes>,
    id: Option<&RequestId>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(id) = id {
        request = request.header("x-request-id", id.as_str());
    }
    request.body(json.map_or_else(Full::default, body::outgoing))
}

async fn read(response: Response<Incoming>) -> Result<Reply, ClientError> {
    let (head, mut incoming) = response.into_parts();
    let body = body::read(&mut incoming, MAX_REPLY_BYTES).await?.ok_or(ClientError::TooLarge)?;
    Ok(Reply { status: head.status, headers: head.headers, body })
}

#[cfg(test)]
mod tests;
