//! What does a stored record say? The strict reader of LOG-10: every field is known, typed and on its closed list.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::event::{Event, FACTS};
use super::render::{MAX_SUBJECTS, SCHEMA};
use super::rule::{Fault, Rule};
use super::{Outcome, canonical};

/// A record as it stands in the log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct View<'a> {
    #[serde(borrow)]
    pub(super) actor: ActorView<'a>,
    #[serde(borrow)]
    clock: &'a str,
    #[serde(borrow, default)]
    denials: Vec<DenialsView<'a>>,
    #[serde(borrow)]
    pub(super) event: &'a str,
    #[serde(borrow, default)]
    pub(super) facts: BTreeMap<&'a str, std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) groups: Vec<GroupView<'a>>,
    pub(super) index: u64,
    pub(super) intent: Option<u64>,
    items_digest: Option<&'a str>,
    #[serde(borrow, default)]
    orphans: BTreeMap<&'a str, u64>,
    #[serde(borrow)]
    pub(super) outcome: &'a str,
    pub(super) part: Option<u64>,
    pub(super) parts: Option<u64>,
    policy: Option<&'a str>,
    purpose: Option<&'a str>,
    reason: Option<&'a str>,
    pub(super) request: Option<&'a str>,
    schema: u64,
    source: &'a str,
    #[serde(borrow, default)]
    subjects: Vec<&'a str>,
    pub(super) time: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActorView<'a> {
    kind: &'a str,
    name: Option<&'a str>,
    proof: Option<&'a str>,
    provider: Option<&'a str>,
    spiffe: Option<&'a str>,
    /// It may hold what JSON escapes.
    #[serde(borrow)]
    subject: Option<std::borrow::Cow<'a, str>>,
    uid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DenialsView<'a> {
    actor: &'a str,
    count: u64,
    reason: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupView<'a> {
    #[expect(dead_code, reason = "read so that its type is checked")]
    done: u32,
    #[serde(borrow, default)]
    failed: BTreeMap<&'a str, u64>,
    pub(super) keyring: &'a str,
    version: Option<&'a str>,
}

/// The schema number alone, so that a newer record is named as such and not by its first unknown field.
#[derive(Deserialize)]
struct Peek {
    schema: u64,
}

/// Reads a record strictly (LOG-9, LOG-10, LOG-11, LOG-22).
pub(super) fn read(record: &[u8], index: u64) -> Result<View<'_>, Fault> {
    canonical::check(record)
        .map_err(|(at, why)| Fault::new(Rule::Canonical, index, format!("at byte {at} of the record: {why}")))?;
    let view: View<'_> = serde_json::from_slice(record).map_err(|error| unreadable(record, index, &error))?;
    let bad = |detail: &str| Err(Fault::new(Rule::Schema, index, detail));
    if view.schema != SCHEMA {
        return bad(&format!("schema {} is unknown: a version that reads it is needed", view.schema));
    }
    if view.index != index {
        return Err(Fault::new(Rule::RecordIndex, index, format!("it says that it is record {}", view.index)));
    }
    if !Event::ALL.iter().any(|event| event.name() == view.event) {
        return Err(Fault::new(Rule::Events, index, format!("the event {} is unknown", view.event)));
    }
    match view.problem() {
        Some(problem) => bad(problem),
        None => Ok(view),
    }
}

fn unreadable(record: &[u8], index: u64, error: &serde_json::Error) -> Fault {
    let newer = serde_json::from_slice::<Peek>(record).ok().map(|peek| peek.schema).filter(|schema| *schema > SCHEMA);
    let detail = match newer {
        Some(schema) => format!("schema {schema} is newer than schema {SCHEMA}, which this program reads"),
        None => error.to_string(),
    };
    Fault::new(Rule::Schema, index, detail)
}

impl View<'_> {
    /// The first field whose value is not on its list.
    fn problem(&self) -> Option<&'static str> {
        const OUTCOMES: [Outcome; 5] =
            [Outcome::Intent, Outcome::Done, Outcome::Refused, Outcome::Denied, Outcome::Failed];
        let digests = [self.items_digest, self.policy];
        let checks = [
            (matches!(self.clock, "unverified" | "held"), "the clock state is unknown"),
            (OUTCOMES.iter().any(|outcome| outcome.name() == self.outcome), "the outcome is unknown"),
            (self.part.is_some() == self.parts.is_some(), "part and parts stand together"),
            (
                matches!(
                    self.source,
                    "data-socket" | "data-tcp" | "data-tls" | "control-socket" | "control-tls" | "internal"
                ),
                "the source is unknown",
            ),
            (digests.iter().flatten().all(|text| is_hex(text, 64)), "a digest is not 64 hexadecimal digits"),
            (self.subjects.len() <= MAX_SUBJECTS, "there are more than 1,000 subjects"),
            (self.subjects.iter().all(|text| is_hex(text, 32)), "a subject is not 32 hexadecimal digits"),
            (self.subjects.is_sorted_by(|a, b| a < b), "the subjects are not sorted and distinct"),
            (self.facts.keys().all(|name| FACTS.binary_search(name).is_ok()), "a fact is not on the closed list"),
            (self.purpose.is_none_or(|text| text.parse::<crate::names::Purpose>().is_ok()), "the purpose is unknown"),
            (self.codes().all(is_code), "a reason is not a code"),
            (self.groups.iter().all(GroupView::is_fine), "a group is malformed"),
            (self.actor.is_fine(), "the actor is malformed"),
            (self.denials.iter().all(|d| d.count > 0 && !d.actor.is_empty()), "a denial is malformed"),
        ];
        checks.into_iter().find(|(fine, _)| !fine).map(|(_, problem)| problem)
    }

    fn codes(&self) -> impl Iterator<Item = &str> {
        let denials = self.denials.iter().map(|denial| denial.reason);
        self.reason.into_iter().chain(self.orphans.keys().copied()).chain(denials)
    }
}

impl ActorView<'_> {
    fn is_fine(&self) -> bool {
        match self.kind {
            "unknown" | "sidecar" => self.name.is_none() && self.proof.is_none() && self.says() == [false; 4],
            "service" | "custodian" | "auditor" | "operator" => {
                self.name.is_some()
                    && matches!(
                        (self.proof, self.says()),
                        (Some("peer"), [true, false, false, false])
                            | (Some("token"), [false, false, false, false])
                            | (Some("mtls"), [false, true, false, false])
                            | (Some("jwt"), [false, false, true, true])
                    )
            }
            _ => false,
        }
    }
}

impl ActorView<'_> {
    /// Which of uid, spiffe, provider and subject stand there.
    fn says(&self) -> [bool; 4] {
        [self.uid.is_some(), self.spiffe.is_some(), self.provider.is_some(), self.subject.is_some()]
    }
}

impl GroupView<'_> {
    fn is_fine(&self) -> bool {
        let named = self.keyring.parse::<crate::names::KeyringName>().is_ok();
        named && self.failed.keys().all(|code| is_code(code)) && self.version.is_none_or(|v| is_hex(v, 16))
    }
}

/// A closed code: lower-case words with underscores or dots.
pub(super) fn is_code(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
