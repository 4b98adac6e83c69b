//! What happened in a ceremony, so that somebody who trusts neither us nor the sidecar can check it years later? The minutes:
//! the ceremony's document, what follows from it in words, and the proof that the log holds it. This module says nothing
//! that `verify` could not compute again.

mod export;
mod log;
mod render;
mod replay;
mod verify;

use serde::{Deserialize, Serialize};

use super::canonical::{self, Malformed, SCHEMA, digest};
use super::machine::Ceremony;
use super::words;
use crate::crypto::sha256;
use crate::identity::sshsig::SshSignature;
use crate::policy::approval::{self, Desk};
use crate::policy::roster::Roster;
use crate::policy::separation::Separation;

use replay::Scene;

pub use log::{LogProof, ProvenRecord};
pub use verify::{Check, Pinned, Report, verify};

/// The minutes of one ceremony (CER-18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minutes {
    schema: u64,
    /// What a record of the log names the digest of.
    #[serde(flatten)]
    core: Core,
    /// The proof that the log holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogProof>,
}

/// All of it but the proof of the log, which can only be made afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Core {
    /// The document, as it lies in the store.
    ceremony: String,
    #[serde(with = "digest")]
    digest: [u8; 32],
    words: String,
    effect: String,
    state: String,
    #[serde(with = "digest")]
    roster: [u8; 32],
    #[serde(with = "digest")]
    separation: [u8; 32],
    count: Count,
    people: Vec<Signed>,
    steps: Vec<Step>,
}

/// How the count went, when it mattered last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    needed: u32,
    have: u32,
    groups: u32,
    lines: u32,
    missing: Vec<String>,
}

/// Who decided, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    person: String,
    word: String,
    reason: String,
    at: u64,
    fingerprint: String,
    algorithm: String,
    /// `token` of a key whose token saw a touch and a PIN or fingerprint, `file` of any other.
    key: String,
    group: String,
    line: String,
}

/// One step of carrying out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What was done: a code.
    pub name: String,
    /// When, UTC in microseconds.
    pub at: u64,
    /// How it went: a code.
    pub result: String,
    /// What came of it, such as the id of a key version or a digest.
    pub output: String,
}

impl Minutes {
    /// The minutes of a ceremony, by the roster and the separation of duties that its proposal names (the ones in force
    /// may have changed since). `next` is the separation that it would bring, where it changes that.
    pub fn new(
        ceremony: &Ceremony,
        steps: Vec<Step>,
        roster: &Roster,
        separation: &Separation,
        next: Option<&Separation>,
    ) -> Self {
        Self { schema: SCHEMA, core: Core::of(&Scene { ceremony, roster, separation, next }, steps), log: None }
    }

    /// What a record of the log must name, so that nothing in these minutes can be changed (CER-19).
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"keyward/minutes/v1\0", canonical::write(&self.core).as_bytes()])
    }

    /// Adds the proof that the log holds the records of this ceremony, one of which names [`Minutes::digest`].
    #[must_use]
    pub fn with_log(self, log: LogProof) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Reads the canonical text and nothing else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        canonical::read(text, MOST_BYTES)
    }

    /// The one text of these minutes.
    pub fn canonical(&self) -> String {
        canonical::write(self)
    }

    /// For a terminal or a printer.
    pub fn text(&self) -> String {
        render::text(self)
    }

    /// For a browser: one page that loads nothing and runs nothing.
    pub fn html(&self) -> String {
        render::html(self)
    }
}

impl Core {
    /// A function of what the proposal names and nothing else, so that a verifier makes the same one.
    fn of(scene: &Scene<'_>, steps: Vec<Step>) -> Self {
        let ceremony = scene.ceremony;
        let world = scene.world(latest(ceremony, &steps), ceremony.opened().counted);
        let tallied = ceremony.tally(&world);
        Self {
            ceremony: ceremony.body(),
            digest: ceremony.digest(),
            words: words::encode(&ceremony.digest()),
            effect: ceremony.proposal().effect.clone(),
            state: ceremony.state(&world).code().to_owned(),
            roster: scene.roster.digest(),
            separation: scene.separation.digest(),
            count: Count {
                needed: tallied.needed,
                have: tallied.have,
                groups: tallied.groups,
                lines: tallied.lines,
                missing: tallied.missing,
            },
            people: signed(scene),
            steps,
        }
    }
}

/// The latest time that they name.
fn latest(ceremony: &Ceremony, steps: &[Step]) -> u64 {
    let marks = [ceremony.executing().map(|it| it.at), ceremony.end().map(|it| it.at), Some(ceremony.opened().wall)];
    let times = ceremony.decisions().iter().map(|one| one.at).chain(steps.iter().map(|step| step.at));
    times.chain(marks.into_iter().flatten()).max().unwrap_or_default()
}

/// Each decision with what its signature says, by the roster that it was verified against.
fn signed(scene: &Scene<'_>) -> Vec<Signed> {
    let Scene { ceremony, roster, separation, next: _ } = *scene;
    let namespace = ceremony.proposal().namespace();
    let desk = Desk { roster, separation, namespace, last_counter: &|_| None };
    let one = |one: &super::machine::Recorded| {
        let verified = approval::verify(&desk, &one.text, &one.signature, crate::clock::Wall(one.at)).ok()?;
        let algorithm = SshSignature::parse(&one.signature).ok()?.key().algorithm();
        let person = verified.person();
        let group = separation.person(person).and_then(|known| known.group.as_ref());
        Some(Signed {
            person: person.to_string(),
            word: verified.decision().word.code().to_owned(),
            reason: verified.decision().reason.clone(),
            at: one.at,
            fingerprint: verified.key_fingerprint().to_owned(),
            algorithm: algorithm.to_owned(),
            key: if verified.hardware() { "token" } else { "file" }.to_owned(),
            group: group.map(ToString::to_string).unwrap_or_default(),
            line: separation.line(person).to_string(),
        })
    };
    ceremony.decisions().iter().filter_map(one).collect()
}

/// A document, its proof and every record that it needs.
const MOST_BYTES: usize = 4 * 1024 * 1024;
