//! Do the keys of a copy come back, by the key-encryption keys at hand and no other? Every key is unwrapped and its check
//! value compared; canaries, values of keyward's own, are sealed for a backup and opened by a drill.
//!
//! This is the one use of keys without a Permit, and it gives out nothing but yes or no: an unwrapped key goes no further
//! than its check value, and a [`CanaryKey`] authenticates `kw.canary` with everything, which no caller can name.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bodies::{self, ChangeBody, HeadBody, KeyBody};
use super::documents::is_keyring;
use super::genesis::owner_of;
use super::keks::{Given, NotGiven};
use super::rings::{Ring, wraps_of};
use super::wraps::Owner;
use super::{ApplyError, Escrow, Inner, KeyState, Keyrings, StoreHead, UnlockError, seal};
use crate::clock::{Deadline, Wall};
use crate::crypto::{CryptoError, KeyClass, MessageKey, NONCE_BYTES, Suite};
use crate::kek::{Wrap, WrapRole};
use crate::names::{KeyVersionId, KeyringName};
use crate::secret::SecretBytes;
use crate::store::{ChangeRow, KeyRow, KeyringRow};

/// Keys that are read at once.
const PAGE: u32 = 500;
/// How long a key may take; nobody waits but who drills.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys that did not come back and are named; more are only counted.
const NAMED: usize = 20;
/// The pairs that every canary is bound to.
const CANARY_PAIR: (&str, &str) = ("kw.canary", "1");
const KEYRING_PAIR: &str = "kw.keyring";

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Keys that are not destroyed.
    pub keys: u64,
    /// How many of them were asked for.
    pub asked: u64,
    /// How many were unwrapped to what they were.
    pub opened: u64,
    /// The first that were not, and why.
    pub failures: Vec<(KeyVersionId, String)>,
    /// Keys that have no wrap by the escrow because their keyring asks for none: not asked for, and lost with the primary.
    pub unescrowed: u64,
    /// The first of those keyrings.
    pub without_escrow: Vec<String>,
}

/// What the one key-encryption key of a drill stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The escrow: keyrings may do without it.
    Escrow,
    /// Any other: every key must have a wrap by it.
    Alone,
}

impl Proof {
    /// Whether everything that was asked for came back.
    pub const fn holds(&self) -> bool {
        self.opened == self.asked && self.asked > 0
    }

    fn does_without(&mut self, keyring: &str) {
        self.keys += 1;
        self.unescrowed += 1;
        if self.without_escrow.last().is_none_or(|last| last != keyring) && self.without_escrow.len() < NAMED {
            self.without_escrow.push(keyring.to_owned());
        }
    }
}

impl Keyrings {
    /// Unwraps every `every`-th key, keyward's own among them, and compares its check value. Ends early when the
    /// key-encryption key is away or refuses; a key that does not open is counted.
    pub async fn prove(
        &self,
        standing: Standing,
        every: u64,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Proof, ApplyError> {
        let open = self.inner.opened_to_change()?;
        let (mut proof, mut after) = (Proof::default(), None);
        loop {
            let page = self.inner.page(&open, after.take(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(proof) };
            after = Some(last.rows.head.name.clone());
            let mut asked = Vec::new();
            for (loaded, key) in page.iter().flat_map(|loaded| loaded.rows.keys.iter().map(move |key| (loaded, key))) {
                let wraps = wraps_of(key)?;
                if wraps.is_empty() {
                    continue;
                }
                let by_choice = standing == Standing::Escrow && loaded.head.limits.escrow() == Escrow::No;
                if by_choice && !self.inner.keks.wrapped(&wraps) {
                    proof.does_without(&loaded.rows.head.name);
                    continue;
                }
                if proof.keys.is_multiple_of(every.max(1)) {
                    asked.push((owner_of(key, open.system.genesis.store)?, wraps));
                }
                proof.keys += 1;
            }
            self.inner.prove_all(asked, &mut proof).await?;
            tell(proof.keys);
        }
    }

    /// The version of each keyring that seals, by name.
    pub async fn sealing_versions(&self) -> Result<Vec<(KeyringName, KeyVersionId)>, ApplyError> {
        let open = self.inner.opened_to_change()?;
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.inner.page(&open, after.take(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.rows.head.name.clone());
            for loaded in page.iter().filter(|loaded| is_keyring(&loaded.rows.head.name)) {
                let ring = Ring::read(&loaded.rows, &open.system.genesis, self.inner.settings.data_key_period)?;
                found.extend(ring.sealing().map(|version| (ring.view.name.clone(), version.view.id)));
            }
        }
    }

    /// The key for the canaries of a version, unwrapped for this and never cached.
    pub async fn canary_key(&self, version: KeyVersionId) -> Result<CanaryKey, UnlockError> {
        let open = self.inner.opened()?;
        let (ring, version) = self.inner.version(&open, version).await?.ok_or(UnlockError::Unknown)?;
        let deadline = Deadline(self.inner.clock.mono().plus(PATIENCE));
        let given = self.inner.keks.unwrap(&self.inner.clock, &version.wraps, &version.owner, deadline).await;
        let Given { key, .. } = given.map_err(|why| UnlockError::Unavailable(in_words(&why)))?;
        let key = MessageKey::derive(&key, KeyClass::Field)
            .map_err(|_| UnlockError::Unavailable("no locked memory is left".to_owned()))?;
        let suite = version.view.suite.ok_or(UnlockError::Tampered)?;
        Ok(CanaryKey { key, keyring: ring.label.clone(), version: version.view.id, suite })
    }
}

impl Inner {
    /// As many at once as the key-encryption keys take.
    async fn prove_all(
        self: &Arc<Self>,
        asked: Vec<(Owner, Vec<(WrapRole, Wrap)>)>,
        proof: &mut Proof,
    ) -> Result<(), ApplyError> {
        let places = Arc::new(Semaphore::new(self.keks.at_once()));
        let mut work = JoinSet::new();
        for (owner, wraps) in asked {
            let (inner, places) = (Arc::clone(self), Arc::clone(&places));
            work.spawn(async move {
                let _place = places.acquire().await;
                let deadline = Deadline(inner.clock.mono().plus(PATIENCE));
                // Whoever gives a key has compared it with the check value in the wrap.
                (owner.key, inner.keks.unwrap(&inner.clock, &wraps, &owner, deadline).await.map(drop))
            });
        }
        while let Some(ended) = work.join_next().await {
            let (id, given) = ended.map_err(|_| ApplyError::Unavailable("an unwrapping was cut off".to_owned()))?;
            proof.asked += 1;
            match given {
                Ok(()) => proof.opened += 1,
                Err(why @ (NotGiven::BadWrap(_) | NotGiven::Foreign)) => {
                    if proof.failures.len() < NAMED {
                        proof.failures.push((id, in_words(&why)));
                    }
                }
                Err(why) => return Err(ApplyError::Unavailable(in_words(&why))),
            }
        }
        Ok(())
    }
}

fn in_words(why: &NotGiven) -> String {
    match why {
        NotGiven::Foreign => "it has no wrap by this key-encryption key".to_owned(),
        NotGiven::BadWrap(kek) => format!("its wrap by {kek} does not open"),
        NotGiven::Refused(_, why) | NotGiven::Late(why) | NotGiven::Away(why) => why.clone(),
    }
}

/// Seals and opens the canaries of one key version, and nothing that anybody else sealed or could seal.
#[must_use]
pub struct CanaryKey {
    key: MessageKey,
    keyring: Box<str>,
    version: KeyVersionId,
    suite: Suite,
}

impl CanaryKey {
    /// The version.
    pub const fn version(&self) -> KeyVersionId {
        self.version
    }

    /// Its suite.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The complete pairs to authenticate, sorted.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (canary, one) = CANARY_PAIR;
        [(canary.as_bytes(), one.as_bytes()), (KEYRING_PAIR.as_bytes(), self.keyring.as_bytes())].into_iter()
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
        self.key.seal(self.suite, header, nonce, aad, plaintext, out)
    }

    /// Opens `[commitment] || ciphertext || tag`.
    pub fn open(
        &self,
        header: &[u8; 12],
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        self.key.open(self.suite, header, nonce, aad, sealed)
    }
}

/// Where a chain ends whose last link this is; not verified.
pub fn ends_at(link: &ChangeRow) -> Option<StoreHead> {
    seal::digest(link).ok().map(|digest| StoreHead { changes: link.seq, digest })
}

/// When a link of a chain was made, as it says; not verified.
pub fn made_at(link: &ChangeRow) -> Option<Wall> {
    bodies::decode::<ChangeBody>(&link.body).ok().map(|body| Wall(body.at))
}

/// The text of the document whose head this is, as it says; not verified.
pub fn said_by(head: &KeyringRow) -> Option<String> {
    bodies::decode::<HeadBody>(&head.body).ok().and_then(|body| body.document)
}

/// `NAME vN` of each wrap that a key row says it has; not verified.
pub fn wrapped_by(row: &KeyRow) -> Vec<String> {
    let body = bodies::decode::<KeyBody>(&row.body);
    body.ok().filter(|_| row.state != KeyState::Destroyed.name()).map(|body| body.keks).unwrap_or_default()
}
