//! How do requests come in and answers go out? Listeners, routes, wire formats, status codes, health.
//! This module never decides: it turns bytes into a `Call`, and only what the service answers into bytes.

pub mod health;
pub mod status;
pub mod tls;
pub mod wire;

mod body;
mod exchange;
mod intake;
mod listener;
mod routes;
mod socket;
mod tracker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::names::RequestId;
use crate::service::{Code, Service, Surface};
use crate::telemetry::Metrics;

use exchange::{Answers, Desk, Knows, Learns};
use health::Board;
use listener::{Life, Listening, Phase};
use routes::Routes;
use tls::{Tls, TlsError};
use tracker::Tracker;

pub use socket::SocketError;

/// Makes an id for a request that came without one.
pub type FreshRequestId = Arc<dyn Fn() -> RequestId + Send + Sync>;

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The data Unix socket.
    pub data_socket: PathBuf,
    /// Its mode; who may connect is the file system's say, who may do something is policy's.
    pub data_socket_mode: u32,
    /// Loopback TCP for data, with bearer tokens.
    pub data_tcp: Option<SocketAddr>,
    /// The control Unix socket.
    pub control_socket: PathBuf,
    /// Its mode: 0600 where the account of the sidecar is the only one, 0660 where custodians have accounts of their own.
    pub control_socket_mode: u32,
    /// Mutual TLS for data and control.
    pub tls: Option<tls::Settings>,
    /// Health and metrics over loopback TCP.
    pub health: Option<SocketAddr>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest that a request may take, from its head to its answer.
    pub request_timeout: Duration,
    /// Requests answered at once; more hear `rate_limited`.
    pub concurrency: usize,
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Memory for request bodies, in KiB; more wait for their turn until their deadline.
    pub body_kib: usize,
    /// How long a connection may be silent between requests.
    pub idle: Duration,
}

impl Default for Limits {
    /// Ten seconds are two slow HSM calls and their retries. 256 requests at once are more than a token serves; they
    /// fill one frame of the log. 64 MiB hold eight of the largest bodies or 64,000 small ones.
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            concurrency: 256,
            connections: 1_024,
            body_kib: 64 * 1024,
            idle: Duration::from_secs(75),
        }
    }
}

/// What the listeners use.
pub struct Deps {
    /// Answers every request.
    pub service: Arc<Service>,
    /// Time.
    pub clock: SharedClock,
    /// Where requests are counted; made with [`RESULTS`].
    pub metrics: Arc<Metrics>,
    /// What the health listener reads.
    pub board: Arc<Board>,
    /// Ids for requests without one.
    pub fresh_request_id: FreshRequestId,
}

/// Why the listeners did not start; nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A Unix socket could not be made.
    #[error("a Unix socket could not be made")]
    Socket(#[from] SocketError),
    /// Plain HTTP outside this machine is refused.
    #[error("{0} is not a loopback address: plain HTTP stays on this machine")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate, key or trust bundle.
    #[error("the certificates for TLS are refused")]
    Tls(#[from] TlsError),
    /// A defect in the table of routes.
    #[error("two routes collide")]
    Routes(#[from] matchit::InsertError),
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were being answered when it began and were finished.
    pub finished: usize,
    /// Requests that were not done in time; their tasks go on until the process ends.
    pub abandoned: usize,
    /// Connections that were cut off.
    pub cut: usize,
}

/// The results that requests are counted by: `ok` and every code.
pub const RESULTS: &[&str] = &results();
const OK: &str = "ok";

const fn results() -> [&'static str; Code::ALL.len() + 1] {
    let mut all = [OK; Code::ALL.len() + 1];
    let mut at = 0;
    let mut rest = Code::ALL;
    while let [code, more @ ..] = rest {
        at += 1;
        all[at] = code.as_str();
        rest = more;
    }
    all
}

/// The running listeners.
pub struct Server {
    phase: watch::Sender<Phase>,
    clock: SharedClock,
    at_work: Tracker,
    open: Tracker,
    listeners: Vec<JoinHandle<()>>,
    data_tcp: Option<SocketAddr>,
    data_tls: Option<SocketAddr>,
    control_tls: Option<SocketAddr>,
    tls: Option<Arc<Tls>>,
    health: Option<SocketAddr>,
}

impl Server {
    /// Binds every listener, or none, and serves. Must be called within a runtime.
    pub async fn start(settings: &Settings, deps: Deps) -> Result<Self, ServerError> {
        let service = Arc::clone(&deps.service);
        let (who, later) = (Arc::clone(&service), Arc::clone(&service));
        let knows: Knows = Arc::new(move |surface, credentials| who.knows(surface, credentials));
        let learns: Learns = Arc::new(move |credentials| later.learn(credentials));
        let answers: Answers = Arc::new(move |call| {
            let service = Arc::clone(&service);
            Box::pin(async move { service.handle(call).await.into_answer() })
        });
        let Deps { clock, metrics, board, fresh_request_id: fresh, .. } = deps;
        let parts = Parts { clock, metrics, board, fresh, knows, learns };
        Self::serve(settings, parts, &answers).await
    }

    async fn serve(settings: &Settings, parts: Parts, answers: &Answers) -> Result<Self, ServerError> {
        let data = socket::bind(&settings.data_socket, settings.data_socket_mode)?;
        let control = socket::bind(&settings.control_socket, settings.control_socket_mode)?;
        let tcp = bind_loopback(settings.data_tcp).await?;
        let health = bind_loopback(settings.health).await?;
        let tls = settings.tls.as_ref().map(|settings| Tls::load(settings, &parts.clock)).transpose()?;
        let data_tls = bind(settings.tls.as_ref().and_then(|tls| tls.data)).await?;
        let control_tls = bind(settings.tls.as_ref().and_then(|tls| tls.control)).await?;
        let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|one| one.local_addr().ok());
        let mut server = Self {
            phase: watch::Sender::new(Phase::Serving),
            clock: Arc::clone(&parts.clock),
            at_work: Tracker::new(),
            open: Tracker::new(),
            listeners: Vec::new(),
            data_tcp: address(&tcp),
            data_tls: address(&data_tls),
            control_tls: address(&control_tls),
            tls,
            health: address(&health),
        };
        let mut listeners = vec![
            (Surface::DataSocket, Listening::Unix { listener: data.0, _file: data.1 }),
            (Surface::Control, Listening::Unix { listener: control.0, _file: control.1 }),
        ];
        listeners.extend(tcp.map(|listener| (Surface::DataTcp, Listening::Tcp(listener))));
        if let Some(tls) = &server.tls {
            let secured = |listener| Listening::Tls(listener, Arc::clone(tls));
            listeners.extend(data_tls.map(|listener| (Surface::DataTls, secured(listener))));
            listeners.extend(control_tls.map(|listener| (Surface::ControlTls, secured(listener))));
        }
        for (surface, listening) in listeners {
            let desk = parts.desk(surface, answers, settings.limits, &server.at_work)?;
            let life = server.life(settings.limits);
            server.listeners.push(tokio::spawn(listener::accept(listening, Arc::new(desk), life)));
        }
        if let Some(listener) = health {
            let life = server.life(settings.limits);
            server.listeners.push(tokio::spawn(listener::accept_health(listener, parts.board, parts.metrics, life)));
        }
        Ok(server)
    }

    /// Where data is served over TCP, with the port that was chosen.
    pub const fn data_tcp(&self) -> Option<SocketAddr> {
        self.data_tcp
    }

    /// Where data is served over mutual TLS, with the port that was chosen.
    pub const fn data_tls(&self) -> Option<SocketAddr> {
        self.data_tls
    }

    /// Where control is served over mutual TLS, with the port that was chosen.
    pub const fn control_tls(&self) -> Option<SocketAddr> {
        self.control_tls
    }

    /// The certificates, which somebody must look after.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Where health is served, with the port that was chosen.
    pub const fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// Stops accepting, finishes what has begun within the time, closes every connection and removes the socket files.
    /// The health listener answers until then.
    pub async fn drain(self, within: Duration) -> Drained {
        let in_flight = self.at_work.count();
        self.phase.send_replace(Phase::Draining);
        tokio::select! {
            () = async { self.open.idle().await; self.at_work.idle().await } => {}
            () = self.clock.sleep_until(self.clock.mono().plus(within)) => {}
        }
        let (abandoned, cut) = (self.at_work.count(), self.open.count());
        self.phase.send_replace(Phase::Closed);
        for listener in self.listeners {
            // An accept loop ends by itself; if it panicked there is nothing left to wait for.
            let _ended = listener.await;
        }
        Drained { finished: in_flight.saturating_sub(abandoned), abandoned, cut }
    }

    fn life(&self, limits: Limits) -> Life {
        Life {
            phase: self.phase.subscribe(),
            clock: Arc::clone(&self.clock),
            open: self.open.clone(),
            most: limits.connections,
            idle: limits.idle,
        }
    }
}

/// What every listener shares but the service.
struct Parts {
    clock: SharedClock,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    fresh: FreshRequestId,
    knows: Knows,
    learns: Learns,
}

impl Parts {
    fn desk(
        &self,
        surface: Surface,
        answers: &Answers,
        limits: Limits,
        at_work: &Tracker,
    ) -> Result<Desk, ServerError> {
        Ok(Desk {
            surface,
            routes: Routes::new(surface)?,
            answers: Arc::clone(answers),
            knows: Arc::clone(&self.knows),
            learns: Arc::clone(&self.learns),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            fresh: Arc::clone(&self.fresh),
            limits,
            room: Arc::new(Semaphore::new(limits.concurrency)),
            memory: Arc::new(Semaphore::new(limits.body_kib)),
            at_work: at_work.clone(),
        })
    }
}

async fn bind_loopback(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = address else { return Ok(None) };
    if !address.ip().is_loopback() {
        return Err(ServerError::NotLoopback(address));
    }
    bind(Some(address)).await
}

async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|source| ServerError::Bind { address, source })
}

#[cfg(test)]
mod tests;
