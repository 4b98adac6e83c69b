//! A founded store of the shipped people, and what ceremonies need of it: time, digests, and everybody's keys.
#![allow(dead_code, reason = "each test binary uses some of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward::ceremony::proposal::LogHead;
use keyward::ceremony::{Action, Ceremony, CeremonyId, Draft, Event, Preconditions, Proposal, Rejection, State, World};
use keyward::clock::Wall;
use keyward::names::StoreId;
use keyward::policy::approval::{Word, namespace};
use keyward::policy::roster::{Member, Roster};
use keyward::policy::separation::Separation;

use crate::custodians::{Signer, decision, member};

pub const SHIPPED: &str = include_str!("../../policies/separation.toml");
pub const NOW: u64 = 1_800_000_000_000_000;
pub const HOUR: u64 = 3_600_000_000;
pub const DAY: u64 = 24 * HOUR;
/// On the roster, by the seed of their keys: seed of the token, and 100 more of the key in a file.
pub const PEOPLE: &[&str] = &["alice", "bob", "carol", "kim", "rosa", "victor"];

pub struct Stage {
    pub now: u64,
    pub counted: u64,
    pub synchronised: bool,
    pub separation: Arc<Separation>,
    pub next: Option<Arc<Separation>>,
    pub roster: Roster,
    pub policy: String,
    pub settings: String,
    pub targets: BTreeMap<String, String>,
    pub margin: i64,
    pub counters: BTreeMap<String, u32>,
    pub log: LogHead,
    made: u8,
}

pub fn seed(person: &str) -> u8 {
    u8::try_from(PEOPLE.iter().position(|one| *one == person).map_or(90, |at| at + 1)).unwrap()
}

pub fn token(person: &str) -> Signer {
    Signer::token(seed(person))
}

pub fn file(person: &str) -> Signer {
    Signer::software(seed(person) + 100)
}

impl Stage {
    pub fn new() -> Self {
        Self::with(SHIPPED, "production")
    }

    pub fn with(separation: &str, environment: &str) -> Self {
        let separation = Separation::load(separation).unwrap();
        let enrolled = Wall(NOW - 10 * DAY);
        let members: Vec<Member> =
            PEOPLE.iter().map(|person| member(person, enrolled, &[&token(person), &file(person)])).collect();
        let roster = Roster {
            store: StoreId([0x5a; 16]).to_string(),
            environment: environment.to_owned(),
            generation: 1,
            previous: None,
            separation: separation.digest(),
            made_by: "genesis".to_owned(),
            members,
        };
        Self {
            now: NOW,
            counted: 77 * DAY,
            synchronised: true,
            margin: separation.margin(&roster),
            separation,
            next: None,
            roster,
            policy: "aa".repeat(32),
            settings: "bb".repeat(32),
            targets: BTreeMap::from([("keyring/patients".to_owned(), "cc".repeat(32))]),
            counters: BTreeMap::new(),
            log: LogHead { origin: "keyward/log".to_owned(), size: 5, root: [9; 32] },
            made: 0,
        }
    }

    pub fn pass(&mut self, micros: u64) {
        self.now += micros;
        if self.synchronised {
            self.counted += micros;
        }
    }

    pub fn seen<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> T {
        look(&World {
            now: Wall(self.now),
            counted: self.counted,
            clock_synchronised: self.synchronised,
            separation: &self.separation,
            next_separation: self.next.as_deref(),
            roster: &self.roster,
            policy: &self.policy,
            settings: &self.settings,
            targets: &self.targets,
            margin: self.margin,
            last_counter: &|fingerprint| self.counters.get(fingerprint).copied(),
        })
    }

    pub fn proposal(&mut self, action: Action, parameters: &[(&str, &str)], initiator: &str) -> Proposal {
        self.made += 1;
        let draft = Draft {
            ceremony: CeremonyId::new(Wall(self.now), [self.made; 10]),
            action,
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            reason: "quarterly".to_owned(),
            ticket: "OPS-7".to_owned(),
            initiator: initiator.parse().unwrap(),
            store: StoreId([0x5a; 16]),
            production: self.roster.environment == "production",
            store_head: "12:ab".to_owned(),
            log: self.log.clone(),
            preconditions: Preconditions {
                roster: hex::encode(self.roster.digest()),
                separation: hex::encode(self.separation.digest()),
                policy: self.policy.clone(),
                settings: self.settings.clone(),
                targets: self.targets.clone(),
            },
            nonce: [self.made; 16],
            now: Wall(self.now),
        };
        Proposal::draft(draft, &self.separation).unwrap()
    }

    pub fn namespace(&self) -> &'static str {
        namespace(self.roster.environment == "production")
    }

    /// The text and the signature of a person with this key, good for six days at most.
    pub fn signed(&self, proposal: &Proposal, word: Word, person: &str, key: &Signer) -> (String, String) {
        let expires = (self.now / 1_000_000 + 6 * 86_400).min(proposal.not_after);
        let text = decision(proposal.ceremony.as_str(), proposal.digest(), word, person, expires.max(1)).text();
        let signature = key.sign(self.namespace(), &text, 1);
        (text, signature)
    }

    pub fn propose(&mut self, action: Action, parameters: &[(&str, &str)], initiator: &str) -> Ceremony {
        let proposal = self.proposal(action, parameters, initiator);
        self.open(proposal).unwrap()
    }

    pub fn open(&self, proposal: Proposal) -> Result<Ceremony, Rejection> {
        let initiator = proposal.initiator.to_string();
        let (text, signature) = self.signed(&proposal, Word::Propose, &initiator, &token(&initiator));
        self.seen(|world| Ceremony::propose(proposal, &text, &signature, world))
    }

    pub fn decide(&self, ceremony: &Ceremony, word: Word, person: &str) -> Result<Ceremony, Rejection> {
        self.decide_with(ceremony, word, person, &token(person))
    }

    pub fn decide_with(
        &self,
        ceremony: &Ceremony,
        word: Word,
        person: &str,
        key: &Signer,
    ) -> Result<Ceremony, Rejection> {
        let (text, signature) = self.signed(ceremony.proposal(), word, person, key);
        self.take(ceremony, &text, &signature)
    }

    pub fn take(&self, ceremony: &Ceremony, text: &str, signature: &str) -> Result<Ceremony, Rejection> {
        self.seen(|world| ceremony.step(Event::Decide { text, signature }, world))
    }

    pub fn step(&self, ceremony: &Ceremony, event: Event<'_>) -> Result<Ceremony, Rejection> {
        self.seen(|world| ceremony.step(event, world))
    }

    pub fn start(&self, ceremony: &Ceremony) -> Result<Ceremony, Rejection> {
        self.step(ceremony, Event::Start { by: "kim".parse().unwrap(), intent: 8 })
    }

    pub fn state(&self, ceremony: &Ceremony) -> State {
        self.seen(|world| ceremony.state(world))
    }
}

pub const DESTROY: &[(&str, &str)] = &[
    ("keyring", "patients"),
    ("version", "0123456789abcdef"),
    ("reason", "retired"),
    ("after_days", "7"),
    ("statement", "abababababababababababababababababababababababababababababababab"),
];
pub const ROTATE: &[(&str, &str)] = &[("keyring", "patients"), ("trigger", "personnel")];
pub const RESUME: &[(&str, &str)] = &[("keyring", "patients"), ("version", "0123456789abcdef"), ("reason", "cleared")];
pub const BREAK: &[(&str, &str)] =
    &[("principal", "portal"), ("keyring", "patients"), ("minutes", "30"), ("reason", "outage"), ("ticket", "INC-9")];
