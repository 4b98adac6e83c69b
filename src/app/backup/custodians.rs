//! Whose is a store that is copied or put back, and do they let it be copied? Read from its documents, before anything is
//! written from its rows as they are, and again when the copy was verified. Whoever can read the rows can copy them by other
//! means: what this keeps from happening is a backup that counts as one, with a manifest and a record.

use crate::ceremony::CeremonyId;
use crate::ceremony::copies::BackupLeave;
use crate::clock::{SharedClock, Wall};
use crate::keyring::documents::{BACKUPS, ROSTERS, roster_name};
use crate::keyring::{self, Keyrings, UnlockError};
use crate::policy::roster::{Roster, RosterError};
use crate::store::{Snapshot, StoreError};

/// Why it is not known whose a store is.
#[derive(Debug, thiserror::Error)]
pub enum CustodyUnread {
    /// Its documents cannot be read.
    #[error("cannot read what the custodians of the store decided")]
    Documents(#[from] UnlockError),
    /// The store does not answer.
    #[error("cannot read what the custodians of the store decided")]
    Store(#[from] StoreError),
    /// A newer keyward wrote the roster, or this is a defect.
    #[error("the roster of the store cannot be read")]
    Roster(#[from] RosterError),
}

/// Why a store is not copied.
#[derive(Debug, thiserror::Error)]
pub enum NotAllowed {
    /// Nobody has decided it yet.
    #[error("the custodians of this store have not let it be copied")]
    Never,
    /// The time is over.
    #[error("the custodians of this store let it be copied until {}, and by the clock and the store it is {}", .until.rfc3339_millis(), .now.rfc3339_millis())]
    Over {
        /// Until when.
        until: Wall,
        /// The later of the machine's time and that of the newest change.
        now: Wall,
    },
    /// What they decided is no such document: a newer keyward's, or an edited one.
    #[error("what the custodians of this store decided about backups cannot be read: {0}")]
    Unread(String),
    /// Nothing can be read.
    #[error(transparent)]
    Unknown(#[from] CustodyUnread),
}

impl NotAllowed {
    /// What the operator should do.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Never | Self::Over { .. } => {
                "it takes a ceremony, which holds for as many days as it says: keyward ceremony propose store.backup --set \
                 place=PLACE --set days=DAYS --initiator NAME --reason CODE --key KEY"
            }
            Self::Unread(_) => "use the keyward that serves this store",
            Self::Unknown(_) => "see that the store can be used",
        }
    }
}

/// What a record says of whose store it is: the digest of the newest roster; nothing where there are no custodians.
pub(super) async fn roster_fact(keyrings: &Keyrings) -> Result<Option<(&'static str, String)>, CustodyUnread> {
    let Some(newest) = keyrings.documents(ROSTERS).await?.pop() else { return Ok(None) };
    Ok(Some(("roster", hex::encode(Roster::parse(&newest.body)?.digest()))))
}

/// The ceremony by which this store may be copied, as its rows say; None where there are no custodians. Needs no key.
pub(super) async fn by_rows(store: &dyn Snapshot, clock: &SharedClock) -> Result<Option<CeremonyId>, NotAllowed> {
    let unread = CustodyUnread::Store;
    if store.ring(roster_name(1)).await.map_err(unread)?.is_none() {
        return Ok(None);
    }
    let newest = store.last_change().await.map_err(unread)?.as_ref().and_then(keyring::made_at);
    let leave = store.ring(BACKUPS.to_owned()).await.map_err(unread)?;
    let said = leave.map(|rows| keyring::said_by(&rows.head).unwrap_or_default());
    allowed(said.as_deref(), clock.wall().max(newest.unwrap_or(Wall(0)))).map(Some)
}

/// The same of a store that was admitted, whose rows are verified.
pub(super) async fn by_documents(keyrings: &Keyrings, clock: &SharedClock) -> Result<Option<CeremonyId>, NotAllowed> {
    if keyrings.in_custody() != Some(true) {
        return Ok(None);
    }
    let leave = keyrings.document(BACKUPS).await.map_err(CustodyUnread::Documents)?;
    let now = keyrings.time().map_or_else(|| clock.wall(), |time| time.wall.max(clock.wall()));
    allowed(leave.as_ref().map(|document| &*document.body), now).map(Some)
}

fn allowed(said: Option<&str>, now: Wall) -> Result<CeremonyId, NotAllowed> {
    let leave = BackupLeave::parse(said.ok_or(NotAllowed::Never)?);
    let leave = leave.map_err(|error| NotAllowed::Unread(error.to_string()))?;
    if leave.holds(now) { Ok(leave.ceremony) } else { Err(NotAllowed::Over { until: Wall(leave.until), now }) }
}
