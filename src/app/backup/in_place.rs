//! What if the database itself was set back: a standby promoted without the last commits, a dump or an older file put
//! back? Nothing is copied then. The store that is there is verified row by row and declared to be the one in force, and
//! this sidecar's log names what is given up; every other sidecar of a fleet declares the same in its own log.
//!
//! How much is lost the log says alone: the newest head that it names and the chain passes through is the last that both
//! have. What other sidecars changed after it and before the loss, this log may not have heard of.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::{self, AppendError, Event, Log, Outcome, ReadError};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::durable::{Disk, DurableError};
use crate::kek;
use crate::keyring::{self, ApplyError, Keyrings, Pinned, StoreHead};
use crate::store::{self, Reader, StoreError, sqlite};

use super::super::cut_short::CutShort;
use super::super::start::{StartError, pinned};
use super::super::store::{described, without_mirror};
use super::custodians::{CustodyUnread, roster_fact};
use super::{Tell, all_keks, each_record, open_log, record};

/// The store that is in force from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Where it is.
    pub store: String,
    /// Where its chain ends.
    pub head: StoreHead,
    /// How many changes that the log knows are given up; 0 if none is missing, and then nothing was recorded.
    pub lost: u64,
    /// Whether it had been moved away.
    pub reopened: bool,
    /// Whether it has custodians, who approve it before it is served.
    pub held: bool,
}

/// Why the store that is there was not declared.
#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    /// The state directory cannot be used.
    #[error("cannot use the state directory")]
    State(#[source] DurableError),
    /// A restore was cut short, or a joining: what is there is not whole.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The log does not open.
    #[error("cannot open the audit log")]
    Log(#[from] audit::OpenError),
    /// It cannot be read back.
    #[error("cannot read the audit log")]
    Unread(#[from] ReadError),
    /// It does not say which store it belongs to.
    #[error(transparent)]
    Unpinned(#[from] StartError),
    /// The store does not open.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// A key-encryption key is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// It is another store, an abandoned one, or not as keyward left it.
    #[error("the store is not admitted")]
    NotAdmitted(#[source] ApplyError),
    /// Nobody said that these changes may be lost.
    #[error(
        "the store ends at change {head}, and the newest change that it shares with the log is {common}; the log knows \
         {known}: declaring it gives up {} changes", known - common
    )]
    Lost {
        /// Where the store ends.
        head: u64,
        /// The newest change that both have.
        common: u64,
        /// The newest that the log knows.
        known: u64,
    },
    /// It was moved, and nobody said that the place is lost.
    #[error("this store was moved to {to}, where it may be in use")]
    Moved {
        /// The place.
        to: String,
        /// How many changes that this log knows would be given up.
        lost: u64,
    },
    /// It could not be taken into service again.
    #[error("cannot take the store into service again")]
    Closed(#[source] ApplyError),
    /// The log takes no records.
    #[error("cannot write the audit log")]
    Append(#[from] AppendError),
    /// It is not known whose the store is.
    #[error(transparent)]
    Custody(#[from] CustodyUnread),
}

impl InPlaceError {
    /// What the operator should do.
    pub fn hint(&self, config: &Config) -> String {
        match self {
            Self::State(DurableError::AlreadyLocked { .. }) => "stop the sidecar first".to_owned(),
            Self::State(_) => "name the configuration of a sidecar that was made by `keyward init`".to_owned(),
            Self::CutShort(what) => what.hint().to_owned(),
            Self::Log(_) | Self::Unread(_) | Self::Unpinned(_) | Self::Append(_) => {
                "nothing was declared: `keyward audit verify` says what is wrong with the log".to_owned()
            }
            Self::Store(_) | Self::Custody(_) => format!("see that {} can be used", described(&config.store)),
            Self::Kek(_) => "check [kek.NAME] of that key".to_owned(),
            Self::NotAdmitted(ApplyError::Unavailable(_)) => {
                "make one of the key-encryption keys reachable, and the store".to_owned()
            }
            Self::NotAdmitted(_) => {
                "only the store that this log belongs to, whole and not given up before, can be declared; else restore a \
                 backup (docs/recovery.md)"
                    .to_owned()
            }
            Self::Moved { to, lost } => format!(
                "name that place in [store]. Two stores that both serve contradict each other for good: only if {to} is lost, \
                 with every backup of it, go on with --accept-lost-changes {lost}"
            ),
            Self::Closed(_) => "nothing was declared: run the same command again".to_owned(),
            Self::Lost { common, known, .. } => format!(
                "look for a newer copy of the store first: the old primary, its disk, a standby, a backup. What was changed \
                 in {} to {known} is gone: keys made there with everything sealed under them; destructions and shreddings \
                 decided there are undone. To go on: --accept-lost-changes {}",
                common + 1,
                known - common
            ),
        }
    }
}

/// Declares that the store which [store] names is in force as it is, if this gives up exactly the changes that the
/// operator says may be lost.
pub async fn declare(
    config: &Config,
    accept: Option<u64>,
    uid: u32,
    clock: SharedClock,
    tell: Tell<'_>,
) -> Result<Declared, InPlaceError> {
    let disk = Disk::real();
    let _lock = disk.lock_exclusive(&config.state.lock()).map_err(InPlaceError::State)?;
    CutShort::check(&config.state)?;
    let (log, opened) = open_log(config, &clock, &disk)?;
    let known = pinned(&log, &opened)?;
    let heads = Heads::of(&log)?;
    let found = store::open(&without_mirror(&config.store)).await?;
    let reader = found.reader();
    tell("verifying the store", 0, 1);
    let keks = all_keks(config, &clock, &disk).await?;
    // Older than the log knows it is what shall be declared; a store that was given up before stays refused.
    let keyrings = Keyrings::open(found, keks, clock.clone(), config.keyring.clone());
    keyrings.pin(Pinned { head: None, ..known });
    keyrings.reopening();
    keyrings.admit().await.map_err(InPlaceError::NotAdmitted)?;
    let mut head = keyrings.head().unwrap_or_default();
    let (missing, moved) = (heads.verdict(&reader).await?, keyrings.moved_to());
    let lost = missing.as_ref().map_or(0, |Missing { common, newest, .. }| newest.saturating_sub(*common));
    if (missing.is_some() || moved.is_some()) && accept != Some(lost) {
        log.drain().await?;
        return Err(refusal(head, missing, moved, lost));
    }
    if moved.is_some() {
        head = keyrings.reopen().await.map_err(InPlaceError::Closed)?;
    }
    let custodians = roster_fact(&keyrings).await?;
    let held = custodians.is_some() && (missing.is_some() || moved.is_some());
    if missing.is_some() || moved.is_some() {
        // It shows keyrings as they were before.
        sqlite::remove(&disk, &config.state.mirror()).map_err(InPlaceError::State)?;
        let mut facts = vec![("os_user", uid.to_string()), ("store_head", head.to_string())];
        if let Some(Missing { common, first, newest }) = missing {
            facts.push(("abandoned_head", first.to_string()));
            facts.push(("generation", format!("{}..{newest}", common.saturating_add(1))));
        }
        facts.extend(custodians);
        record(&log, &clock, (Event::StoreRebased, Outcome::Done), facts).await?;
    }
    log.drain().await?;
    Ok(Declared { store: described(&config.store), head, lost, reopened: moved.is_some(), held })
}

fn refusal(head: StoreHead, missing: Option<Missing>, moved: Option<String>, lost: u64) -> InPlaceError {
    match (moved, missing) {
        (Some(to), _) => InPlaceError::Moved { to, lost },
        (None, Some(Missing { common, newest, .. })) => {
            InPlaceError::Lost { head: head.changes, common, known: newest }
        }
        (None, None) => InPlaceError::Lost { head: head.changes, common: head.changes, known: head.changes },
    }
}

/// What the log knows and the store lacks.
struct Missing {
    /// The newest change that both have.
    common: u64,
    /// The first head after it: every store that was given up and knows more passes through it.
    first: StoreHead,
    /// The newest change that the log knows.
    newest: u64,
}

/// The heads of the store in force that a log names, oldest first.
#[derive(Debug, Default)]
pub(super) struct Heads(Vec<StoreHead>);

impl Heads {
    pub(super) fn of(log: &Log) -> Result<Self, ReadError> {
        let mut heads = Self::default();
        each_record(log, |record| heads.note(record))?;
        Ok(heads)
    }

    /// The first head after a change: every store that knows more, and is to be given up, passes through it.
    pub(super) fn first_after(&self, changes: u64) -> Option<StoreHead> {
        self.0.iter().find(|head| head.changes > changes).copied()
    }

    fn note(&mut self, record: &[u8]) {
        // Quotation marks inside a text are escaped: these words stand in no value.
        if !record.windows(NAMED.len()).any(|word| word == NAMED) {
            return;
        }
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(record) else { return };
        let fact = |name: &str| record.get("facts")?.get(name)?.as_str()?.parse::<StoreHead>().ok();
        let Some(head) = fact("store_head") else { return };
        if let Some(given_up) = fact("abandoned_head") {
            // What was given up is no head of the store in force, which may have gone on by itself since it was set back.
            self.0.retain(|known| known.changes < head.changes.min(given_up.changes));
        }
        if self.0.last().is_none_or(|last| last.changes < head.changes) {
            self.0.push(head);
        }
    }

    /// What is missing in a chain; None if it passes through the newest.
    async fn verdict(&self, reader: &Arc<dyn Reader>) -> Result<Option<Missing>, StoreError> {
        let by_change: HashMap<u64, StoreHead> = self.0.iter().map(|head| (head.changes, *head)).collect();
        let (mut common, mut after) = (0, 0);
        loop {
            let links = reader.changes(after, LINKS).await?;
            let Some(last) = links.last() else { break };
            after = last.seq;
            let passed = |link: &&store::ChangeRow| {
                by_change.get(&link.seq).is_some_and(|head| keyring::ends_at(link).as_ref() == Some(head))
            };
            common = links.iter().rev().find(passed).map_or(common, |link| link.seq);
        }
        let first = self.first_after(common);
        Ok(first.zip(self.0.last()).map(|(first, newest)| Missing { common, first, newest: newest.changes }))
    }
}

const NAMED: &[u8] = b"\"store_head\"";
/// Links of the chain that are read at once.
const LINKS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(changes: u64, byte: u8) -> StoreHead {
        StoreHead { changes, digest: [byte; 32] }
    }

    fn record(facts: &[(&str, StoreHead)]) -> Vec<u8> {
        let facts: serde_json::Map<_, _> =
            facts.iter().map(|(name, head)| ((*name).to_owned(), head.to_string().into())).collect();
        serde_json::json!({ "event": "x", "facts": facts }).to_string().into_bytes()
    }

    #[test]
    fn what_a_restore_gave_up_is_no_head_of_the_store_in_force() {
        let mut heads = Heads::default();
        for newer in [head(1, 1), head(2, 1), head(2, 1), head(4, 1)] {
            heads.note(&record(&[("store_head", newer)]));
        }
        heads.note(&record(&[("abandoned_head", head(4, 1)), ("store_head", head(2, 1))]));
        heads.note(&record(&[("backup_head", head(9, 9))]));
        heads.note(&record(&[("store_head", head(3, 2))]));
        assert_eq!(heads.0, [head(1, 1), head(2, 1), head(3, 2)]);
        assert_eq!(heads.first_after(1), Some(head(2, 1)));
        assert_eq!(heads.first_after(3), None);
    }

    #[test]
    fn what_was_given_up_is_forgotten_also_where_the_declared_store_had_gone_on_by_itself() {
        let mut heads = Heads::default();
        for newer in [head(5, 1), head(8, 1), head(10, 1)] {
            heads.note(&record(&[("store_head", newer)]));
        }
        heads.note(&record(&[("abandoned_head", head(8, 1)), ("store_head", head(9, 2))]));
        assert_eq!(heads.0, [head(5, 1), head(9, 2)]);
    }
}
