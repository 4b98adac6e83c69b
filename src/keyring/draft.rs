//! Which rows does a change write? Keys, the heads of their keyrings and the next link of the chain, sealed together.

use super::bodies::{self, ChangeBody, HeadBody, KeyBody, SCHEMA, TouchedHead, TouchedKey};
use super::directory::Intent;
use super::follow::Loaded;
use super::life::Life;
use super::lives;
use super::rings::describe;
use super::seal::{self, Row, RowSealer};
use super::verify::Damage;
use super::wraps::{self, Owner, WrapError};
use super::{Environment, Escrow, Keks, KeyState, StoreHead};
use crate::clock::{Deadline, Wall};
use crate::crypto::{CryptoError, DataKey, Suite};
use crate::kek::{Wrap, WrapRole};
use crate::names::{KekName, KeyVersionId, LookupName, StoreId};
use crate::store::{ChangeRow, KeyRow, KeyringRow, PartitionRow, RingRows, SealedKey, Tag, Write};

/// What a new key is for.
pub(super) struct NewKey {
    pub store: StoreId,
    pub environment: Environment,
    pub id: KeyVersionId,
    /// What its wraps are bound to: `tenant/name` or the use of a system key.
    pub owner: String,
    pub purpose: &'static str,
    pub keyring: String,
    pub created: Wall,
    pub suite: Option<Suite>,
    pub epoch: Option<u32>,
    /// Of a look-up key: `USE/NAME` and its number.
    pub lookup: Option<(LookupName, u32)>,
    /// Whether the escrow wraps it too.
    pub escrow: Escrow,
    /// How it came into its first state; keyward's own keys have no life to speak of.
    pub life: Option<Life>,
}

impl NewKey {
    /// Makes the key and its row; the row is not sealed yet.
    pub(super) async fn make(self, keks: &Keks, deadline: Deadline) -> Result<(DataKey, SealedKey), WrapError> {
        let owner = Owner { store: self.store, owner: self.owner.clone(), key: self.id, created: self.created };
        let (key, wraps) = keks.make(&owner, self.escrow, deadline).await?;
        let mut row = self.row(keks.primary());
        row.body = self.body(&wraps).ok_or(CryptoError)?;
        Ok((key, SealedKey { row, wraps: wraps::encode(&wraps).ok_or(CryptoError)? }))
    }

    fn row(&self, primary: &KekName) -> KeyRow {
        KeyRow {
            id: self.id,
            purpose: self.purpose.to_owned(),
            keyring: self.keyring.clone(),
            parent: parent(primary),
            state: self.life.as_ref().map_or(KeyState::Active, Life::state).name().to_owned(),
            generation: 1,
            body: String::new(),
            tag: UNSEALED,
        }
    }

    fn body(&self, wraps: &[(WrapRole, Wrap)]) -> Option<String> {
        bodies::encode(&KeyBody {
            created: self.created.0,
            destroy: None,
            development: self.environment == Environment::Development,
            epoch: self.epoch,
            keks: wraps::shown(wraps),
            moves: self.life.as_ref().map(lives::moves).unwrap_or_default(),
            name: self.lookup.as_ref().map(|(name, _)| name.to_string()),
            schema: SCHEMA,
            suite: self.suite.map(|suite| suite as u8),
            version: self.lookup.as_ref().map(|(_, number)| *number),
        })
    }
}

/// What wraps a key, as its row names it: the KEK that daily work uses.
pub(super) fn parent(primary: &KekName) -> String {
    format!("kek:{primary}")
}

/// One transaction: a link of the chain with everything that it changes.
pub(super) struct Draft {
    pub kind: &'static str,
    pub at: Wall,
    pub intent: Option<Intent>,
    pub rings: Vec<RingDraft>,
    pub partitions: Vec<PartitionRow>,
}

/// A keyring as a change will leave it: all of its keys, and which of them are new or changed.
pub(super) struct RingDraft {
    name: String,
    generation: u64,
    pub head: HeadBody,
    keys: Vec<(SealedKey, Touch)>,
    /// Partitions that the change makes, by their hexadecimal names.
    pub made: Vec<String>,
    /// Partitions that it shreds.
    pub shredded: Vec<String>,
    /// Documents that the change rests on, with the generation that each must still have.
    pub rests_on: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    As,
    Changed,
}

impl RingDraft {
    /// A keyring that is not there yet.
    pub(super) const fn new(name: String, head: HeadBody) -> Self {
        Self {
            name,
            generation: 1,
            head,
            keys: Vec::new(),
            made: Vec::new(),
            shredded: Vec::new(),
            rests_on: Vec::new(),
        }
    }

    /// A keyring as it is, to be changed.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let Loaded { rows: RingRows { head, keys }, head: body } = loaded;
        Self {
            name: head.name.clone(),
            generation: head.generation.saturating_add(1),
            head: body.clone(),
            keys: keys.iter().cloned().map(|key| (key, Touch::As)).collect(),
            made: Vec::new(),
            shredded: Vec::new(),
            rests_on: Vec::new(),
        }
    }

    /// Whether it is of this keyring.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.name == name
    }

    /// The keys that the change writes.
    pub(super) fn written(&self) -> impl Iterator<Item = &SealedKey> {
        self.keys.iter().filter(|(_, touch)| *touch == Touch::Changed).map(|(key, _)| key)
    }

    /// Its keys as they will be.
    pub(super) fn keys(&self) -> impl Iterator<Item = &SealedKey> {
        self.keys.iter().map(|(key, _)| key)
    }

    /// Adds a new key.
    pub(super) fn add(&mut self, key: SealedKey) {
        self.keys.push((key, Touch::Changed));
    }

    /// Changes a key's row; its body is read, handed over and written again.
    pub(super) fn change(
        &mut self,
        id: KeyVersionId,
        work: impl FnOnce(&mut SealedKey, &mut KeyBody),
    ) -> Result<(), Damage> {
        let Some((key, touch)) = self.keys.iter_mut().find(|(key, _)| key.row.id == id) else { return Ok(()) };
        let mut body: KeyBody = bodies::decode(&key.row.body).map_err(|why| Damage::unreadable(describe(key), why))?;
        work(key, &mut body);
        key.row.body = bodies::encode(&body).ok_or_else(|| Damage::of(describe(key), "it is too large"))?;
        if *touch == Touch::As {
            key.row.generation = key.row.generation.saturating_add(1);
            *touch = Touch::Changed;
        }
        Ok(())
    }

    fn seal(mut self, rows: &RowSealer) -> Result<(Loaded, TouchedHead, Vec<Write>), CryptoError> {
        self.keys.sort_by_key(|(key, _)| key.row.id);
        let (mut touched, mut writes) = (Vec::new(), Vec::new());
        for (key, touch) in &mut self.keys {
            if *touch == Touch::As {
                continue;
            }
            key.row.tag = rows.tag(Row::Key(key))?;
            touched.push(TouchedKey {
                generation: key.row.generation,
                key: key.row.id.to_string(),
                tag: hex::encode(key.row.tag.0),
            });
            writes.push(Write::Key(key.clone()));
        }
        let keys: Vec<SealedKey> = self.keys.into_iter().map(|(key, _)| key).collect();
        self.head.count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        self.head.root = hex::encode(seal::root(keys.iter().map(|key| (&key.row.id, &key.row.tag))));
        let body = bodies::encode(&self.head).ok_or(CryptoError)?;
        let mut head = KeyringRow { name: self.name, generation: self.generation, body, tag: UNSEALED };
        head.tag = rows.tag(Row::Keyring(&head))?;
        writes.insert(0, Write::Keyring(head.clone()));
        let touched = TouchedHead {
            generation: head.generation,
            keyring: head.name.clone(),
            keys: touched,
            made: self.made,
            shredded: self.shredded,
            tag: hex::encode(head.tag.0),
        };
        Ok((Loaded { rows: RingRows { head, keys }, head: self.head }, touched, writes))
    }
}

/// The sealed rows of a change.
pub(super) struct Drafted {
    /// The keyrings as they will be.
    pub rings: Vec<Loaded>,
    /// One batch: all of it or nothing.
    pub writes: Vec<Write>,
    pub change: ChangeBody,
    /// Where the chain ends after it.
    pub end: StoreHead,
}

impl Draft {
    /// Seals the rows as the next change after `last`.
    pub(super) fn seal(self, rows: &RowSealer, last: StoreHead) -> Result<Drafted, CryptoError> {
        let (mut rings, mut heads, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for ring in self.rings {
            let (sealed, touched, mut of_ring) = ring.seal(rows)?;
            rings.push(sealed);
            heads.push(touched);
            writes.append(&mut of_ring);
        }
        for mut partition in self.partitions {
            partition.tag = rows.tag(Row::Partition(&partition))?;
            writes.push(Write::Partition(partition));
        }
        let (intent, log) = match self.intent {
            Some(Intent { log, index }) => (Some(index), Some(log)),
            None => (None, None),
        };
        let (at, kind) = (self.at.0, self.kind.to_owned());
        let change = ChangeBody { at, heads, intent, kind, log, place: None, schema: SCHEMA };
        let body = bodies::encode(&change).ok_or(CryptoError)?;
        let seq = last.changes.checked_add(1).ok_or(CryptoError)?;
        let mut link = ChangeRow { seq, previous: last.digest, body, tag: UNSEALED };
        link.tag = rows.tag(Row::Change(&link))?;
        let end = StoreHead { changes: seq, digest: seal::digest(&link)? };
        writes.push(Write::Change(link));
        Ok(Drafted { rings, writes, change, end })
    }
}

/// Stands in the tag field until the row is sealed; a row that kept it would not verify.
pub(super) const UNSEALED: Tag = Tag([0; 32]);
