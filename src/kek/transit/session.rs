//! Which token is in use, and until when? One login and what renewals have made of its lease.
//! This module never renews: it keeps what was found out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Mono;

use super::client::Caller;
use super::login::{Lease, Login};

/// A token in use.
pub(super) struct Session {
    pub(super) caller: Caller,
    /// The lease that the login gave.
    first: Option<Duration>,
    lease: Mutex<Lease>,
}

impl Session {
    pub(super) fn new(login: Login) -> Self {
        Self { caller: login.caller, first: login.lease.duration, lease: Mutex::new(login.lease) }
    }

    pub(super) fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A renewal succeeded.
    pub(super) fn prolong(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// A renewal failed and is to be tried again.
    pub(super) fn renew_later(&self, at: Mono) {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).renew_at = Some(at);
    }

    /// Whether renewals give less than half of what the login gave.
    pub(super) fn is_ending(&self) -> bool {
        match (self.first, self.lease().duration) {
            (Some(first), Some(now)) => now < first / 2,
            _ => false,
        }
    }
}
