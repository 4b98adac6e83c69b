//! How does the sidecar talk to its worker? One process, a door through which lanes are handed in, one request at a time
//! on each lane.
//! This module never waits without a limit, and a conversation that broke off is never resumed.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::clock::SharedClock;
use crate::secret::SecretBytes;

use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::frame::Frame;
use super::message::{PROTOCOL, Reply, Request, TokenFacts};
use super::survey::{LibraryFacts, MechanismFacts, SlotFacts};

/// A running worker. Dropping it kills the process, whatever state it is in; [`Self::dismiss`] lets it leave in order.
pub(super) struct Process {
    door: StdStream,
    child: Child,
    clock: SharedClock,
}

/// A lane of a worker: a conversation of its own.
pub(super) struct Link {
    socket: UnixStream,
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
    Wrapped { blob: SecretBytes, opened: SecretBytes },
    Took(Duration),
    Sessions { opened: u16, code: u64 },
    Library(LibraryFacts),
    Slot(SlotFacts),
    Mechanisms(Vec<MechanismFacts>),
    Versions(Vec<u32>),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kek) enum Trouble {
    /// The worker hangs, died or talks nonsense: the link must be dropped.
    Lost(String),
    /// The worker says what went wrong.
    Fault(Fault),
}

impl Process {
    /// Starts a worker with nothing but the door, and with nothing in its environment but `env`.
    pub(super) fn start(worker: &Path, env: &[(String, String)], clock: SharedClock) -> Result<Self, Trouble> {
        let lost = |error: std::io::Error| Trouble::Lost(format!("the worker cannot be started: {error}"));
        let (door, theirs) = StdStream::pair().map_err(lost)?;
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
        Ok(Self { door, child, clock })
    }

    /// Hands a lane in, then shakes hands on it.
    pub(super) fn lane(&self, limit: Duration) -> impl Future<Output = Result<Link, Trouble>> + use<> {
        let (socket, clock) = (self.hand_in(), self.clock.clone());
        async move {
            let socket = socket.map_err(|error| Trouble::Lost(format!("the worker takes no lane: {error}")))?;
            let mut link = Link { socket, clock, out: Frame::new(), back: Frame::new() };
            match link.call(&Request::Hello { protocol: PROTOCOL }, limit).await? {
                Answer::Done => Ok(link),
                _ => Err(nonsense()),
            }
        }
    }

    fn hand_in(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let descriptors = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        // One byte: the door's buffer is never full, since the worker reads each at once or is dead.
        sendmsg(&self.door, &[IoSlice::new(b"L")], &mut control, SendFlags::NOSIGNAL)?;
        UnixStream::from_std(ours)
    }

    /// The worker's process.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| format!("the worker ended: {status}"))
    }

    /// How a worker that is lost has ended; one that only hangs is killed.
    pub(super) async fn last_words(mut self) -> Option<String> {
        let a_moment = self.clock.sleep_until(self.clock.mono().plus(REAPING));
        tokio::select! {
            ended = self.child.wait() => ended.ok().map(|status| format!("the worker ended: {status}")),
            () = a_moment => None,
        }
    }

    /// Closes the door and waits until the worker has finalised the library; one that does not leave is killed.
    pub(super) async fn leave(self) {
        let Self { door, mut child, clock } = self;
        drop(door);
        tokio::select! {
            _ended = child.wait() => {}
            () = clock.sleep_until(clock.mono().plus(FAREWELL)) => {}
        }
    }

    /// Closes the door and gives the worker time to finalise the library; one that does not leave is killed.
    pub(super) fn dismiss(self) {
        // Without a runtime, at the end of the program, dropping the child kills it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.leave());
        }
    }
}

impl Link {
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

    /// [`Self::call`] for a wrap with what it opens to.
    pub(super) async fn wrapped(
        &mut self,
        request: &Request<'_>,
        limit: Duration,
    ) -> Result<(SecretBytes, SecretBytes), Trouble> {
        match self.call(request, limit).await? {
            Answer::Wrapped { blob, opened } => Ok((blob, opened)),
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
            return Err(Trouble::Lost(format!("the worker is lost: {error}")));
        }
        match Reply::take(self.back.body()).map_err(|_| nonsense())? {
            Reply::Hello { protocol } if protocol == PROTOCOL => Ok(Answer::Done),
            Reply::Hello { .. } => Err(Trouble::Lost("the worker is of another version".into())),
            Reply::Done => Ok(Answer::Done),
            Reply::Token(facts) => Ok(Answer::Token(facts)),
            Reply::Key(attributes) => Ok(Answer::Key(attributes)),
            Reply::Bytes(bytes) => Ok(Answer::Bytes(SecretBytes::copy_of(bytes))),
            Reply::Wrapped { blob, opened } => {
                Ok(Answer::Wrapped { blob: SecretBytes::copy_of(blob), opened: SecretBytes::copy_of(opened) })
            }
            Reply::Took(nanos) => Ok(Answer::Took(Duration::from_nanos(nanos))),
            Reply::Sessions { opened, code } => Ok(Answer::Sessions { opened, code }),
            Reply::Library(facts) => Ok(Answer::Library(facts)),
            Reply::Slot(facts) => Ok(Answer::Slot(facts)),
            Reply::Mechanisms(list) => Ok(Answer::Mechanisms(list)),
            Reply::Versions(list) => Ok(Answer::Versions(list)),
            Reply::Failed(fault) => Err(Trouble::Fault(fault)),
        }
    }

    /// Looks a little while for a reply that is almost there: a fast token answers sooner than this thread would fall
    /// asleep and be woken again. How many bytes have arrived.
    fn glance(&mut self) -> std::io::Result<usize> {
        let until = self.clock.mono().plus(GLANCE);
        for _ in 0..MOST_LOOKS {
            if self.clock.mono() >= until {
                break;
            }
            match rustix::net::recv(&self.socket, self.back.room(0), rustix::net::RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok((arrived, _)) => return Ok(arrived),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    async fn transfer(&mut self) -> std::io::Result<()> {
        self.socket.write_all(self.out.wire()).await?;
        let mut arrived = self.glance()?;
        while !self.back.is_whole(arrived).map_err(std::io::Error::other)? {
            match self.socket.read(self.back.room(arrived)).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                more => arrived += more,
            }
        }
        Ok(())
    }
}

fn nonsense() -> Trouble {
    Trouble::Lost("the worker's answer makes no sense".into())
}

/// A process that crashed is a zombie at once, but not before its core is looked at.
const REAPING: Duration = Duration::from_millis(500);
/// Long enough for every token to which falling asleep and being woken would matter; slower ones cost this much of a
/// processor more for each call.
const GLANCE: Duration = Duration::from_micros(100);
/// More than fit into that time: the end under a clock that stands still.
const MOST_LOOKS: u32 = 10_000;
/// A little longer than the worker itself takes before it gives up on its library.
const FAREWELL: Duration = Duration::from_secs(5);
