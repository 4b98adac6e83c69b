//! What do the segments of a log hold, frame by frame? The one strict reader of a log's own directory, for verification,
//! export and proofs.

use std::path::Path;

use crate::audit::frame::Frame;
use crate::audit::history::Stored;
use crate::audit::keys::Keys;
use crate::audit::note::Checkpoint;
use crate::audit::rule::{Fault, Finding, Rule};
use crate::audit::scan::{Chain, FrameReader, NextError, Segment, name_bad_record, segments};
use crate::audit::tree::Tree;

use super::story::Story;
use super::{Progress, VerifyError};

/// How far a reader is, and what it saw.
pub(in crate::audit) struct Walk<'a> {
    pub(in crate::audit) chain: Chain,
    pub(super) story: Story<'a>,
    pub(super) bytes: u64,
}

impl<'a> Walk<'a> {
    pub(in crate::audit) fn new(
        keys: &'a Keys,
        stored: &Stored,
        outside: impl IntoIterator<Item = Checkpoint>,
    ) -> Self {
        let expected = stored.all.iter().map(|(_, checkpoint)| *checkpoint).chain(outside).collect();
        let handovers = stored.handovers.iter().map(|(checkpoint, _)| checkpoint.size).collect();
        Self { chain: Chain::default(), story: Story::new(keys, expected, handovers), bytes: 0 }
    }
}

impl Walk<'_> {
    /// What must hold when the last record is read.
    pub(in crate::audit) fn end(&self, dir: &Path, stored: &Stored) -> Result<(), Finding> {
        super::end(dir, stored, &self.story, self.chain.tree.size())
    }
}

/// Sees each record, with the tree that it was the last to join.
pub(in crate::audit) type Visit<'v, E> = dyn FnMut(&[u8], &Tree) -> Result<(), E> + 'v;

/// Reads the segments up to the frame that reaches `until` records; `visit` sees each record with the tree after it.
pub(in crate::audit) fn walk<E: From<VerifyError>>(
    dir: &Path,
    walk: &mut Walk<'_>,
    until: u64,
    progress: &mut dyn FnMut(Progress),
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let segments = segments(dir).map_err(VerifyError::read(dir.to_path_buf()))?;
    let of = segments.iter().map(|segment| segment.len).sum();
    for segment in segments.iter().take_while(|segment| segment.first < until) {
        walk.segment(segment, until, &mut |bytes, records| progress(Progress { bytes, of, records }), visit)?;
    }
    Ok(())
}

impl Walk<'_> {
    fn segment<E: From<VerifyError>>(
        &mut self,
        segment: &Segment,
        until: u64,
        progress: &mut dyn FnMut(u64, u64),
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let broken = |fault: Fault, offset| E::from(VerifyError::from(fault.at(&segment.path, offset)));
        let index = self.chain.tree.size();
        if segment.first != index {
            let detail = format!("a segment begins at record {}", segment.first);
            return Err(broken(Fault::new(Rule::Segments, index, detail), 0));
        }
        let failed = || VerifyError::read(segment.path.clone());
        let mut reader = FrameReader::open(&segment.path, 0).map_err(failed())?;
        while self.chain.tree.size() < until {
            let offset = reader.offset();
            let index = self.chain.tree.size();
            match reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => {
                    self.frame(&frame, visit).map_err(|stop| match stop {
                        Stop::Fault(fault) => broken(fault, offset),
                        Stop::Visit(error) => error,
                    })?;
                    self.bytes += u64::try_from(frame.size()).unwrap_or(0);
                }
                Err(NextError::Io(source)) => return Err(failed()(source).into()),
                Err(NextError::Frame(error)) => {
                    let bad = name_bad_record(reader.buffer(), index);
                    let detail = self.describe(&error.to_string(), index);
                    return Err(broken(Fault::new(error.rule(), bad, detail), offset));
                }
            }
            progress(self.bytes, self.chain.tree.size());
        }
        Ok(())
    }

    /// Says of a bad frame what a reader must know: whether a crash could have left it.
    fn describe(&self, error: &str, index: u64) -> String {
        let covered = self.story.reach();
        if index >= covered {
            format!("{error}; no checkpoint covers it, so that a crash may have torn it")
        } else {
            format!("{error}; a checkpoint of {covered} records covers it")
        }
    }

    fn frame<E>(&mut self, frame: &Frame<'_>, visit: &mut Visit<'_, E>) -> Result<(), Stop<E>> {
        let Self { chain, story, .. } = self;
        chain.follow(frame, |index, record, tree| {
            story.take(index, record, tree, Some(frame.header.time))?;
            visit(record, tree).map_err(Stop::Visit)
        })?;
        Ok(story.pause(frame.end().saturating_sub(1))?)
    }
}

/// Why a frame was not read to its end.
enum Stop<E> {
    Fault(Fault),
    Visit(E),
}

impl<E> From<Fault> for Stop<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
