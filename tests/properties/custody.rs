//! Whatever people, keys and decisions: no Quorum is minted below its threshold, from one person twice, with the initiator,
//! with a person whom it concerns, or of another proposal. Every signature is one; what is enough is counted again here.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyward::clock::{Deadline, Mono, Wall};
use keyward::names::PrincipalName;
use keyward::policy::approval::{Desk, VerifiedDecision, Word, namespace, verify};
use keyward::policy::quorum::{Matter, count, tally};
use keyward::policy::roster::{Revocation, Roster};
use keyward::policy::separation::{Role, Separation, Tier};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

use crate::custodians::{Signer, TOUCHED, VERIFIED, decision, member};

const NOW: Wall = Wall(1_800_000_000_000_000);
const HOUR: u64 = 3_600_000_000;
const CEREMONIES: [&str; 2] = ["this", "other"];
const DIGESTS: [[u8; 32]; 2] = [[1; 32], [2; 32]];
/// Six custodians, of whom two also propose, and a responder.
const PEOPLE: [&str; 7] = ["p0", "p1", "p2", "p3", "p4", "p5", "rosa"];

/// A key of a person on the roster.
#[derive(Debug, Clone)]
struct Key {
    token: bool,
    age_hours: u64,
    revoked: bool,
}

/// What somebody signs.
#[derive(Debug, Clone)]
struct Signed {
    person: usize,
    key: usize,
    word: Word,
    other_ceremony: bool,
    other_digest: bool,
    pin: bool,
}

#[derive(Debug, Clone)]
struct Case {
    groups: Vec<u8>,
    managers: Vec<Option<usize>>,
    approvals: u32,
    excepted: Option<usize>,
    keys: Vec<[Key; 2]>,
    signed: Vec<Signed>,
    tier: Tier,
    initiator: usize,
    concerns: Vec<usize>,
}

/// Mostly what counts, so that quorums come about.
fn mostly(percent: u32) -> impl Strategy<Value = bool> {
    (0..100_u32).prop_map(move |drawn| drawn < percent)
}

fn key() -> impl Strategy<Value = Key> {
    (mostly(85), select(vec![1, 23, 24, 100, 1_000, 1_000, 1_000]), mostly(8))
        .prop_map(|(token, age_hours, revoked)| Key { token, age_hours, revoked })
}

fn signed() -> impl Strategy<Value = Signed> {
    let words = select(
        vec![Word::Approve; 24].into_iter().chain([Word::Propose, Word::Deny, Word::Review]).collect::<Vec<_>>(),
    );
    (0..PEOPLE.len(), 0..2_usize, words, mostly(5), mostly(5), mostly(90)).prop_map(
        |(person, key, word, other_ceremony, other_digest, pin)| Signed {
            person,
            key,
            word,
            other_ceremony,
            other_digest,
            pin,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let people = (
        prop::collection::vec(0..3_u8, 6),
        prop::collection::vec(prop::option::weighted(0.6, 0..6_usize), 6),
        2..5_u32,
        prop::option::of(0..6_usize),
        prop::collection::vec([key(), key()], PEOPLE.len()),
    );
    let tiers = select(Tier::ALL.to_vec());
    let matter = (prop::collection::vec(signed(), 0..14), tiers, 0..2_usize, prop::collection::vec(0..6_usize, 0..2));
    (people, matter).prop_map(|((groups, managers, approvals, excepted, keys), (mut signed, tier, by, concerns))| {
        // Managers have a lower number: no circles.
        let managers = managers.into_iter().enumerate().map(|(at, above)| above.filter(|above| *above < at)).collect();
        let initiator = if tier == Tier::BreakGlass { 6 } else { by };
        let word = Word::Propose;
        let proposal =
            Signed { person: initiator, key: 0, word, other_ceremony: false, other_digest: false, pin: true };
        signed.push(proposal);
        Case { groups, managers, approvals, excepted, keys, signed, tier, initiator, concerns }
    })
}

impl Case {
    fn file(&self) -> String {
        let mut text = format!("schema = 1\n[tier.3]\napprovals = {}\n", self.approvals);
        for (at, person) in PEOPLE.iter().enumerate().take(6) {
            let more = if at < 2 { ", \"key-administrator\"" } else { "" };
            text += &format!("[person.{person}]\nroles = [\"custodian\"{more}]\ngroup = \"g{}\"\n", self.groups[at]);
            if let Some(manager) = self.managers[at] {
                text += &format!("manager = \"p{manager}\"\n");
            }
        }
        text += "[person.rosa]\nroles = [\"responder\"]\n";
        if let Some(person) = self.excepted {
            text += &format!("[software-keys]\npeople = [\"p{person}\"]\nreason = \"x\"\n");
        }
        text
    }

    fn signers(&self) -> Vec<[Signer; 2]> {
        let number = |at: usize, key: usize| u8::try_from(10 + at * 2 + key).unwrap();
        let signer = |at: usize, key: usize| match self.keys[at][key].token {
            true => Signer::token(number(at, key)),
            false => Signer::software(number(at, key)),
        };
        (0..PEOPLE.len()).map(|at| [signer(at, 0), signer(at, 1)]).collect()
    }

    /// The roster as it is when somebody counts, or as it was when they signed: nobody was revoked then.
    fn roster(&self, signers: &[[Signer; 2]], revocations: bool) -> Roster {
        let mut members = Vec::new();
        for (at, person) in PEOPLE.iter().enumerate() {
            let mut entry = member(person, Wall(0), &[&signers[at][0], &signers[at][1]]);
            for (credential, key) in entry.credentials.iter_mut().zip(&self.keys[at]) {
                credential.enrolled = Wall(NOW.0 - key.age_hours * HOUR);
                let end = Revocation { at: NOW, reason: "x".to_owned(), by: "rosa".parse().unwrap() };
                credential.revoked = (revocations && key.revoked).then_some(end);
            }
            members.push(entry);
        }
        let (store, environment) = ("00".repeat(16), "production".to_owned());
        let made_by = "genesis".to_owned();
        Roster { store, environment, generation: 1, previous: None, separation: [0; 32], made_by, members }
    }

    fn decisions(&self, separation: &Separation, signers: &[[Signer; 2]]) -> Vec<VerifiedDecision> {
        let roster = self.roster(signers, false);
        let namespace = namespace(true);
        let desk = Desk { roster: &roster, separation, namespace, last_counter: &|_| None };
        let verified = |signed: &Signed| {
            let (ceremony, digest) =
                (CEREMONIES[usize::from(signed.other_ceremony)], DIGESTS[usize::from(signed.other_digest)]);
            let text = decision(ceremony, digest, signed.word, PEOPLE[signed.person], NOW.0 / 1_000_000 + 60).text();
            let flags = if signed.pin { TOUCHED | VERIFIED } else { TOUCHED };
            verify(&desk, &text, &signers[signed.person][signed.key].sign_with(namespace, &text, flags, 1), NOW)
                .unwrap()
        };
        self.signed.iter().map(verified).collect()
    }

    fn ours(&self, signed: &Signed) -> bool {
        !signed.other_ceremony && !signed.other_digest && !self.keys[signed.person][signed.key].revoked
    }

    fn hardware(&self, signed: &Signed) -> bool {
        let token = self.keys[signed.person][signed.key].token && signed.pin;
        token || self.tier == Tier::One || self.excepted == Some(signed.person)
    }

    /// Who counts, by the rules as a person would read them.
    fn approvers(&self) -> BTreeSet<usize> {
        let counts = |signed: &&Signed| {
            let person = signed.person;
            let old_enough = self.tier != Tier::Three || self.keys[person][signed.key].age_hours >= 24;
            signed.word == Word::Approve
                && self.ours(signed)
                && self.hardware(signed)
                && old_enough
                && person < 6
                && person != self.initiator
                && !self.concerns.contains(&person)
        };
        self.signed.iter().filter(counts).map(|signed| signed.person).collect()
    }

    fn is_denied(&self) -> bool {
        let denies = |signed: &Signed| {
            let judge = signed.person < 6 && signed.person != self.initiator && !self.concerns.contains(&signed.person);
            signed.word == Word::Deny && self.ours(signed) && judge
        };
        self.signed.iter().any(denies)
    }

    fn is_proposed(&self) -> bool {
        let proposes = |signed: &Signed| signed.word == Word::Propose && signed.person == self.initiator;
        self.signed.iter().any(|signed| proposes(signed) && self.ours(signed) && self.hardware(signed))
    }

    /// As many people as can be chosen so that each two are of different lines: every choice is tried.
    fn lines(&self, people: &BTreeSet<usize>) -> u32 {
        let people: Vec<_> = people.iter().copied().collect();
        let above = |upper: usize, lower: usize| {
            std::iter::successors(self.managers[lower], |above| self.managers[*above]).any(|above| above == upper)
        };
        let line = |person: usize| self.managers[person].unwrap_or(person);
        let differ = |one: usize, other: usize| line(one) != line(other) && !above(one, other) && !above(other, one);
        let choices = (0..1_u32 << people.len()).filter(|choice| {
            let chosen: Vec<_> =
                people.iter().enumerate().filter(|(at, _)| choice & 1 << at != 0).map(|(_, p)| *p).collect();
            chosen.iter().enumerate().all(|(at, one)| chosen[at + 1..].iter().all(|other| differ(*one, *other)))
        });
        choices.map(u32::count_ones).max().unwrap_or(0)
    }

    fn is_enough(&self) -> bool {
        let people = self.approvers();
        let groups = people.iter().map(|person| self.groups[*person]).collect::<BTreeSet<_>>().len();
        let (needed, spread) = match self.tier {
            Tier::One | Tier::BreakGlass => (1, 1),
            Tier::Two => (2, 2),
            Tier::Three => (usize::try_from(self.approvals).unwrap(), 2),
        };
        let enough =
            people.len() >= needed && groups >= spread && self.lines(&people) >= u32::try_from(spread).unwrap();
        enough && self.is_proposed() && !self.is_denied()
    }
}

/// A file whose people cannot reach every tier is refused before anything is counted.
fn separation(case: &Case) -> Option<Arc<Separation>> {
    Separation::load(&case.file()).ok()
}

fn names(people: impl IntoIterator<Item = usize>) -> Vec<PrincipalName> {
    people.into_iter().map(|person| PEOPLE[person].parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_quorum_is_minted_exactly_where_enough_people_agree(case in case()) {
        let Some(separation) = separation(&case) else { return Ok(()) };
        let signers = case.signers();
        let (decisions, roster) = (case.decisions(&separation, &signers), case.roster(&signers, true));
        let (initiator, concerns) = (names([case.initiator]).remove(0), names(case.concerns.iter().copied()));
        let (ceremony, digest, action) = (CEREMONIES[0], DIGESTS[0], "key.destroy");
        let matter =
            Matter { ceremony, digest, tier: case.tier, action, keyring: None, initiator: &initiator, concerns: &concerns, rehearsal: false };
        let counted = count(&separation, &roster, &matter, &decisions, NOW, Deadline(Mono(1)));
        let tallied = tally(&separation, &roster, &matter, &decisions, NOW);
        prop_assert_eq!(counted.is_ok(), case.is_enough(), "{:?}", tallied);
        prop_assert_eq!(usize::try_from(tallied.have).unwrap(), case.approvers().len());
        if let Ok(quorum) = counted {
            let rule = separation.rule(case.tier);
            let people: BTreeSet<_> = quorum.people().iter().collect();
            prop_assert_eq!(people.len(), quorum.people().len());
            prop_assert!(people.len() >= usize::try_from(rule.approvals).unwrap());
            prop_assert!(!people.contains(&initiator) && !concerns.iter().any(|person| people.contains(person)));
            prop_assert!(people.iter().all(|person| separation.has(person, Role::Custodian)));
            prop_assert_eq!(quorum.people().to_vec(), names(case.approvers()));
            prop_assert_eq!((quorum.ceremony(), quorum.digest()), (ceremony, digest));
        }
    }

    #[test]
    fn one_approval_more_is_never_too_many(case in case(), more in signed()) {
        let Some(separation) = separation(&case) else { return Ok(()) };
        let signers = case.signers();
        let roster = case.roster(&signers, true);
        let initiator = names([case.initiator]).remove(0);
        let (ceremony, digest, action) = (CEREMONIES[0], DIGESTS[0], "key.destroy");
        let matter =
            Matter { ceremony, digest, tier: case.tier, action, keyring: None, initiator: &initiator, concerns: &[], rehearsal: false };
        let met = |case: &Case| tally(&separation, &roster, &matter, &case.decisions(&separation, &signers), NOW).is_met();
        let mut larger = case.clone();
        larger.signed.push(Signed { word: Word::Approve, ..more });
        prop_assert!(!met(&case) || met(&larger));
    }
}

/// That the two above see quorums of every tier, and files that are loaded.
#[test]
fn the_cases_are_not_all_refusals() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut loaded, mut met) = (0, BTreeMap::<Tier, u32>::new());
    for _ in 0..1_000 {
        let drawn = case().new_tree(&mut runner).unwrap_or_else(|error| panic!("{error}")).current();
        loaded += u32::from(separation(&drawn).is_some());
        *met.entry(drawn.tier).or_default() += u32::from(separation(&drawn).is_some() && drawn.is_enough());
    }
    assert!(
        loaded > 300 && Tier::ALL.iter().all(|tier| met.get(tier).is_some_and(|times| *times > 10)),
        "{loaded} {met:?}"
    );
}
