//! Does an exported tree hold what its checkpoint was signed over? Every record, every tile, nothing believed (LOG-31).

use std::io::{self, Read as _};
use std::path::Path;

use crate::audit::frame::Records;
use crate::audit::history::{HANDOVERS, NEWEST, Stored};
use crate::audit::keys::Keys;
use crate::audit::note::{Checkpoint, VerifierKey, split_first};
use crate::audit::rule::{Fault, Finding, Rule};
use crate::audit::tile::{Cutter, HASH, Kind, MAX_BUNDLE, TileName, WIDTH, shape};
use crate::audit::tree::{self, Tree};

use super::story::Story;
use super::{Progress, Seen, Verified, VerifyError, end, outside, proven, vouch};

/// Verifies an exported tree up to its checkpoint. Memory is bounded by one bundle.
pub(super) fn verify(
    dir: &Path,
    keys: &Keys,
    (key, since, seen): (Option<&VerifierKey>, Option<&str>, &Seen),
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<Verified, VerifyError> {
    let stored = load(dir, keys)?;
    vouch(dir, keys, &stored, key)?;
    let outside = since.map(|note| outside(dir, keys, note)).transpose()?;
    let expected =
        stored.all.iter().map(|(_, checkpoint)| *checkpoint).chain(outside).chain(seen.checkpoint()).collect();
    let handovers = stored.handovers.iter().map(|(checkpoint, _)| checkpoint.size).collect();
    let mut reader = Reader {
        dir,
        tree: Tree::default(),
        cutter: Cutter::default(),
        story: Story::new(keys, expected, handovers),
        bundle: Vec::new(),
        tile: Vec::new(),
        bytes: 0,
        of: 0,
    };
    reader.read(stored.newest.map_or(0, |newest| newest.size), progress, visit)?;
    let Reader { tree, story, bytes, .. } = reader;
    end(dir, &stored, &story, tree.size())?;
    let told = proven(keys, &stored, &story, (tree.size(), tree.root()), (key.is_some(), outside.is_some()));
    Ok(Verified { exported: true, bytes, ..told })
}

/// Reads the checkpoints of an export: those that hand over from key to key, and the newest. A hand-over that the newest
/// does not cover was written by an export that stopped before its end (LOG-30).
pub(in crate::audit) fn load(dir: &Path, keys: &Keys) -> Result<Stored, VerifyError> {
    let path = dir.join(NEWEST);
    let note = std::fs::read_to_string(&path).map_err(VerifyError::read(path.clone()))?;
    let bad = |rule, why: String| Fault::new(rule, 0, why).at(&path, 0);
    let newest = keys.open(&note).map_err(|error| bad(Rule::Note, error.to_string()))?;
    let mut stored = Stored::default();
    handovers(dir, keys, newest, &mut stored)?;
    if stored.all.last().is_none_or(|(_, last)| *last != newest) {
        stored.take(keys, &note).map_err(|_| {
            bad(Rule::Succession, "its key took over from no key before it, as far as `handovers` says".to_owned())
        })?;
    }
    stored.newest_note = note;
    stored.newest = Some(newest);
    Ok(stored)
}

fn handovers(dir: &Path, keys: &Keys, newest: Checkpoint, stored: &mut Stored) -> Result<(), VerifyError> {
    let path = dir.join(HANDOVERS);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(VerifyError::Read { path, source }),
    };
    let bad = |why: String, at| Fault::new(Rule::Succession, 0, why).at(&path, at);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let at = u64::try_from(text.len() - rest.len()).unwrap_or(u64::MAX);
        let (note, after) = split_first(rest).ok_or_else(|| bad("it ends inside a checkpoint".to_owned(), at))?;
        let checkpoint = keys.open(note).map_err(|error| bad(error.to_string(), at))?;
        if checkpoint.size > newest.size {
            break;
        }
        stored.take(keys, note).map_err(|why| bad(why, at))?;
        rest = after;
    }
    Ok(())
}

struct Reader<'a> {
    dir: &'a Path,
    tree: Tree,
    cutter: Cutter,
    story: Story<'a>,
    /// The files in hand; kept so that their memory is.
    bundle: Vec<u8>,
    tile: Vec<u8>,
    bytes: u64,
    of: u64,
}

impl Reader<'_> {
    fn read(
        &mut self,
        size: u64,
        progress: &mut dyn FnMut(Progress),
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), VerifyError> {
        let (full, partial) = shape(Kind::Entries, size);
        let full = (0..full).map(|index| TileName { kind: Kind::Entries, index, width: WIDTH });
        let last = TileName { kind: Kind::Entries, index: size / WIDTH, width: partial };
        let bundles = full.chain((partial > 0).then_some(last));
        let length = |name: TileName| std::fs::metadata(self.dir.join(name.path())).map_or(0, |facts| facts.len());
        self.of = bundles.clone().map(length).sum();
        for name in bundles {
            self.bundle(name, visit)?;
            progress(Progress { bytes: self.bytes, of: self.of, records: self.tree.size() });
        }
        let Self { dir, tile, cutter, .. } = self;
        cutter.end(&mut |name, bytes| compare(dir, tile, name, bytes))?;
        Ok(self.story.pause(size.saturating_sub(1)).map_err(|fault| fault.at(*dir, 0))?)
    }

    /// Follows the records of a bundle (LOG-28) and the hash tiles that they complete (LOG-29).
    fn bundle(&mut self, name: TileName, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), VerifyError> {
        let Self { dir, tree, cutter, story, bundle, tile, .. } = self;
        let found = fetch(dir, name, bundle)?;
        let path = || dir.join(found.path());
        let mut records = Records::of_unverified(bundle);
        let mut at = 0;
        for index in name.start()..name.end() {
            let Some(record) = records.next() else {
                let detail =
                    if at == bundle.len() { "the bundle ends before it" } else { "the bundle is cut off in it" };
                return Err(Fault::new(Rule::Bundle, index, detail).at(path(), offset(at)).into());
            };
            tree.push(tree::leaf(record));
            story.take(index, record, tree, None).map_err(|fault| fault.at(path(), offset(at)))?;
            visit(index, record);
            cutter.take(tree, &mut |name, bytes| compare(dir, tile, name, bytes))?;
            at += 2 + record.len();
        }
        if found == name && at != bundle.len() {
            let detail = "bytes follow the last record of the bundle";
            return Err(Fault::new(Rule::Bundle, name.end(), detail).at(path(), offset(at)).into());
        }
        self.bytes += offset(at);
        Ok(())
    }
}

fn offset(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

/// Reads a tile, or the full one at its place: a partial one may be gone once that is there. Says which it found.
pub(in crate::audit) fn fetch(dir: &Path, name: TileName, into: &mut Vec<u8>) -> Result<TileName, VerifyError> {
    for name in [name, name.full()] {
        let path = dir.join(name.path());
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(VerifyError::Read { path, source }),
        };
        into.clear();
        let most = if name.kind == Kind::Entries { MAX_BUNDLE } else { name.width * offset(HASH) };
        file.take(most + 1).read_to_end(into).map_err(VerifyError::read(path.clone()))?;
        if offset(into.len()) > most {
            let detail = format!("it has more than the {most} bytes that it can have");
            return Err(Fault::new(rule(name), name.start(), detail).at(path, most).into());
        }
        return Ok(name);
    }
    let detail = format!("the tile {} is missing", name.path().display());
    Err(Fault::new(Rule::Tiles, name.start(), detail).at(dir.join(name.path()), 0).into())
}

fn rule(name: TileName) -> Rule {
    if name.kind == Kind::Entries { Rule::Bundle } else { Rule::Hashes }
}

/// Compares a hash tile with the one that its records make.
fn compare(dir: &Path, tile: &mut Vec<u8>, name: TileName, made: &[u8]) -> Result<(), VerifyError> {
    let found = fetch(dir, name, tile)?;
    let bad = |index, detail: String, at| -> Finding {
        Fault::new(Rule::Hashes, index, detail).at(dir.join(found.path()), offset(at))
    };
    if offset(tile.len()) != found.width * offset(HASH) {
        let detail = format!("the tile has {} bytes and not {}", tile.len(), found.width * offset(HASH));
        return Err(bad(name.start(), detail, tile.len()).into());
    }
    let differs = made.chunks(HASH).zip(tile.chunks(HASH)).position(|(made, found)| made != found);
    match (differs, name.kind) {
        (None, _) => Ok(()),
        (Some(at), Kind::Hashes(level)) if level > 0 => {
            let each = (name.end() - name.start()) / name.width;
            let first = name.start() + offset(at) * each;
            let detail = format!("records {first} to {} have another hash than the tile", first + each - 1);
            Err(bad(first, detail, at * HASH).into())
        }
        (Some(at), _) => {
            let detail = "the record is not the one whose hash stands in the tile".to_owned();
            Err(bad(name.start() + offset(at), detail, at * HASH).into())
        }
    }
}
