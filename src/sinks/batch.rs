//! What is sent in one go? Some records in their order, each written once.

use serde::Deserialize;

use crate::audit::leaf;

use super::Problem;
use super::formats::{Format, Leaving};

/// Records of one batch at most: a lost answer repeats no more.
pub(super) const MOST: usize = 1024;
/// Bytes after which a batch takes no further record.
const MOST_BYTES: usize = 1024 * 1024;

/// Records in order, without a gap.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
}

/// One record.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) index: u64,
    /// Microseconds since 1970.
    pub(super) time: u64,
    pub(super) event: String,
    pub(super) failed: bool,
    pub(super) refused: bool,
    /// As the format writes it: one line, without its end.
    pub(super) line: Vec<u8>,
}

/// What every format needs to know of a record.
#[derive(Deserialize)]
struct Brief<'a> {
    event: &'a str,
    outcome: &'a str,
    time: u64,
}

impl Batch {
    /// Writes the records.
    pub(super) fn new(origin: &str, records: &[(u64, Vec<u8>)], format: Format) -> Result<Self, Problem> {
        let mut items = Vec::with_capacity(records.len());
        let mut bytes = 0;
        for (index, record) in records {
            let unreadable = |why: String| Problem::new("record", format!("record {index}: {why}"));
            let brief: Brief<'_> = serde_json::from_slice(record).map_err(|error| unreadable(error.to_string()))?;
            let mut line = Vec::with_capacity(record.len() + 160);
            format
                .write(&Leaving { origin, index: *index, leaf: leaf(record), record }, &mut line)
                .map_err(unreadable)?;
            let (failed, refused) = (brief.outcome == "failed", matches!(brief.outcome, "denied" | "refused"));
            bytes += line.len();
            items.push(Item { index: *index, time: brief.time, event: brief.event.to_owned(), failed, refused, line });
            if bytes >= MOST_BYTES {
                break;
            }
        }
        Ok(Self { items })
    }

    /// The index after the last record.
    pub(super) fn end(&self) -> u64 {
        self.items.last().map_or(0, |item| item.index + 1)
    }
}
