//! How much of the log have others seen? The newest checkpoint that a quorum of witnesses cosigned (LOG-35).

use std::io;
use std::path::Path;

use tokio::sync::watch;

use crate::clock::{Deadline, SharedClock};
use crate::durable::{Disk, DurableError};

use super::history::{self, HistoryError, NEWEST, PUBLIC_MODE};
use super::keys::Keys;
use super::log::Log;
use super::note::Checkpoint;
use super::proof::growth_ranges;
use super::read::ReadError;
use super::rule::{Fault, Rule};
use super::tree::{Hash, Tree, leaf};

/// The newest checkpoint with the cosignatures of a quorum (LOG-1).
pub(super) const WITNESSED: &str = "checkpoint.witnessed";
/// Records that are read at once.
const PAGE: usize = 4_096;

/// Reads it, if there is one; whether the witnesses are enough is the question of whoever has a policy.
pub(super) fn load(dir: &Path, keys: &Keys) -> Result<Option<(Checkpoint, String)>, HistoryError> {
    let path = dir.join(WITNESSED);
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(HistoryError::Io { path, source }),
    };
    let checkpoint = keys.open(&note).map_err(|error| Fault::new(Rule::Witnessed, 0, error.to_string()).at(path, 0))?;
    Ok(Some((checkpoint, note)))
}

/// How much of a log witnesses have cosigned, for whoever has to wait for it.
#[derive(Debug, Clone)]
pub struct Cosigned {
    /// Records that the newest cosigned checkpoint covers.
    pub size: watch::Receiver<u64>,
    /// How many somebody waits for.
    pub wanted: watch::Sender<u64>,
}

impl Cosigned {
    /// Waits until a record is under a checkpoint that enough witnesses cosigned; false if the deadline comes before.
    pub async fn reaches(&self, index: u64, deadline: Deadline, clock: &SharedClock) -> bool {
        self.wanted.send_if_modified(|wanted| {
            let more = *wanted <= index;
            *wanted = (*wanted).max(index.saturating_add(1));
            more
        });
        let mut size = self.size.clone();
        tokio::select! {
            biased;
            seen = size.wait_for(|size| *size > index) => seen.is_ok(),
            () = clock.sleep_until(deadline.0) => false,
        }
    }
}

impl Log {
    /// The newest checkpoint, as it was signed.
    pub fn newest_note(&self) -> io::Result<String> {
        std::fs::read_to_string(self.inner.dir.join(NEWEST))
    }

    /// All keys that the log has had.
    pub fn keys(&self) -> Result<Keys, String> {
        history::public_keys(&self.inner.dir).map_err(|error| error.to_string())
    }

    /// Keeps a checkpoint with the cosignatures of a quorum.
    pub fn keep_witnessed(&self, disk: &Disk, note: &str) -> Result<(), DurableError> {
        disk.write_atomic(&self.inner.dir.join(WITNESSED), note.as_bytes(), PUBLIC_MODE)
    }

    /// The tree over the first records, going on from a smaller one. Reads files: call it where blocking is allowed. Of a
    /// log with fewer records it is smaller than what was asked for.
    pub fn tree_at(&self, from: Tree, size: u64) -> Result<Tree, ReadError> {
        self.grow(from, size, &mut |_, _| {})
    }

    /// The tree over the first records, with the proof that it grew out of a smaller one (RFC 9162, section 2.1.4.1).
    pub fn grown(&self, from: &Tree, size: u64) -> Result<(Tree, Vec<Hash>), ReadError> {
        let ranges = growth_ranges(from.size(), size);
        let mut trees = vec![Tree::default(); ranges.len()];
        let grown = self.grow(from.clone(), size, &mut |index, hash| {
            let place = ranges.iter().position(|(start, end)| (*start..*end).contains(&index));
            if let Some(tree) = place.and_then(|place| trees.get_mut(place)) {
                tree.push(hash);
            }
        })?;
        let root = |((start, end), tree): (&(u64, u64), &Tree)| {
            if *end <= from.size() { from.peak(*start).unwrap_or_default() } else { tree.root() }
        };
        Ok((grown, ranges.iter().zip(&trees).map(root).collect()))
    }

    fn grow(&self, mut tree: Tree, size: u64, seen: &mut dyn FnMut(u64, Hash)) -> Result<Tree, ReadError> {
        while tree.size() < size {
            let page = self.read(tree.size(), PAGE)?;
            if page.is_empty() {
                break;
            }
            for (index, record) in page.into_iter().take_while(|(index, _)| *index < size) {
                let hash = leaf(&record);
                seen(index, hash);
                tree.push(hash);
            }
        }
        Ok(tree)
    }
}
