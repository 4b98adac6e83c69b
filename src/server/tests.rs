//! The listeners on real sockets. The service is left out: what it would be asked is answered by a function here, so
//! that these tests say what the server does and nothing else.

use std::path::Path;

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc};

use super::wire::MAX_BODY_BYTES;
use super::*;
use crate::client::Client;
use crate::clock::{ManualClock, SystemClock, Wall};
use crate::identity::Credentials;
use crate::secret::SecretBytes;
use crate::service::{Answer, Call, Operation, Refusal};
use crate::telemetry::Build;

struct Running {
    dir: tempfile::TempDir,
    server: Server,
}

impl Running {
    fn data(&self) -> PathBuf {
        self.dir.path().join("data.sock")
    }

    fn control(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        exchange(UnixStream::connect(self.data()).await.unwrap(), request.as_ref()).await
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn settings(dir: &Path) -> Settings {
    Settings {
        data_socket: dir.join("data.sock"),
        data_socket_mode: 0o660,
        data_tcp: Some("127.0.0.1:0".parse().unwrap()),
        tls: None,
        control_socket: dir.join("control.sock"),
        control_socket_mode: 0o600,
        health: Some("127.0.0.1:0".parse().unwrap()),
        limits: Limits { concurrency: 2, ..Limits::default() },
    }
}

fn parts(clock: SharedClock) -> Parts {
    Parts {
        knows: Arc::new(|_, _| true),
        learns: Arc::new(|_| None),
        clock,
        metrics: Arc::new(Metrics::new(RESULTS, &Build { version: "0" }).unwrap()),
        board: Board::new(),
        fresh: Arc::new(|| RequestId::from_random([9; 16])),
    }
}

async fn start_with(
    clock: SharedClock,
    answer: impl Fn(Call) -> crate::clock::BoxFuture<'static, Answer> + Send + Sync + 'static,
) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let answers: Answers = Arc::new(answer);
    let server = Server::serve(&settings(dir.path()), parts(clock), &answers).await.unwrap();
    Running { dir, server }
}

async fn start() -> Running {
    start_with(Arc::new(SystemClock), |call| Box::pin(async move { mirror(call) })).await
}

/// Tells what was asked: a sealed value names credentials and plaintext.
fn mirror(call: Call) -> Answer {
    let who = match &call.credentials {
        Credentials::Peer { uid, .. } => format!("uid {uid}"),
        Credentials::Bearer(token) => format!("token {}", String::from_utf8_lossy(token.expose())),
        Credentials::Certificate { svid, .. } => svid.id().to_string(),
        Credentials::Untrusted(why) => String::from(*why),
        Credentials::None => String::from("nobody"),
    };
    match call.operation {
        Ok(Operation::Seal(seal)) => {
            let text = |plaintext: &SecretBytes| String::from_utf8_lossy(plaintext.expose()).into_owned();
            let told = |item: crate::service::SealItem| format!("{who}: {}", text(&item.plaintext));
            let items = seal.items.into_iter();
            Answer::Sealed(items.map(|item| item.map(told).map_err(|_| Code::MalformedItem.into())).collect())
        }
        Ok(_) => Answer::Keyrings { keyrings: Vec::new(), next: None, damaged: None },
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
}

const SEAL: &str = "/v1/keyrings/p/seal";
const ONE: &str = r#"{"context":{},"text":"Anna"}"#;

#[tokio::test]
async fn a_request_on_the_unix_socket_carries_the_callers_uid_and_hears_its_id_again() {
    let running = start().await;
    let answer = running.raw(post(SEAL, "x-request-id: r-7\r\n", ONE)).await;
    let uid = rustix::process::geteuid().as_raw();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: r-7\r\n") && answer.contains("cache-control: no-store\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("{{\"sealed\":\"uid {uid}: Anna\"}}")), "{answer}");
}

#[tokio::test]
async fn every_refusal_reaches_the_service_and_comes_back_as_a_problem() {
    let (heard, mut refusals) = mpsc::unbounded_channel();
    let running = start_with(Arc::new(SystemClock), move |call| {
        let refusal = call.operation.err().unwrap_or_else(|| Refusal::from(Code::Internal));
        heard.send(refusal.code).unwrap();
        Box::pin(async move { Answer::Refused(refusal) })
    })
    .await;
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let typed = post(SEAL, "", ONE).replace("application/json", "text/plain");
    let cases = [
        (plain("GET /nowhere"), 404, Code::NotFound, ""),
        (plain("GET /v1/open"), 405, Code::MethodNotAllowed, "allow: POST\r\n"),
        (plain("HEAD /v1/keyrings"), 405, Code::MethodNotAllowed, "allow: GET\r\n"),
        (plain("OPTIONS /v1/keyrings/p/seal"), 405, Code::MethodNotAllowed, "allow: GET, POST\r\n"),
        (plain("GET /v1/keyrings?all=1"), 400, Code::MalformedRequest, "the query takes after and limit"),
        (typed, 415, Code::UnsupportedMediaType, ""),
        (post(SEAL, "", "{}"), 400, Code::MalformedRequest, "the field context is missing"),
        (post("/v1/keyrings/P/seal", "", ONE), 400, Code::MalformedRequest, "does not name a keyring"),
        (post(SEAL, "x-request-id: ?\r\n", ONE), 400, Code::MalformedRequest, "x-request-id takes"),
    ];
    for (request, status, code, detail) in cases {
        let answer = running.raw(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
        assert!(answer.contains(detail), "{answer}");
        assert!(answer.contains(code.as_str()) || request.starts_with("HEAD"), "{answer}");
        assert_eq!(refusals.recv().await, Some(code));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_client_hears_it() {
    let running = start().await;
    let uid = rustix::process::geteuid().as_raw();
    let client = Client::connect(&running.data(), uid, Duration::from_secs(60)).await.unwrap();
    let fits = " ".repeat(MAX_BODY_BYTES - ONE.len()) + ONE;
    for (body, status) in [(fits.clone(), 200), (fits + " ", 413)] {
        let body = SecretBytes::new(body.into_bytes());
        let reply = client.request(Method::POST, SEAL, Some(body)).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{}", String::from_utf8_lossy(reply.body.expose()));
    }
    let mut chunked = String::from("POST /v1/open HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    chunked += "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    chunked += &(chunk.repeat(9) + "0\r\n\r\n");
    let answer = running.raw(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("at most 8388608 bytes"), "{answer}");
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body_is_sent() {
    let running = start().await;
    let whole = post(SEAL, "expect: 100-continue\r\n", ONE);
    let (head, body) = whole.split_at(whole.len() - ONE.len());
    let mut stream = UnixStream::connect(running.data()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(exchange(stream, body.as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn beyond_the_limit_requests_are_told_to_come_back() {
    let (begun, mut at_work) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let hold = Arc::clone(&release);
    let running = start_with(Arc::new(SystemClock), move |call| {
        let (begun, hold) = (begun.clone(), Arc::clone(&hold));
        Box::pin(async move {
            if call.operation.is_ok() {
                begun.send(()).unwrap();
                hold.notified().await;
            }
            mirror(call)
        })
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let path = running.data();
        held.push(tokio::spawn(async move {
            exchange(UnixStream::connect(path).await.unwrap(), post(SEAL, "", ONE).as_bytes()).await
        }));
        at_work.recv().await.unwrap();
    }
    let answer = running.raw(post(SEAL, "", ONE)).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    release.notify_one();
    release.notify_one();
    for one in held {
        assert!(one.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_what_it_asked_for() {
    let (begun, mut at_work) = mpsc::unbounded_channel();
    let (done, mut finished) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let hold = Arc::clone(&release);
    let running = start_with(Arc::new(SystemClock), move |call| {
        let (begun, done, hold) = (begun.clone(), done.clone(), Arc::clone(&hold));
        Box::pin(async move {
            begun.send(()).unwrap();
            hold.notified().await;
            done.send(()).unwrap();
            mirror(call)
        })
    })
    .await;
    let mut stream = UnixStream::connect(running.data()).await.unwrap();
    stream.write_all(post(SEAL, "", ONE).as_bytes()).await.unwrap();
    at_work.recv().await.unwrap();
    drop(stream);
    running.server.open.idle().await;
    assert_eq!(running.server.at_work.count(), 1);
    release.notify_one();
    assert_eq!(finished.recv().await, Some(()));
}

#[tokio::test]
async fn a_body_that_does_not_come_and_a_service_that_does_not_answer_end_at_the_deadline() {
    let clock = ManualClock::at(Wall(0));
    let (begun, mut at_work) = mpsc::unbounded_channel();
    let running = start_with(Arc::clone(&clock) as SharedClock, move |call| {
        begun.send(call.operation.is_ok()).unwrap();
        Box::pin(async move {
            match call.operation {
                Ok(_) => std::future::pending().await,
                Err(refusal) => Answer::Refused(refusal),
            }
        })
    })
    .await;
    let whole = post(SEAL, "", ONE);
    let path = running.data();
    let stuck = tokio::spawn(async move { exchange(UnixStream::connect(path).await.unwrap(), whole.as_bytes()).await });
    assert_eq!(at_work.recv().await, Some(true));

    let whole = post(SEAL, "x-request-timeout-ms: 3000\r\n", ONE);
    let mut slow = UnixStream::connect(running.data()).await.unwrap();
    slow.write_all(&whole.as_bytes()[..whole.len() - 1]).await.unwrap();
    // The head has to be taken in before time passes, and nothing tells when it has been: time passes until it shows.
    let moving = Arc::clone(&clock);
    let time = tokio::spawn(async move {
        loop {
            tokio::task::yield_now().await;
            moving.advance(Duration::from_millis(1));
        }
    });
    let answer = exchange(slow, b"").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("the body did not arrive in time"), "{answer}");
    assert_eq!(at_work.recv().await, Some(false), "the refusal is handed on to be recorded");
    assert!(stuck.await.unwrap().starts_with("HTTP/1.1 504 "));
    time.abort();
    assert_eq!(running.server.at_work.count(), 1, "the work itself goes on");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let clock = ManualClock::at(Wall(0));
    let running = start_with(Arc::clone(&clock) as SharedClock, |call| Box::pin(async move { mirror(call) })).await;
    let mut streams = Vec::new();
    for start in ["", "PRI * HT", "POST /v1/op"] {
        let mut stream = UnixStream::connect(running.data()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    while running.server.open.count() < 3 {
        tokio::task::yield_now().await;
    }
    let time = tokio::spawn(async move {
        loop {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(100));
        }
    });
    for mut stream in streams {
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
    time.abort();
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served_on_the_same_socket() {
    let running = start().await;
    let stream = TokioIo::new(UnixStream::connect(running.data()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let asks = (0..50).map(|n| {
        let request = Request::post(format!("http://localhost{SEAL}")).header("content-type", "application/json");
        let body = Full::new(bytes::Bytes::from(format!("{{\"context\":{{}},\"text\":\"{n}\"}}")));
        sender.send_request(request.body(body).unwrap())
    });
    let mut done = 0;
    for (n, ask) in asks.collect::<Vec<_>>().into_iter().enumerate() {
        let response = ask.await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        done += usize::from(status == 200);
        // Two at once are allowed here; the others hear 429 and nothing else.
        assert!(
            status == 429 || (status == 200 && body.ends_with(format!(": {n}\"}}").as_bytes())),
            "{status} {body:?}"
        );
    }
    assert!(done > 0);
}

#[tokio::test]
async fn tcp_takes_tokens_and_refuses_browsers_and_health_tells_no_foreign_host() {
    let running = start().await;
    let (data, health) = (running.server.data_tcp().unwrap(), running.server.health().unwrap());
    let ask = async |to: SocketAddr, request: String| {
        exchange(TcpStream::connect(to).await.unwrap(), request.as_bytes()).await
    };
    let to = |host: String, headers: &str| post(SEAL, headers, ONE).replace("host: x", &format!("host: {host}"));
    let good = ask(data, to(data.to_string(), "authorization: Bearer t0ken\r\n")).await;
    assert!(good.ends_with("{\"sealed\":\"token t0ken: Anna\"}"), "{good}");
    let foreign = ask(data, to(String::from("evil.example"), "authorization: Bearer t0ken\r\n")).await;
    assert!(foreign.starts_with("HTTP/1.1 403 ") && foreign.contains("forbidden_origin"), "{foreign}");

    let get = |path: &str, host: String| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    assert!(ask(health, get("/livez", health.to_string())).await.ends_with("ok\n"));
    assert!(ask(health, get("/readyz", health.to_string())).await.starts_with("HTTP/1.1 503 "));
    let metrics = ask(health, get("/metrics", health.to_string())).await;
    assert!(metrics.contains(r#"keyward_requests_total{operation="seal",result="forbidden_origin"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"keyward_items_total{operation="seal",result="ok"} 1"#));
    assert!(ask(health, get("/metrics", String::from("evil.example"))).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn a_panic_in_the_service_is_an_internal_error_and_frees_its_place() {
    let running = start_with(Arc::new(SystemClock), |_| Box::pin(async { panic!("PANIC TEXT") })).await;
    for _ in 0..5 {
        let answer = running.raw(post(SEAL, "", ONE)).await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("PANIC TEXT"), "{answer}");
    }
    assert_eq!(running.server.at_work.count(), 0);
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_closes_idle_connections_and_removes_the_sockets() {
    let (begun, mut at_work) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let hold = Arc::clone(&release);
    let running = start_with(Arc::new(SystemClock), move |call| {
        let (begun, hold) = (begun.clone(), Arc::clone(&hold));
        Box::pin(async move {
            begun.send(()).unwrap();
            hold.notified().await;
            mirror(call)
        })
    })
    .await;
    let idle = UnixStream::connect(running.data()).await.unwrap();
    let path = running.data();
    let keep = post(SEAL, "", ONE).replace("connection: close\r\n", "");
    let busy = tokio::spawn(async move { exchange(UnixStream::connect(path).await.unwrap(), keep.as_bytes()).await });
    at_work.recv().await.unwrap();
    let (data, control) = (running.data(), running.control());
    let Running { dir: _dir, server } = running;
    let drain = tokio::spawn(server.drain(Duration::from_secs(60)));
    assert_eq!(exchange(idle, b"").await, "", "an idle connection is closed at once");
    while data.exists() || control.exists() {
        tokio::task::yield_now().await;
    }
    assert!(!busy.is_finished());
    release.notify_one();
    assert_eq!(drain.await.unwrap(), Drained { finished: 1, abandoned: 0, cut: 0 });
    assert!(busy.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"), "what had begun was answered");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_says_what_it_left() {
    let clock = ManualClock::at(Wall(0));
    let (begun, mut at_work) = mpsc::unbounded_channel();
    let running = start_with(Arc::clone(&clock) as SharedClock, move |_| {
        begun.send(()).unwrap();
        Box::pin(std::future::pending())
    })
    .await;
    let mut stream = UnixStream::connect(running.data()).await.unwrap();
    stream.write_all(post(SEAL, "", ONE).as_bytes()).await.unwrap();
    at_work.recv().await.unwrap();
    let Running { dir: _dir, server } = running;
    let drain = tokio::spawn(server.drain(Duration::from_secs(5)));
    while !drain.is_finished() {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_millis(10));
    }
    assert_eq!(drain.await.unwrap(), Drained { finished: 0, abandoned: 1, cut: 1 });
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let answers: Answers = Arc::new(|call| Box::pin(async move { mirror(call) }));
    let clock: SharedClock = Arc::new(SystemClock);
    for foreign in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let address: SocketAddr = foreign.parse().unwrap();
        let settings = Settings { health: Some(address), ..settings(dir.path()) };
        let started = Server::serve(&settings, parts(Arc::clone(&clock)), &answers).await;
        assert!(matches!(started, Err(ServerError::NotLoopback(found)) if found == address));
    }
    let _live = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock"));
    let started = Server::serve(&settings(dir.path()), parts(clock), &answers).await;
    assert!(matches!(started, Err(ServerError::Socket(SocketError::Live(_)))));
    assert!(!dir.path().join("data.sock").exists());
}

#[test]
fn results_are_ok_and_every_code() {
    let names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(RESULTS[0], "ok");
    assert_eq!(RESULTS[1..], names);
}
