//! What runs in the process that loads the vendor's library? A loop: one request, one call, one reply.
//! This process never opens a file or a connection of its own, never logs and never outlives its sidecar.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::descriptors;
use super::frame::Frame;
use super::message::{Fault, PROTOCOL, Reply, Request};
use super::token::{Lookup, Token};

/// The whole of `keyward kek-worker`: standard input is the socket to the sidecar. To be called first thing in `main`,
/// before any thread is started and any descriptor opened, since it closes all that it does not know.
pub fn worker_main() -> ExitCode {
    let Ok(mut socket) = prepare() else { return ExitCode::from(EXIT_UNUSABLE) };
    let Ok(watched) = socket.try_clone() else { return ExitCode::from(EXIT_UNUSABLE) };
    std::thread::spawn(move || end_with(&watched));
    let mut token = None;
    let served = serve(&mut socket, &mut token);
    if let Some(token) = token {
        token.finalize();
    }
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_BROKEN) }
}

fn prepare() -> io::Result<UnixStream> {
    crate::secret::harden_process().map_err(io::Error::other)?;
    descriptors::close_all_others()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A terminal or a file on standard input is a person who typed the command: there is no peer.
    socket.peer_addr()?;
    Ok(socket)
}

/// Ends the process when the sidecar is gone, even if the library hangs in a call and nobody is left to kill us.
fn end_with(socket: &UnixStream) {
    loop {
        let mut watch = [PollFd::new(socket, PollFlags::RDHUP)];
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

fn serve(socket: &mut UnixStream, token: &mut Option<Token>) -> io::Result<()> {
    let (mut request, mut reply) = (Frame::new(), Frame::new());
    while request.receive(socket)? {
        let answered = Request::take(request.body()).map(|request| answer(&request, token, &mut reply));
        request.clear();
        answered.map_err(io::Error::other)?.map_err(io::Error::other)?;
        reply.send(socket)?;
    }
    Ok(())
}

/// Writes the reply at once, so that a secret goes from the token's buffer into the frame and nowhere else.
fn answer(request: &Request<'_>, token: &mut Option<Token>, out: &mut Frame) -> Result<(), super::frame::Malformed> {
    match perform(request, token, out) {
        Ok(written) => written,
        Err(fault) => Reply::Failed(fault).put(out),
    }
}

type Written = Result<(), super::frame::Malformed>;

fn perform(request: &Request<'_>, token: &mut Option<Token>, out: &mut Frame) -> Result<Written, Fault> {
    if let Request::Hello { protocol } = *request {
        return if protocol == PROTOCOL { Ok(Reply::Hello { protocol }.put(out)) } else { Err(out_of_turn("hello")) };
    }
    if let Request::Load { module, reserved, os_locking, read_write, label } = *request {
        let lookup = Lookup { module, reserved, os_locking, read_write, label };
        return load(&lookup, token).map(|reply| reply.put(out));
    }
    let token = token.as_mut().ok_or_else(|| out_of_turn("a call before the library was loaded"))?;
    Ok(match *request {
        Request::Login { pin } => {
            token.login(pin)?;
            Reply::Done.put(out)
        }
        Request::Renew => {
            token.renew();
            Reply::Done.put(out)
        }
        Request::Find { label } => Reply::Key(token.find_kek(label)?).put(out),
        Request::Create { label, id, unmodifiable } => Reply::Key(token.create_kek(label, id, unmodifiable)?).put(out),
        Request::Wrap { mechanism, plain, aad } => Reply::Bytes(&token.wrap(mechanism, plain, aad)?).put(out),
        Request::Unwrap { mechanism, blob, aad } => Reply::Bytes(token.unwrap(mechanism, blob, aad)?.expose()).put(out),
        Request::Random { len } => Reply::Bytes(token.random(len)?.expose()).put(out),
        Request::Hello { .. } | Request::Load { .. } => return Err(out_of_turn("hello or load")),
    })
}

fn load(lookup: &Lookup<'_>, token: &mut Option<Token>) -> Result<Reply<'static>, Fault> {
    if token.is_some() {
        return Err(out_of_turn("a second load"));
    }
    let (found, facts) = Token::find(lookup)?;
    *token = Some(found);
    Ok(Reply::Token(facts))
}

fn out_of_turn(what: &str) -> Fault {
    Fault::Protocol(what.into())
}

/// Longer than any C_Finalize that is going to return.
const FAREWELL: Duration = Duration::from_secs(3);
/// Not started by a sidecar.
const EXIT_UNUSABLE: u8 = 2;
/// The conversation broke off.
const EXIT_BROKEN: u8 = 3;
