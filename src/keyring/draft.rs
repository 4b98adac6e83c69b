//! Which rows does a change write? A keyring's keys, its head and the next link of the chain, sealed together.

use super::bodies::{self, ChangeBody, HeadBody, KeyBody, SCHEMA, Touched};
use super::seal::{self, Row, RowSealer};
use super::wraps::{self, Owner, WrapError};
use super::{Environment, Keks, KeyState, StoreHead};
use crate::clock::{Deadline, Wall};
use crate::crypto::{CryptoError, DataKey, Suite};
use crate::kek::WrapRole;
use crate::names::{KekName, KeyVersionId, StoreId};
use crate::store::{ChangeRow, KeyRow, KeyringRow, SealedKey, Tag, Write};

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
}

impl NewKey {
    /// Makes the key and its row; the row is not sealed yet.
    pub(super) async fn make(self, keks: &Keks, deadline: Deadline) -> Result<(DataKey, SealedKey), WrapError> {
        let owner = Owner { store: self.store, owner: self.owner.clone(), key: self.id, created: self.created };
        let (key, wraps) = keks.make(&owner, deadline).await?;
        let mut row = self.row(keks.primary());
        row.body = self.body(&wraps).ok_or(CryptoError)?;
        Ok((key, SealedKey { row, wraps: wraps::encode(&wraps).ok_or(CryptoError)? }))
    }

    fn row(&self, primary: &KekName) -> KeyRow {
        KeyRow {
            id: self.id,
            purpose: self.purpose.to_owned(),
            keyring: self.keyring.clone(),
            parent: format!("kek:{primary}"),
            state: KeyState::Active.name().to_owned(),
            generation: 1,
            body: String::new(),
            tag: UNSEALED,
        }
    }

    fn body(&self, wraps: &[(WrapRole, crate::kek::Wrap)]) -> Option<String> {
        bodies::encode(&KeyBody {
            created: self.created.0,
            development: self.environment == Environment::Development,
            epoch: self.epoch,
            keks: wraps::shown(wraps),
            schema: SCHEMA,
            suite: self.suite.map(|suite| suite as u8),
        })
    }
}

/// A change of one keyring that writes all of its key rows.
pub(super) struct Draft {
    pub kind: &'static str,
    pub keyring: String,
    pub generation: u64,
    pub created: Wall,
    pub required_context: Vec<String>,
    pub subject_key: Option<String>,
    pub suite: Option<Suite>,
    pub at: Wall,
    pub intent: Option<u64>,
    pub keys: Vec<SealedKey>,
}

/// The sealed rows of a change.
pub(super) struct Drafted {
    pub head: KeyringRow,
    pub keys: Vec<SealedKey>,
    pub change: ChangeRow,
    /// Where the chain ends after it.
    pub end: StoreHead,
}

impl Draft {
    /// Seals the rows as the next change after `last`.
    pub(super) fn seal(mut self, rows: &RowSealer, last: StoreHead) -> Result<Drafted, CryptoError> {
        self.keys.sort_by_key(|key| key.row.id);
        for key in &mut self.keys {
            key.row.tag = rows.tag(Row::Key(key))?;
        }
        let body = bodies::encode(&self.head_body()).ok_or(CryptoError)?;
        let mut head = KeyringRow { name: self.keyring.clone(), generation: self.generation, body, tag: UNSEALED };
        head.tag = rows.tag(Row::Keyring(&head))?;
        let seq = last.changes.checked_add(1).ok_or(CryptoError)?;
        let body = bodies::encode(&self.change_body(&head)).ok_or(CryptoError)?;
        let mut change = ChangeRow { seq, previous: last.digest, body, tag: UNSEALED };
        change.tag = rows.tag(Row::Change(&change))?;
        let end = StoreHead { changes: seq, digest: seal::digest(&change)? };
        Ok(Drafted { head, keys: self.keys, change, end })
    }

    fn head_body(&self) -> HeadBody {
        HeadBody {
            count: u64::try_from(self.keys.len()).unwrap_or(u64::MAX),
            created: self.created.0,
            required_context: self.required_context.clone(),
            root: hex::encode(seal::root(self.keys.iter().map(|key| (&key.row.id, &key.row.tag)))),
            schema: SCHEMA,
            subject_key: self.subject_key.clone(),
            suite: self.suite.map(|suite| suite as u8),
        }
    }

    fn change_body(&self, head: &KeyringRow) -> ChangeBody {
        let touched = |key: &SealedKey| Touched {
            generation: key.row.generation,
            key: key.row.id.to_string(),
            tag: hex::encode(key.row.tag.0),
        };
        ChangeBody {
            at: self.at.0,
            generation: self.generation,
            head: hex::encode(head.tag.0),
            intent: self.intent,
            keyring: self.keyring.clone(),
            kind: self.kind.to_owned(),
            rows: self.keys.iter().map(touched).collect(),
            schema: SCHEMA,
        }
    }
}

impl Drafted {
    /// One batch: all of it or nothing.
    pub(super) fn writes(&self) -> Vec<Write> {
        let mut writes = vec![Write::Keyring(self.head.clone())];
        writes.extend(self.keys.iter().cloned().map(Write::Key));
        writes.push(Write::Change(self.change.clone()));
        writes
    }
}

/// Stands in the tag field until the row is sealed; a row that kept it would not verify.
const UNSEALED: Tag = Tag([0; 32]);
