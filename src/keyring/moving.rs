//! Where is this store now? One that was copied to another place ends with a sealed link that names the place: no sidecar
//! serves it from then on, and none changes it, since a change would follow that link. So there are never two stores.
//!
//! The link is not in the copy, and whoever follows the chain stops before it: to the logs of all sidecars the copy is the
//! store that they know, to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::bodies::{self, ChangeBody, SCHEMA};
use super::draft::UNSEALED;
use super::seal::{self, Row};
use super::views::DECLARE;
use super::{ApplyError, Inner, Keyrings, StoreHead};
use crate::store::{ChangeRow, StoreError, Write};

/// The kinds of the two links.
const MOVED: &str = "store.moved";
const REOPENED: &str = "store.reopened";
/// What a fact of the log takes, LOG-10; the places of both are written the same.
const MOST_PLACE: usize = 256;

/// Where the store is, if it is not here.
#[derive(Default)]
pub(super) struct Moved {
    to: Mutex<Option<String>>,
    reopening: AtomicBool,
}

impl Moved {
    fn to(&self) -> Option<String> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a link of the chain, in order, says of it.
    pub(super) fn follow(&self, body: &ChangeBody) {
        match &*body.kind {
            MOVED => {
                *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(body.place.clone().unwrap_or_default())
            }
            REOPENED => *self.to.lock().unwrap_or_else(PoisonError::into_inner) = None,
            _ => {}
        }
    }

    /// Refuses a store that is somewhere else; asked when the whole chain has been followed, or a newer link of it.
    pub(super) fn check(&self) -> Result<(), ApplyError> {
        match self.to() {
            Some(to) if !self.reopening.load(Ordering::SeqCst) => Err(ApplyError::Refused(format!(
                "this store was moved to {to}: name that in [store]; only if it is lost for good, declare this one: {DECLARE}"
            ))),
            _ => Ok(()),
        }
    }
}

impl Keyrings {
    /// Admits also a store that was moved; for [`Self::reopen`].
    pub fn reopening(&self) {
        self.inner.moved.reopening.store(true, Ordering::SeqCst);
    }

    /// Where the admitted store was moved.
    pub fn moved_to(&self) -> Option<String> {
        self.inner.moved.to()
    }

    /// Ends the chain with a link that says where the store is now. Nothing is served here after it.
    pub async fn move_to(&self, place: &str) -> Result<(), ApplyError> {
        self.inner.last_link(MOVED, Some(place_of(place))).await.map(drop)
    }

    /// Takes a moved store into service again; where its chain ends now.
    pub async fn reopen(&self) -> Result<StoreHead, ApplyError> {
        self.inner.last_link(REOPENED, None).await
    }
}

impl Inner {
    /// Commits a link that changes no keyring, behind everything that is there.
    async fn last_link(&self, kind: &str, place: Option<String>) -> Result<StoreHead, ApplyError> {
        let _turn = self.turn.lock().await;
        let open = self.opened_to_change()?;
        let last = open.head();
        let unsealed = || ApplyError::Unavailable("a row could not be sealed".to_owned());
        let at = self.clock.wall().0;
        let (heads, intent, log) = (Vec::new(), None, None);
        let body = ChangeBody { at, heads, intent, kind: kind.to_owned(), log, place, schema: SCHEMA };
        let body = bodies::encode(&body).ok_or_else(unsealed)?;
        let mut link = ChangeRow { seq: last.changes.saturating_add(1), previous: last.digest, body, tag: UNSEALED };
        link.tag = open.system.rows.tag(Row::Change(&link)).map_err(|_| unsealed())?;
        let digest = seal::digest(&link).map_err(|_| unsealed())?;
        let end = StoreHead { changes: link.seq, digest };
        match self.writer.commit(vec![Write::Change(link)]).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => {
                return Err(ApplyError::Superseded("another sidecar changed the store first".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        if kind == REOPENED {
            open.directory_mut().set_head(end);
        }
        Ok(end)
    }

    /// A new link of the chain that is followed: one that says that the store is elsewhere is the last that is read.
    pub(super) fn still_here(&self, body: &ChangeBody) -> Result<(), ApplyError> {
        self.moved.follow(body);
        self.moved.check()
    }
}

/// Printable ASCII of a bounded length, as it stands in the log and in refusals.
fn place_of(place: &str) -> String {
    place.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(MOST_PLACE).collect()
}
