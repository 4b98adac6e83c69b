//! What would keyward do with a product that cannot be had here, or with a token that breaks? A PKCS#11 library for tests
//! that stands before a real one, keeps the rules of other products and breaks on command. It exports C_GetFunctionList
//! alone; what it does not change is the real library's own function.
//!
//! Settings come from the environment; a file `shim.env` beside the library, with a `NAME=value` a line, is added to it
//! first (variables of the real library too, since a worker's environment holds only what its profile lists).
//!
//! - `P11SHIM_MODULE`: the real library.
//! - `P11SHIM_QUIRKS`: a comma list, see [`quirks::Quirks`].
//! - `P11SHIM_MECHANISMS`: a comma list of `NEW=REAL` (the mechanism NEW is the real library's REAL) and `!NUMBER` (absent).
//! - `P11SHIM_FAULTS`: a file of rules, read again at each call, see [`faults::Rule`].
//! - `P11SHIM_LOGIN`: a PIN, for a product that authenticates by itself: each new session finds the user logged in.
//! - `P11SHIM_LOG`: a file that gets a line `FUNCTION CODE` for each call, and no data.
#![expect(unsafe_code, reason = "PKCS#11 is a C interface: a library that offers it is called with raw pointers")]
#![allow(non_snake_case, reason = "the functions have the names of the standard")]
#![allow(
    clippy::disallowed_methods,
    reason = "a tool of the tests: it reads its settings and writes its log by itself"
)]
#![allow(clippy::print_stderr, reason = "settings that make no sense must be seen by whoever wrote them")]

mod calls;
mod faults;
mod gcm;
mod journal;
mod listing;
mod objects;
mod quirks;
mod sessions;
mod settings;

use std::sync::OnceLock;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE};

use faults::{Event, Faults};
use journal::Journal;
use quirks::Quirks;
use sessions::Sessions;

/// The real library and what stands before it.
struct Shim {
    real: CK_FUNCTION_LIST,
    quirks: Quirks,
    faults: Faults,
    journal: Journal,
    sessions: Sessions,
    login: Option<String>,
}

static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
static LIST: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();

/// The one symbol. CKR_GENERAL_ERROR says that the settings make no sense.
///
/// # Safety
/// As the standard demands: a valid place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let loaded = SHIM.get_or_init(|| settings::load().map_err(|problem| eprintln!("p11-shim: {problem}")).ok());
    let Some(shim) = loaded else { return cryptoki_sys::CKR_GENERAL_ERROR };
    if list.is_null() {
        return cryptoki_sys::CKR_ARGUMENTS_BAD;
    }
    let ours = LIST.get_or_init(|| calls::overridden(&shim.real));
    // SAFETY: not null, and by the standard a place for one pointer. The list itself is never written through it.
    unsafe { *list = std::ptr::from_ref(ours).cast_mut() };
    cryptoki_sys::CKR_OK
}

/// One call: a fault if one is due, else `run`; then a line in the log.
fn called(name: &'static str, session: Option<CK_SESSION_HANDLE>, run: impl FnOnce(&Shim) -> CK_RV) -> CK_RV {
    // The list that led here is given out after the shim was made.
    let Some(Some(shim)) = SHIM.get() else { return cryptoki_sys::CKR_GENERAL_ERROR };
    let code = match shim.faults.due(name) {
        None => run(shim),
        Some(Event::Code(code)) => code,
        Some(Event::Sleep(time)) => {
            std::thread::sleep(time);
            run(shim)
        }
        Some(Event::Hang) => {
            shim.journal.note(name, "hang");
            loop {
                std::thread::park();
            }
        }
        Some(Event::Crash) => {
            shim.journal.note(name, "crash");
            std::process::abort();
        }
        Some(Event::Logout) => {
            sessions::logout(shim, session);
            run(shim)
        }
        Some(Event::CloseSessions) => {
            sessions::close_all(shim, session);
            run(shim)
        }
    };
    shim.journal.note(name, &format!("{code:#x}"));
    code
}

/// The real library's function, called; one that it lacks answers CKR_FUNCTION_NOT_SUPPORTED, as the standard says.
macro_rules! real {
    ($shim:expr, $name:ident ( $($argument:expr),* $(,)? )) => {
        match $shim.real.$name {
            // SAFETY: the arguments are those that the caller of the same function of ours gave, or buffers of ours that
            // live through the call and keep the same contract.
            Some(function) => unsafe { function($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use real;
