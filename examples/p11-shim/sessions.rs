//! Which sessions are open, and what runs in them? Counted for products with few of them, and to lose them on command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_ULONG};

use crate::gcm::Operation;
use crate::{Shim, real};

/// Open sessions and their GCM operations.
#[derive(Default)]
pub struct Sessions {
    open: AtomicUsize,
    operations: Mutex<HashMap<CK_SESSION_HANDLE, Operation>>,
}

impl Sessions {
    /// The GCM operations under way.
    pub fn operations(&self) -> MutexGuard<'_, HashMap<CK_SESSION_HANDLE, Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one more session; the code if there is none.
    pub fn enter(&self, max: Option<usize>) -> Result<(), CK_RV> {
        let room = |open: usize| (max.is_none_or(|max| open < max)).then_some(open + 1);
        let entered = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room);
        entered.map(|_| ()).map_err(|_| cryptoki_sys::CKR_SESSION_COUNT)
    }

    /// A session is closed, or was not opened after all.
    pub fn leave(&self, session: CK_SESSION_HANDLE) {
        self.operations().remove(&session);
        let _was = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| Some(open.saturating_sub(1)));
    }

    /// All are gone.
    pub fn clear(&self) {
        self.operations().clear();
        self.open.store(0, Ordering::SeqCst);
    }
}

/// The product has authenticated by itself, if it is one that does.
pub fn log_in(shim: &Shim, session: CK_SESSION_HANDLE) -> CK_RV {
    let Some(pin) = &shim.login else { return cryptoki_sys::CKR_OK };
    let (pin, len) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    match real!(shim, C_Login(session, cryptoki_sys::CKU_USER, pin, len)) {
        cryptoki_sys::CKR_USER_ALREADY_LOGGED_IN => cryptoki_sys::CKR_OK,
        code => code,
    }
}

/// The user is logged out behind the caller's back.
pub fn logout(shim: &Shim, session: Option<CK_SESSION_HANDLE>) {
    if let Some(session) = session {
        // A token that was logged out already is where it should be.
        let _done: CK_RV = real!(shim, C_Logout(session));
    }
}

/// Every session of the token is closed behind the caller's back.
pub fn close_all(shim: &Shim, session: Option<CK_SESSION_HANDLE>) {
    let Some(session) = session else { return };
    let mut info = CK_SESSION_INFO::default();
    if real!(shim, C_GetSessionInfo(session, &raw mut info)) == cryptoki_sys::CKR_OK {
        let slot: CK_SLOT_ID = info.slotID;
        let _done: CK_RV = real!(shim, C_CloseAllSessions(slot));
        shim.sessions.clear();
    }
}
