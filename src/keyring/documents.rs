//! Where does what custodians decide rest? In documents: sealed heads without keys, whose names begin with `kw.`, in the
//! chain of changes like every keyring, so that an older, an edited and a deleted one are found like theirs. Mirror,
//! backup and peers know nothing else of them.
//!
//! This module never reads what a document says. Who writes one holds a permit for that kind of document, or an
//! authority; what a quorum decided is spent in the same transaction as its effect, so that nothing happens twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bodies::{self, HeadBody, SCHEMA};
use super::change::CommitError;
use super::directory::Intent;
use super::draft::{Draft, RingDraft};
use super::follow::Open;
use super::race::{Manner, Race};
use super::{ApplyError, Inner, Keyrings, SYSTEM, StoreHead, UnlockError};
use crate::audit::IntentReceipt;
use crate::clock::{Deadline, Wall};
use crate::crypto;
use crate::names::RESERVED_PREFIX;
use crate::policy::{Action, Authority, Permit, Spends};

/// Who stands behind keys: one document a generation, none of them ever changed.
pub const ROSTERS: &str = "kw.roster/";
/// Ceremonies by their ids.
pub const CEREMONIES: &str = "kw.ceremony/";
/// Grants by the ids of their ceremonies.
pub const GRANTS: &str = "kw.grant/";
/// Separations of duties, by their digests: none of them ever changed.
pub const SEPARATIONS: &str = "kw.separation/";
/// What is locked, by what it is.
pub const LOCKS: &str = "kw.lock/";
/// The guarded settings that were approved.
pub const SETTINGS: &str = "kw.settings";
/// What the founding members signed.
pub const GENESIS: &str = "kw.genesis";
/// Versions of key-encryption keys that were admitted after the genesis.
pub const KEKS: &str = "kw.kek/";
/// Restores that custodians approved, by what they were restored from.
pub const RESTORES: &str = "kw.restore/";
/// Until when backups may be made.
pub const BACKUPS: &str = "kw.backup";
/// The last counter of each hardware key.
pub const COUNTERS: &str = "kw.counters";

/// Bytes of a document at most: a proposal, a dozen signatures and what became of them take a tenth.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// A document as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its whole name.
    pub name: String,
    /// Counts its changes, from 1.
    pub generation: u64,
    /// What it says.
    pub body: String,
}

/// A document as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentWrite {
    /// Its whole name.
    pub name: String,
    /// The generation that it has now; 0 of one that is not there yet. Another one means that somebody was first.
    pub expect: u64,
    /// What it is to say.
    pub body: String,
}

/// What lets documents be written.
#[derive(Debug, Clone, Copy)]
pub enum Leave<'a> {
    /// To say something, as far as the permit's action goes: it changes nothing but the course of a ceremony.
    Permit(&'a Permit),
    /// To bring something about.
    Authority(&'a Authority),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Where the chain ends with it.
    pub head: StoreHead,
}

impl Keyrings {
    /// A document; None if there is none of that name.
    pub async fn document(&self, name: &str) -> Result<Option<Document>, UnlockError> {
        let open = self.inner.opened()?;
        Ok(self.inner.document(&open, name).await?)
    }

    /// All documents of a folder, by name.
    pub async fn documents(&self, folder: &str) -> Result<Vec<Document>, UnlockError> {
        let open = self.inner.opened()?;
        let mut names: Vec<String> =
            open.directory().names().filter(|name| name.starts_with(folder)).map(str::to_owned).collect();
        names.sort_unstable();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            found.extend(self.inner.document(&open, &name).await?);
        }
        Ok(found)
    }

    /// A number that rises with every change of a document, by whomever: what was read before it is to be read again.
    pub fn documents_epoch(&self) -> u64 {
        self.inner.documents.load(Ordering::Acquire)
    }

    /// Writes documents whose intent is durable: all of them or none.
    pub async fn write(
        &self,
        writes: Vec<DocumentWrite>,
        leave: Leave<'_>,
        intent: IntentReceipt,
    ) -> Result<Written, ApplyError> {
        leave.covers(&writes)?;
        // What one person may lift before there are custodians is theirs from then on.
        if leave.lifts() && self.in_custody() != Some(false) {
            return Err(ApplyError::NeedsQuorum);
        }
        let (spends, deadline) = match leave {
            Leave::Permit(permit) => (None, permit.deadline()),
            Leave::Authority(authority) => (authority.spends().cloned(), authority.deadline()),
        };
        let (inner, index) = (Arc::clone(&self.inner), intent.index());
        let work = async move { inner.write(writes, spends, index, deadline).await };
        let ended = |_| Err(ApplyError::Unsettled("the change was cut off".to_owned()));
        tokio::spawn(work).await.unwrap_or_else(ended)
    }
}

impl Leave<'_> {
    fn lifts(self) -> bool {
        matches!(self, Self::Permit(permit) if permit.action() == Action::LockRelease)
    }

    /// Whether these documents may be written by it, and are documents at all.
    fn covers(self, writes: &[DocumentWrite]) -> Result<(), ApplyError> {
        for write in writes {
            if !is_document(&write.name) || write.name.len() > 200 || write.body.len() > MAX_DOCUMENT {
                return Err(ApplyError::Invalid(format!("{} is no document", write.name)));
            }
            let covered = match self {
                Self::Permit(permit) => may_say(permit.action(), write),
                Self::Authority(Authority::Founding(founding)) => {
                    founding.permit().action() == Action::CustodyFound && founds(write)
                }
                Self::Authority(Authority::Quorum(_)) => {
                    [ROSTERS, GRANTS, KEKS, LOCKS, SEPARATIONS, RESTORES]
                        .iter()
                        .any(|folder| write.name.starts_with(folder))
                        || [SETTINGS, BACKUPS].contains(&write.name.as_str())
                }
                Self::Authority(Authority::Standing(_) | Authority::OnUse(_) | Authority::Alone(_)) => false,
            };
            if !covered {
                return Err(ApplyError::NotCovered);
            }
        }
        Ok(())
    }
}

/// What people may say without a quorum: take part in ceremonies, and take away (a key, a grant) at once.
fn may_say(action: Action, write: &DocumentWrite) -> bool {
    match action {
        // A review is a decision too; what it is about was there before.
        Action::CeremonyDecide if write.name.starts_with(GRANTS) => write.expect > 0,
        Action::CeremonyPropose | Action::CeremonyDecide | Action::CeremonyExecute => {
            write.name.starts_with(CEREMONIES) || write.name == COUNTERS
        }
        Action::CustodianRevoke => write.name.starts_with(ROSTERS) && write.expect == 0,
        Action::GrantEnd => write.name.starts_with(GRANTS) && write.expect > 0,
        Action::LockEngage => write.name.starts_with(LOCKS),
        Action::LockRelease => write.name.starts_with(LOCKS) && write.expect > 0,
        _ => false,
    }
}

/// The first documents of all; that there is no other roster, their generation says.
fn founds(write: &DocumentWrite) -> bool {
    let one = [SETTINGS, GENESIS].contains(&write.name.as_str()) || write.name.starts_with(SEPARATIONS);
    write.expect == 0 && (one || write.name == first_roster())
}

/// The name of a roster of this generation.
pub fn roster_name(generation: u64) -> String {
    format!("{ROSTERS}{generation:08}")
}

/// The name of the document that holds a separation of duties.
pub fn separation_name(digest: &[u8; 32]) -> String {
    format!("{SEPARATIONS}{}", hex::encode(digest))
}

/// The name of the document that admits a version of a key-encryption key.
pub fn kek_name(kek: &crate::names::KekName, version: u32) -> String {
    format!("{KEKS}{kek}/{version}")
}

/// The name of the document that approves a restore: the first 32 hexadecimal digits of its digest.
pub fn restore_name(digest: &[u8; 32]) -> String {
    let half: String = hex::encode(digest).chars().take(32).collect();
    format!("{RESTORES}{half}")
}

fn first_roster() -> String {
    roster_name(1)
}

/// Whether a head is a document and no keyring.
pub(super) fn is_document(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX) && name != SYSTEM
}

/// Whether a head is a keyring: neither a document nor keyward's own.
pub(super) fn is_keyring(name: &str) -> bool {
    !name.starts_with(RESERVED_PREFIX)
}

impl Inner {
    async fn document(&self, open: &Open, name: &str) -> Result<Option<Document>, ApplyError> {
        if !is_document(name) {
            return Ok(None);
        }
        let Some(loaded) = self.load(open, name).await? else { return Ok(None) };
        let body = loaded
            .head
            .document
            .ok_or_else(|| super::verify::Damage::of(super::verify::describe_head(name), "it is no document"))?;
        Ok(Some(Document { name: loaded.rows.head.name, generation: loaded.rows.head.generation, body }))
    }

    async fn write(
        &self,
        writes: Vec<DocumentWrite>,
        spends: Option<Spends>,
        intent: u64,
        deadline: Deadline,
    ) -> Result<Written, ApplyError> {
        let mut turn = self.turn.lock().await;
        let intent = Intent { log: self.log_name(), index: intent };
        let mut race = Race::until(&self.clock, deadline, Manner::Urgent);
        loop {
            let open = self.opened_to_change()?;
            self.catch_up(&open).await?;
            if open.directory().recent(&intent).is_some() {
                return Ok(Written { head: open.head() });
            }
            let at = self.now(&open).wall;
            let mut rings = Vec::with_capacity(writes.len().saturating_add(1));
            for write in &writes {
                rings.push(self.draft_document(&open, write, at).await?);
            }
            rings.extend(self.spending(&open, spends.as_ref(), at).await?);
            let draft =
                Draft { kind: "document.written", at, intent: Some(intent.clone()), rings, partitions: Vec::new() };
            match self.commit(&open, draft).await {
                Ok(drafted) => return Ok(Written { head: drafted.end }),
                Err(CommitError::Conflict) => {}
                Err(CommitError::Other(error)) => return Err(error),
            }
            drop(turn);
            race.lost().await?;
            turn = self.turn.lock().await;
        }
    }

    /// The decision that a change spends, as a part of the change.
    pub(super) async fn spending(
        &self,
        open: &Open,
        spends: Option<&Spends>,
        at: Wall,
    ) -> Result<Option<RingDraft>, ApplyError> {
        let Some(spends) = spends else { return Ok(None) };
        let write = DocumentWrite { name: spends.name.clone(), expect: spends.generation, body: spends.body.clone() };
        let mut ring = self.draft_document(open, &write, at).await?;
        ring.rests_on.clone_from(&spends.rests_on);
        Ok(Some(ring))
    }

    async fn draft_document(&self, open: &Open, write: &DocumentWrite, at: Wall) -> Result<RingDraft, ApplyError> {
        let loaded = self.load(open, &write.name).await?;
        let generation = loaded.as_ref().map_or(0, |loaded| loaded.rows.head.generation);
        if generation != write.expect {
            return Err(ApplyError::Superseded(format!("{} was changed by somebody else", write.name)));
        }
        let mut ring = match loaded {
            Some(loaded) => RingDraft::of(&loaded),
            None => RingDraft::new(write.name.clone(), empty(at)),
        };
        ring.head.document = Some(write.body.clone());
        Ok(ring)
    }
}

fn empty(at: Wall) -> HeadBody {
    HeadBody {
        count: 0,
        created: at.0,
        document: None,
        limits: bodies::Limits::default(),
        partition_key: None,
        partitions: None,
        required_context: Vec::new(),
        retired: Vec::new(),
        root: String::new(),
        schema: SCHEMA,
        subject_key: None,
        suite: None,
        used: BTreeMap::new(),
        wrapping: Vec::new(),
    }
}

/// SHA-256 over texts, for whoever names a document or a keyring by its digest.
pub fn digest(parts: &[&str]) -> [u8; 32] {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    crypto::sha256(&parts)
}

/// Random bytes, for the nonce and id of what is proposed.
pub fn random(out: &mut [u8]) -> Result<(), UnlockError> {
    crypto::random(out).map_err(|_| UnlockError::Unavailable("no randomness".to_owned()))
}
