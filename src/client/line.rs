//! How is a line to another machine kept open? TLS under a named authority, over which only we speak.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::rt::Timer;
use hyper_util::rt::TokioTimer;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fetch::{FetchError, Trust, tls};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a host and a port")]
pub struct AddressError;

impl Address {
    /// Whether it is a literal address of this machine; a name could lead to any.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().map_err(|_| AddressError)?;
        if port == 0 || ServerName::try_from(host.clone()).is_err() {
            return Err(AddressError);
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An open connection. Its server has nothing to say: when it ends the connection, that is noticed.
pub struct TlsLine {
    /// What is written.
    pub stream: WriteHalf<TlsStream<TcpStream>>,
    ended: Arc<AtomicBool>,
    listening: JoinHandle<()>,
    address: Address,
}

impl Drop for TlsLine {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl TlsLine {
    /// Whether the other side has not ended it.
    pub fn alive(&self) -> Result<(), FetchError> {
        if self.ended.load(Ordering::Acquire) {
            let problem = "the other side ended the connection".to_owned();
            return Err(FetchError::Unreachable { url: self.address.to_string(), problem });
        }
        Ok(())
    }
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long bytes may stay unacknowledged by the other machine, in milliseconds: then the connection is over.
const UNACKNOWLEDGED: u32 = 8_000;

/// Connects. Must be called within a runtime.
pub async fn tls_line(address: &Address, trust: &Trust) -> Result<TlsLine, FetchError> {
    let url = address.to_string();
    tokio::select! {
        line = connect(address, trust) => line,
        () = TokioTimer::new().sleep(CONNECT) => Err(FetchError::TimedOut { url, after: CONNECT }),
    }
}

async fn connect(address: &Address, trust: &Trust) -> Result<TlsLine, FetchError> {
    let url = address.to_string();
    let away = |problem: String| FetchError::Unreachable { url: url.clone(), problem };
    let config = Arc::new(tls(trust)?);
    let stream =
        TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| away(error.to_string()))?;
    rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED).map_err(|error| away(error.to_string()))?;
    let name = ServerName::try_from(address.host.clone()).map_err(|error| away(error.to_string()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| FetchError::of_tls(&url, &error))?;
    let (read, write) = tokio::io::split(stream);
    let ended = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn(listen(read, Arc::clone(&ended)));
    Ok(TlsLine { stream: write, ended, listening, address: address.clone() })
}

async fn listen(mut read: ReadHalf<TlsStream<TcpStream>>, ended: Arc<AtomicBool>) {
    let mut nothing = [0; 256];
    while matches!(read.read(&mut nothing).await, Ok(count) if count > 0) {}
    ended.store(true, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in ["collector.example:6514", "127.0.0.1:6514", "[::1]:6514"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["collector.example", ":6514", "a b:1", "x:0", "x:65536", ""] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
