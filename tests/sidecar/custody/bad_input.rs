//! What people bring before a ceremony that does not count: each has its code and its reason, in the answer and in the log,
//! and changes nothing.

use keyward::policy::approval::{Decision, Word};
use serde_json::{Value, json};

use super::{Ceremony, DAY, Place, REHEARSAL, key, sealed, second_key};
use crate::custodians::decision;

fn create(place: &Place, initiator: &str) -> Ceremony {
    place.propose_by(initiator, "keyring.create", &json!({ "keyring": "patients" }))
}

/// An approval of bob's with something else in it.
fn but(ceremony: &Ceremony, change: impl FnOnce(&mut Decision)) -> String {
    let mut made = decision(&ceremony.id, ceremony.digest, Word::Approve, "bob", ceremony.expires());
    change(&mut made);
    made.text()
}

fn nobody_has_approved(place: &Place, ceremony: &Ceremony) {
    let view = place.get(&format!("/v1/ceremonies/{}", ceremony.id));
    assert_eq!((view["state"].as_str(), &view["approvals"]["have"]), (Some("proposed"), &json!(0)), "{view}");
    assert_eq!(view["decisions"].as_array().unwrap().len(), 1, "{view}");
}

#[test]
fn an_approval_counts_once_and_only_where_it_was_given() {
    let place = Place::new();
    let ceremony = place.carry_out("keyring.create", &json!({ "keyring": "notes" }), &["bob"]);
    let of_notes = ceremony.signed(Word::Approve, "bob");
    let ceremony = create(&place, "kim");
    place.refused(&place.hand_over(&ceremony, &of_notes), "not_approved", "wrong_ceremony");
    nobody_has_approved(&place, &ceremony);
    place.approve(&ceremony, &["bob"]);
    let again = ceremony.signed(Word::Approve, "bob");
    place.refused(&place.hand_over(&ceremony, &again), "not_approved", "approval_replayed");
    let later = but(&ceremony, |it| it.expires_s -= 60);
    let later = sealed(&later, &key("bob"), REHEARSAL);
    place.refused(&place.hand_over(&ceremony, &later), "not_approved", "approval_replayed");
    let propose = ceremony.signed(Word::Propose, "kim");
    place.refused(&place.hand_over(&ceremony, &propose), "not_approved", "approval_replayed");
    let view = place.get(&format!("/v1/ceremonies/{}", ceremony.id));
    assert_eq!(view["decisions"].as_array().unwrap().len(), 2, "{view}");
}

#[test]
fn a_person_with_two_keys_is_one_person() {
    let place = Place::new();
    let parameters = json!({ "keyring": "patients", "cryptoperiod_days": "30" });
    place.keyring();
    let ceremony = place.propose("keyring.configure", &parameters);
    place.approve(&ceremony, &["alice"]);
    let text = decision(&ceremony.id, ceremony.digest, Word::Approve, "alice", ceremony.expires()).text();
    let other = sealed(&text, &second_key(), REHEARSAL);
    place.refused(&place.hand_over(&ceremony, &other), "not_approved", "second_key_of_one_person");
    place.refused(&place.execute(&ceremony), "ceremony_state", "not_ready");
    assert_eq!(place.state(&ceremony), "approving");
}

#[test]
fn what_is_edited_or_signed_for_another_purpose_or_by_another_person_is_not_believed() {
    let place = Place::new();
    let ceremony = create(&place, "kim");
    let hand = |text: &str, signature: &Value, why: &str| {
        let signed = json!({ "decision": text, "signature": signature["signature"] });
        place.refused(&place.hand_over(&ceremony, &signed), "not_approved", why);
        nobody_has_approved(&place, &ceremony);
    };
    let right = ceremony.signed(Word::Approve, "bob");
    // Edited after it was signed.
    hand(&but(&ceremony, |it| it.reason = "other".to_owned()), &right, "bad_signature");
    hand(&but(&ceremony, |it| it.word = Word::Deny), &right, "bad_signature");
    hand(&but(&ceremony, |it| it.digest[31] ^= 1), &right, "digest_mismatch");
    hand(&but(&ceremony, |it| it.ceremony = ceremony.id.replace('0', "1")), &right, "wrong_ceremony");
    let text = right["decision"].as_str().unwrap();
    hand(&text.replace("approve", "approve "), &right, "malformed_decision");
    hand(&format!("{text}\n"), &right, "malformed_decision");
    hand(text.trim_end(), &right, "malformed_decision");
    hand(text, &json!({ "signature": "no armour" }), "bad_signature");
    // Signed like that.
    let signs = |text: String, person: &str| (text.clone(), sealed(&text, &key(person), REHEARSAL));
    let (text, signed) = signs(but(&ceremony, |it| it.digest = [7; 32]), "bob");
    hand(&text, &signed, "digest_mismatch");
    let (text, signed) = signs(but(&ceremony, |it| it.person = "carol".parse().unwrap()), "bob");
    hand(&text, &signed, "wrong_person");
    let record = place.record("data.denied", "refused");
    let facts = &record["facts"];
    assert_eq!((&facts["ceremony"], &facts["decision"]), (&json!(ceremony.id), &json!("approve")), "{record}");
    assert_eq!((&facts["person"], &facts["why"]), (&json!("carol"), &json!("wrong_person")), "{record}");
    let (text, signed) = signs(but(&ceremony, |it| it.expires_s = ceremony.not_before - 3600), "bob");
    hand(&text, &signed, "approval_expired");
    let (text, signed) = signs(but(&ceremony, |it| it.expires_s = ceremony.not_before + 8 * DAY), "bob");
    hand(&text, &signed, "approval_too_long");
    let text = but(&ceremony, |_| {});
    hand(&text, &sealed(&text, &key("bob"), "keyward-ceremony"), "foreign_namespace");
    hand(&text, &sealed(&text, &key("bob"), "file"), "foreign_namespace");
    for stranger in ["dan", "dave"] {
        let (text, signed) = signs(but(&ceremony, |it| it.person = stranger.parse().unwrap()), stranger);
        hand(&text, &signed, "unknown_key");
    }
    place.approve(&ceremony, &["bob"]);
}

#[test]
fn nobody_decides_what_is_not_theirs_to_decide() {
    let place = Place::new();
    let ceremony = create(&place, "alice");
    let hand = |word: Word, person: &str, why: &str| {
        place.refused(&place.hand_over(&ceremony, &ceremony.signed(word, person)), "not_approved", why);
        nobody_has_approved(&place, &ceremony);
    };
    hand(Word::Approve, "alice", "initiator_approves");
    hand(Word::Deny, "alice", "initiator_approves");
    let text = decision(&ceremony.id, ceremony.digest, Word::Approve, "alice", ceremony.expires()).text();
    let other_key = sealed(&text, &second_key(), REHEARSAL);
    place.refused(&place.hand_over(&ceremony, &other_key), "not_approved", "initiator_approves");
    for person in ["kim", "victor", "rosa"] {
        hand(Word::Approve, person, "not_a_custodian");
        hand(Word::Deny, person, "not_a_custodian");
    }
    hand(Word::Withdraw, "bob", "not_the_initiator");
    hand(Word::Review, "bob", "wrong_word");
    hand(Word::Propose, "bob", "wrong_word");
    place.refused(&place.execute(&ceremony), "ceremony_state", "not_ready");
}

#[test]
fn a_proposal_begins_by_the_signature_of_somebody_who_may_propose_it() {
    let place = Place::new();
    let draft = |initiator: &str| place.draft("keyring.create", &json!({ "keyring": "patients" }), initiator);
    for (initiator, why) in [("bob", "may_not_propose"), ("victor", "may_not_propose"), ("dan", "unknown_key")] {
        let drafted = draft(initiator);
        place.refused(&place.hand_in(&drafted, &drafted.signed(Word::Propose, initiator)), "not_approved", why);
    }
    let drafted = draft("kim");
    let others = drafted.signed(Word::Propose, "alice");
    place.refused(&place.hand_in(&drafted, &others), "not_approved", "not_the_initiator");
    place.refused(&place.hand_in(&drafted, &drafted.signed(Word::Approve, "kim")), "not_approved", "wrong_word");
    let signed = drafted.signed(Word::Propose, "kim");
    for (from, to) in
        [("patients", "records"), ("\"tier\":\"1\"", "\"tier\":\"2\""), ("\"approvals\":1", "\"approvals\":0")]
    {
        assert!(drafted.proposal.contains(from));
        let edited = Ceremony { proposal: drafted.proposal.replace(from, to), id: drafted.id.clone(), ..drafted };
        let (status, problem) = place.hand_in(&edited, &signed);
        assert!(status >= 400 && !problem["code"].is_null(), "{to}: {problem}");
    }
    assert_eq!(place.get("/v1/ceremonies?state=all")["ceremonies"], json!([]));
}

#[test]
fn a_denied_or_withdrawn_proposal_is_approved_by_nobody_any_more() {
    let place = Place::new();
    for (word, person, why, state) in
        [(Word::Deny, "carol", "already_denied", "denied"), (Word::Withdraw, "kim", "withdrawn", "withdrawn")]
    {
        let ceremony = create(&place, "kim");
        place.approve(&ceremony, &["bob"]);
        let (status, view) = place.hand_over(&ceremony, &ceremony.signed(word, person));
        assert_eq!((status, view["state"].as_str()), (200, Some(state)), "{view}");
        place.refused(&place.hand_over(&ceremony, &ceremony.signed(Word::Approve, "alice")), "ceremony_state", why);
        place.refused(&place.execute(&ceremony), "ceremony_state", why);
    }
    assert_eq!(place.get("/v1/keyrings")["keyrings"], json!([]));
}

#[test]
fn an_approval_does_not_outlive_what_it_was_given_for() {
    let place = Place::new();
    place.keyring();
    let rotate = json!({ "keyring": "patients", "trigger": "schedule" });
    let (first, second) = (place.propose("keyring.rotate", &rotate), place.propose("keyring.rotate", &rotate));
    place.approve(&first, &["bob"]);
    place.approve(&second, &["bob"]);
    assert_eq!(place.execute(&first).0, 200);
    assert_eq!(place.state(&second), "superseded");
    place.refused(&place.execute(&second), "ceremony_state", "superseded");
    place.refused(&place.hand_over(&second, &second.signed(Word::Approve, "carol")), "ceremony_state", "superseded");
    assert_eq!(place.versions().len(), 2, "it was rotated once");

    let old = place.propose("keyring.rotate", &rotate);
    place.approve(&old, &["bob"]);
    place.advance(25 * 3600);
    assert_eq!(place.state(&old), "expired");
    place.refused(&place.execute(&old), "ceremony_state", "expired");
    let late = but(&old, |it| it.expires_s = old.not_after + DAY);
    let late = late.replace("\nbob\n", "\ncarol\n");
    place.refused(&place.hand_over(&old, &sealed(&late, &key("carol"), REHEARSAL)), "ceremony_state", "expired");
    assert_eq!(place.versions().len(), 2);
}

#[test]
fn a_custodian_revoked_between_approval_and_execution_has_approved_nothing() {
    let place = Place::new();
    let ceremony = create(&place, "kim");
    let view = place.approve(&ceremony, &["bob"]);
    assert_eq!(view["state"], "ready", "{view}");
    let (status, view) = place.post("/v1/custodians/bob/revoke", &json!({ "reason": "for-cause" }));
    assert_eq!((status, &view["margin"]), (200, &json!(0)), "{view}");
    assert_eq!(view["problems"].as_array().unwrap().len(), 1, "{view}");
    assert_eq!(place.record("custodian.revoked", "done")["facts"]["person"], "bob");
    place.refused(&place.execute(&ceremony), "ceremony_state", "superseded");
    let ceremony = create(&place, "kim");
    place.refused(&place.hand_over(&ceremony, &ceremony.signed(Word::Approve, "bob")), "not_approved", "revoked_key");
    nobody_has_approved(&place, &ceremony);
    assert_eq!(place.get("/v1/keyrings")["keyrings"], json!([]));
}

#[test]
fn while_the_clock_is_not_synchronised_nothing_beyond_tier_one_is_carried_out() {
    let place = Place::new();
    place.keyring();
    let check = place.setup.root().join("synchronised");
    let ceremony = place.propose("keyring.configure", &json!({ "keyring": "patients", "cryptoperiod_days": "30" }));
    place.approve(&ceremony, &["bob", "carol"]);
    std::fs::remove_file(&check).unwrap();
    place.refused(&place.execute(&ceremony), "not_due", "clock_unsynchronised");
    assert_eq!(place.state(&ceremony), "quorum_met");
    super::eventually("readiness tells it", || {
        place.health("/readyz?verbose").contains("the clock is not synchronised")
    });
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }), &["carol"]);
    // What it rested on is another keyring now; of a new one the clock is asked again.
    let ceremony = place.propose("keyring.configure", &json!({ "keyring": "patients", "cryptoperiod_days": "30" }));
    place.approve(&ceremony, &["bob", "carol"]);
    place.refused(&place.execute(&ceremony), "not_due", "clock_unsynchronised");
    std::fs::write(&check, "").unwrap();
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
}
