//! Do the records, one after another, tell one story? What holds over the whole log, whatever files it lies in.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::audit::keys::Keys;
use crate::audit::note::{Checkpoint, VerifierKey};
use crate::audit::rule::{Fault, Rule};
use crate::audit::scan::PartsCheck;
use crate::audit::tree::Tree;
use crate::audit::view::{self, View};

/// What the records said so far.
pub(super) struct Story<'a> {
    keys: &'a Keys,
    /// What the tree must be at which sizes, in order: checkpoints of the log and those from outside.
    expected: Vec<Checkpoint>,
    next_expected: usize,
    /// Sizes at which keys but the first signed first.
    handovers: Vec<u64>,
    rotated: usize,
    parts: PartsCheck,
    pub(super) open: BTreeSet<u64>,
    /// Tails that were moved aside, with what the record says of them: index, file, bytes, digest.
    pub(super) torn: Vec<(u64, String, String, String)>,
    pub(super) first_time: Option<u64>,
    pub(super) time: u64,
    pub(super) store_key_check: Option<String>,
    pub(super) store_head: Option<String>,
    pub(super) abandoned: Vec<String>,
}

impl<'a> Story<'a> {
    pub(super) fn new(keys: &'a Keys, mut expected: Vec<Checkpoint>, handovers: Vec<u64>) -> Self {
        expected.sort_by_key(|checkpoint| checkpoint.size);
        Self {
            keys,
            expected,
            next_expected: 0,
            handovers,
            rotated: 0,
            parts: PartsCheck::default(),
            open: BTreeSet::new(),
            torn: Vec::new(),
            first_time: None,
            time: 0,
            store_key_check: None,
            store_head: None,
            abandoned: Vec::new(),
        }
    }

    /// Takes the next record, which the tree got last. In a log's own files it has the time of its frame; elsewhere its
    /// time is not before the last one (LOG-8).
    pub(super) fn take(
        &mut self,
        index: u64,
        record: &[u8],
        tree: &Tree,
        frame_time: Option<u64>,
    ) -> Result<(), Fault> {
        let view = view::read(record, index)?;
        match frame_time {
            Some(time) if view.time != time => {
                return Err(Fault::new(Rule::Time, index, "its time is not its frame's"));
            }
            None if view.time < self.time => {
                return Err(Fault::new(Rule::Time, index, format!("{} comes after {}", view.time, self.time)));
            }
            _ => self.time = view.time,
        }
        self.first_time.get_or_insert(view.time);
        self.parts.take(&view)?;
        self.compare(tree)?;
        self.settle(&view)?;
        self.note(&view)
    }

    /// Between frames, and at the end, no record is half there.
    pub(super) fn pause(&self, index: u64) -> Result<(), Fault> {
        self.parts.end(index)
    }

    /// The largest tree that anybody signed.
    pub(super) fn reach(&self) -> u64 {
        self.expected.last().map_or(0, |checkpoint| checkpoint.size)
    }

    /// A checkpoint that the log ends before.
    pub(super) fn beyond(&self) -> Option<&Checkpoint> {
        self.expected.get(self.next_expected)
    }

    /// How many times the key of the log was changed.
    pub(super) const fn rotations(&self) -> usize {
        self.rotated
    }

    /// Compares the tree with every checkpoint of its size (LOG-16).
    fn compare(&mut self, tree: &Tree) -> Result<(), Fault> {
        while let Some(checkpoint) = self.beyond().filter(|checkpoint| checkpoint.size == tree.size()) {
            if checkpoint.root != tree.root() {
                let good = self.expected.iter().rev().find(|before| before.size < checkpoint.size);
                let good = good.map_or(0, |checkpoint| checkpoint.size);
                let detail = format!(
                    "records {good} to {} are not those that the checkpoint of {} records was signed over",
                    checkpoint.size.saturating_sub(1),
                    checkpoint.size
                );
                return Err(Fault::new(Rule::History, good, detail));
            }
            self.next_expected += 1;
        }
        Ok(())
    }

    /// Opens and closes intents (LOG-21).
    fn settle(&mut self, view: &View<'_>) -> Result<(), Fault> {
        if let Some(intent) = view.intent
            && !self.open.remove(&intent)
        {
            return Err(Fault::new(Rule::Intents, view.index, format!("record {intent} is no open intent")));
        }
        if view.outcome == "intent" && view.part.unwrap_or(0) == 0 {
            self.open.insert(view.index);
        }
        Ok(())
    }

    fn note(&mut self, view: &View<'_>) -> Result<(), Fault> {
        if view.facts.is_empty() {
            return Ok(());
        }
        let fact = |name| view.facts.get(name).map(Cow::into_owned);
        if view.index == 0 {
            self.store_key_check = fact("store_key_check");
        }
        if let Some(head) = fact("store_head") {
            self.store_head = Some(head);
        }
        self.abandoned.extend(fact("abandoned_head"));
        if view.event == "log.recovered" {
            let text = |name| fact(name).unwrap_or_default();
            self.torn.push((view.index, text("torn_file"), text("torn_bytes"), text("torn_sha256")));
        }
        if view.event == "log.key_rotated" && view.outcome == "done" {
            self.rotate(view)?;
        }
        Ok(())
    }

    /// A new key: named by the record with the one before it, and signing only what holds the record (LOG-32).
    fn rotate(&mut self, view: &View<'_>) -> Result<(), Fault> {
        let fault = |detail: &str| Err(Fault::new(Rule::Succession, view.index, detail));
        let fact = |name| view.facts.get(name).unwrap_or_default();
        let Some(key) = VerifierKey::parse(&fact("log_key")).filter(|key| key.origin() == self.keys.origin()) else {
            return fault("it names no key of this log");
        };
        let old = self.keys.get(self.rotated).map(|old| hex::encode(old.id()));
        if old.as_deref() != Some(fact("old_log_key").as_ref()) {
            return fault("it does not name the key before it");
        }
        self.rotated += 1;
        match self.keys.get(self.rotated) {
            Some(stored) if *stored != key => return fault("it names another key than the directory"),
            _ => {}
        }
        match self.handovers.get(self.rotated.saturating_sub(1)) {
            Some(size) if *size <= view.index => fault("its key signed a checkpoint before the record was there"),
            _ => Ok(()),
        }
    }
}
