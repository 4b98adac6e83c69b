//! Are a keyring's partitions the ones that its head accounts for? At the admission each row is read once, in pages.
//!
//! A row that was edited fails by its own seal. An older row, a missing tombstone and a row too many leave every seal
//! whole; the count and the sum in the head find them, and the chain names what was shredded.

use super::Totals;
use super::rows::{self, Partition};
use crate::keyring::directory::Known;
use crate::keyring::follow::{Loaded, Open};
use crate::keyring::verify::{self, Damage, describe_head};
use crate::keyring::{ApplyError, Inner, StoreHead};
use crate::store::PartitionName;

/// Rows that are read at once (design): some 3 MiB.
const PAGE: u32 = 5_000;
/// Keys that are read at once to add up their heads.
const KEYS: u32 = 1_000;
/// How often the rows are read again because another sidecar changed them meanwhile.
const ATTEMPTS: usize = 8;

/// Verifies all partitions of a keyring. Another sidecar may change them while they are read; then they are read again.
pub(in crate::keyring) async fn check(inner: &Inner, open: &Open, loaded: &Loaded) -> Result<u64, ApplyError> {
    let name = &loaded.rows.head.name;
    let mut head = loaded.head.partitions.clone();
    let mut known = Known::new(loaded.rows.head.generation, &loaded.rows.head.tag);
    for _ in 0..ATTEMPTS {
        let said = Totals::read(name, head.as_ref(), open.system.partitions.summer())?;
        let (found, tombstones) = stream(inner, open, name).await?;
        if found == said {
            return Ok(said.count);
        }
        inner.catch_up(open).await?;
        let now = inner.load(open, name).await?;
        let now = now.ok_or_else(|| Damage::of(describe_head(name), "its row has been deleted"))?;
        let newer = Known::new(now.rows.head.generation, &now.rows.head.tag);
        if newer == known {
            return Err(blame(inner, open, name, &found, &said, &tombstones).await?.into());
        }
        (head, known) = (now.head.partitions, newer);
    }
    Err(ApplyError::Unavailable(format!("other sidecars keep changing the partitions of {name}")))
}

/// Rows in all: a partition of a keyring that has none, or of no keyring, is in no head's sum. `said` is what the heads
/// account for as of `since`; if the store has changed since, they are asked again.
pub(in crate::keyring) async fn count(
    inner: &Inner,
    open: &Open,
    mut said: u64,
    mut since: StoreHead,
) -> Result<(), ApplyError> {
    for _ in 0..ATTEMPTS {
        let there = inner.reader.counts().await?.partitions;
        if there == said {
            return Ok(());
        }
        inner.catch_up(open).await?;
        if open.head() == since {
            let what = format!("there are {there} rows, and the heads of all keyrings account for {said}");
            return Err(Damage::of("the partitions".to_owned(), what).into());
        }
        since = open.head();
        said = accounted(inner, open).await?;
    }
    // Rows of no keyring are never read, so a store that does not stand still is no reason to keep anybody waiting.
    Ok(())
}

async fn accounted(inner: &Inner, open: &Open) -> Result<u64, ApplyError> {
    let (mut said, mut after) = (0_u64, None);
    loop {
        let page = inner.page(open, after.take(), KEYS).await?;
        let Some(last) = page.last() else { return Ok(said) };
        after = Some(last.rows.head.name.clone());
        let counts = page.iter().filter_map(|loaded| Some(loaded.head.partitions.as_ref()?.count));
        said = said.saturating_add(counts.sum());
    }
}

async fn stream(inner: &Inner, open: &Open, keyring: &str) -> Result<(Totals, Vec<PartitionName>), ApplyError> {
    let (mut totals, mut tombstones, mut after) = (Totals::default(), Vec::new(), None);
    loop {
        let page = inner.writer.partitions(keyring.to_owned(), None, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok((totals, tombstones)) };
        after = Some(last.name);
        for row in &page {
            let shredded = open.directory().is_shredded(row.name);
            match rows::read(row, &open.system.rows)? {
                Partition::Live(_) if shredded => {
                    let what = "it was shredded, and an older copy of its row was put back";
                    return Err(Damage::of(rows::describe(keyring, row.name), what).into());
                }
                Partition::Live(_) => {}
                Partition::Shredded(_) => tombstones.push(row.name),
            }
            let too_large = |_| Damage::of(rows::describe(keyring, row.name), "it is too large");
            totals.add(row, open.system.partitions.summer()).map_err(too_large)?;
        }
    }
}

/// What is wrong: a tombstone that the chain knows and the table does not, or else some row that is older, missing or
/// too many, which no link names.
async fn blame(
    inner: &Inner,
    open: &Open,
    keyring: &str,
    found: &Totals,
    said: &Totals,
    tombstones: &[PartitionName],
) -> Result<Damage, ApplyError> {
    let mut end = StoreHead::default();
    loop {
        let links = inner.reader.changes(end.changes, verify::PAGE).await?;
        if links.is_empty() {
            break;
        }
        for link in &links {
            let (body, after) = verify::link(link, end, &open.system.rows)?;
            end = after;
            for head in body.heads.iter().filter(|head| head.keyring == keyring) {
                let gone = verify::shredded(head)?.into_iter().find(|name| tombstones.binary_search(name).is_err());
                if let Some(name) = gone {
                    return Ok(Damage::of(rows::describe(keyring, name), "its tombstone has been deleted"));
                }
            }
        }
    }
    let what = match found.count.cmp(&said.count) {
        std::cmp::Ordering::Less => "rows have been deleted",
        std::cmp::Ordering::Greater => "there are rows that no change has made",
        std::cmp::Ordering::Equal => "one of them is not the one that the last change wrote",
    };
    let (found, said) = (found.count, said.count);
    Ok(Damage::of(format!("the partitions of {keyring}"), format!("{what} (found {found}, accounted for {said})")))
}
