//! What does a stored record say? The strict reader of LOG-10: every field is known, typed and on its closed list.
//! Verification spends its time here: a record is read in one pass, and one that is right costs no allocation.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use super::canonical::{self, Reader};
use super::event::{Event, FACTS};
use super::render::{MAX_SUBJECTS, SCHEMA};
use super::rule::{Fault, Rule};
use super::{Outcome, Purpose};

/// What of a record is used; all of it is checked.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) event: &'a str,
    /// The facts.
    pub(super) facts: Facts<'a>,
    pub(super) index: u64,
    pub(super) intent: Option<u64>,
    /// The keyring of the first group.
    pub(super) keyring: Option<&'a str>,
    pub(super) outcome: &'a str,
    pub(super) part: Option<u64>,
    pub(super) parts: Option<u64>,
    pub(super) request: Option<&'a str>,
    pub(super) time: u64,
}

/// The facts of a record, as they are spelt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    object: &'a [u8],
}

/// Reads a record strictly (LOG-9, LOG-10, LOG-11, LOG-22).
pub(super) fn read(record: &[u8], index: u64) -> Result<View<'_>, Fault> {
    let mut reader = Reader::new(record);
    let mut fields = Fields::default();
    let read = reader.object(|reader, key| fields.take(reader, key));
    if read.is_err() || reader.at() != record.len() {
        let why = read.err().unwrap_or(Bad::Spelling("bytes follow the value"));
        return Err(unreadable(record, index, why));
    }
    let bad = |detail: &str| Err(Fault::new(Rule::Schema, index, detail));
    let (view, schema) = match fields.view() {
        Ok(view) => view,
        Err(missing) => return bad(&format!("the field {missing} is missing")),
    };
    if schema != SCHEMA {
        return Err(newer(schema, index));
    }
    if view.index != index {
        return Err(Fault::new(Rule::RecordIndex, index, format!("it says that it is record {}", view.index)));
    }
    if !Event::ALL.iter().any(|event| event.name() == view.event) {
        return Err(Fault::new(Rule::Events, index, format!("the event {} is unknown", view.event)));
    }
    if view.part.is_some() != view.parts.is_some() {
        return bad("part and parts stand together");
    }
    match fields.problem {
        Some(problem) => bad(problem),
        None => Ok(view),
    }
}

/// Why a record cannot be read.
enum Bad {
    /// It is not canonical JSON.
    Spelling(&'static str),
    /// A field is unknown, or holds something of another type.
    Field(&'static str),
}

impl From<&'static str> for Bad {
    fn from(why: &'static str) -> Self {
        Self::Spelling(why)
    }
}

/// Says of a record that cannot be read what is wrong: its spelling first, then that it is newer.
fn unreadable(record: &[u8], index: u64, why: Bad) -> Fault {
    if let Err((at, why)) = canonical::check(record) {
        return Fault::new(Rule::Canonical, index, format!("at byte {at} of the record: {why}"));
    }
    // It is canonical JSON: any bad spelling is then another type than the one that was asked for.
    let (Bad::Spelling(why) | Bad::Field(why)) = why;
    match peek(record).filter(|schema| *schema > SCHEMA) {
        Some(schema) => newer(schema, index),
        None => Fault::new(Rule::Schema, index, why),
    }
}

/// The schema number alone, so that a newer record is named as such and not by its first unknown field.
fn peek(record: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Peek {
        schema: u64,
    }
    serde_json::from_slice::<Peek>(record).ok().map(|peek| peek.schema)
}

fn newer(schema: u64, index: u64) -> Fault {
    let detail = if schema > SCHEMA {
        format!("schema {schema} is newer than schema {SCHEMA}, which this program reads")
    } else {
        format!("schema {schema} is unknown: a version that reads it is needed")
    };
    Fault::new(Rule::Schema, index, detail)
}

/// The fields of a record while it is read.
#[derive(Default)]
struct Fields<'a> {
    actor: bool,
    clock: bool,
    event: Option<&'a str>,
    facts: Facts<'a>,
    index: Option<u64>,
    intent: Option<u64>,
    keyring: Option<&'a str>,
    outcome: Option<&'a str>,
    part: Option<u64>,
    parts: Option<u64>,
    request: Option<&'a str>,
    schema: Option<u64>,
    source: bool,
    time: Option<u64>,
    /// The first field whose value is not on its list.
    problem: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, reader: &mut Reader<'a>, key: &[u8]) -> Result<(), Bad> {
        match key {
            b"actor" => self.actor(reader)?,
            b"clock" => {
                let clock = plain(reader)?;
                self.clock = true;
                self.check(matches!(clock, "unverified" | "held"), "the clock state is unknown");
            }
            b"denials" => reader.list(|reader| self.denial(reader))?,
            b"event" => self.event = Some(plain(reader)?),
            b"facts" => self.facts(reader)?,
            b"groups" => reader.list(|reader| self.group(reader))?,
            b"index" => self.index = Some(reader.integer()?),
            b"intent" => self.intent = Some(reader.integer()?),
            b"items_digest" | b"policy" => {
                let digest = plain(reader)?;
                self.check(is_hex(digest, 64), "a digest is not 64 hexadecimal digits");
            }
            b"orphans" => self.codes(reader)?,
            b"outcome" => {
                let outcome = plain(reader)?;
                self.outcome = Some(outcome);
                self.check(OUTCOMES.iter().any(|one| one.name() == outcome), "the outcome is unknown");
            }
            b"part" => self.part = Some(reader.integer()?),
            b"parts" => self.parts = Some(reader.integer()?),
            b"purpose" => {
                let purpose = plain(reader)?;
                self.check(purpose.parse::<Purpose>().is_ok(), "the purpose is unknown");
            }
            b"reason" => {
                let reason = plain(reader)?;
                self.check(is_code(reason), "a reason is not a code");
            }
            b"request" => self.request = Some(plain(reader)?),
            b"schema" => self.schema = Some(reader.integer()?),
            b"source" => {
                let source = plain(reader)?;
                self.source = true;
                self.check(SOURCES.contains(&source), "the source is unknown");
            }
            b"subjects" => self.subjects(reader)?,
            b"time" => self.time = Some(reader.integer()?),
            _ => return Err(Bad::Field("a field is unknown")),
        }
        Ok(())
    }

    /// What was read, and the schema that it says; or the name of a field that must be there.
    fn view(&self) -> Result<(View<'a>, u64), &'static str> {
        for (there, name) in [(self.actor, "actor"), (self.clock, "clock"), (self.source, "source")] {
            if !there {
                return Err(name);
            }
        }
        let view = View {
            event: self.event.ok_or("event")?,
            facts: self.facts,
            index: self.index.ok_or("index")?,
            intent: self.intent,
            keyring: self.keyring,
            outcome: self.outcome.ok_or("outcome")?,
            part: self.part,
            parts: self.parts,
            request: self.request,
            time: self.time.ok_or("time")?,
        };
        Ok((view, self.schema.ok_or("schema")?))
    }

    fn check(&mut self, fine: bool, problem: &'static str) {
        if !fine && self.problem.is_none() {
            self.problem = Some(problem);
        }
    }

    fn actor(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        self.actor = true;
        let (mut kind, mut proof, mut name, mut says) = (None, None, false, [false; 4]);
        let [uid, spiffe, provider, subject] = &mut says;
        reader.object(|reader, key| {
            match key {
                b"kind" => kind = Some(plain(reader)?),
                b"name" => name = plain(reader).map(|_| true)?,
                b"proof" => proof = Some(plain(reader)?),
                b"provider" => *provider = plain(reader).map(|_| true)?,
                b"spiffe" => *spiffe = plain(reader).map(|_| true)?,
                // It may hold what JSON escapes.
                b"subject" => *subject = reader.string().map(|_| true)?,
                b"uid" => *uid = small(reader).map(|_| true)?,
                _ => return Err(Bad::Field("a field of the actor is unknown")),
            }
            Ok(())
        })?;
        let fine = match kind.ok_or(Bad::Field("the actor has no kind"))? {
            "unknown" | "sidecar" => !name && proof.is_none() && says == [false; 4],
            "service" | "custodian" | "auditor" | "operator" => {
                name && matches!(
                    (proof, says),
                    (Some("peer"), [true, false, false, false])
                        | (Some("token"), [false, false, false, false])
                        | (Some("mtls"), [false, true, false, false])
                        | (Some("jwt"), [false, false, true, true])
                )
            }
            _ => false,
        };
        self.check(fine, "the actor is malformed");
        Ok(())
    }

    fn denial(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        let (mut actor, mut count, mut reason) = (None, None, None);
        reader.object(|reader, key| {
            match key {
                b"actor" => actor = Some(plain(reader)?),
                b"count" => count = Some(reader.integer()?),
                b"reason" => reason = Some(plain(reader)?),
                _ => return Err(Bad::Field("a field of a denial is unknown")),
            }
            Ok(())
        })?;
        let (Some(actor), Some(count), Some(reason)) = (actor, count, reason) else {
            return Err(Bad::Field("a denial has actor, count and reason"));
        };
        self.check(is_code(reason), "a reason is not a code");
        self.check(count > 0 && !actor.is_empty(), "a denial is malformed");
        Ok(())
    }

    fn facts(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        let start = reader.at();
        reader.object(|reader, key| -> Result<(), Bad> {
            let known = FACTS.binary_search_by(|fact| fact.as_bytes().cmp(key)).is_ok();
            self.check(known, "a fact is not on the closed list");
            reader.string()?;
            Ok(())
        })?;
        self.facts = Facts { object: reader.since(start) };
        Ok(())
    }

    fn group(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        let (mut done, mut keyring) = (false, None);
        reader.object(|reader, key| {
            match key {
                b"done" => done = small(reader).map(|_| true)?,
                b"failed" => self.codes(reader)?,
                b"keyring" => keyring = Some(plain(reader)?),
                b"version" => {
                    let version = plain(reader)?;
                    self.check(is_hex(version, 16), "a group is malformed");
                }
                _ => return Err(Bad::Field("a field of a group is unknown")),
            }
            Ok(())
        })?;
        let keyring = keyring.filter(|_| done).ok_or(Bad::Field("a group has keyring and done"))?;
        self.check(is_keyring(keyring), "a group is malformed");
        self.keyring = self.keyring.or(Some(keyring));
        Ok(())
    }

    /// Codes and how often.
    fn codes(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        reader.object(|reader, code| {
            self.check(std::str::from_utf8(code).is_ok_and(is_code), "a reason is not a code");
            reader.integer()?;
            Ok(())
        })
    }

    fn subjects(&mut self, reader: &mut Reader<'a>) -> Result<(), Bad> {
        let (mut last, mut count) = (None, 0);
        reader.list(|reader| -> Result<(), Bad> {
            let subject = plain(reader)?;
            count += 1;
            self.check(is_hex(subject, 32), "a subject is not 32 hexadecimal digits");
            self.check(last.is_none_or(|last| last < subject), "the subjects are not sorted and distinct");
            last = Some(subject);
            Ok(())
        })?;
        self.check(count <= MAX_SUBJECTS, "there are more than 1,000 subjects");
        Ok(())
    }
}

impl<'a> Facts<'a> {
    /// The value of a fact.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut found = None;
        self.each(|fact, value| {
            if fact == name.as_bytes() {
                found = Some(value);
            }
        });
        found.map(unescaped)
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.object.len() <= 2
    }

    /// Name and value of each.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        self.each(|name, value| all.push((unescaped(name).into_owned(), unescaped(value).into_owned())));
        all
    }

    fn each(&self, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        if self.is_empty() {
            return;
        }
        // The object was read before: it is one.
        let _read: Result<(), &'static str> = Reader::new(self.object).object(|reader, name| {
            visit(name, reader.string()?);
            Ok(())
        });
    }
}

/// What a text of a canonical object says.
fn unescaped(text: &[u8]) -> Cow<'_, str> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    Cow::Owned(out)
}

/// A text in which nothing is escaped.
fn plain<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Bad> {
    let text =
        std::str::from_utf8(reader.string()?).map_err(|_| Bad::Spelling("a string holds printable ASCII only"))?;
    if text.contains('\\') { Err(Bad::Field("a code or name holds what JSON escapes")) } else { Ok(text) }
}

/// A number of at most 32 bits.
fn small(reader: &mut Reader<'_>) -> Result<u32, Bad> {
    u32::try_from(reader.integer()?).map_err(|_| Bad::Field("a number is out of range"))
}

const OUTCOMES: [Outcome; 5] = [Outcome::Intent, Outcome::Done, Outcome::Refused, Outcome::Denied, Outcome::Failed];

const SOURCES: [&str; 6] = ["data-socket", "data-tcp", "data-tls", "control-socket", "control-tls", "internal"];

/// A closed code: lower-case words with underscores or dots.
pub(super) fn is_code(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// A keyring's name, `tenant/name` or `name`, without making one.
fn is_keyring(text: &str) -> bool {
    let name = |text: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed)
    };
    text.split_once('/').map_or_else(|| name(text), |(tenant, rest)| name(tenant) && name(rest))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::KeyringName;

    const GOOD: &str = r#"{"actor":{"kind":"sidecar"},"clock":"held","event":"log.opened","facts":{"kek":"a","kek_model":"\"X\" \\"},"index":3,"outcome":"done","schema":1,"source":"internal","time":9}"#;

    #[test]
    fn facts_say_what_was_escaped() {
        let view = read(GOOD.as_bytes(), 3).unwrap();
        assert_eq!(view.facts.get("kek_model").as_deref(), Some("\"X\" \\"));
        assert_eq!((view.facts.get("kek").as_deref(), view.facts.get("ke")), (Some("a"), None));
        assert_eq!((view.event, view.time, view.facts.all().len()), ("log.opened", 9, 2));
    }

    /// LOG-9, LOG-10, LOG-11, LOG-22
    #[test]
    fn each_kind_of_fault_names_its_clause() {
        let of = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            read(GOOD.replace(from, to).as_bytes(), 3).unwrap_err().rule.clause()
        };
        for (from, to, clause) in [
            ("\"held\"", "\"held\" ", "LOG-9"),
            ("\"clock\":\"held\",", "", "LOG-10"),
            ("\"held\"", "7", "LOG-10"),
            ("\"held\"", "[7,07]", "LOG-9"),
            ("\"held\"", "\"stopped\"", "LOG-10"),
            ("\"kek\"", "\"kec\"", "LOG-10"),
            ("\"time\":9", "\"time\":9,\"x\":1", "LOG-10"),
            ("\"time\":9", "\"time\":\"9\"", "LOG-10"),
            ("\"schema\":1", "\"schema\":2", "LOG-10"),
            ("\"index\":3", "\"index\":4", "LOG-11"),
            ("log.opened", "log.closed", "LOG-22"),
            ("{\"kind\":\"sidecar\"}", "{\"kind\":\"sidecar\",\"uid\":1}", "LOG-10"),
            (
                "{\"kind\":\"sidecar\"}",
                "{\"kind\":\"service\",\"name\":\"a\",\"proof\":\"peer\",\"uid\":4294967296}",
                "LOG-10",
            ),
        ] {
            assert_eq!(of(from, to), clause, "{to}");
        }
    }

    #[test]
    fn keyring_names_are_those_that_names_reads() {
        for text in
            ["a", "a/b", "", "/", "a/", "/b", "a/b/c", "-a", "a-", "A", "a b", "0/9", &"a".repeat(63), &"a".repeat(64)]
        {
            assert_eq!(is_keyring(text), text.parse::<KeyringName>().is_ok(), "{text}");
        }
    }
}
