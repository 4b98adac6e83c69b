//! Whose decision is a signed text, and when is it nobody's?

use keyward::clock::Wall;
use keyward::identity::sshsig::SshError;
use keyward::policy::approval::{
    ApprovalError, Decision, Desk, VerifiedDecision, Word, namespace, verify, verify_founding,
};
use keyward::policy::roster::Roster;

use super::{CEREMONY, DAY, DIGEST, EXPIRES, NOW, World};
use crate::custodians::{Signer, TOUCHED, VERIFIED, decision};

const PRODUCTION: &str = namespace(true);

fn text(word: Word, person: &str) -> String {
    decision(CEREMONY, DIGEST, word, person, EXPIRES).text()
}

#[test]
fn a_decision_is_seven_lines_and_no_other_text_is_one() {
    let decision = decision(CEREMONY, DIGEST, Word::Approve, "bob", 1_800_003_600);
    let text = decision.text();
    let digest = "d1".repeat(32);
    let lines = format!("keyward/decision/v1\n01jd-ceremony\n{digest}\napprove\nbob\n-\n2027-01-15T09:00:00Z\n");
    assert_eq!(text, lines);
    assert_eq!(Decision::parse(&text), Ok(decision));
    for (from, to) in [
        ("decision/v1", "decision/v2"),
        ("\n", "\r\n"),
        ("01jd-ceremony", ""),
        ("01jd-ceremony", "01jd ceremony"),
        ("01jd-ceremony", "01jd/ceremony"),
        ("d1d1", "D1D1"),
        ("d1d1", "d1"),
        ("approve", "Approve"),
        ("approve", "agree"),
        ("\nbob\n", "\nBob\n"),
        ("\nbob\n", "\n\n"),
        ("\n-\n", "\n\n"),
        ("\n-\n", "\nwith space\n"),
        ("\n-\n", "\n-\n-\n"),
        ("2027-01-15", "2027-1-15"),
        ("2027-01-15", "2027-02-30"),
        ("2027-01-15", "+027-01-15"),
        ("2027-01-15", "2027-00-15"),
        ("T09:00:00Z", "T24:00:00Z"),
        ("T09:00:00Z", "T09:00:00.000Z"),
        ("T09:00:00Z", "T09:00:00+00:00"),
        ("00Z\n", "00Z"),
        ("00Z\n", "00Z\n\n"),
        ("00Z\n", "00Z \n"),
    ] {
        let edited = text.replace(from, to);
        assert!(edited != text && matches!(Decision::parse(&edited), Err(ApprovalError::Malformed(_))), "{edited}");
    }
    assert!(Decision::parse(&"x".repeat(10_000)).is_err());
}

#[test]
fn a_decision_is_the_person_s_who_signed_it_and_says_with_what_key() {
    let world = World::new();
    let token = world.says(Word::Approve, "bob");
    assert_eq!((token.person().as_str(), token.hardware(), token.counter()), ("bob", true, Some(1)));
    assert_eq!(token.key_fingerprint(), world.tokens["bob"].key().fingerprint());
    assert_eq!(token.credential_since(), Wall(NOW.0 - 10 * DAY));
    let file = world.types(Word::Deny, "bob");
    assert_eq!((file.decision().word, file.hardware(), file.counter()), (Word::Deny, false, None));
    let text = text(Word::Approve, "bob");
    let touched = world.verify(&text, &world.tokens["bob"].sign_with(PRODUCTION, &text, TOUCHED, 1)).unwrap();
    assert!(!touched.hardware(), "a touch without a PIN is anybody's");
}

#[test]
fn a_signature_of_another_text_namespace_key_or_person_is_refused() {
    let world = World::new();
    let (bob, mine) = (&world.tokens["bob"], text(Word::Approve, "bob"));
    let refused = |text: &str, armoured: &str| world.verify(text, armoured).unwrap_err();
    let edited = mine.replace("approve", "deny");
    assert_eq!(refused(&edited, &bob.sign(PRODUCTION, &mine, 1)), ApprovalError::Key(SshError::Forged));
    let error = refused(&mine, &bob.sign(namespace(false), &mine, 1));
    assert!(matches!(error, ApprovalError::Key(SshError::Namespace { .. })) && error.code() == "namespace");
    assert!(matches!(refused(&mine, "no signature"), ApprovalError::Key(SshError::Malformed(_))));
    let stranger = Signer::token(77);
    let fingerprint = stranger.key().fingerprint();
    assert_eq!(refused(&mine, &stranger.sign(PRODUCTION, &mine, 1)), ApprovalError::UnknownKey { fingerprint });
    let (claimed, holder) = ("bob".parse().unwrap(), "carol".parse().unwrap());
    let error = refused(&mine, &world.tokens["carol"].sign(PRODUCTION, &mine, 1));
    assert_eq!(error, ApprovalError::WrongPerson { claimed, holder });
}

#[test]
fn a_key_that_two_people_have_proves_nobody() {
    let mut world = World::new();
    let shared = world.roster.members[1].credentials[0].clone();
    world.roster.members[2].credentials.push(shared);
    for person in ["bob", "carol"] {
        let text = text(Word::Approve, person);
        let error = world.verify(&text, &world.tokens["bob"].sign(PRODUCTION, &text, 1)).unwrap_err();
        assert_eq!(error.code(), "shared_key", "{person}");
    }
}

#[test]
fn a_revoked_key_signs_nothing_whatever_the_clock_says_of_its_revocation() {
    let mut world = World::new();
    world.revoke("bob");
    for at in [0, NOW.0, NOW.0 + DAY] {
        world.roster.members[1].credentials[0].revoked.as_mut().unwrap().at = Wall(at);
        let text = text(Word::Approve, "bob");
        let error = world.verify(&text, &world.tokens["bob"].sign(PRODUCTION, &text, 1)).unwrap_err();
        assert_eq!(error.code(), "revoked");
    }
}

#[test]
fn who_holds_no_role_that_signs_decides_nothing() {
    let world = World::of(super::SHIPPED, &["audrey", "dan", "oscar", "sofia", "zoe"]);
    for person in ["audrey", "dan", "oscar", "sofia", "zoe"] {
        let text = text(Word::Approve, person);
        let error = world.verify(&text, &world.tokens[person].sign(PRODUCTION, &text, 1)).unwrap_err();
        assert_eq!(error, ApprovalError::NotActive { person: person.parse().unwrap() });
    }
}

#[test]
fn a_decision_expires_and_never_outlives_a_proposal() {
    let world = World::new();
    let now = NOW.0 / 1_000_000;
    for (expires, expected) in [
        (now, Some(ApprovalError::Expired)),
        (0, Some(ApprovalError::Expired)),
        (now + 1, None),
        (now + 7 * 86_400 + 600, None),
        (now + 7 * 86_400 + 601, Some(ApprovalError::ExpiresTooLate)),
    ] {
        let text = decision(CEREMONY, DIGEST, Word::Approve, "bob", expires).text();
        let verified = world.verify(&text, &world.tokens["bob"].sign(PRODUCTION, &text, 1));
        assert_eq!(verified.err(), expected, "{expires}");
    }
}

#[test]
fn a_token_is_touched_whatever_its_person_may_do_without() {
    let software = format!("{}\n[software-keys]\npeople = [\"bob\"]\nreason = \"x\"\n", super::SHIPPED);
    for world in [World::new(), World::of(&software, super::PEOPLE)] {
        let text = text(Word::Approve, "bob");
        for flags in [0, VERIFIED] {
            let error = world.verify(&text, &world.tokens["bob"].sign_with(PRODUCTION, &text, flags, 1)).unwrap_err();
            assert_eq!(error, ApprovalError::TouchMissing);
        }
    }
}

#[test]
fn the_counter_of_a_token_rises() {
    let world = World::new();
    let with = |seen: u32, last: Option<u32>| -> Result<VerifiedDecision, ApprovalError> {
        let text = text(Word::Approve, "bob");
        let fingerprint = world.tokens["bob"].key().fingerprint();
        let last_counter = move |asked: &str| if asked == fingerprint { last } else { Some(u32::MAX) };
        let (roster, separation) = (&world.roster, &*world.separation);
        let desk = Desk { roster, separation, namespace: PRODUCTION, last_counter: &last_counter };
        verify(&desk, &text, &world.tokens["bob"].sign(PRODUCTION, &text, seen), NOW)
    };
    for (seen, last) in [(0, None), (0, Some(0)), (1, Some(0)), (8, Some(7)), (9, None)] {
        assert!(with(seen, last).is_ok(), "{seen} {last:?}");
    }
    for (seen, last) in [(7, 7), (6, 7), (0, 7)] {
        let error = with(seen, Some(last)).unwrap_err();
        assert!(matches!(error, ApprovalError::CounterNotRisen { .. }), "{seen} {last}");
    }
}

#[test]
fn a_roster_is_founded_when_every_member_has_signed_it() {
    let world = World::new();
    let digest = world.roster.digest();
    let sign = |signer: &Signer, person: &str, namespace: &str| {
        let person = person.parse().unwrap();
        let armoured = signer.sign(namespace, &Roster::statement(&digest, &person), 1);
        (person, armoured)
    };
    let all: Vec<_> = super::PEOPLE.iter().map(|person| sign(&world.tokens[*person], person, PRODUCTION)).collect();
    assert_eq!(verify_founding(&world.roster, &all, PRODUCTION), Ok(()));
    let problems = |signatures: &[_]| verify_founding(&world.roster, signatures, PRODUCTION).unwrap_err();
    assert_eq!(problems(&all[1..]), ["alice has not signed the roster"]);
    let with = |index: usize, other| {
        let mut edited = all.clone();
        edited[index] = other;
        problems(&edited).join("; ")
    };
    assert!(with(0, sign(&world.tokens["bob"], "alice", PRODUCTION)).contains("the key is bob's"));
    assert!(with(0, sign(&world.tokens["alice"], "alice", namespace(false))).contains("namespace"));
    assert!(with(0, sign(&Signer::token(99), "alice", PRODUCTION)).contains("nobody on the roster"));
    assert!(with(0, sign(&world.tokens["bob"], "bob", PRODUCTION)).contains("alice has not signed"));
    let stranger = sign(&Signer::token(99), "zoe", PRODUCTION);
    assert!(problems(&[&all[..], &[stranger]].concat()).join("; ").contains("the signature of zoe"));
    // Of the roster as it was signed, and of no other.
    let mut edited = world.roster.clone();
    edited.members[0].acknowledgement = [8; 32];
    assert_eq!(verify_founding(&edited, &all, PRODUCTION).unwrap_err().len(), super::PEOPLE.len());
}
