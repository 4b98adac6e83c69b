//! Where does a witness hear? HTTP/1.1, over TLS or on this machine alone, with bounds on everything that a stranger sends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::clock::SharedClock;

use super::desk::{Desk, MAX_BODY, Reply};

/// Connections at once.
const MOST: usize = 256;
/// A head, a body or a handshake may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection lives so long at most.
const LIFE: Duration = Duration::from_secs(600);

/// What proves the server: certificate and key (PEM).
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A witness that listens.
pub struct Listening {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    desk: Arc<Desk>,
    clock: SharedClock,
}

/// Binds; without TLS only on this machine.
pub async fn listen(
    address: SocketAddr,
    tls: Option<&TlsFiles>,
    desk: Arc<Desk>,
    clock: SharedClock,
) -> io::Result<Listening> {
    if tls.is_none() && !address.ip().is_loopback() {
        let why = "without a certificate a witness listens on 127.0.0.1 or [::1] alone";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let acceptor = tls.map(acceptor).transpose()?;
    Ok(Listening { listener: TcpListener::bind(address).await?, acceptor, desk, clock })
}

fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let wrong =
        |path: &Path, why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong(&files.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
    let config = config.map_err(|error| wrong(&files.certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listening {
    /// Where.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future of its task is dropped.
    pub async fn serve(self) {
        let Self { listener, acceptor, desk, clock } = self;
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, say: the next one may find some.
                    tracing::warn!(%error, "a connection was not accepted");
                    clock.sleep_until(clock.mono().plus(Duration::from_millis(100))).await;
                    continue;
                }
            };
            let (acceptor, desk, clock) = (acceptor.clone(), Arc::clone(&desk), clock.clone());
            tokio::spawn(async move {
                let until = clock.mono().plus(LIFE);
                tokio::select! {
                    () = connection(stream, acceptor, desk, clock.clone()) => {}
                    () = clock.sleep_until(until) => {}
                }
                drop(place);
            });
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, acceptor: Option<TlsAcceptor>, desk: Arc<Desk>, clock: SharedClock) {
    let Some(acceptor) = acceptor else { return talk(stream, desk, clock).await };
    let by = clock.mono().plus(PATIENCE);
    tokio::select! {
        shaken = acceptor.accept(stream) => match shaken {
            Ok(stream) => talk(stream, desk, clock).await,
            Err(error) => tracing::debug!(%error, "a handshake failed"),
        },
        () = clock.sleep_until(by) => {}
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, desk: Arc<Desk>, clock: SharedClock) {
    let answer = service_fn(move |request| {
        let (desk, clock) = (Arc::clone(&desk), clock.clone());
        async move { Ok::<_, Infallible>(respond(answer(request, desk, clock).await)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 * 1024);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(request: Request<Incoming>, desk: Arc<Desk>, clock: SharedClock) -> Reply {
    let path = request.uri().path().to_owned();
    if path == "/add-checkpoint" {
        if request.method() != Method::POST {
            return Reply::text(405, "this is for POST");
        }
        let by = clock.mono().plus(PATIENCE);
        let body = tokio::select! {
            body = Limited::new(request.into_body(), MAX_BODY).collect() => body,
            () = clock.sleep_until(by) => return Reply::text(408, "the body did not come"),
        };
        let Ok(body) = body else { return Reply::text(413, "the body is larger than any such") };
        // It writes to the disk.
        let cosigned = tokio::task::spawn_blocking(move || desk.add_checkpoint(&body.to_bytes())).await;
        return cosigned.unwrap_or_else(|_| Reply::text(500, "this is a defect"));
    }
    match path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint")) {
        Some(hash) if request.method() == Method::GET => desk.checkpoint(hash),
        Some(_) => Reply::text(405, "this is for GET"),
        None => Reply::text(404, "there is /add-checkpoint and /<hash of an origin>/checkpoint"),
    }
}

fn respond(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(reply.kind));
    response
}
