//! How is a record spelt? As canonical JSON with three holes that only the writer can fill: clock state, index and time.
//! This module never leaves a text unchecked: what is not printable ASCII or not on a closed list is refused.

use crate::identity::{PrincipalKind, Proof};

use super::canonical::{hexadecimal, number, string};
use super::event::{FACTS, Share};
use super::frame::MAX_BODY;
use super::view::is_code;
use super::{Actor, AppendError, Group, Outcome, Record, Source};

/// The schema number of every record (LOG-10).
pub const SCHEMA: u64 = 1;
/// Bytes of a record at most, so that its length fits two bytes (LOG-5).
pub const MAX_RECORD: usize = 65_535;
/// Subjects that one record names; more go to continuation records (LOG-13).
pub const MAX_SUBJECTS: usize = 1000;
/// Bytes of groups that one record holds: with 1,000 subjects of 35 bytes it stays below the limit.
const GROUP_BYTES: usize = 24_000;
/// Parts of one record at most: they share a frame.
const MAX_PARTS: usize = 64;
/// Bytes of a fact's value at most.
const MAX_FACT: usize = 256;
/// What the holes take at most: `unverified`, an index and a time.
const HOLES: usize = 10 + 20 + 20;

/// A record but for its clock state, index and time.
#[derive(Debug)]
pub(super) struct Rendered {
    text: Vec<u8>,
    clock_at: usize,
    index_at: usize,
}

/// A record and its continuations, which share a frame (LOG-13).
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) first: Rendered,
    pub(super) rest: Vec<Rendered>,
    pub(super) share: Share,
    /// Whether it opens an intent.
    pub(super) opens: bool,
    /// The intent that it closes.
    pub(super) closes: Option<u64>,
}

/// What the wall clock was worth when a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockState {
    /// Read as it stood; whether it is synchronised was not checked.
    Unverified,
    /// It stood behind the last record, whose time was repeated.
    Held,
}

/// Coalesced refusals of one actor and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denials {
    pub(super) actor: String,
    pub(super) reason: &'static str,
    pub(super) count: u64,
}

/// Spells a record, in as many parts as it needs.
pub(super) fn entry(record: &Record, denials: &[Denials]) -> Result<Entry, AppendError> {
    let groups = groups(&record.groups)?;
    let mut subjects = record.subjects.clone();
    subjects.sort_unstable();
    subjects.dedup();
    let parts = groups.len().max(subjects.len().div_ceil(MAX_SUBJECTS)).max(1);
    if parts > MAX_PARTS {
        return Err(AppendError::TooLarge);
    }
    let part = |at: usize| -> Result<Rendered, AppendError> {
        let slice = Part {
            at,
            of: parts,
            groups: groups.get(at).map(Vec::as_slice).unwrap_or_default(),
            subjects: subjects.chunks(MAX_SUBJECTS).nth(at).unwrap_or_default(),
            denials,
        };
        slice.render(record)
    };
    let first = part(0)?;
    let rest: Vec<Rendered> = (1..parts).map(part).collect::<Result<_, _>>()?;
    if first.most() + rest.iter().map(Rendered::most).sum::<usize>() > MAX_BODY {
        return Err(AppendError::TooLarge);
    }
    // The outcome of an intent is always control: without it the intent would dangle.
    let share = if record.intent.is_some() { Share::Control } else { record.event.share() };
    Ok(Entry { first, rest, share, opens: record.outcome == Outcome::Intent, closes: record.intent })
}

impl Entry {
    /// The parts, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Rendered> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl Rendered {
    /// Bytes that the record takes at most, with its two length bytes.
    pub(super) fn most(&self) -> usize {
        self.text.len() + HOLES + 1 + 2
    }

    /// Appends `u16 length, record` to a body and returns where the record lies in it.
    pub(super) fn fill(&self, body: &mut Vec<u8>, index: u64, time: u64, clock: ClockState) -> std::ops::Range<usize> {
        let start = body.len() + 2;
        body.extend_from_slice(&[0, 0]);
        let (before, rest) = self.text.split_at_checked(self.clock_at).unwrap_or((&self.text, &[]));
        let (between, after) = rest.split_at_checked(self.index_at - self.clock_at).unwrap_or((rest, &[]));
        body.extend_from_slice(before);
        body.extend_from_slice(clock.name().as_bytes());
        body.extend_from_slice(between);
        number(body, index);
        body.extend_from_slice(after);
        number(body, time);
        body.push(b'}');
        let length = u16::try_from(body.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = body.get_mut(start - 2..start) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        start..body.len()
    }
}

impl ClockState {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Held => "held",
        }
    }
}

/// One part of a record: the first carries everything, the others what did not fit.
struct Part<'a> {
    at: usize,
    of: usize,
    groups: &'a [u8],
    subjects: &'a [[u8; 16]],
    denials: &'a [Denials],
}

impl Part<'_> {
    /// The fields in the order of their names, which LOG-9 asks for.
    fn render(&self, record: &Record) -> Result<Rendered, AppendError> {
        let mut text = Text(Vec::with_capacity(512 + self.groups.len() + self.subjects.len() * 35));
        let first = self.at == 0;
        text.actor(&record.actor)?;
        text.raw(",\"clock\":\"");
        let clock_at = text.0.len();
        text.raw("\"");
        if !self.denials.is_empty() {
            text.denials(self.denials)?;
        }
        text.word("event", record.event.name())?;
        if first && !record.facts.is_empty() {
            text.facts(&record.facts)?;
        }
        if !self.groups.is_empty() {
            text.key("groups");
            text.0.push(b'[');
            text.0.extend_from_slice(self.groups);
            text.0.push(b']');
        }
        text.key("index");
        let index_at = text.0.len();
        if let (true, Some(intent)) = (first, record.intent) {
            text.number("intent", intent);
        }
        if let (true, Some(digest)) = (first, &record.items_digest) {
            text.hexadecimal("items_digest", digest);
        }
        if first && !record.orphans.is_empty() {
            text.key("orphans");
            text.counts(&record.orphans)?;
        }
        text.word("outcome", record.outcome.name())?;
        if self.of > 1 {
            text.number("part", u64::try_from(self.at).unwrap_or(0));
            text.number("parts", u64::try_from(self.of).unwrap_or(0));
        }
        self.render_rest(text, record, clock_at, index_at)
    }

    fn render_rest(
        &self,
        mut text: Text,
        record: &Record,
        clock_at: usize,
        index_at: usize,
    ) -> Result<Rendered, AppendError> {
        if let Some(policy) = &record.policy {
            text.hexadecimal("policy", policy);
        }
        if let Some(purpose) = record.purpose {
            text.word("purpose", purpose.code())?;
        }
        if let Some(reason) = record.reason {
            text.key("reason");
            text.code(reason)?;
        }
        if let Some(request) = &record.request {
            text.word("request", request.as_str())?;
        }
        text.number("schema", SCHEMA);
        text.word("source", record.source.name())?;
        if !self.subjects.is_empty() {
            text.subjects(self.subjects);
        }
        text.key("time");
        let rendered = Rendered { text: text.0, clock_at, index_at };
        if rendered.most() - 2 > MAX_RECORD { Err(AppendError::TooLarge) } else { Ok(rendered) }
    }
}

/// A JSON object in the making.
struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn key(&mut self, key: &str) {
        self.raw(",\"");
        self.raw(key);
        self.raw("\":");
    }

    fn text(&mut self, text: &str) -> Result<(), AppendError> {
        string(&mut self.0, text).ok_or(AppendError::Malformed("a text is not printable ASCII"))
    }

    fn word(&mut self, key: &str, text: &str) -> Result<(), AppendError> {
        self.key(key);
        self.text(text)
    }

    fn code(&mut self, code: &'static str) -> Result<(), AppendError> {
        if is_code(code) { self.text(code) } else { Err(AppendError::Malformed(code)) }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(&mut self.0, value);
    }

    fn hexadecimal(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        hexadecimal(&mut self.0, bytes);
    }

    fn actor(&mut self, actor: &Actor) -> Result<(), AppendError> {
        self.raw("{\"actor\":{\"kind\":");
        match actor {
            Actor::Principal { name, kind, proof } => {
                self.text(kind_name(*kind))?;
                self.word("name", name.as_str())?;
                self.word("proof", proof.code())?;
                match proof {
                    Proof::Peer { uid } => self.number("uid", u64::from(*uid)),
                    Proof::Token => {}
                    Proof::Mtls { spiffe } => self.word("spiffe", spiffe.as_str())?,
                    Proof::Jwt { who } => {
                        self.word("provider", who.provider.as_str())?;
                        self.word("subject", &who.subject)?;
                    }
                }
            }
            Actor::Unknown => self.text("unknown")?,
            Actor::Sidecar => self.text("sidecar")?,
        }
        self.raw("}");
        Ok(())
    }

    fn facts(&mut self, facts: &[(&'static str, String)]) -> Result<(), AppendError> {
        let mut sorted: Vec<&(&'static str, String)> = facts.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        if sorted.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return Err(AppendError::Malformed("a fact is given twice"));
        }
        self.key("facts");
        let mut before = "{\"";
        for (name, value) in sorted {
            if FACTS.binary_search(name).is_err() || value.len() > MAX_FACT {
                return Err(AppendError::Malformed(name));
            }
            self.raw(before);
            self.raw(name);
            self.raw("\":");
            self.text(value)?;
            before = ",\"";
        }
        self.raw("}");
        Ok(())
    }

    fn denials(&mut self, denials: &[Denials]) -> Result<(), AppendError> {
        self.key("denials");
        let mut before = "[{\"actor\":";
        for Denials { actor, reason, count } in denials {
            self.raw(before);
            self.text(actor)?;
            self.number("count", *count);
            self.key("reason");
            self.code(reason)?;
            self.raw("}");
            before = ",{\"actor\":";
        }
        self.raw("]");
        Ok(())
    }

    /// Closed codes with how often, summed and sorted by code.
    fn counts(&mut self, counts: &[(&'static str, u32)]) -> Result<(), AppendError> {
        let mut sums = std::collections::BTreeMap::new();
        for (code, count) in counts {
            *sums.entry(*code).or_insert(0u64) += u64::from(*count);
        }
        self.raw("{");
        for (at, (code, count)) in sums.into_iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            self.code(code)?;
            self.raw(":");
            number(&mut self.0, count);
        }
        self.raw("}");
        Ok(())
    }

    fn subjects(&mut self, subjects: &[[u8; 16]]) {
        self.key("subjects");
        self.raw("[");
        for (at, subject) in subjects.iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            hexadecimal(&mut self.0, subject);
        }
        self.raw("]");
    }
}

/// The groups as JSON, in chunks that fit one part each.
fn groups(groups: &[Group]) -> Result<Vec<Vec<u8>>, AppendError> {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    for group in groups {
        let text = self::group(group)?;
        match chunks.last_mut().filter(|chunk| chunk.len() + text.len() < GROUP_BYTES) {
            Some(chunk) => {
                chunk.push(b',');
                chunk.extend_from_slice(&text);
            }
            None => chunks.push(text),
        }
    }
    Ok(chunks)
}

fn group(group: &Group) -> Result<Vec<u8>, AppendError> {
    let mut text = Text(Vec::with_capacity(128));
    text.raw("{\"done\":");
    number(&mut text.0, u64::from(group.done));
    if !group.failed.is_empty() {
        text.key("failed");
        text.counts(&group.failed)?;
    }
    text.word("keyring", &group.keyring.to_string())?;
    if let Some(version) = group.version {
        text.hexadecimal("version", &version.0);
    }
    text.raw("}");
    Ok(text.0)
}

pub(super) const fn kind_name(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Service => "service",
        PrincipalKind::Custodian => "custodian",
        PrincipalKind::Auditor => "auditor",
        PrincipalKind::Operator => "operator",
    }
}

impl Outcome {
    /// The word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl Source {
    /// The word that stands in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DataSocket => "data-socket",
            Self::DataTcp => "data-tcp",
            Self::DataTls => "data-tls",
            Self::ControlSocket => "control-socket",
            Self::ControlTls => "control-tls",
            Self::Internal => "internal",
        }
    }
}
