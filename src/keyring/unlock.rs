//! How does a Permit become a key in hand? The permit is checked against the key, the key comes from the cache or the KEK.
//! A key borrows its permit: it cannot outlive the request that was allowed to use it.

use std::sync::Arc;

use super::cache::{FlightError, Look, Slot, Unwrapped};
use super::follow::Open;
use super::keks::{Given, NotGiven};
use super::metering::Load;
use super::offline::Wanted;
use super::partition::{NewPartition, PartitionSlot, Unlock};
use super::rings::{Ring, Version};
use super::{Inner, KeyState, Keyrings, UnlockError};
use crate::clock::{Deadline, Mono};
use crate::crypto::{CryptoError, MessageKey, NONCE_BYTES, Suite};
use crate::names::{Context, KeyVersionId, KeyringName};
use crate::policy::{Action, Permit};
use crate::secret::SecretBytes;

/// The pair that keyward adds to every context.
const KEYRING_PAIR: &str = "kw.keyring";
/// ENV's limits on the canonical context: pairs, and bytes of keys and values.
const MAX_PAIRS: usize = 64;
const MAX_BYTES: usize = 8 * 1024;

/// Why a context cannot be authenticated under this permit and keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The pairs of the permit and those of the item disagree.
    #[error("the context conflicts with the permit")]
    Conflict,
    /// The keyring demands a context key that is not there.
    #[error("a context key that the keyring demands is missing")]
    Missing,
    /// More than 64 pairs or 8 KiB, keyward's own pair included.
    #[error("the context is too large")]
    TooLarge,
}

/// A key that seals, under the permit it was unlocked with.
#[must_use]
pub struct SealingKey<'p>(Unlocked<'p>);

impl SealingKey<'_> {
    /// The version that seals.
    pub fn version(&self) -> KeyVersionId {
        self.0.version
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        self.0.suite
    }

    /// The complete pairs to authenticate, sorted by key: the item's, the permit's and `kw.keyring`.
    pub fn bind<'a>(&'a self, free: &'a Context) -> Result<BoundContext<'a>, BindError> {
        self.0.bind(free)
    }

    /// Appends `[commitment] || ciphertext || tag` to `out`.
    pub fn seal(
        &self,
        header: &[u8; 12],
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        self.0.key().seal(self.0.suite, header, nonce, aad, plaintext, out)
    }
}

/// A key that opens, under the permit it was unlocked with.
#[must_use]
pub struct OpeningKey<'p>(Unlocked<'p>);

impl OpeningKey<'_> {
    /// The suite that this version opens; any other is refused.
    pub fn suite(&self) -> Suite {
        self.0.suite
    }

    /// The complete pairs to authenticate.
    pub fn bind<'a>(&'a self, free: &'a Context) -> Result<BoundContext<'a>, BindError> {
        self.0.bind(free)
    }

    /// Opens `[commitment] || ciphertext || tag`.
    pub fn open(
        &self,
        header: &[u8; 12],
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        self.0.key().open(self.0.suite, header, nonce, aad, sealed)
    }
}

/// Pairs ready for the canonical context, sorted by key bytes, borrowed from the key, its permit and the item.
pub struct BoundContext<'a>(Vec<(&'a str, &'a str)>);

impl BoundContext<'_> {
    /// The pairs as bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()))
    }
}

struct Unlocked<'p> {
    permit: &'p Permit,
    ring: Arc<Ring>,
    /// The data key of the version: counted, and where there are no partitions used.
    slot: Arc<Slot>,
    partition: Option<InPartition>,
    version: KeyVersionId,
    suite: Suite,
}

/// The key of a partition.
struct InPartition {
    slot: Arc<PartitionSlot>,
    /// The value whose partition it is; a context that says otherwise is refused.
    value: Box<str>,
}

impl Unlocked<'_> {
    #[inline]
    fn key(&self) -> &MessageKey {
        self.partition.as_ref().map_or_else(|| self.slot.key(), |partition| &partition.slot.key)
    }

    fn bind<'a>(&'a self, free: &'a Context) -> Result<BoundContext<'a>, BindError> {
        let permitted = self.permit.pairs();
        let mut pairs = Vec::with_capacity(permitted.len().saturating_add(MAX_PAIRS / 4));
        pairs.extend(free.iter());
        pairs.extend(permitted.iter().map(|(key, value)| (&**key, &**value)));
        pairs.push((KEYRING_PAIR, &self.ring.label));
        pairs.sort_unstable();
        // An equal pair from both sides is one pair; what is then still twice under one key has two values.
        pairs.dedup();
        if pairs.windows(2).any(|two| matches!(two, [a, b] if a.0 == b.0)) {
            return Err(BindError::Conflict);
        }
        if pairs.len() > MAX_PAIRS
            || pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_BYTES
        {
            return Err(BindError::TooLarge);
        }
        if let (Some(key), Some(InPartition { value, .. })) = (&self.ring.view.partition_key, &self.partition)
            && pairs.iter().any(|(other, named)| other == key && *named != &**value)
        {
            return Err(BindError::Conflict);
        }
        let present = |required: &String| pairs.binary_search_by(|(key, _)| (*key).cmp(required)).is_ok();
        if self.ring.view.required_context.iter().all(present) {
            Ok(BoundContext(pairs))
        } else {
            Err(BindError::Missing)
        }
    }
}

impl Keyrings {
    /// The active version of the permit's keyring, to seal with. A cache hit whose count is covered takes no lock and never
    /// awaits.
    /// What is to be sealed is counted before the key is given.
    /// For a keyring with partitions see [`Self::unlock_sealing_in`].
    pub async fn unlock_sealing<'p>(&self, permit: &'p Permit, load: Load) -> Result<SealingKey<'p>, UnlockError> {
        match self.unlock_sealing_in(permit, None, load).await? {
            Unlock::Ready(key) => Ok(key),
            Unlock::Needs(_) => Err(UnlockError::NoPartition),
        }
    }

    /// The same in the partition that a value of the keyring's partition key names; the value counts only where the
    /// keyring has partitions. Never makes one: it says that one is needed.
    pub async fn unlock_sealing_in<'p>(
        &self,
        permit: &'p Permit,
        partition: Option<&str>,
        load: Load,
    ) -> Result<Unlock<SealingKey<'p>>, UnlockError> {
        Ok(match self.to_seal(permit, Action::Seal, partition).await? {
            Unlock::Ready(key) => Unlock::Ready(self.counted(key, load).await?),
            Unlock::Needs(new) => Unlock::Needs(new),
        })
    }

    /// The partition that sealing for a value would need first; None where it is there. Seals and counts nothing.
    pub async fn missing_partition(&self, permit: &Permit, value: &str) -> Result<Option<NewPartition>, UnlockError> {
        Ok(match self.to_seal(permit, Action::Seal, Some(value)).await? {
            Unlock::Ready(_) => None,
            Unlock::Needs(new) => Some(new),
        })
    }

    /// The active version, for an action that seals. What it is to seal must be counted before it does.
    pub(super) async fn to_seal<'p>(
        &self,
        permit: &'p Permit,
        action: Action,
        partition: Option<&str>,
    ) -> Result<Unlock<SealingKey<'p>>, UnlockError> {
        let name = covered(permit, action)?;
        let open = self.inner.opened()?;
        let ring = self.inner.ring(&open, name).await?.ok_or(UnlockError::Unknown)?;
        let version = sealing(&ring)?;
        Ok(match self.inner.unlock(permit, &open, (ring, version), partition).await? {
            Unlock::Ready(unlocked) => Unlock::Ready(SealingKey(unlocked)),
            Unlock::Needs(new) => Unlock::Needs(new),
        })
    }

    /// Counts what a key is about to seal.
    pub(super) async fn counted<'p>(&self, key: SealingKey<'p>, load: Load) -> Result<SealingKey<'p>, UnlockError> {
        self.inner.count(&key.0.slot, (&key.0.ring, key.0.version), load).await?;
        Ok(key)
    }

    /// A version of the permit's keyring, to open with. For a keyring with partitions see [`Self::unlock_opening_in`].
    pub async fn unlock_opening<'p>(
        &self,
        permit: &'p Permit,
        version: KeyVersionId,
    ) -> Result<OpeningKey<'p>, UnlockError> {
        self.unlock_opening_in(permit, version, None).await
    }

    /// The same in a partition. One that does not exist is as unknown as a version that does not.
    pub async fn unlock_opening_in<'p>(
        &self,
        permit: &'p Permit,
        version: KeyVersionId,
        partition: Option<&str>,
    ) -> Result<OpeningKey<'p>, UnlockError> {
        self.to_open(permit, Action::Open, version, partition).await
    }

    /// A version for an action that opens.
    pub(super) async fn to_open<'p>(
        &self,
        permit: &'p Permit,
        action: Action,
        version: KeyVersionId,
        partition: Option<&str>,
    ) -> Result<OpeningKey<'p>, UnlockError> {
        let name = covered(permit, action)?;
        let open = self.inner.opened()?;
        let (ring, version) = self.inner.version(&open, version).await?.ok_or(UnlockError::Unknown)?;
        opening(&ring, &version, name)?;
        let Unlock::Ready(unlocked) = self.inner.unlock(permit, &open, (ring, version), partition).await? else {
            return Err(UnlockError::Unknown);
        };
        self.inner.note_opening(&unlocked.slot, (&unlocked.ring, unlocked.version));
        Ok(OpeningKey(unlocked))
    }
}

pub(super) fn covered(permit: &Permit, action: Action) -> Result<&KeyringName, UnlockError> {
    if permit.action() == action {
        permit.keyring().ok_or(UnlockError::NotCovered)
    } else {
        Err(UnlockError::NotCovered)
    }
}

fn sealing(ring: &Ring) -> Result<Arc<Version>, UnlockError> {
    match (ring.sealing(), ring.versions.last()) {
        (Some(version), _) => Ok(Arc::clone(version)),
        (None, Some(newest)) => Err(UnlockError::State(newest.view.acting())),
        (None, None) => Err(UnlockError::State(KeyState::Destroyed)),
    }
}

fn opening(ring: &Ring, version: &Version, name: &KeyringName) -> Result<(), UnlockError> {
    if ring.view.name != *name {
        return Err(UnlockError::NotCovered);
    }
    let state = version.view.acting();
    if state.opens() { Ok(()) } else { Err(UnlockError::State(state)) }
}

impl Inner {
    async fn unlock<'p>(
        self: &Arc<Self>,
        permit: &'p Permit,
        open: &Open,
        (ring, version): (Arc<Ring>, Arc<Version>),
        partition: Option<&str>,
    ) -> Result<Unlock<Unlocked<'p>>, UnlockError> {
        let (id, suite) = (version.view.id, version.view.suite);
        let sought = self.sought(open, &ring, partition)?;
        let slot = self.data_key(&ring, &version, permit.deadline()).await?;
        let partition = match sought {
            None => None,
            Some((name, value)) => match self.partition_key(open, &ring, name, permit.deadline()).await? {
                Unlock::Ready(slot) => Some(InPartition { slot, value }),
                Unlock::Needs(new) => return Ok(Unlock::Needs(new)),
            },
        };
        Ok(Unlock::Ready(Unlocked { permit, ring, slot, partition, version: id, suite }))
    }

    /// The unwrapped data key of a version, from the cache or the KEK. The caller has seen that its state allows that.
    pub(super) async fn data_key(
        self: &Arc<Self>,
        ring: &Ring,
        version: &Arc<Version>,
        deadline: Deadline,
    ) -> Result<Arc<Slot>, UnlockError> {
        let now = self.clock.mono();
        if deadline.left(now).is_none() {
            return Err(UnlockError::Unavailable("the request's deadline has passed".to_owned()));
        }
        self.lease.check(now)?;
        match self.cache.look(version.view.id, now) {
            Some(Look::Fresh(slot)) => Ok(slot),
            found => self.slot(found, &self.wanted(ring, version), deadline, now).await,
        }
    }

    #[cold]
    async fn slot(
        self: &Arc<Self>,
        found: Option<Look>,
        wanted: &Wanted,
        deadline: Deadline,
        now: Mono,
    ) -> Result<Arc<Slot>, UnlockError> {
        match found {
            Some(Look::Fresh(slot)) => Ok(slot),
            Some(Look::Due(slot)) => {
                self.renew(wanted, now);
                Ok(slot)
            }
            Some(Look::Old(slot)) if now < slot.ends(wanted.offline_max) => {
                self.bridge(wanted, slot, deadline, now).await
            }
            Some(Look::Old(_)) | None => self.fetch(wanted, deadline, deadline).await,
        }
    }

    pub(super) async fn unwrap(self: Arc<Self>, wanted: Wanted, deadline: Deadline) -> Result<Unwrapped, FlightError> {
        let Wanted { version, offline_max } = wanted;
        let unavailable = |why: String| FlightError::Failed(UnlockError::Unavailable(why));
        match self.keks.unwrap(&self.clock, &version.wraps, &version.owner, deadline).await {
            Ok(Given { key, by, instead_of, asked }) => MessageKey::derive(&key, version.class)
                .map(|key| Unwrapped { key, kek: by, instead_of, asked, offline_max })
                .map_err(|_| unavailable("no locked memory is left for another key".to_owned())),
            Err(NotGiven::Late(_)) => Err(FlightError::Deadline),
            Err(NotGiven::BadWrap(_)) => Err(FlightError::Failed(UnlockError::Tampered)),
            Err(NotGiven::Refused(kek, why)) => Err(FlightError::Denied(kek, UnlockError::Unavailable(why))),
            Err(NotGiven::Away(why)) => Err(unavailable(why)),
            Err(NotGiven::Foreign) => {
                let (id, keks) = (version.view.id, self.keks.shown());
                Err(unavailable(format!("no wrap of key {id} is under the key-encryption key {keks}")))
            }
        }
    }
}
