//! How does the sidecar talk to its worker? One process, one socket, one request at a time.
//! This module never waits without a limit, and a conversation that broke off is never resumed: the process is killed.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::clock::SharedClock;
use crate::secret::SecretBytes;

use super::attributes::KeyAttributes;
use super::frame::Frame;
use super::message::{Fault, PROTOCOL, Reply, Request, TokenFacts};

/// A running worker. Dropping it kills the process, whatever state it is in.
pub(super) struct Link {
    socket: UnixStream,
    child: Child,
    clock: SharedClock,
    out: Frame,
    back: Frame,
}

/// A reply, taken out of the frame.
pub(super) enum Answer {
    Done,
    Token(TokenFacts),
    Key(KeyAttributes),
    Bytes(SecretBytes),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The worker hangs, died or talks nonsense: the link must be dropped.
    Lost(String),
    /// The worker says what went wrong.
    Fault(Fault),
}

impl Link {
    /// Starts a worker with nothing but a socket, and with nothing in its environment but `env`.
    pub(super) async fn open(
        worker: &Path,
        env: &[(String, String)],
        clock: SharedClock,
        limit: Duration,
    ) -> Result<Self, Trouble> {
        let lost = |error: std::io::Error| Trouble::Lost(format!("the worker cannot be started: {error}"));
        let (ours, theirs) = StdStream::pair().map_err(lost)?;
        ours.set_nonblocking(true).map_err(lost)?;
        let child = Command::new(worker)
            .arg("kek-worker")
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(lost)?;
        let socket = UnixStream::from_std(ours).map_err(lost)?;
        let mut link = Self { socket, child, clock, out: Frame::new(), back: Frame::new() };
        match link.call(&Request::Hello { protocol: PROTOCOL }, limit).await? {
            Answer::Done => Ok(link),
            _ => Err(nonsense()),
        }
    }

    /// The worker's process.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks and waits for the reply, no longer than `limit`.
    pub(super) async fn call(&mut self, request: &Request<'_>, limit: Duration) -> Result<Answer, Trouble> {
        let enough = self.clock.sleep_until(self.clock.mono().plus(limit));
        let answer = tokio::select! {
            biased;
            answer = self.exchange(request) => answer,
            () = enough => Err(Trouble::Lost(format!("the worker did not answer within {} ms", limit.as_millis()))),
        };
        self.out.clear();
        self.back.clear();
        answer
    }

    /// [`Self::call`] for requests that are answered with bytes.
    pub(super) async fn bytes(&mut self, request: &Request<'_>, limit: Duration) -> Result<SecretBytes, Trouble> {
        match self.call(request, limit).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(nonsense()),
        }
    }

    /// [`Self::call`] for requests that are answered with a key's attributes.
    pub(super) async fn key(&mut self, request: &Request<'_>, limit: Duration) -> Result<KeyAttributes, Trouble> {
        match self.call(request, limit).await? {
            Answer::Key(attributes) => Ok(attributes),
            _ => Err(nonsense()),
        }
    }

    async fn exchange(&mut self, request: &Request<'_>) -> Result<Answer, Trouble> {
        request.put(&mut self.out).map_err(|error| Trouble::Fault(Fault::Protocol(error.to_string())))?;
        if let Err(error) = self.transfer().await {
            return Err(self.lost(&error));
        }
        match Reply::take(self.back.body()).map_err(|_| nonsense())? {
            Reply::Hello { protocol } if protocol == PROTOCOL => Ok(Answer::Done),
            Reply::Hello { .. } => Err(Trouble::Lost("the worker is of another version".into())),
            Reply::Done => Ok(Answer::Done),
            Reply::Token(facts) => Ok(Answer::Token(facts)),
            Reply::Key(attributes) => Ok(Answer::Key(attributes)),
            Reply::Bytes(bytes) => Ok(Answer::Bytes(SecretBytes::copy_of(bytes))),
            Reply::Failed(fault) => Err(Trouble::Fault(fault)),
        }
    }

    async fn transfer(&mut self) -> std::io::Result<()> {
        self.socket.write_all(&self.out.header()).await?;
        self.socket.write_all(self.out.body()).await?;
        let mut header = [0; 4];
        self.socket.read_exact(&mut header).await?;
        let room = self.back.room(header).map_err(std::io::Error::other)?;
        self.socket.read_exact(room).await.map(|_| ())
    }

    fn lost(&mut self, error: &std::io::Error) -> Trouble {
        match self.child.try_wait() {
            Ok(Some(status)) => Trouble::Lost(format!("the worker ended: {status}")),
            Ok(None) | Err(_) => Trouble::Lost(format!("the worker is lost: {error}")),
        }
    }
}

fn nonsense() -> Trouble {
    Trouble::Lost("the worker's answer makes no sense".into())
}
