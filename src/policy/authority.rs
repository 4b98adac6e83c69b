//! The Authority that changes to keys need. A leaf file: only `policy` can build one.

use super::Permit;

/// What allows a change to keys. Quorums join it when ceremonies exist.
#[must_use]
#[derive(Debug)]
pub enum Authority {
    /// Before the first custodian is enrolled.
    Founding(Founding),
}

/// The authority of the founding time; recorded as such.
#[derive(Debug)]
pub struct Founding {
    permit: Permit,
}

impl Founding {
    pub(super) const fn mint(permit: Permit) -> Self {
        Self { permit }
    }

    /// The permit that this authority rests on.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }
}
