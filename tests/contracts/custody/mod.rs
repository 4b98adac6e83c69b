//! Every rule of the separation of duties that is looked at in a ceremony, each with the attempt that must fail. The people are
//! those of the shipped separation file, and what they sign is signed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod approvals;
mod counting;

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward::clock::{Deadline, Mono, Wall};
use keyward::names::PrincipalName;
use keyward::policy::approval::{ApprovalError, Desk, VerifiedDecision, Word, namespace, verify};
use keyward::policy::quorum::{Matter, Quorum, Tallied, count};
use keyward::policy::roster::{Revocation, Roster};
use keyward::policy::separation::{Separation, Tier};

use crate::custodians::{Signer, decision, member};

const SHIPPED: &str = include_str!("../../../policies/separation.toml");
const NOW: Wall = Wall(1_800_000_000_000_000);
const DAY: u64 = 86_400_000_000;
const CEREMONY: &str = "01jd-ceremony";
const DIGEST: [u8; 32] = [0xd1; 32];
const EXPIRES: u64 = NOW.0 / 1_000_000 + 3_600;
const DEADLINE: Deadline = Deadline(Mono(5));
/// On the roster: custodians, two who propose (alice is both), one who breaks the glass and one who reviews.
const PEOPLE: &[&str] = &["alice", "bob", "carol", "kim", "rosa", "victor"];

/// A founded production store some days ago. Everybody has a key in a token and one in a file.
struct World {
    separation: Arc<Separation>,
    roster: Roster,
    tokens: BTreeMap<String, Signer>,
    files: BTreeMap<String, Signer>,
}

impl World {
    fn new() -> Self {
        Self::of(SHIPPED, PEOPLE)
    }

    /// Of another separation file, and with other people on the roster, sorted.
    fn of(separation: &str, people: &[&str]) -> Self {
        let separation = Separation::load(separation).unwrap();
        let (mut tokens, mut files) = (BTreeMap::new(), BTreeMap::new());
        let mut members = Vec::new();
        for (person, seed) in people.iter().zip(1_u8..) {
            let (token, file) = (Signer::token(seed), Signer::software(seed + 100));
            members.push(member(person, Wall(NOW.0 - 10 * DAY), &[&token, &file]));
            tokens.insert((*person).to_owned(), token);
            files.insert((*person).to_owned(), file);
        }
        let roster = Roster {
            store: "00112233445566778899aabbccddeeff".to_owned(),
            environment: "production".to_owned(),
            generation: 1,
            previous: None,
            separation: separation.digest(),
            made_by: "genesis".to_owned(),
            members,
        };
        Self { separation, roster, tokens, files }
    }

    fn verify(&self, text: &str, armoured: &str) -> Result<VerifiedDecision, ApprovalError> {
        let production = self.roster.environment == "production";
        let last_counter = |_: &str| None;
        let (roster, separation, namespace) = (&self.roster, &*self.separation, namespace(production));
        verify(&Desk { roster, separation, namespace, last_counter: &last_counter }, text, armoured, NOW)
    }

    fn signed_by(&self, signer: &Signer, word: Word, person: &str) -> VerifiedDecision {
        let text = decision(CEREMONY, DIGEST, word, person, EXPIRES).text();
        let production = self.roster.environment == "production";
        self.verify(&text, &signer.sign(namespace(production), &text, 1)).unwrap()
    }

    /// With the token.
    fn says(&self, word: Word, person: &str) -> VerifiedDecision {
        self.signed_by(&self.tokens[person], word, person)
    }

    /// With the key in a file.
    fn types(&self, word: Word, person: &str) -> VerifiedDecision {
        self.signed_by(&self.files[person], word, person)
    }

    fn revoke(&mut self, person: &str) {
        let member = self.roster.members.iter_mut().find(|member| member.person.as_str() == person).unwrap();
        for credential in &mut member.credentials {
            let by = "bob".parse().unwrap();
            credential.revoked = Some(Revocation { at: NOW, reason: "lost".to_owned(), by });
        }
    }

    /// Everybody proposes and approves as the lists say, with tokens.
    fn count(&self, tier: Tier, initiator: &str, approvers: &[&str]) -> Result<Quorum, Tallied> {
        let approvals = approvers.iter().map(|person| self.says(Word::Approve, person));
        let decisions: Vec<_> = approvals.chain([self.says(Word::Propose, initiator)]).collect();
        self.count_all(tier, initiator, &decisions)
    }

    fn count_all(&self, tier: Tier, initiator: &str, decisions: &[VerifiedDecision]) -> Result<Quorum, Tallied> {
        let initiator = initiator.parse().unwrap();
        count(&self.separation, &self.roster, &matter(tier, &initiator), decisions, NOW, DEADLINE)
    }
}

fn matter(tier: Tier, initiator: &PrincipalName) -> Matter<'_> {
    let (action, keyring) = ("keyring.rotate", Some("default/patients".parse().unwrap()));
    Matter { ceremony: CEREMONY, digest: DIGEST, tier, action, keyring, initiator, concerns: &[], rehearsal: false }
}
