//! Whose is a store that is copied or put back? Who stands behind it is read from its documents; this module never decides
//! whether they agree, and asks only whether they have said so.

use crate::keyring::documents::ROSTERS;
use crate::keyring::{Keyrings, UnlockError};
use crate::policy::roster::{Roster, RosterError};

/// Why it is not known whose a store is.
#[derive(Debug, thiserror::Error)]
pub enum CustodyUnread {
    /// Its documents cannot be read.
    #[error("cannot read who the custodians of the store are")]
    Documents(#[from] UnlockError),
    /// A newer keyward wrote the roster, or this is a defect.
    #[error("the roster of the store cannot be read")]
    Roster(#[from] RosterError),
}

/// What a record says of whose store it is: the digest of the newest roster; nothing where there are no custodians.
pub(super) async fn roster_fact(keyrings: &Keyrings) -> Result<Option<(&'static str, String)>, CustodyUnread> {
    let Some(newest) = keyrings.documents(ROSTERS).await?.pop() else { return Ok(None) };
    Ok(Some(("roster", hex::encode(Roster::parse(&newest.body)?.digest()))))
}
