//! How is a web server asked? One GET of a small public document, or one POST, over https under a named authority, or over
//! plain http to this machine. No redirect is followed, no proxy is asked, nothing comes from the environment.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper::rt::Timer;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::body;

/// Where a document is. Made only of an `https` URL, or of an `http` URL whose host is a literal loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchUrl {
    text: String,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute URL of http or https, or with a user in it.
    #[error("is not a URL such as https://issuer.example/keys")]
    Malformed,
    /// Whoever is on the way could answer.
    #[error("is plain http to another machine (http is for 127.0.0.1 and [::1])")]
    Plain,
}

/// How the server is believed, and what it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The authorities (PEM) that may vouch for it; needed for https.
    pub ca_file: Option<PathBuf>,
    /// A file whose content is sent as a bearer token.
    pub token_file: Option<PathBuf>,
    /// What proves us: certificate and key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is posted.
#[derive(Debug)]
pub struct Post<'a> {
    /// Where to.
    pub url: &'a FetchUrl,
    /// How the server is believed, and the token.
    pub trust: &'a Trust,
    /// What the token is called in `Authorization`.
    pub scheme: &'static str,
    /// The type of the body.
    pub content: &'static str,
    /// One more header.
    pub extra: Option<(&'static str, &'a str)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file of [`Trust`].
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server is away, or not believed.
    #[error("{url} cannot be reached: {problem}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        problem: String,
    },
    /// It answered something else.
    #[error("{url} answered {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status {
        /// The URL.
        url: String,
        /// What.
        status: StatusCode,
        /// The beginning of what it said, without what is no letter.
        said: String,
    },
    /// Its certificate is not believed, or it does not believe ours.
    #[error("{url} is not believed: {problem}")]
    Certificate {
        /// The URL or address.
        url: String,
        /// Why.
        problem: String,
    },
    /// Larger than any such document.
    #[error("{0} is larger than it may be")]
    TooLarge(String),
    /// No answer within the time.
    #[error("{url} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// The URL.
        url: String,
        /// The time.
        after: Duration,
    },
}

impl FetchError {
    /// One of a few words for it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Unreachable { .. } => "unreachable",
            Self::Certificate { .. } => "certificate",
            Self::Status { .. } => "refused",
            Self::TooLarge(_) => "answer",
            Self::TimedOut { .. } => "timeout",
        }
    }

    /// What a failed handshake says.
    pub fn of_tls(url: &str, error: &std::io::Error) -> Self {
        let (url, problem) = (url.to_owned(), error.to_string());
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
                Self::Certificate { url, problem }
            }
            _ => Self::Unreachable { url, problem },
        }
    }
}

impl FetchUrl {
    /// Another path at the same server.
    #[must_use]
    pub fn beside(&self, path: &str) -> Self {
        let root = self.text.split('/').take(3).collect::<Vec<_>>().join("/");
        Self { text: root + path, path: path.to_owned(), ..self.clone() }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the server needs a certificate.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for FetchUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlError::Malformed);
        };
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Malformed),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(UrlError::Malformed);
        }
        // A name could lead to any machine.
        if !tls && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return Err(UrlError::Plain);
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { text: text.to_owned(), tls, host, port, path })
    }
}

/// Reads a document of at most `most` bytes. Must be called within a runtime.
pub async fn fetch(url: &FetchUrl, trust: &Trust, within: Duration, most: usize) -> Result<Vec<u8>, FetchError> {
    tokio::select! {
        read = async { ask(url, trust, request(url, trust, None)?, most).await } => read,
        () = TokioTimer::new().sleep(within) => Err(FetchError::TimedOut { url: url.text.clone(), after: within }),
    }
}

/// Posts, and gives the answer of a 2xx status, of at most `most` bytes. Must be called within a runtime.
pub async fn post(post: Post<'_>, within: Duration, most: usize) -> Result<Vec<u8>, FetchError> {
    let (url, trust) = (post.url, post.trust);
    tokio::select! {
        read = async { ask(url, trust, request(url, trust, Some(post))?, most).await } => read,
        () = TokioTimer::new().sleep(within) => Err(FetchError::TimedOut { url: url.text.clone(), after: within }),
    }
}

async fn ask(url: &FetchUrl, trust: &Trust, request: Request<Full<Bytes>>, most: usize) -> Result<Vec<u8>, FetchError> {
    let away = |problem: String| FetchError::Unreachable { url: url.text.clone(), problem };
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| away(error.to_string()))?;
    if !url.tls {
        return exchange(url, stream, request, most).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|error| away(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(tls(trust)?));
    let stream = connector.connect(name, stream).await.map_err(|error| FetchError::of_tls(&url.text, &error))?;
    exchange(url, stream, request, most).await
}

fn request(url: &FetchUrl, trust: &Trust, post: Option<Post<'_>>) -> Result<Request<Full<Bytes>>, FetchError> {
    let malformed = |error: http::Error| FetchError::Unreachable { url: url.text.clone(), problem: error.to_string() };
    let host = url.text.split('/').nth(2).unwrap_or_default();
    let scheme = post.as_ref().map_or("Bearer", |post| post.scheme);
    let request = match post {
        None => Request::get(&url.path)
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .header(header::HOST, host)
            .body(Full::default()),
        Some(Post { content, extra, body, .. }) => {
            let mut request = Request::post(&url.path).header(header::CONTENT_TYPE, content).header(header::HOST, host);
            if let Some((name, value)) = extra {
                request = request.header(name, value);
            }
            request.body(Full::from(body))
        }
    };
    let mut request = request.map_err(malformed)?;
    if let Some(path) = &trust.token_file {
        let wrong = |problem: String| FetchError::File { path: path.clone(), problem };
        let token = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut value = HeaderValue::from_str(&format!("{scheme} {}", token.trim()))
            .map_err(|_| wrong("is not the text of a token".to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

async fn exchange<S>(
    url: &FetchUrl,
    stream: S,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let away = |error: hyper::Error| FetchError::Unreachable { url: url.text.clone(), problem: error.to_string() };
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(away)?;
    // It ends with the sender.
    tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(away)?;
    let (head, mut incoming) = response.into_parts();
    let whole = body::read(&mut incoming, most).await.map_err(away)?;
    if !head.status.is_success() {
        let said = whole.map(|body| String::from_utf8_lossy(body.expose()).into_owned()).unwrap_or_default();
        let plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
        let said = said.chars().filter(plain).take(SAID).collect();
        return Err(FetchError::Status { url: url.text.clone(), status: head.status, said });
    }
    whole.map(|body| body.expose().to_vec()).ok_or_else(|| FetchError::TooLarge(url.text.clone()))
}

/// As much of an unfriendly answer is passed on.
const SAID: usize = 160;

/// The authorities of the file and nobody else's; read for each fetch, so that a new file needs no restart.
pub fn tls(trust: &Trust) -> Result<ClientConfig, FetchError> {
    let path = trust.ca_file.as_deref().unwrap_or(Path::new(""));
    let wrong = |problem: String| FetchError::File { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    let config = config.with_root_certificates(roots);
    let Some((certificate, key)) = &trust.identity else { return Ok(config.with_no_client_auth()) };
    let unread = |path: &Path, problem: String| FetchError::File { path: path.to_owned(), problem };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unread(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, error.to_string()))?;
    config.with_client_auth_cert(chain, private).map_err(|error| unread(certificate, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_leads_to_this_machine_only() {
        for text in ["https://issuer.example/keys", "http://127.0.0.1:8080/k?a=b", "http://[::1]:80/"] {
            assert!(text.parse::<FetchUrl>().is_ok(), "{text}");
        }
        for text in ["http://localhost/k", "http://issuer.example/k", "http://127.0.0.1.evil.example/k"] {
            assert_eq!(text.parse::<FetchUrl>(), Err(UrlError::Plain), "{text}");
        }
        for text in ["/keys", "ftp://127.0.0.1/k", "https://user@issuer.example/k", "issuer.example"] {
            assert_eq!(text.parse::<FetchUrl>(), Err(UrlError::Malformed), "{text}");
        }
    }
}
