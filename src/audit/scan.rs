//! Do these frames continue the log? The one reader of segments, for recovery, verification and reading back.
//! Memory is bounded by one frame; nothing is written here.
#![deny(clippy::indexing_slicing)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::frame::{self, Frame, FrameError, HEADER_BYTES, Records};
use super::rule::{Fault, Rule};
use super::tree::{self, Tree};
use super::view::{self, View};

/// The folder of the segments in the log's directory (LOG-1).
pub(super) const WAL: &str = "wal";

/// A segment: a file of frames, named by the index of its first record (LOG-2).
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    pub(super) len: u64,
}

/// The segment that begins at an index.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(WAL).join(format!("{first:020}.wal"))
}

/// The segments of a log, in order. A file that is none is an error: the folder belongs to the log alone.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.join(WAL))? {
        let path = entry?.path();
        let first =
            path.file_name().and_then(|name| name.to_str()).and_then(first_of).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} is no segment", path.display()))
            })?;
        found.push(Segment { first, len: std::fs::metadata(&path)?.len(), path });
    }
    found.sort_unstable_by_key(|segment| segment.first);
    Ok(found)
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// Reads the frames of one file one after another.
pub(super) struct FrameReader {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
}

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum NextError {
    /// The bytes at the offset are none.
    Frame(FrameError),
    /// The file cannot be read.
    Io(io::Error),
}

impl FrameReader {
    pub(super) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, offset, buffer: Vec::new() })
    }

    /// Where the next frame begins, or the bytes that are none.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes that were read for a frame that turned out not to be one.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The next frame; None at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, NextError> {
        self.fill(0, HEADER_BYTES).map_err(NextError::Io)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let header = frame::parse_header(&self.buffer).map_err(NextError::Frame)?;
        let body = usize::try_from(header.body).unwrap_or(usize::MAX);
        self.fill(HEADER_BYTES, HEADER_BYTES.saturating_add(body)).map_err(NextError::Io)?;
        let frame = frame::parse(&self.buffer).map_err(NextError::Frame)?;
        self.offset = self.offset.saturating_add(u64::try_from(frame.size()).unwrap_or(u64::MAX));
        Ok(Some(frame))
    }

    /// Makes the buffer hold the bytes up to `until` of the frame, or fewer where the file ends.
    fn fill(&mut self, from: usize, until: usize) -> io::Result<()> {
        self.buffer.resize(until, 0);
        let mut filled = from;
        while let Some(rest) = self.buffer.get_mut(filled..until).filter(|rest| !rest.is_empty()) {
            let at = self.offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

/// Follows the log frame by frame: indices, time and roots (LOG-7, LOG-8, LOG-12).
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    pub(super) tree: Tree,
    pub(super) time: u64,
}

impl Chain {
    /// Takes the next frame; `visit` sees each record with its index before and the tree after it.
    pub(super) fn follow<E: From<Fault>>(
        &mut self,
        frame: &Frame<'_>,
        mut visit: impl FnMut(u64, &[u8], &Tree) -> Result<(), E>,
    ) -> Result<(), E> {
        let index = self.tree.size();
        let fault = |rule, detail: String| Err(Fault::new(rule, index, detail).into());
        if frame.header.first != index {
            return fault(Rule::FirstIndex, format!("the frame begins at record {}", frame.header.first));
        }
        if frame.header.time < self.time {
            return fault(Rule::Time, format!("{} comes after {}", frame.header.time, self.time));
        }
        for record in frame.records() {
            let index = self.tree.size();
            self.tree.push(tree::leaf(record));
            visit(index, record, &self.tree)?;
        }
        if self.tree.root() != frame.header.root {
            return fault(Rule::Root, format!("of records {index} to {}", frame.end().saturating_sub(1)));
        }
        self.time = frame.header.time;
        Ok(())
    }
}

/// Which parts of a record are still to come (LOG-13).
#[derive(Debug, Default)]
pub(super) struct PartsCheck {
    next: Option<(u64, u64)>,
}

impl PartsCheck {
    /// Takes the next record of a frame.
    pub(super) fn take(&mut self, view: &View<'_>) -> Result<(), Fault> {
        let found = view.part.zip(view.parts);
        let fits = match (self.next, found) {
            (None, None) => true,
            (None, Some((part, parts))) => part == 0 && parts > 1,
            (Some((next, of)), Some((part, parts))) => part == next && parts == of,
            (Some(_), None) => false,
        };
        if !fits {
            return Err(Fault::new(Rule::Parts, view.index, "a part of a record is missing or out of order"));
        }
        self.next = found.map(|(part, parts)| (part + 1, parts)).filter(|(next, of)| next < of);
        Ok(())
    }

    /// Ends a frame.
    pub(super) fn end(&self, index: u64) -> Result<(), Fault> {
        match self.next {
            None => Ok(()),
            Some(_) => Err(Fault::new(Rule::Parts, index, "the parts of a record do not end with its frame")),
        }
    }
}

/// Says which record of a damaged frame is bad, where its lengths still allow that; the frame's first one otherwise.
pub(super) fn name_bad_record(bytes: &[u8], first: u64) -> u64 {
    let records = Records::of_unverified(bytes.get(HEADER_BYTES..).unwrap_or_default());
    (first..).zip(records).find(|(index, record)| view::read(record, *index).is_err()).map_or(first, |(index, _)| index)
}

/// What the frames at the start of some bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// Whole frames.
    pub frames: u64,
    /// Their records.
    pub records: u64,
    /// Bytes of these frames.
    pub bytes: usize,
    /// The clause that the bytes after them break; None when there are none.
    pub broken: Option<Rule>,
}

/// Reads the frames of a log's beginning out of bytes: the whole of recovery and verification without files.
pub fn scan_bytes(bytes: &[u8]) -> Scan {
    let mut chain = Chain::default();
    let mut scan = Scan { frames: 0, records: 0, bytes: 0, broken: None };
    while let Some(rest) = bytes.get(scan.bytes..).filter(|rest| !rest.is_empty()) {
        let followed = frame::parse(rest)
            .map_err(FrameError::rule)
            .and_then(|frame| follow_strictly(&mut chain, &frame).map_err(|fault| fault.rule).map(|()| frame.size()));
        match followed {
            Ok(size) => scan.bytes += size,
            Err(rule) => {
                scan.broken = Some(rule);
                break;
            }
        }
        scan.frames += 1;
        scan.records = chain.tree.size();
    }
    scan
}

fn follow_strictly(chain: &mut Chain, frame: &Frame<'_>) -> Result<(), Fault> {
    let mut parts = PartsCheck::default();
    chain.follow(frame, |index, record, _| -> Result<(), Fault> {
        let view = view::read(record, index)?;
        if view.time != frame.header.time {
            return Err(Fault::new(Rule::Time, index, "its time is not its frame's"));
        }
        parts.take(&view)
    })?;
    parts.end(frame.end())
}
