//! What has somebody stopped? A principal, the keyring or the sidecar: one person is enough to lock, and where there are
//! custodians a ceremony lifts it. Locks are looked at outside policy, on every request, and no grant passes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::Event;
use crate::clock::Wall;
use crate::control::locks::{Level, Locked};
use crate::keyring::documents::{self, DocumentWrite, LOCKS, Leave};
use crate::keyring::life::Step;
use crate::names::PrincipalName;
use crate::policy::Permit;

use super::super::data::unavailable;
use super::super::{Asker, Code, ItemError, Operation, Refusal, Service};
use super::Asked;
use super::course::done;
use super::desk::broken;
use super::execute::Deed;
use super::view::{CustodyAnswer, LockView, time};

/// All that is locked now.
#[derive(Debug, Default)]
pub struct Locks(BTreeMap<Locked, Known>);

#[derive(Debug)]
struct Known {
    generation: u64,
    text: String,
    lock: Lock,
}

/// What the document of a lock says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    by: String,
    level: Level,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<Released>,
    schema: u32,
    since: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Released {
    at: u64,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceremony: Option<String>,
}

impl Locks {
    fn of(&self, what: &Locked) -> Option<&Known> {
        self.0.get(what).filter(|known| known.lock.released.is_none())
    }

    /// How far a lock of this goes.
    fn level(&self, what: &Locked) -> Option<Level> {
        self.of(what).map(|known| known.lock.level)
    }

    /// A digest of the lock as it is: one that somebody engaged anew is another one.
    pub(super) fn digest(&self, what: &Locked) -> Option<String> {
        let text = &self.of(what)?.text;
        Some(hex::encode(documents::digest(&["keyward/target/v1\0", text])))
    }

    /// What is locked, in words.
    pub(super) fn words(&self) -> Vec<String> {
        let told = |(what, known): (&Locked, &Known)| {
            let Lock { by, reason, since, level, .. } = &known.lock;
            format!("{what} is locked ({}) by {by} since {}: {reason}", level.code(), time(Wall(*since)))
        };
        self.0.iter().filter(|(_, known)| known.lock.released.is_none()).map(told).collect()
    }
}

impl Service {
    /// What is locked now, as far as this sidecar has followed the store.
    pub(in crate::service) async fn locks_now(&self) -> Result<Arc<Locks>, Refusal> {
        let epoch = self.keyrings.documents_epoch();
        if self.locks_epoch.load(Ordering::Acquire) != epoch {
            self.locks.store(Arc::new(self.read_locks().await?));
            self.locks_epoch.store(epoch, Ordering::Release);
        }
        Ok(self.locks.load_full())
    }

    async fn read_locks(&self) -> Result<Locks, Refusal> {
        let mut locks = BTreeMap::new();
        for document in self.keyrings.documents(LOCKS).await.map_err(|error| unavailable(&error))? {
            let what = document.name.strip_prefix(LOCKS).unwrap_or_default();
            let what = Locked::parse(what).ok_or_else(|| broken(&document.name, &"it names nothing"))?;
            let lock = serde_json::from_str(&document.body).map_err(|error| broken(&document.name, &error))?;
            locks.insert(what, Known { generation: document.generation, text: document.body, lock });
        }
        Ok(Locks(locks))
    }

    /// Whether a lock stops this request whole. Ceremonies go on under every lock, or nobody could lift one; whoever signs
    /// there is counted by their signature.
    pub(in crate::service) async fn not_locked(&self, asked: &Operation, asker: &Asker<'_>) -> Result<(), Refusal> {
        if matches!(asked, Operation::Custody(_) | Operation::ReadAudit { .. }) {
            return Ok(());
        }
        let locks = self.locks_now().await?;
        if locks.0.is_empty() {
            return Ok(());
        }
        let stopped = locks.level(&Locked::Principal(asker.principal.name().clone())).is_some()
            || locks.level(&Locked::Sidecar).is_some_and(|level| stops(level, asked));
        if stopped { Err(Code::Locked.into()) } else { Ok(()) }
    }

    /// Whether the items of a permit go on; where the keyring is locked each of them fails.
    pub(in crate::service) fn passes<T>(
        &self,
        permit: &Permit,
        opens: bool,
        places: &[usize],
        items: &mut [Result<T, ItemError>],
    ) -> bool {
        let locks = self.locks.load();
        if locks.0.is_empty() {
            return true;
        }
        let level = permit.keyring().and_then(|keyring| locks.level(&Locked::Keyring(keyring.clone())));
        let stopped = level.is_some_and(|level| opens || level == Level::Everything);
        for place in places.iter().filter(|_| stopped) {
            if let Some(item) = items.get_mut(*place) {
                *item = Err(ItemError::Locked);
            }
        }
        !stopped
    }

    pub(super) async fn list_locks(&self) -> Result<CustodyAnswer, Refusal> {
        let locks = self.locks_now().await?;
        let view = |(what, known): (&Locked, &Known)| LockView {
            lock: what.to_string(),
            level: known.lock.level.code(),
            by: known.lock.by.clone(),
            reason: known.lock.reason.clone(),
            since: time(Wall(known.lock.since)),
            released: known.lock.released.as_ref().map(|released| time(Wall(released.at))),
            released_by: known.lock.released.as_ref().map(|released| released.by.clone()),
        };
        Ok(CustodyAnswer::Locks { locks: locks.0.iter().map(view).collect() })
    }

    pub(super) async fn engage(
        &self,
        what: &Locked,
        (level, reason): (Level, &str),
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        if !REASONS.contains(&reason) {
            let why = format!("reason is one of {}", REASONS.join(", "));
            return Err(Refusal::because(Code::MalformedRequest, why));
        }
        let locks = self.locks_now().await?;
        // A lock is made wider by whoever sees more, and narrower only by lifting it.
        if locks.level(what).is_some_and(|now| now == Level::Everything || now == level) {
            return Err(Refusal::because(Code::Conflict, format!("{what} is locked already")));
        }
        if let Locked::Keyring(keyring) = what {
            let found = self.keyrings.find(keyring).await.map_err(|error| unavailable(&error))?;
            found.ok_or_else(|| Refusal::because(Code::NoSuchKey, format!("there is no keyring {keyring}")))?;
        }
        let lock = Lock {
            by: permit.principal().to_string(),
            level,
            reason: reason.to_owned(),
            released: None,
            schema: 1,
            since: self.wall()?.0,
        };
        let facts = facts(what, level, reason);
        tracing::error!(lock = %what, level = level.code(), by = %permit.principal(), "locked");
        let expect = locks.0.get(what).map_or(0, |known| known.generation);
        let writes = vec![write(what, expect, &lock)?];
        self.write_documents(writes, Leave::Permit(permit), (Event::LockEngaged, facts), asked).await?;
        Ok(done(&what.to_string(), self.list_locks().await))
    }

    /// Without custodians one person lifts a lock; with them `keyring` refuses this.
    pub(super) async fn release_lock(
        &self,
        what: &Locked,
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let locks = self.locks_now().await?;
        let deed = self.lifted(&locks, what, (permit.principal(), None))?;
        self.write_documents(deed.writes, Leave::Permit(permit), (deed.event, deed.facts), asked).await?;
        Ok(done(&what.to_string(), self.list_locks().await))
    }

    /// What lifts a lock.
    pub(super) fn lifted(
        &self,
        locks: &Locks,
        what: &Locked,
        (by, ceremony): (&PrincipalName, Option<String>),
    ) -> Result<Deed, Refusal> {
        let none = || Refusal::because(Code::NoSuchKey, format!("{what} is not locked"));
        let known = locks.of(what).ok_or_else(none)?;
        let released = Released { at: self.wall()?.0, by: by.to_string(), ceremony };
        let lock = Lock { released: Some(released), ..known.lock.clone() };
        let facts = facts(what, lock.level, &lock.reason);
        Ok(Deed::new(Event::LockReleased, vec![write(what, known.generation, &lock)?], facts))
    }
}

/// Why something is locked.
const REASONS: &[&str] = &["incident", "suspicion", "personnel", "mistake", "exercise"];

fn stops(level: Level, asked: &Operation) -> bool {
    match asked {
        Operation::Open(_) | Operation::Rewrap(_) => true,
        Operation::ListKeyrings { .. }
        | Operation::ShowKeyring(_)
        | Operation::ReadWraps
        | Operation::ReadKeks
        | Operation::ReadFollowing { .. }
        | Operation::ReadInventory { .. }
        | Operation::ReadAudit { .. }
        | Operation::LookUpSubject { .. }
        | Operation::Custody(_) => false,
        // What takes away is not stopped by what stops.
        Operation::Step(step) => {
            level == Level::Everything && !matches!(step.step, Step::Suspend | Step::CancelDestroy)
        }
        Operation::Seal(_)
        | Operation::CreateKeyring(_)
        | Operation::ShredPartition(_)
        | Operation::RewrapPartitions { .. }
        | Operation::Rotate(_)
        | Operation::Configure(_)
        | Operation::Lookup(_)
        | Operation::RewrapKeys { .. }
        | Operation::RetireKek { .. }
        | Operation::ReloadPolicy => level == Level::Everything,
    }
}

fn write(what: &Locked, expect: u64, lock: &Lock) -> Result<DocumentWrite, Refusal> {
    let body = serde_json::to_value(lock).map(|value: Value| value.to_string());
    let body = body.map_err(|_| Refusal::from(Code::Internal))?;
    Ok(DocumentWrite { name: format!("{LOCKS}{}", what), expect, body })
}

fn facts(what: &Locked, level: Level, reason: &str) -> Vec<(&'static str, String)> {
    vec![("key_reason", reason.to_owned()), ("lock", what.to_string()), ("lock_level", level.code().to_owned())]
}
