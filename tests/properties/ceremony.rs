//! Whatever happens to a ceremony, in whatever order and by whatever clock: nothing is carried out without enough people who
//! still agree to what is still so, and nothing twice. What was enough is counted here a second time, from what was accepted.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

use std::collections::BTreeMap;

use keyward::ceremony::{Action, Ceremony, Event, Outcome, State};
use keyward::clock::{Deadline, Mono, Wall};
use keyward::policy::approval::Word;
use keyward::policy::roster::Revocation;
use proptest::prelude::*;

use crate::ceremonies::{BREAK, DESTROY, PEOPLE, RESUME, ROTATE, Stage, file, token};
use crate::custodians::decision;

/// What happens next.
#[derive(Debug, Clone)]
enum Act {
    Decide {
        who: usize,
        word: usize,
        token: bool,
        hours: u64,
    },
    Pass(u64),
    /// The wall clock alone, forward or back, in minutes.
    Step(i64),
    Synchronised(bool),
    Target(u8),
    Policy(u8),
    Revoke(usize),
    Margin(i64),
    Start,
    Finish(bool),
    Observe,
}

fn act() -> impl Strategy<Value = Act> {
    let decide = |words: std::ops::Range<usize>| {
        (0..PEOPLE.len(), words, prop::bool::weighted(0.9), 1..200_u64)
            .prop_map(|(who, word, token, hours)| Act::Decide { who, word, token, hours })
    };
    prop_oneof![
        12 => decide(0..1),
        1 => decide(1..5),
        4 => (0..30_u64).prop_map(Act::Pass),
        1 => (-3_000..3_000_i64).prop_map(Act::Step),
        1 => any::<bool>().prop_map(Act::Synchronised),
        1 => (0..2_u8).prop_map(Act::Target),
        1 => (0..2_u8).prop_map(Act::Policy),
        1 => (0..60_usize).prop_map(Act::Revoke),
        1 => (-1..3_i64).prop_map(Act::Margin),
        6 => Just(Act::Start),
        1 => any::<bool>().prop_map(Act::Finish),
        1 => Just(Act::Observe),
    ]
}

/// What was accepted, kept apart from the ceremony.
#[derive(Default)]
struct Told {
    /// Until when each person's approval is good, in seconds.
    approvals: BTreeMap<String, u64>,
    stopped: bool,
    starts: u32,
    proposed_until: u64,
}

struct Play {
    stage: Stage,
    target: String,
    policy: String,
    told: Told,
    ceremony: Ceremony,
    latest: u64,
    revoked: bool,
}

/// An action, its parameters, who proposes it and how many must approve.
type Kind = (Action, &'static [(&'static str, &'static str)], &'static str, usize);

const KINDS: &[Kind] = &[
    (Action::KeyringRotate, ROTATE, "kim", 1),
    (Action::KeyResume, RESUME, "kim", 2),
    (Action::KeyResume, RESUME, "alice", 2),
    (Action::KeyDestroy, DESTROY, "kim", 2),
    (Action::BreakGlassOpen, BREAK, "rosa", 1),
];

impl Play {
    fn new(kind: usize) -> Self {
        let mut stage = Stage::new();
        let (action, parameters, initiator, _) = KINDS[kind];
        let ceremony = stage.propose(action, parameters, initiator);
        let target = stage.targets["keyring/patients"].clone();
        let proposed_until = ceremony.proposal().not_after.min(stage.now / 1_000_000 + 6 * 86_400);
        let told = Told { proposed_until, ..Told::default() };
        let (policy, latest) = (stage.policy.clone(), stage.now);
        Self { stage, target, policy, told, ceremony, latest, revoked: false }
    }

    fn act(&mut self, act: &Act, needed: usize) {
        match act {
            Act::Decide { who, word, token, hours } => {
                self.decide(PEOPLE[*who], Word::ALL[(word + 1) % 5], *token, *hours)
            }
            Act::Pass(hours) => self.stage.pass(hours * 1_200_000_000),
            Act::Step(minutes) => self.stage.now = self.stage.now.saturating_add_signed(minutes * 60_000_000),
            Act::Synchronised(is) => self.stage.synchronised = *is,
            Act::Target(0) => drop(self.stage.targets.insert("keyring/patients".to_owned(), self.target.clone())),
            Act::Target(_) => drop(self.stage.targets.insert("keyring/patients".to_owned(), "ee".repeat(32))),
            Act::Policy(0) => self.stage.policy = self.policy.clone(),
            Act::Policy(_) => self.stage.policy = "ee".repeat(32),
            Act::Revoke(who) if *who < PEOPLE.len() => self.revoke(*who),
            Act::Revoke(_) => {}
            Act::Margin(margin) => self.stage.margin = *margin,
            Act::Start => self.start(needed),
            Act::Finish(well) => self.finish(*well),
            Act::Observe => self.ceremony = self.stage.step(&self.ceremony, Event::Observe).unwrap(),
        }
    }

    fn decide(&mut self, person: &str, word: Word, in_token: bool, hours: u64) {
        let expires = self.stage.now / 1_000_000 + hours * 1_800;
        let proposal = self.ceremony.proposal();
        let text = decision(proposal.ceremony.as_str(), proposal.digest(), word, person, expires).text();
        let key = if in_token { token(person) } else { file(person) };
        let signature = key.sign(self.stage.namespace(), &text, 1);
        let Ok(after) = self.stage.take(&self.ceremony, &text, &signature) else { return };
        let custodian = ["alice", "bob", "carol"].contains(&person);
        let initiator = proposal.initiator.as_str() == person;
        assert!(!self.told.stopped && self.told.starts == 0, "something was decided after the end");
        self.latest = self.latest.max(self.stage.now);
        match word {
            Word::Approve => {
                assert!(custodian && !initiator, "{person} approved");
                let before = self.told.approvals.insert(person.to_owned(), expires);
                assert!(before.is_none_or(|until| until * 1_000_000 <= self.latest), "{person} approved twice");
            }
            Word::Deny => assert!(custodian && !initiator, "{person} denied"),
            Word::Withdraw => assert!(initiator, "{person} withdrew"),
            Word::Propose | Word::Review => panic!("{word} was taken"),
        }
        self.told.stopped |= word != Word::Approve;
        self.ceremony = after;
    }

    fn revoke(&mut self, who: usize) {
        let revoked = Revocation { at: Wall(self.stage.now), reason: "lost".to_owned(), by: "carol".parse().unwrap() };
        self.stage.roster.members[who].credentials[0].revoked = Some(revoked);
        self.revoked = true;
    }

    fn start(&mut self, needed: usize) {
        let tier_one = self.ceremony.proposal().tier.code() == "1";
        let tier_three = self.ceremony.proposal().tier.code() == "3";
        let Ok(after) = self.stage.start(&self.ceremony) else { return };
        self.latest = self.latest.max(self.stage.now);
        let in_force = |until: &u64| until * 1_000_000 > self.latest;
        let agreeing = self.told.approvals.values().filter(|until| in_force(until)).count();
        assert!(agreeing >= needed, "carried out with {agreeing} of {needed}");
        assert!(in_force(&self.told.proposed_until) && !self.told.stopped && self.told.starts == 0);
        assert!(tier_one || self.stage.synchronised, "carried out by an uncertain clock");
        assert!(!tier_three || self.stage.margin >= 1, "carried out below the margin");
        assert_eq!((&self.stage.targets["keyring/patients"], &self.stage.policy), (&self.target, &self.policy));
        assert!(!self.revoked, "carried out by another roster");
        let met = after.met().unwrap();
        let cool_off = after.proposal().cool_off * 1_000_000;
        assert!(self.latest - met.wall >= cool_off && self.stage.counted - met.counted >= cool_off);
        let quorum = self.stage.seen(|world| after.quorum(world, Deadline(Mono(1)))).unwrap();
        let mut people = quorum.people().to_vec();
        people.dedup();
        assert!(people.len() == quorum.people().len() && people.len() >= needed);
        self.told.starts += 1;
        self.ceremony = after;
    }

    fn finish(&mut self, well: bool) {
        let outcome = if well { Outcome::Executed } else { Outcome::Failed };
        if let Ok(after) = self.stage.step(&self.ceremony, Event::Finish { outcome, why: None }) {
            assert_eq!((self.told.starts, self.stage.state(&self.ceremony)), (1, State::Executing));
            self.ceremony = after;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_history_carries_out_without_a_quorum_across_a_change_or_twice(
        kind in 0..KINDS.len(),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut play = Play::new(kind);
        let needed = KINDS[kind].3;
        for act in &acts {
            let before = play.stage.state(&play.ceremony);
            let ended = play.ceremony.end().cloned();
            play.act(act, needed);
            prop_assert!(ended.is_none() || play.ceremony.end() == ended.as_ref(), "an end did not last");
            if before != State::Executing && play.stage.state(&play.ceremony) == State::Executing {
                prop_assert_eq!(before, State::Ready);
            }
            prop_assert_eq!(&Ceremony::parse(&play.ceremony.body()).unwrap(), &play.ceremony);
        }
        prop_assert!(play.told.starts <= 1);
    }
}

/// The property would hold of a machine that refuses everything.
#[test]
fn every_kind_of_ceremony_of_the_property_can_be_carried_out() {
    for (kind, (.., needed)) in KINDS.iter().enumerate() {
        let mut play = Play::new(kind);
        for who in 0..3 {
            play.act(&Act::Decide { who, word: 0, token: true, hours: 200 }, *needed);
        }
        play.act(&Act::Pass(if play.ceremony.proposal().cool_off > 0 { 72 } else { 0 }), *needed);
        play.act(&Act::Start, *needed);
        assert_eq!(play.told.starts, 1, "{:?}", KINDS[kind].0);
    }
}
