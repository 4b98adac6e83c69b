//! How does one read back what was committed? From the segments, starting at the nearest mark.
//! Only committed records are shown: a record that is still being written does not exist yet.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::scan::{FrameReader, NextError, segment_path};
use super::wal::Place;

/// Bytes between two marks: what a read skips at most, and one mark of 24 bytes for each.
const MARK_BYTES: u64 = 1024 * 1024;

/// Why records cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A committed frame is no longer what was written: verify the log.
    #[error("a committed frame of {} does not read back: {why}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        why: super::frame::FrameError,
    },
}

/// Where some frames lie, so that a read need not begin at the first.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Vec<(u64, Place)>>);

impl Marks {
    /// Notes a frame that begins at an index, unless one close to it is noted; frames come in order.
    pub(super) fn note(&self, first: u64, place: Place) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |last: &Place| last.segment == place.segment && place.offset < last.offset + MARK_BYTES;
        if !marks.last().is_some_and(|(_, last)| near(last)) {
            marks.push((first, place));
        }
    }

    /// The last noted frame that begins at or before an index.
    fn before(&self, index: u64) -> Option<Place> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = marks.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        marks.get(at).map(|(_, place)| *place)
    }
}

/// Reads at most `max` committed records from `from` on.
pub(super) fn read(
    dir: &Path,
    marks: &Marks,
    committed: u64,
    from: u64,
    max: usize,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let mut found = Vec::new();
    let until = committed.min(from.saturating_add(u64::try_from(max).unwrap_or(u64::MAX)));
    let mut next = from;
    while next < until {
        let Some(place) = marks.before(next) else { break };
        let before = next;
        read_segment(dir, place, until, &mut next, &mut found)?;
        if next == before {
            break;
        }
    }
    Ok(found)
}

/// Reads on from a place to the end of its segment or until enough records are found.
fn read_segment(
    dir: &Path,
    place: Place,
    until: u64,
    next: &mut u64,
    found: &mut Vec<(u64, Vec<u8>)>,
) -> Result<(), ReadError> {
    let path = segment_path(dir, place.segment);
    let failed = |source| ReadError::Io { path: path.clone(), source };
    let mut reader = FrameReader::open(&path, place.offset).map_err(failed)?;
    while *next < until {
        let frame = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(NextError::Io(source)) => return Err(failed(source)),
            Err(NextError::Frame(why)) => return Err(ReadError::Damaged { path, why }),
        };
        for (index, record) in (frame.header.first..).zip(frame.records()) {
            if index == *next && index < until {
                found.push((index, record.to_vec()));
                *next += 1;
            }
        }
    }
    Ok(())
}
