//! Are a keyring's partitions the ones that its head accounts for? At the admission each row is read once, in pages of one
//! moment of the store, so that a fleet may make and move partitions meanwhile.
//!
//! A row that was edited fails by its own seal. An older row, a missing tombstone and a row too many leave every seal
//! whole; the count and the sum in the head find them, and the chain names what was shredded. That the moment's heads are
//! the newest of that moment is proven by the links between the chain as it was followed and the end that it has there.

use std::collections::{BTreeSet, HashMap};

use super::Totals;
use super::rows::{self, Partition};
use crate::keyring::bodies::ChangeBody;
use crate::keyring::directory::Known;
use crate::keyring::follow::{Open, another, shorter};
use crate::keyring::verify::{self, Damage, describe_head};
use crate::keyring::{ApplyError, Inner, StoreHead, seal};
use crate::store::{PartitionName, Snapshot, StoreError};

/// Rows that are read at once (design): some 3 MiB.
const PAGE: u32 = 5_000;

/// A moment of the store whose chain was followed to its end.
struct Moment<'a> {
    open: &'a Open,
    snapshot: Box<dyn Snapshot>,
    /// Heads that changed after what the directory knows.
    newer: HashMap<String, Known>,
}

/// Verifies all partitions of the store: those of the keyrings that have some, as far as they were seen, and that there are
/// no others. The names of the live ones are known from then on.
pub(in crate::keyring) async fn check(
    inner: &Inner,
    open: &Open,
    partitioned: BTreeSet<String>,
) -> Result<(), ApplyError> {
    let moment = Moment::take(inner, open).await?;
    let mut said = 0_u64;
    for name in partitioned.iter().chain(moment.newer.keys().filter(|name| !partitioned.contains(*name))) {
        said = said.saturating_add(moment.keyring(name).await?);
    }
    let there = moment.snapshot.counts().await?.partitions;
    if there == said {
        return Ok(());
    }
    let what = format!("there are {there} rows, and the heads of all keyrings account for {said}");
    Err(Damage::of("the partitions".to_owned(), what).into())
}

impl<'a> Moment<'a> {
    async fn take(inner: &Inner, open: &'a Open) -> Result<Self, ApplyError> {
        let mut at = open.head();
        let snapshot = inner.writer.snapshot().await?;
        let end = snapshot.last_change().await?;
        let goal = end.as_ref().map_or(0, |end| end.seq);
        if goal < at.changes {
            return Err(shorter());
        }
        if goal == at.changes && !end.is_none_or(|end| seal::digest(&end).is_ok_and(|digest| digest == at.digest)) {
            return Err(another(goal));
        }
        let mut newer = HashMap::new();
        while at.changes < goal {
            let links = snapshot.changes(at.changes, verify::PAGE).await?;
            if links.is_empty() {
                return Err(shorter());
            }
            for link in &links {
                let (body, after) = verify::link(link, at, &open.system.rows)?;
                at = after;
                for head in &body.heads {
                    newer.insert(head.keyring.clone(), verify::named(head)?);
                }
            }
        }
        Ok(Self { open, snapshot, newer })
    }

    /// How many partitions a keyring has, all of them read and accounted for.
    async fn keyring(&self, name: &str) -> Result<u64, ApplyError> {
        let gone = || Damage::of(describe_head(name), "its row has been deleted");
        let rows = self.snapshot.ring(name.to_owned()).await?.ok_or_else(gone)?;
        let known = self.newer.get(name).copied().or_else(|| self.open.directory().known(name)).ok_or_else(gone)?;
        let head = verify::ring(&rows, known, &self.open.system.rows)?;
        if head.partition_key.is_none() {
            return Ok(0);
        }
        let said = Totals::read(name, head.partitions.as_ref(), self.open.system.partitions.summer())?;
        let (found, tombstones) = self.stream(name).await?;
        if found == said {
            return Ok(said.count);
        }
        Err(self.blame(name, &found, &said, &tombstones).await?.into())
    }

    async fn stream(&self, keyring: &str) -> Result<(Totals, Vec<PartitionName>), ApplyError> {
        let (mut totals, mut tombstones, mut after) = (Totals::default(), Vec::new(), None);
        let open = self.open;
        loop {
            let page = self.snapshot.partitions(keyring.to_owned(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((totals, tombstones)) };
            after = Some(last.name);
            let mut live = Vec::with_capacity(page.len());
            for row in &page {
                match rows::read(row, &open.system.rows)? {
                    Partition::Live(_) if open.directory().is_shredded(row.name) => {
                        let what = "it was shredded, and an older copy of its row was put back";
                        return Err(Damage::of(rows::describe(keyring, row.name), what).into());
                    }
                    Partition::Live(_) => live.push(row.name),
                    Partition::Shredded(_) => tombstones.push(row.name),
                }
                let too_large = |_| Damage::of(rows::describe(keyring, row.name), "it is too large");
                totals.add(row, open.system.partitions.summer()).map_err(too_large)?;
            }
            open.directory_mut().live(&live);
        }
    }

    /// What is wrong: a tombstone that the chain knows and the table does not, or else some row that is older, missing or
    /// too many, which no link names.
    async fn blame(
        &self,
        keyring: &str,
        found: &Totals,
        said: &Totals,
        tombstones: &[PartitionName],
    ) -> Result<Damage, StoreError> {
        let mut end = StoreHead::default();
        loop {
            let links = self.snapshot.changes(end.changes, verify::PAGE).await?;
            if links.is_empty() {
                break;
            }
            for link in &links {
                let passed = verify::link(link, end, &self.open.system.rows);
                let of_keyring = |body: &ChangeBody| -> Result<Vec<PartitionName>, Damage> {
                    let heads = body.heads.iter().filter(|head| head.keyring == keyring);
                    Ok(heads.map(verify::shredded).collect::<Result<Vec<_>, _>>()?.concat())
                };
                let (after, shredded) = match passed.and_then(|(body, after)| Ok((after, of_keyring(&body)?))) {
                    Ok(passed) => passed,
                    Err(damage) => return Ok(damage),
                };
                end = after;
                if let Some(name) = shredded.into_iter().find(|name| tombstones.binary_search(name).is_err()) {
                    return Ok(Damage::of(rows::describe(keyring, name), "its tombstone has been deleted"));
                }
            }
        }
        let what = match found.count.cmp(&said.count) {
            std::cmp::Ordering::Less => "rows have been deleted",
            std::cmp::Ordering::Greater => "there are rows that no change has made",
            std::cmp::Ordering::Equal => "one of them is not the one that the last change wrote",
        };
        let (found, said) = (found.count, said.count);
        let what = format!("{what} (found {found}, accounted for {said})");
        Ok(Damage::of(format!("the partitions of {keyring}"), what))
    }
}
