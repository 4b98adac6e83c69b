//! The states of a ceremony and every way out of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::ceremony::{Action, Ceremony, Event, Outcome, Rejection, State};
use keyward::clock::{Deadline, Mono, Wall};
use keyward::policy::approval::Word;
use keyward::policy::roster::Revocation;
use keyward::policy::separation::Separation;

use crate::ceremonies::{DAY, DESTROY, HOUR, RESUME, ROTATE, SHIPPED, Stage, file, token};
use crate::custodians::{Signer, TOUCHED, decision};

fn code(refused: Result<Ceremony, Rejection>) -> &'static str {
    let why = refused.unwrap_err();
    assert!(!why.hint().is_empty() && why.hint().len() > 20, "{why:?}");
    why.code()
}

fn approved(stage: &Stage, mut ceremony: Ceremony, people: &[&str]) -> Ceremony {
    for person in people {
        ceremony = stage.decide(&ceremony, Word::Approve, person).unwrap();
    }
    ceremony
}

#[test]
fn a_rotation_is_proposed_approved_carried_out_once_and_spent() {
    let mut stage = Stage::new();
    let proposed = stage.propose(Action::KeyringRotate, ROTATE, "kim");
    assert_eq!(stage.state(&proposed), State::Proposed);
    assert_eq!(code(stage.start(&proposed)), "not_ready");
    let ready = approved(&stage, proposed, &["alice"]);
    assert_eq!(stage.state(&ready), State::Ready);
    assert_eq!(stage.seen(|world| ready.quorum(world, Deadline(Mono(9)))).unwrap_err().code(), "not_executing");
    let executing = stage.start(&ready).unwrap();
    let quorum = stage.seen(|world| executing.quorum(world, Deadline(Mono(9)))).unwrap();
    assert_eq!((quorum.digest(), quorum.action()), (ready.digest(), "keyring.rotate"));
    assert_eq!(quorum.people(), ["alice".parse().unwrap()]);
    // CER-15: once.
    assert_eq!(code(stage.start(&executing)), "spent");
    assert_eq!(code(stage.decide(&executing, Word::Deny, "bob")), "spent");
    let done = stage.step(&executing, Event::Finish { outcome: Outcome::Executed, why: None }).unwrap();
    assert_eq!(stage.state(&done), State::Executed);
    for again in [stage.start(&done), stage.decide(&done, Word::Approve, "bob")] {
        assert_eq!(code(again), "spent");
    }
    assert_eq!(code(stage.step(&done, Event::Finish { outcome: Outcome::Failed, why: None })), "spent");
    assert!(stage.seen(|world| done.quorum(world, Deadline(Mono(9)))).is_err());
}

#[test]
fn cer_10_only_the_initiator_with_a_role_and_a_key_in_a_token_opens_a_ceremony() {
    let mut stage = Stage::new();
    let proposal = stage.proposal(Action::KeyResume, RESUME, "kim");
    let open = |stage: &Stage, word, person: &str, key: &Signer| {
        let (text, signature) = stage.signed(&proposal, word, person, key);
        code(stage.seen(|world| Ceremony::propose(proposal.clone(), &text, &signature, world)))
    };
    assert_eq!(open(&stage, Word::Approve, "kim", &token("kim")), "wrong_word");
    assert_eq!(open(&stage, Word::Propose, "alice", &token("alice")), "not_the_initiator");
    assert_eq!(open(&stage, Word::Propose, "kim", &token("alice")), "wrong_person");
    assert_eq!(open(&stage, Word::Propose, "kim", &file("kim")), "hardware_key_needed");
    stage.settings = "dd".repeat(32);
    assert_eq!(open(&stage, Word::Propose, "kim", &token("kim")), "superseded");
    let by_bob = stage.proposal(Action::KeyResume, RESUME, "bob");
    assert_eq!(code(stage.open(by_bob)), "may_not_propose");
    let mut foreign = stage.proposal(Action::KeyResume, RESUME, "kim");
    foreign.store = "0".repeat(32);
    assert_eq!(code(stage.open(foreign)), "foreign_store");
    let mut weaker = stage.proposal(Action::KeyResume, RESUME, "kim");
    weaker.approvals = 1;
    assert_eq!(code(stage.open(weaker)), "bad_proposal");
}

#[test]
fn cer_8_and_9_a_decision_of_anybody_about_anything_else_is_refused_by_name() {
    let mut stage = Stage::new();
    let other = stage.propose(Action::KeyResume, RESUME, "kim");
    let it = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    let (text, signature) = stage.signed(other.proposal(), Word::Approve, "alice", &token("alice"));
    assert_eq!(code(stage.take(&it, &text, &signature)), "wrong_ceremony");
    let id = it.proposal().ceremony.as_str();
    let make = |digest, person: &str, expires: u64| decision(id, digest, Word::Approve, person, expires).text();
    let soon = stage.now / 1_000_000 + 600;
    let sign = |text: &str, key: &Signer| key.sign("keyward-ceremony", text, 3);
    let edited = make([7; 32], "alice", soon);
    assert_eq!(code(stage.take(&it, &edited, &sign(&edited, &token("alice")))), "digest_mismatch");
    let text = make(it.digest(), "alice", soon);
    let good = sign(&text, &token("alice"));
    assert_eq!(code(stage.take(&it, &text.replace("alice", "bob"), &good)), "wrong_person");
    assert_eq!(code(stage.take(&it, &text.replace("approve", "deny"), &good)), "bad_signature");
    assert_eq!(code(stage.take(&it, &text, &token("alice").sign("keyward-rehearsal", &text, 3))), "foreign_namespace");
    assert_eq!(code(stage.take(&it, &text, &sign(&text, &token("bob")))), "wrong_person");
    assert_eq!(code(stage.take(&it, &text, &sign(&text, &Signer::token(77)))), "unknown_key");
    assert_eq!(code(stage.take(&it, &text, &sign(&text, &file("alice")))), "hardware_key_needed");
    assert_eq!(
        code(stage.take(&it, &text, &token("alice").sign_with("keyward-ceremony", &text, 0, 3))),
        "touch_missing"
    );
    let no_pin = token("alice").sign_with("keyward-ceremony", &text, TOUCHED, 3);
    assert_eq!(code(stage.take(&it, &text, &no_pin)), "hardware_key_needed");
    stage.counters.insert(token("alice").key().fingerprint(), 3);
    assert_eq!(code(stage.take(&it, &text, &good)), "counter_replayed");
    stage.counters.clear();
    let old = make(it.digest(), "alice", stage.now / 1_000_000 - 1);
    assert_eq!(code(stage.take(&it, &old, &sign(&old, &token("alice")))), "approval_expired");
    let late = make(it.digest(), "alice", stage.now / 1_000_000 + 30 * 86_400);
    assert_eq!(code(stage.take(&it, &late, &sign(&late, &token("alice")))), "approval_too_long");
    assert_eq!(code(stage.take(&it, &text.replace("/v1", "/v2"), &good)), "malformed_decision");
    assert!(stage.take(&it, &text, &good).is_ok());
}

#[test]
fn people_are_counted_and_not_keys_and_nobody_judges_their_own_matter() {
    let mut stage = Stage::with(
        &SHIPPED.replace(
            "# [software-keys]\n# people = [\"alice\"]\n# reason = \"tokens are ordered\"",
            "[software-keys]\npeople = [\"alice\", \"bob\"]\nreason = \"tokens are ordered\"",
        ),
        "production",
    );
    let it = stage.propose(Action::KeyResume, RESUME, "kim");
    let once = stage.decide(&it, Word::Approve, "alice").unwrap();
    assert_eq!(code(stage.decide_with(&once, Word::Approve, "alice", &file("alice"))), "second_key_of_one_person");
    let (text, signature) = stage.signed(it.proposal(), Word::Approve, "alice", &token("alice"));
    assert_eq!(code(stage.take(&once, &text, &signature)), "approval_replayed");
    assert_eq!(code(stage.decide_with(&once, Word::Propose, "bob", &file("bob"))), "wrong_word");
    let (text, signature) = stage.signed(it.proposal(), Word::Propose, "kim", &token("kim"));
    assert_eq!(code(stage.take(&once, &text, &signature)), "approval_replayed");
    let by_alice = stage.propose(Action::KeyResume, RESUME, "alice");
    assert_eq!(code(stage.decide(&by_alice, Word::Approve, "alice")), "initiator_approves");
    for person in ["kim", "victor"] {
        assert_eq!(code(stage.decide(&by_alice, Word::Approve, person)), "not_a_custodian");
        assert_eq!(code(stage.decide(&by_alice, Word::Deny, person)), "not_a_custodian");
    }
    let remove = stage.propose(Action::CustodianRemove, &[("person", "bob"), ("reason", "leaving")], "kim");
    assert_eq!(code(stage.decide(&remove, Word::Approve, "bob")), "concerned");
    assert_eq!(code(stage.decide(&remove, Word::Deny, "bob")), "concerned");
}

#[test]
fn cer_12_a_destruction_cools_off_by_both_clocks_and_may_be_denied_meanwhile() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    let one = approved(&stage, it, &["alice"]);
    assert_eq!(stage.state(&one), State::Approving);
    let met = approved(&stage, one.clone(), &["bob"]);
    assert_eq!(stage.state(&met), State::CoolingOff);
    assert_eq!(met.cool_off_until(), Some(Wall(stage.now + DAY)));
    // The clock is set forward: the wall says that it is over, nobody counted that time.
    stage.now += 2 * DAY;
    stage.counted += DAY - 1;
    assert_eq!(code(stage.start(&met)), "cooling_off");
    stage.now -= DAY + 1;
    stage.counted += 1;
    assert_eq!(code(stage.start(&met)), "cooling_off");
    stage.now += 1;
    stage.synchronised = false;
    assert_eq!((stage.state(&met), code(stage.start(&met))), (State::QuorumMet, "clock_unsynchronised"));
    stage.synchronised = true;
    assert_eq!(stage.state(&met), State::Ready);
    let denied = stage.decide(&met, Word::Deny, "carol").unwrap();
    assert_eq!(stage.state(&denied), State::Denied);
    for after in [stage.start(&denied), stage.decide(&denied, Word::Approve, "bob")] {
        assert_eq!(code(after), "already_denied");
    }
    assert!(stage.start(&met).is_ok());
}

#[test]
fn a_quorum_that_came_to_lack_somebody_cools_off_anew() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    let short = stage.now / 1_000_000 + 3_600;
    let text = decision(it.proposal().ceremony.as_str(), it.digest(), Word::Approve, "alice", short).text();
    let it = stage.take(&it, &text, &token("alice").sign("keyward-ceremony", &text, 1)).unwrap();
    let met = approved(&stage, it, &["bob"]);
    stage.pass(25 * HOUR);
    assert_eq!((stage.state(&met), code(stage.start(&met))), (State::Approving, "not_ready"));
    let again = approved(&stage, met, &["carol"]);
    assert_eq!(stage.state(&again), State::CoolingOff);
    stage.pass(DAY);
    assert_eq!(stage.state(&again), State::Ready);
}

#[test]
fn cer_13_a_ceremony_expires_by_the_earlier_of_two_clocks() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::KeyringRotate, ROTATE, "kim");
    stage.pass(DAY);
    assert_eq!(
        (stage.state(&it), code(stage.decide(&it, Word::Approve, "alice"))),
        (State::Expired, "approval_expired")
    );
    let ended = stage.step(&it, Event::Observe).unwrap();
    assert_eq!(code(stage.start(&ended)), "expired");
    stage.now -= DAY;
    assert_eq!(
        (stage.state(&ended), stage.state(&it)),
        (State::Expired, State::Expired),
        "a clock set back brings nothing back"
    );
    assert_eq!(code(stage.start(&it)), "expired");
}

#[test]
fn cer_14_whatever_changes_under_a_proposal_supersedes_it() {
    type Change = fn(&mut Stage);
    let changes: &[(&str, Change)] = &[
        ("target keyring/patients", |stage| drop(stage.targets.insert("keyring/patients".to_owned(), "ee".repeat(32)))),
        ("target keyring/patients", |stage| stage.targets.clear()),
        ("policy", |stage| stage.policy = "ee".repeat(32)),
        ("settings", |stage| stage.settings.clear()),
        ("separation", |stage| stage.separation = Separation::load(&format!("{SHIPPED}\n# more\n")).unwrap()),
        ("roster", |stage| {
            let by = "carol".parse().unwrap();
            let revoked = Revocation { at: Wall(stage.now), reason: "lost".to_owned(), by };
            stage.roster.members[0].credentials[0].revoked = Some(revoked);
        }),
    ];
    for (what, change) in changes {
        let mut stage = Stage::new();
        let it = stage.propose(Action::KeyringRotate, ROTATE, "kim");
        let it = approved(&stage, it, &["alice"]);
        change(&mut stage);
        assert_eq!(stage.state(&it), State::Superseded, "{what}");
        let why = stage.start(&it).unwrap_err();
        assert_eq!(why, Rejection::Superseded { by: (*what).to_owned() });
        let ended = stage.step(&it, Event::Observe).unwrap();
        assert_eq!(ended.end().unwrap().why.as_deref(), Some(*what));
        assert_eq!(code(Stage::new().start(&ended)), "superseded", "what was superseded stays so");
    }
}

#[test]
fn an_approver_who_is_revoked_before_the_deed_counts_no_more() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::KeyringRotate, ROTATE, "kim");
    let started = stage.start(&approved(&stage, it.clone(), &["alice"])).unwrap();
    let revoked = Revocation { at: Wall(stage.now), reason: "lost".to_owned(), by: "carol".parse().unwrap() };
    stage.roster.members[0].credentials[0].revoked = Some(revoked);
    assert_eq!(code(stage.decide(&it, Word::Approve, "alice")), "revoked_key");
    assert_eq!(stage.seen(|world| started.quorum(world, Deadline(Mono(9)))).unwrap_err().code(), "not_ready");
    let aborted = stage.step(&started, Event::Finish { outcome: Outcome::Aborted, why: Some("quorum".to_owned()) });
    assert_eq!(stage.state(&aborted.unwrap()), State::Aborted);
}

#[test]
fn nothing_of_tier_3_happens_below_the_margin_and_enrolling_does() {
    let mut stage = Stage::new();
    let destroy = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    let destroy = approved(&stage, destroy, &["alice", "bob"]);
    let key = Signer::token(70).key().line();
    // What the state machine does not look at, the service does.
    let armour = Signer::token(70).sign(stage.namespace(), "accepted", 1);
    let proof: String = armour.lines().filter(|line| !line.starts_with('-')).collect();
    let digest = "ab".repeat(32);
    let dave =
        [("person", "dave"), ("key", key.as_str()), ("proof", proof.as_str()), ("acknowledgement", digest.as_str())];
    let enrol = stage.propose(Action::CustodianEnrol, &dave, "kim");
    let enrol = approved(&stage, enrol, &["alice", "bob"]);
    stage.pass(DAY + HOUR);
    stage.margin = 0;
    assert_eq!(code(stage.start(&destroy)), "margin");
    assert!(stage.start(&enrol).is_ok());
    stage.margin = 1;
    assert!(stage.start(&destroy).is_ok());
}

#[test]
fn the_initiator_alone_withdraws_and_a_change_of_separation_needs_both() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::KeyResume, RESUME, "kim");
    assert_eq!(code(stage.decide(&it, Word::Withdraw, "alice")), "not_the_initiator");
    let gone = stage.decide(&it, Word::Withdraw, "kim").unwrap();
    assert_eq!((stage.state(&gone), code(stage.start(&gone))), (State::Withdrawn, "withdrawn"));
    let stricter =
        SHIPPED.replace("approvals = 2     # at least 2; 3 where", "approvals = 3     # at least 2; 3 where");
    let stricter = stricter + "[person.dave]\nroles = [\"custodian\"]\ngroup = \"security\"\n";
    let next = Separation::load(&stricter).unwrap();
    let (settings, separation) = ("ab".repeat(32), hex::encode(next.digest()));
    let rules = STANDARD.encode(&stricter);
    let change = [
        ("settings", settings.as_str()),
        ("changes", r#"{"custody.separation":"other"}"#),
        ("separation", separation.as_str()),
        ("rules", rules.as_str()),
    ];
    let it = stage.propose(Action::SettingsChange, &change, "kim");
    let two = approved(&stage, it, &["alice", "bob"]);
    stage.pass(DAY);
    assert_eq!(code(stage.start(&two)), "separation_missing");
    stage.next = Some(next);
    assert_eq!(code(stage.start(&two)), "not_ready");
    let three = approved(&stage, two, &["carol"]);
    stage.pass(DAY);
    assert!(stage.start(&three).is_ok());
}

/// CER-26: whoever says no is heard, however many approvals were given before.
#[test]
fn cer_26_approvals_crowd_out_no_denial() {
    let mut stage = Stage::new();
    let mut it = stage.propose(Action::KeyResume, RESUME, "kim");
    // Approvals that are over in a second make way for the next ones of the same people.
    let mut refused = None;
    'full: for _ in 0..80 {
        for person in ["alice", "bob", "carol"] {
            let expires = stage.now / 1_000_000 + 1;
            let mut text = decision(it.proposal().ceremony.as_str(), it.digest(), Word::Approve, person, expires);
            text.expires_s = expires;
            let text = text.text();
            let armour = token(person).sign(stage.namespace(), &text, 1);
            match stage.step(&it, Event::Decide { text: &text, signature: &armour }) {
                Ok(after) => it = after,
                Err(why) => {
                    refused = Some(why.code());
                    break 'full;
                }
            }
        }
        stage.pass(2_000_000);
    }
    assert_eq!(refused, Some("too_many_decisions"));
    let denied = stage.decide(&it, Word::Deny, "bob").unwrap();
    assert_eq!(stage.state(&denied), State::Denied);
}
