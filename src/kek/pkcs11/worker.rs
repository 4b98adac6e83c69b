//! What runs in the process that loads the vendor's library? A door through which lanes come, and a thread for each lane.
//! This process never opens a file or a connection of its own, never logs and never outlives its sidecar.
//!
//! Standard input is the door: each byte on it carries the socket of one lane. A lane is a loop of one request, one call
//! and one reply, in a session of its own. When the door closes, no new call begins, running ones end, and the library is
//! finalised: C_Finalize beside a running call crashes several libraries.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::descriptors;
use super::fault::Fault;
use super::frame::{Frame, Malformed};
use super::message::{PROTOCOL, Reply, Request};
use super::seat::Seat;
use super::survey::Survey;
use super::token::{Lookup, Token};

/// The whole of `keyward kek-worker`: standard input is the door to the sidecar. To be called first thing in `main`,
/// before any thread is started and any descriptor opened, since it closes all that it does not know.
pub fn worker_main() -> ExitCode {
    let Ok(door) = prepare() else { return ExitCode::from(EXIT_UNUSABLE) };
    let Ok(watched) = door.try_clone() else { return ExitCode::from(EXIT_UNUSABLE) };
    std::thread::spawn(move || end_with(&watched));
    let shared = Arc::new(Shared::default());
    let served = serve(&door, &shared);
    shared.close(if served.is_ok() { 0 } else { EXIT_BROKEN })
}

/// What the lanes have in common.
#[derive(Default)]
struct Shared {
    token: Mutex<Option<Arc<Token>>>,
    // A library that is only looked at; such a worker has no token.
    survey: Mutex<Option<Arc<Survey>>>,
    // Read by whoever is in a call, written by whoever finalises.
    calls: RwLock<()>,
}

impl Shared {
    fn token(&self) -> Option<Arc<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn survey(&self) -> Option<Arc<Survey>> {
        self.survey.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "lanes may still wait for the library that is gone: only exiting stops them"
    )]
    fn close(&self, code: i32) -> ! {
        let _nobody_calls = self.calls.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = self.token() {
            token.finalize();
        }
        if let Some(survey) = self.survey() {
            survey.finalize();
        }
        // The lock is kept: a lane that waits for it must not call a finalised library. Exiting ends that lane.
        std::process::exit(code)
    }
}

fn prepare() -> io::Result<UnixStream> {
    crate::secret::harden_process().map_err(io::Error::other)?;
    descriptors::close_all_others()?;
    let door = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A terminal or a file on standard input is a person who typed the command: there is no peer.
    door.peer_addr()?;
    Ok(door)
}

/// Ends the process when the sidecar is gone, even if the library hangs in a call and nobody is left to kill us.
fn end_with(door: &UnixStream) {
    loop {
        let mut watch = [PollFd::new(door, PollFlags::RDHUP)];
        match poll(&mut watch, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    // The main thread sees the end too and leaves in order, unless it hangs. Abort runs no handlers of the library.
    std::thread::sleep(FAREWELL);
    std::process::abort();
}

/// Takes lanes until the sidecar closes the door.
fn serve(door: &UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    while let Some(lane) = next_lane(door)? {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("lane".into())
            .spawn(move || Lane::new(shared).run(&mut UnixStream::from(lane)))?;
    }
    Ok(())
}

fn next_lane(door: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(door, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let lane = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    lane.map(Some).ok_or_else(|| io::Error::other("a lane without a socket"))
}

/// One thread's work.
struct Lane {
    shared: Arc<Shared>,
    seat: Option<Seat>,
}

type Written = Result<(), Malformed>;

impl Lane {
    const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, seat: None }
    }

    /// Until the sidecar hangs up or talks nonsense, which ends this lane and none of the others.
    fn run(mut self, socket: &mut UnixStream) {
        let (mut request, mut reply) = (Frame::new(), Frame::new());
        while let Ok(true) = request.receive(socket) {
            let shared = self.shared.clone();
            let in_call = shared.calls.read().unwrap_or_else(PoisonError::into_inner);
            let answered = Request::take(request.body()).map(|request| self.answer(&request, &mut reply));
            drop(in_call);
            request.clear();
            if !matches!(answered, Ok(Ok(()))) || reply.send(socket).is_err() {
                break;
            }
        }
        if let Some(seat) = &mut self.seat {
            let _in_call = self.shared.calls.read().unwrap_or_else(PoisonError::into_inner);
            seat.renew();
        }
    }

    /// Writes the reply at once, so that a secret goes from the token's buffer into the frame and nowhere else.
    fn answer(&mut self, request: &Request<'_>, out: &mut Frame) -> Written {
        match self.perform(request, out) {
            Ok(written) => written,
            Err(fault) => Reply::Failed(fault).put(out),
        }
    }

    fn perform(&mut self, request: &Request<'_>, out: &mut Frame) -> Result<Written, Fault> {
        match *request {
            Request::Hello { protocol: PROTOCOL } => Ok(Reply::Hello { protocol: PROTOCOL }.put(out)),
            Request::Hello { .. } => Err(out_of_turn("hello")),
            Request::Load { module, reserved, os_locking, read_write, label, serial } => self
                .load(&Lookup { module, reserved, os_locking, read_write, label, serial })
                .map(|reply| reply.put(out)),
            Request::Login { pin } => {
                let token = self.shared.token().ok_or_else(not_loaded)?;
                token.login(pin).map(|()| Reply::Done.put(out))
            }
            Request::Renew => {
                self.seat()?.renew();
                Ok(Reply::Done.put(out))
            }
            Request::Find { label, role } => Ok(Reply::Key(self.seat()?.find(label, role)?).put(out)),
            Request::Versions { label, role, from, gap } => {
                Ok(Reply::Versions(self.seat()?.versions(label, role, from, gap)?).put(out))
            }
            Request::Create(ref new) => Ok(Reply::Key(self.seat()?.create(new)?).put(out)),
            Request::Wrap { recipe, label, plain, aad } => {
                Ok(Reply::Bytes(&self.seat()?.wrap(recipe, label, plain, aad)?).put(out))
            }
            Request::WrapAndOpen { recipe, label, plain, aad } => {
                let (blob, opened) = self.seat()?.wrap_and_open(recipe, label, plain, aad)?;
                Ok(Reply::Wrapped { blob: &blob, opened: opened.expose() }.put(out))
            }
            Request::Unwrap { recipe, label, blob, aad } => {
                Ok(Reply::Bytes(self.seat()?.unwrap(recipe, label, blob, aad)?.expose()).put(out))
            }
            Request::PublicKey { label } => Ok(Reply::Bytes(&self.seat()?.public_key(label)?).put(out)),
            Request::Random { len } => Ok(Reply::Bytes(self.seat()?.random(len)?.expose()).put(out)),
            Request::Survey { module, reserved, os_locking } => {
                self.survey(module, reserved, os_locking).map(|reply| reply.put(out))
            }
            Request::Temporary(_)
            | Request::Discard
            | Request::Repeat { .. }
            | Request::Sessions { .. }
            | Request::Slot { .. }
            | Request::Mechanisms { .. } => self.probe(request).map(|reply| reply.put(out)),
        }
    }

    /// What only a probe asks for: nothing here is secret.
    fn probe(&mut self, request: &Request<'_>) -> Result<Reply<'static>, Fault> {
        match *request {
            Request::Temporary(ref new) => Ok(Reply::Key(self.seat()?.temporary(new)?)),
            Request::Discard => self.seat()?.discard().map(|()| Reply::Done),
            Request::Repeat { recipe, label, blob, aad, times } => {
                Ok(Reply::Took(self.seat()?.repeat(recipe, label, blob, aad, times)?))
            }
            Request::Sessions { most } => {
                let (opened, code) = self.seat()?.sessions(most)?;
                Ok(Reply::Sessions { opened, code })
            }
            Request::Slot { index } => Ok(Reply::Slot(self.shared.survey().ok_or_else(not_loaded)?.slot(index)?)),
            Request::Mechanisms { index, from } => {
                let survey = self.shared.survey().ok_or_else(not_loaded)?;
                Ok(Reply::Mechanisms(survey.mechanisms(index, from)?))
            }
            _ => Err(out_of_turn("a request that is no probe's")),
        }
    }

    fn survey(&self, module: &str, reserved: &str, os_locking: bool) -> Result<Reply<'static>, Fault> {
        let mut survey = self.shared.survey.lock().unwrap_or_else(PoisonError::into_inner);
        if survey.is_some() || self.shared.token().is_some() {
            return Err(out_of_turn("a second load"));
        }
        let (found, facts) = Survey::start(module, reserved, os_locking)?;
        *survey = Some(Arc::new(found));
        Ok(Reply::Library(facts))
    }

    fn load(&self, lookup: &Lookup<'_>) -> Result<Reply<'static>, Fault> {
        let mut token = self.shared.token.lock().unwrap_or_else(PoisonError::into_inner);
        if token.is_some() || self.shared.survey().is_some() {
            return Err(out_of_turn("a second load"));
        }
        let (found, facts) = Token::find(lookup)?;
        *token = Some(Arc::new(found));
        Ok(Reply::Token(facts))
    }

    fn seat(&mut self) -> Result<&mut Seat, Fault> {
        if self.seat.is_none() {
            self.seat = Some(Seat::at(self.shared.token().ok_or_else(not_loaded)?));
        }
        self.seat.as_mut().ok_or_else(not_loaded)
    }
}

fn not_loaded() -> Fault {
    out_of_turn("a call before the library was loaded")
}

fn out_of_turn(what: &str) -> Fault {
    Fault::Protocol(what.into())
}

/// Longer than any C_Finalize that is going to return.
const FAREWELL: Duration = Duration::from_secs(3);
/// Not started by a sidecar.
const EXIT_UNUSABLE: u8 = 2;
/// The conversation broke off.
const EXIT_BROKEN: i32 = 3;
