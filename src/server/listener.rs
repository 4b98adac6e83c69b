//! How do connections come and go? Accept loops, one task a connection, HTTP/1.1 and HTTP/2 with bounded heads, and an
//! orderly end: nothing new, what has begun is finished, then the connection closes.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::{Mono, SharedClock};
use crate::identity::{Svid, origin_allowed};
use crate::telemetry::Metrics;

use super::exchange::Desk;
use super::health::{self, Board};
use super::intake::Peer;
use super::socket::Socket;
use super::tls::{self, Tls};
use super::tracker::Tracker;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections are accepted.
    Serving,
    /// None is; those there are finish what they have begun.
    Draining,
    /// Whatever is left is cut off.
    Closed,
}

/// Where connections come from.
pub(super) enum Listening {
    Unix {
        listener: UnixListener,
        /// Goes with its file when the listener ends.
        _file: Socket,
    },
    Tcp(TcpListener),
    /// Mutual TLS.
    Tls(TcpListener, Arc<Tls>),
}

/// The life of a listener's connections.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) clock: SharedClock,
    pub(super) open: Tracker,
    /// Connections at once; beyond it they wait in the kernel's backlog.
    pub(super) most: usize,
    /// A connection that is silent for this long between requests, or within the head of one, is closed.
    pub(super) idle: Duration,
}

/// The first head must arrive within this time, whatever version it is in.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// Out of descriptors, say: trying again at once would only burn the processor.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// A client of ours sends six headers; sidecars and proxies add a dozen.
const MAX_HEADERS: usize = 64;
/// Bytes of a head, and of the buffer that bodies pass through.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The same limit for HTTP/2.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What a peer may send unread: on an HTTP/2 stream one large value, on a connection one whole body.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Accepts connections of the data or control listener until the drain begins.
pub(super) async fn accept(listening: Listening, desk: Arc<Desk>, life: Life) {
    let slots = Arc::new(Semaphore::new(life.most));
    let mut phase = life.phase.clone();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            listening.next(&desk, &life).await.map(|connection| (slot, connection))
        };
        let next = tokio::select! {
            biased;
            () = reached(&mut phase, Phase::Draining) => return,
            next = next => next,
        };
        match next {
            Ok((slot, connection)) => {
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                life.clock.sleep_until(life.clock.mono().plus(AFTER_ACCEPT_ERROR)).await;
            }
        }
    }
}

/// Accepts connections of the health listener until everything else has ended.
pub(super) async fn accept_health(listener: TcpListener, board: Arc<Board>, metrics: Arc<Metrics>, life: Life) {
    let slots = Arc::new(Semaphore::new(life.most));
    let mut phase = life.phase.clone();
    let Ok(listen) = listener.local_addr() else { return };
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (slot, stream))
        };
        let next = tokio::select! {
            biased;
            () = reached(&mut phase, Phase::Closed) => return,
            next = next => next,
        };
        let Ok((slot, stream)) = next else {
            life.clock.sleep_until(life.clock.mono().plus(AFTER_ACCEPT_ERROR)).await;
            continue;
        };
        let (board, metrics, life) = (Arc::clone(&board), Arc::clone(&metrics), life.clone());
        tokio::spawn(async move {
            let answer = move |request: http::Request<Incoming>| {
                let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
                let local = origin_allowed(header(http::header::HOST), header(http::header::ORIGIN), listen);
                let answer = if local { health::answer(&board, &metrics, &request) } else { health::foreign() };
                std::future::ready(answer)
            };
            serve(stream, life, Phase::Closed, Ends::never(), answer).await;
            drop(slot);
        });
    }
}

impl Listening {
    /// The next connection, as the future that serves it.
    async fn next(&self, desk: &Arc<Desk>, life: &Life) -> io::Result<crate::clock::BoxFuture<'static, ()>> {
        let (desk, life) = (Arc::clone(desk), life.clone());
        match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let found = stream.peer_cred()?;
                let exe = found.pid().and_then(executable);
                let peer = Peer::Unix { uid: found.uid(), gid: found.gid(), exe };
                Ok(Box::pin(talk(stream, peer, Ends::never(), desk, life)))
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let peer = Peer::Tcp { listen: listener.local_addr()? };
                Ok(Box::pin(talk(stream, peer, Ends::never(), desk, life)))
            }
            Self::Tls(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::pin(secured(stream, Arc::clone(tls), desk, life)))
            }
        }
    }
}

/// The program that runs in a process: for the record, and only if it can be read and written down. The kernel shows it to
/// its own user and to root.
fn executable(pid: i32) -> Option<Arc<str>> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_str().filter(|text| text.len() <= MOST_PATH)?;
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ').then(|| text.into())
}

/// LOG-10: a fact holds 256 bytes.
const MOST_PATH: usize = 256;

/// A TLS connection from its first byte: who does not finish the handshake is recorded and not spoken with.
async fn secured(stream: TcpStream, tls: Arc<Tls>, desk: Arc<Desk>, life: Life) {
    let (config, bundle) = tls.config();
    let mut phase = life.phase.clone();
    let handshake = tokio::select! {
        done = TlsAcceptor::from(config).accept(stream) => done,
        () = life.clock.sleep_until(life.clock.mono().plus(FIRST_HEAD)) => return,
        () = reached(&mut phase, Phase::Draining) => return,
    };
    let stream = match handshake {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            if let Some(why) = tls::reason(&error) {
                desk.metrics.trust.handshakes_refused.inc();
                desk.turned_away(why).await;
            }
            return;
        }
    };
    let Some(svid) = workload(&stream, &tls) else { return };
    let left = Duration::from_micros(svid.not_after().0.saturating_sub(life.clock.wall().0));
    let ends = Ends { at: Some(life.clock.mono().plus(left)), bundle: Some(bundle) };
    talk(stream, Peer::Tls { svid }, ends, desk, life).await;
}

/// What the handshake has verified.
fn workload(stream: &TlsStream<TcpStream>, tls: &Tls) -> Option<Svid> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Svid::read(leaf, tls.trust_domain()).ok()
}

/// When a connection ends for its own reasons.
struct Ends {
    /// With its caller's certificate.
    at: Option<Mono>,
    /// With a change of the authorities that vouched for it.
    bundle: Option<watch::Receiver<u64>>,
}

impl Ends {
    const fn never() -> Self {
        Self { at: None, bundle: None }
    }

    async fn come(self, clock: SharedClock) {
        let expired = async {
            match self.at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let distrusted = async {
            let Some(mut bundle) = self.bundle else { return std::future::pending().await };
            if bundle.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = expired => {}
            () = distrusted => {}
        }
    }
}

async fn talk<I>(stream: I, peer: Peer, ends: Ends, desk: Arc<Desk>, life: Life)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = life.open.begin();
    desk.metrics.connections.inc();
    let metrics = Arc::clone(&desk.metrics);
    let answer = move |request| {
        let (desk, peer) = (Arc::clone(&desk), peer.clone());
        async move { desk.exchange(peer, request).await }
    };
    serve(stream, life, Phase::Draining, ends, answer).await;
    metrics.connections.dec();
}

/// Serves one connection; from the phase `ending` on, or when its own end has come, it finishes what it has begun and
/// closes.
async fn serve<I, F>(
    stream: I,
    life: Life,
    ending: Phase,
    ends: Ends,
    answer: impl Fn(http::Request<Incoming>) -> F + Send + 'static,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = http::Response<Full<bytes::Bytes>>> + Send + 'static,
{
    let begun = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&begun);
    let service = service_fn(move |request| {
        seen.store(true, Ordering::Relaxed);
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let http = protocol(life.idle);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut silent = life.clock.sleep_until(life.clock.mono().plus(FIRST_HEAD));
    let mut over = pin!(ends.come(Arc::clone(&life.clock)));
    let (mut ended, mut cut) = (life.phase.clone(), life.phase.clone());
    let (mut waiting, mut open) = (true, true);
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(error, "a connection ended early");
                }
                return;
            }
            () = reached(&mut ended, ending), if open => {
                open = false;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut over, if open => {
                open = false;
                connection.as_mut().graceful_shutdown();
            }
            () = reached(&mut cut, Phase::Closed), if ending < Phase::Closed || !open => return,
            () = &mut silent, if waiting => {
                waiting = false;
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

fn protocol(idle: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(idle)
        .keep_alive_timeout(FIRST_HEAD);
    http
}

/// Resolves when the phase has come; also when nobody is left who could announce it.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _gone = phase.wait_for(|now| *now >= wanted).await;
}
