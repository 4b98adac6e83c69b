//! How does a batch become statements? One for each kind of row, with all its rows as arrays: a batch of five hundred keys
//! is as many round trips as one of a single key.

use tokio_postgres::types::ToSql;

use super::fault::Fault;
use super::link::Link;
use super::rows::integer;
use crate::store::{ChangeRow, KeyRow, SealedKey, StoreError, Write};

/// How the generation of a row is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As the expectation: see [`Write`].
    Commit,
    /// As it is: the row must not exist.
    Import,
}

/// Carries out a batch within the open transaction; a row that is not at the expected generation is a conflict.
pub(super) async fn write(link: &Link, batch: &[Write], how: How) -> Result<(), Fault> {
    for kind in Kind::ALL {
        let of_kind = batch.iter().filter(|write| Kind::of(write) == kind);
        let (first, later): (Vec<&Write>, Vec<&Write>) =
            of_kind.partition(|write| how == How::Import || write.generation() == Some(1));
        if kind == Kind::Change && how == How::Commit {
            follow(&later)?;
        }
        put(link, kind.insert(), kind, &first).await?;
        put(link, kind.update(), kind, &later).await?;
    }
    Ok(())
}

/// One statement; it must touch as many rows as it was given.
async fn put(link: &Link, sql: &'static str, kind: Kind, rows: &[&Write]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    for write in rows {
        columns.push(write)?;
    }
    let touched = link.execute(sql, &columns.of(kind)).await?;
    if usize::try_from(touched) == Ok(rows.len()) { Ok(()) } else { Err(StoreError::Conflict.into()) }
}

/// Links of one batch stand one behind the other.
fn follow(links: &[&Write]) -> Result<(), StoreError> {
    let seqs: Vec<u64> = links.iter().filter_map(|write| change(write)).map(|row| row.seq).collect();
    let one_by_one = seqs.iter().zip(seqs.iter().skip(1)).all(|(one, next)| one.checked_add(1) == Some(*next));
    if one_by_one { Ok(()) } else { Err(StoreError::Conflict) }
}

/// The number of the newest link that a batch adds.
pub(super) fn last_seq(batch: &[Write]) -> Option<u64> {
    batch.iter().filter_map(change).map(|row| row.seq).max()
}

pub(super) const fn change(write: &Write) -> Option<&ChangeRow> {
    match write {
        Write::Change(row) => Some(row),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Genesis,
    Keyring,
    Key,
    Partition,
    Usage,
    Sidecar,
    Change,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Genesis, Self::Keyring, Self::Key, Self::Partition, Self::Usage, Self::Sidecar, Self::Change];

    const fn of(write: &Write) -> Self {
        match write {
            Write::Genesis(_) => Self::Genesis,
            Write::Keyring(_) => Self::Keyring,
            Write::Key(_) => Self::Key,
            Write::Partition(_) => Self::Partition,
            Write::Usage(_) => Self::Usage,
            Write::Sidecar(_) => Self::Sidecar,
            Write::Change(_) => Self::Change,
        }
    }

    const fn insert(self) -> &'static str {
        match self {
            Self::Genesis => {
                "INSERT INTO keyward.genesis (one, generation, body, tag)
                 SELECT 1, * FROM unnest($1::int8[], $2::text[], $3::bytea[]) ON CONFLICT DO NOTHING"
            }
            Self::Keyring => {
                "INSERT INTO keyward.keyrings (name, generation, body, tag)
                 SELECT * FROM unnest($1::text[], $2::int8[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING"
            }
            Self::Key => {
                "INSERT INTO keyward.keys (id, purpose, keyring, parent, state, generation, body, wraps, tag)
                 SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[],
                     $7::text[], $8::bytea[], $9::bytea[]) ON CONFLICT DO NOTHING"
            }
            Self::Partition => {
                "INSERT INTO keyward.partitions (keyring, name, parent, state, generation, body, wrap, tag)
                 SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::int8[], $6::text[],
                     $7::bytea[], $8::bytea[]) ON CONFLICT DO NOTHING"
            }
            Self::Usage => {
                "INSERT INTO keyward.usage (key, sidecar, generation, body, tag)
                 SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int8[], $4::text[], $5::bytea[])
                 ON CONFLICT DO NOTHING"
            }
            Self::Sidecar => {
                "INSERT INTO keyward.sidecars (id, generation, body, tag)
                 SELECT * FROM unnest($1::bytea[], $2::int8[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING"
            }
            Self::Change => {
                "INSERT INTO keyward.changes (seq, previous, body, tag)
                 SELECT * FROM unnest($1::int8[], $2::bytea[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING"
            }
        }
    }

    /// Replaces the rows of the generation before. A change is never replaced: the statement asks that the first one is
    /// the next of the chain.
    const fn update(self) -> &'static str {
        match self {
            Self::Genesis => {
                "UPDATE keyward.genesis AS old SET generation = new.generation, body = new.body, tag = new.tag
                 FROM unnest($1::int8[], $2::text[], $3::bytea[]) AS new (generation, body, tag)
                 WHERE old.generation = new.generation - 1"
            }
            Self::Keyring => {
                "UPDATE keyward.keyrings AS old SET generation = new.generation, body = new.body, tag = new.tag
                 FROM unnest($1::text[], $2::int8[], $3::text[], $4::bytea[]) AS new (name, generation, body, tag)
                 WHERE old.name = new.name COLLATE \"C\" AND old.generation = new.generation - 1"
            }
            Self::Key => {
                "UPDATE keyward.keys AS old SET parent = new.parent, state = new.state, generation = new.generation,
                     body = new.body, wraps = new.wraps, tag = new.tag
                 FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::text[],
                     $8::bytea[], $9::bytea[])
                     AS new (id, purpose, keyring, parent, state, generation, body, wraps, tag)
                 WHERE old.id = new.id AND old.purpose = new.purpose COLLATE \"C\"
                     AND old.keyring = new.keyring COLLATE \"C\" AND old.generation = new.generation - 1"
            }
            Self::Partition => {
                "UPDATE keyward.partitions AS old SET parent = new.parent, state = new.state,
                     generation = new.generation, body = new.body, wrap = new.wrap, tag = new.tag
                 FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::int8[], $6::text[], $7::bytea[],
                     $8::bytea[]) AS new (keyring, name, parent, state, generation, body, wrap, tag)
                 WHERE old.keyring = new.keyring COLLATE \"C\" AND old.name = new.name
                     AND old.generation = new.generation - 1"
            }
            Self::Usage => {
                "UPDATE keyward.usage AS old SET generation = new.generation, body = new.body, tag = new.tag
                 FROM unnest($1::bytea[], $2::bytea[], $3::int8[], $4::text[], $5::bytea[])
                     AS new (key, sidecar, generation, body, tag)
                 WHERE old.key = new.key AND old.sidecar = new.sidecar AND old.generation = new.generation - 1"
            }
            Self::Sidecar => {
                "UPDATE keyward.sidecars AS old SET generation = new.generation, body = new.body, tag = new.tag
                 FROM unnest($1::bytea[], $2::int8[], $3::text[], $4::bytea[]) AS new (id, generation, body, tag)
                 WHERE old.id = new.id AND old.generation = new.generation - 1"
            }
            Self::Change => {
                "INSERT INTO keyward.changes (seq, previous, body, tag)
                 SELECT * FROM unnest($1::int8[], $2::bytea[], $3::text[], $4::bytea[])
                 WHERE ($1::int8[])[1] = (SELECT coalesce(max(seq), 0) + 1 FROM keyward.changes)
                 ON CONFLICT DO NOTHING"
            }
        }
    }
}

/// The rows of one kind, column by column; which column is what depends on the kind.
#[derive(Default)]
struct Columns<'a> {
    names: Vec<&'a [u8]>,
    keyrings: Vec<&'a str>,
    purposes: Vec<&'a str>,
    parents: Vec<&'a str>,
    keys: Vec<&'a [u8]>,
    states: Vec<&'a str>,
    numbers: Vec<i64>,
    bodies: Vec<&'a str>,
    wraps: Vec<&'a [u8]>,
    tags: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, write: &'a Write) -> Result<(), StoreError> {
        let (number, body, tag) = match write {
            Write::Genesis(row) => (row.generation, &row.body, &row.tag),
            Write::Keyring(row) => {
                self.keyrings.push(&row.name);
                (row.generation, &row.body, &row.tag)
            }
            Write::Key(SealedKey { row, wraps }) => {
                let KeyRow { id, purpose, keyring, parent, state, generation, body, tag } = row;
                self.keys.push(&id.0);
                self.purposes.push(purpose);
                self.keyrings.push(keyring);
                self.parents.push(parent);
                self.states.push(state);
                self.wraps.push(wraps);
                (*generation, body, tag)
            }
            Write::Partition(row) => {
                self.keyrings.push(&row.keyring);
                self.names.push(&row.name.0);
                self.keys.push(&row.parent.0);
                self.states.push(&row.state);
                self.wraps.push(&row.wrap);
                (row.generation, &row.body, &row.tag)
            }
            Write::Usage(row) => {
                self.keys.push(&row.key.0);
                self.names.push(&row.sidecar.0);
                (row.generation, &row.body, &row.tag)
            }
            Write::Sidecar(row) => {
                self.names.push(&row.id.0);
                (row.generation, &row.body, &row.tag)
            }
            Write::Change(row) => {
                self.names.push(&row.previous);
                (row.seq, &row.body, &row.tag)
            }
        };
        self.numbers.push(integer(number)?);
        self.bodies.push(body);
        self.tags.push(&tag.0);
        Ok(())
    }

    /// In the order of the statements' parameters.
    fn of(&self, kind: Kind) -> Vec<&(dyn ToSql + Sync)> {
        let Self { names, keyrings, purposes, parents, keys, states, numbers, bodies, wraps, tags } = self;
        match kind {
            Kind::Genesis => vec![numbers, bodies, tags],
            Kind::Keyring => vec![keyrings, numbers, bodies, tags],
            Kind::Key => vec![keys, purposes, keyrings, parents, states, numbers, bodies, wraps, tags],
            Kind::Partition => vec![keyrings, names, keys, states, numbers, bodies, wraps, tags],
            Kind::Usage => vec![keys, names, numbers, bodies, tags],
            Kind::Sidecar => vec![names, numbers, bodies, tags],
            Kind::Change => vec![numbers, names, bodies, tags],
        }
    }
}
