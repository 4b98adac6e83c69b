//! The connection was lost while a commit was under way: is it there? The rows themselves say so.
//!
//! Why not the server's own memory of transactions (`pg_xact_status`): a transaction whose record never reached the disk
//! leaves its number to another one after a crash, and a promoted standby gives numbers out again.

use super::fault::Fault;
use super::link::Link;
use super::rows;
use super::writes::change;
use crate::store::{ChangeRow, SealedKey, StoreError, Tag, Write};

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there.
    Here,
    /// It is not, and will not be.
    Absent,
    /// Somebody else's row stands where one of ours would: it is not there.
    Overtaken,
    /// The row was replaced since, after ours or instead of ours.
    Unknown,
}

/// Looks for one row of the batch: the others are where it is. The caller has seen to it that the lost transaction is over.
pub(super) async fn look(link: &Link, batch: &[Write]) -> Result<Fate, Fault> {
    if let Some(row) = batch.iter().find_map(change) {
        return link_of_chain(link, row).await;
    }
    match batch.first() {
        None => Ok(Fate::Here),
        Some(write) => row(link, write).await,
    }
}

async fn link_of_chain(link: &Link, ours: &ChangeRow) -> Result<Fate, Fault> {
    let sql = "SELECT seq, previous, body, tag FROM keyward.changes WHERE seq = $1";
    let found = link.query(sql, &[&rows::integer(ours.seq)?]).await?;
    let Some(found) = found.first() else { return Ok(Fate::Absent) };
    Ok(if rows::change(found)? == *ours { Fate::Here } else { Fate::Overtaken })
}

async fn row(link: &Link, write: &Write) -> Result<Fate, Fault> {
    let found = match write {
        Write::Genesis(_) => link.query("SELECT generation, body, tag FROM keyward.genesis", &[]).await,
        Write::Keyring(row) => {
            link.query("SELECT generation, body, tag FROM keyward.keyrings WHERE name = $1", &[&row.name]).await
        }
        Write::Key(SealedKey { row, .. }) => {
            link.query("SELECT generation, body, tag FROM keyward.keys WHERE id = $1", &[&&row.id.0[..]]).await
        }
        Write::Partition(row) => {
            let sql = "SELECT generation, body, tag FROM keyward.partitions WHERE keyring = $1 AND name = $2";
            link.query(sql, &[&row.keyring, &&row.name.0[..]]).await
        }
        Write::Usage(row) => {
            let sql = "SELECT generation, body, tag FROM keyward.usage WHERE key = $1 AND sidecar = $2";
            link.query(sql, &[&&row.key.0[..], &&row.sidecar.0[..]]).await
        }
        Write::Sidecar(row) => {
            let sql = "SELECT generation, body, tag FROM keyward.sidecars WHERE id = $1";
            link.query(sql, &[&&row.id.0[..]]).await
        }
        Write::Change(row) => return link_of_chain(link, row).await,
    }?;
    let Some(found) = found.first() else { return Ok(Fate::Absent) };
    let found = rows::genesis(found)?;
    let (body, tag) = write.sealed();
    let generation = write.generation().unwrap_or_default();
    Ok(judge((generation, body, tag), (found.generation, &found.body, &found.tag)))
}

fn judge(ours: (u64, &String, &Tag), found: (u64, &String, &Tag)) -> Fate {
    match found.0.cmp(&ours.0) {
        std::cmp::Ordering::Less => Fate::Absent,
        std::cmp::Ordering::Equal if found == ours => Fate::Here,
        std::cmp::Ordering::Equal => Fate::Overtaken,
        std::cmp::Ordering::Greater => Fate::Unknown,
    }
}

impl Fate {
    /// For whoever asked for the commit.
    pub(super) fn answer(self, why: &str) -> Result<(), StoreError> {
        match self {
            Self::Here => Ok(()),
            Self::Absent => Err(StoreError::Unavailable(why.to_owned())),
            Self::Overtaken => Err(StoreError::Conflict),
            Self::Unknown => Err(StoreError::Unsettled(format!("{why}; the row was changed again since"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_ours_only_if_all_of_it_is_and_a_later_one_proves_nothing() {
        let (body, other) = ("{}".to_owned(), "{\"x\":1}".to_owned());
        let (tag, wrong) = (Tag([1; 32]), Tag([2; 32]));
        let ours = (4, &body, &tag);
        assert_eq!(judge(ours, (4, &body, &tag)), Fate::Here);
        assert_eq!(judge(ours, (4, &other, &tag)), Fate::Overtaken);
        assert_eq!(judge(ours, (4, &body, &wrong)), Fate::Overtaken);
        assert_eq!(judge(ours, (3, &body, &tag)), Fate::Absent);
        assert_eq!(judge(ours, (5, &body, &tag)), Fate::Unknown);
    }
}
