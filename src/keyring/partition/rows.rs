//! What does the row of a partition say? Built and read here; sealed and verified by `seal`.

use serde::{Deserialize, Serialize};

use super::sum::{Sum, Summer};
use super::{Shredded, Totals};
use crate::clock::Wall;
use crate::crypto::CryptoError;
use crate::keyring::KeyState;
use crate::keyring::bodies::{self, SCHEMA};
use crate::keyring::draft::UNSEALED;
use crate::keyring::seal::{Row, RowSealer};
use crate::keyring::verify::Damage;
use crate::names::KeyVersionId;
use crate::store::{PartitionName, PartitionRow};

/// Stands in a tombstone where a live row names the data key that wraps it.
const NOBODY: KeyVersionId = KeyVersionId([0; 8]);

impl bodies::Numbered for PartitionBody {
    fn schema(&self) -> u32 {
        self.schema
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartitionBody {
    created: u64,
    schema: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shredded: Option<ShreddedBody>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShreddedBody {
    actor: String,
    at: u64,
    intent: u64,
    log: String,
    reason: String,
}

/// A verified row.
pub(super) enum Partition {
    /// With a key, made at that time.
    Live(Wall),
    Shredded(Shredded),
}

/// Verifies and reads a row.
pub(super) fn read(row: &PartitionRow, rows: &RowSealer) -> Result<Partition, Damage> {
    let wrong = |what: &str| Damage::of(describe(&row.keyring, row.name), what);
    rows.verify(Row::Partition(row)).map_err(|_| wrong("its seal does not verify"))?;
    let body: PartitionBody =
        bodies::decode(&row.body).map_err(|why| Damage::unreadable(describe(&row.keyring, row.name), why))?;
    match (KeyState::of(&row.state), body.shredded) {
        (Some(KeyState::Active), None) => Ok(Partition::Live(Wall(body.created))),
        (Some(KeyState::Destroyed), Some(ShreddedBody { actor, at, intent, log, reason })) if row.wrap.is_empty() => {
            Ok(Partition::Shredded(Shredded { name: row.name, at: Wall(at), actor, reason, log, intent, before: true }))
        }
        _ => Err(wrong("its state and its body disagree")),
    }
}

/// A new row with its wrap; sealed.
pub(super) fn live(
    keyring: &str,
    name: PartitionName,
    parent: KeyVersionId,
    created: Wall,
    wrap: Vec<u8>,
    rows: &RowSealer,
) -> Result<PartitionRow, CryptoError> {
    let body = PartitionBody { created: created.0, schema: SCHEMA, shredded: None };
    let row = PartitionRow {
        keyring: keyring.to_owned(),
        name,
        parent,
        state: KeyState::Active.name().to_owned(),
        generation: 1,
        body: bodies::encode(&body).ok_or(CryptoError)?,
        wrap,
        tag: UNSEALED,
    };
    sealed(row, rows)
}

/// The row with another wrap, by another data key; sealed.
pub(super) fn moved(
    row: &PartitionRow,
    parent: KeyVersionId,
    wrap: Vec<u8>,
    rows: &RowSealer,
) -> Result<PartitionRow, CryptoError> {
    let generation = row.generation.saturating_add(1);
    sealed(PartitionRow { parent, wrap, generation, ..row.clone() }, rows)
}

/// What is left of a partition, or stands where there never was one; sealed.
pub(super) fn tombstone(
    keyring: &str,
    before: Option<(&PartitionRow, Wall)>,
    shredded: &Shredded,
    rows: &RowSealer,
) -> Result<PartitionRow, CryptoError> {
    let Shredded { name, at, actor, reason, log, intent, before: _ } = shredded.clone();
    let body = PartitionBody {
        created: before.map_or(at.0, |(_, created)| created.0),
        schema: SCHEMA,
        shredded: Some(ShreddedBody { actor, at: at.0, intent, log, reason }),
    };
    let row = PartitionRow {
        keyring: keyring.to_owned(),
        name,
        parent: NOBODY,
        state: KeyState::Destroyed.name().to_owned(),
        generation: before.map_or(1, |(row, _)| row.generation.saturating_add(1)),
        body: bodies::encode(&body).ok_or(CryptoError)?,
        wrap: Vec::new(),
        tag: UNSEALED,
    };
    sealed(row, rows)
}

fn sealed(mut row: PartitionRow, rows: &RowSealer) -> Result<PartitionRow, CryptoError> {
    row.tag = rows.tag(Row::Partition(&row))?;
    Ok(row)
}

impl Totals {
    /// Counts a row in.
    pub(super) fn add(&mut self, row: &PartitionRow, summer: &Summer) -> Result<(), CryptoError> {
        self.sum = self.sum.plus(summer.term(row)?);
        self.count = self.count.saturating_add(1);
        self.tally(row, |count| count.saturating_add(1));
        Ok(())
    }

    /// Counts a row out.
    pub(super) fn remove(&mut self, row: &PartitionRow, summer: &Summer) -> Result<(), CryptoError> {
        let term: Sum = summer.term(row)?;
        self.sum = self.sum.minus(term);
        self.count = self.count.saturating_sub(1);
        self.tally(row, |count| count.saturating_sub(1));
        Ok(())
    }

    fn tally(&mut self, row: &PartitionRow, step: impl Fn(u64) -> u64) {
        let counter =
            if row.parent == NOBODY { &mut self.shredded } else { self.parents.entry(row.parent).or_default() };
        *counter = step(*counter);
        self.parents.retain(|_, count| *count > 0);
    }
}

/// A partition as an operator is told about it.
pub(super) fn describe(keyring: &str, name: PartitionName) -> String {
    format!("the partition {} of {keyring}", hex::encode(name.0))
}
