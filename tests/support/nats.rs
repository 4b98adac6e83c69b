//! A real nats-server with JetStream, and a stream of its own for the log.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator of a server")]
#![allow(clippy::unwrap_used, reason = "a test without its server must fail")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use crate::authority::Authority;

pub const TOKEN: &str = "a-token-of-the-test";

/// One server; ended when dropped. What it stored stays.
pub struct Nats {
    dir: tempfile::TempDir,
    pub port: u16,
    tls: Option<(String, String, String)>,
    process: Option<Child>,
}

impl Nats {
    /// Plain, or with TLS and a token.
    pub fn new(authority: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tls = authority.map(|authority| {
            let server = authority.server();
            let text = |path: &std::path::Path| path.display().to_string();
            (text(&server.certificate), text(&server.key), text(&authority.certificate()))
        });
        Self { dir, port, tls, process: None }
    }

    pub fn start(&mut self) {
        let errors = std::fs::File::create(self.dir.path().join("errors")).unwrap();
        let mut command = Command::new("nats-server");
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(self.dir.path().join("data"));
        if let Some((certificate, key, _)) = &self.tls {
            command.args(["--tls", "--tlscert", certificate, "--tlskey", key, "--auth", TOKEN]);
        }
        self.process = Some(command.stdout(Stdio::null()).stderr(errors).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = std::fs::read_to_string(self.dir.path().join("errors")).unwrap();
            assert!(Instant::now() < until, "nats-server does not listen: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Runs something with a client that is not keyward's.
    fn with<T>(&self, work: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut options = async_nats::ConnectOptions::new();
            if let Some((_, _, authority)) = &self.tls {
                options = options.add_root_certificates(authority.into()).token(TOKEN.to_owned());
            }
            let scheme = if self.tls.is_some() { "tls" } else { "nats" };
            let client = options.connect(format!("{scheme}://localhost:{}", self.port)).await.unwrap();
            work(jetstream::new(client)).await
        })
    }

    /// Makes the stream that takes a subject.
    pub fn stream(&self, subject: &str) {
        let config = jetstream::stream::Config {
            name: "audit".to_owned(),
            subjects: vec![subject.to_owned()],
            ..jetstream::stream::Config::default()
        };
        self.with(async |context| drop(context.create_stream(config).await.unwrap()));
    }

    /// Every message of the stream, in its order: the id, and the payload.
    pub fn messages(&self) -> Vec<(String, String)> {
        self.with(async |context| {
            let mut stream = context.get_stream("audit").await.unwrap();
            let count = usize::try_from(stream.info().await.unwrap().state.messages).unwrap();
            let config = pull::Config {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::None,
                ..pull::Config::default()
            };
            let consumer = stream.create_consumer(config).await.unwrap();
            let mut batch = consumer.fetch().max_messages(count.max(1)).messages().await.unwrap();
            let mut all = Vec::new();
            while all.len() < count {
                let next = std::future::poll_fn(|context| {
                    futures_core::Stream::poll_next(std::pin::Pin::new(&mut batch), context)
                });
                let Some(message) = next.await else { break };
                let message = message.unwrap();
                let id = message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().to_string();
                all.push((id, String::from_utf8(message.payload.to_vec()).unwrap()));
            }
            all
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}
