//! Exceptions end by themselves, and whoever broke the glass does not say afterwards that it was right.

use keyward::policy::approval::{Decision, Word};
use serde_json::{Value, json};

use super::{Ceremony, DAY, Place, REHEARSAL, eventually, key, sealed};
use crate::requests::records;

fn break_glass(place: &Place) -> Ceremony {
    let parameters =
        json!({ "principal": "demo", "keyring": "patients", "minutes": "30", "reason": "outage", "ticket": "INC-9" });
    let ceremony = place.propose_by("rosa", "break-glass.open", &parameters);
    place.approve(&ceremony, &["bob"]);
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    ceremony
}

fn review(place: &Place, ceremony: &Ceremony, person: &str, verdict: &str) -> (u16, Value) {
    let text = Decision {
        ceremony: ceremony.id.clone(),
        digest: ceremony.digest,
        word: Word::Review,
        person: person.parse().unwrap(),
        reason: verdict.to_owned(),
        expires_s: place.now() + DAY,
    };
    let signed = sealed(&text.text(), &key(person), REHEARSAL);
    place.post(&format!("/v1/grants/{}/review", ceremony.id), &signed)
}

fn grant(place: &Place, ceremony: &Ceremony) -> Value {
    let all = place.get("/v1/grants")["grants"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["id"] == ceremony.id.as_str()).unwrap()
}

/// The record of its end by itself.
fn ended(place: &Place, ceremony: &Ceremony) -> bool {
    let of = |record: &Value| record["event"] == "grant.ended" && record["facts"]["ceremony"] == ceremony.id.as_str();
    records(&place.setup).iter().any(of)
}

#[test]
fn a_broken_glass_opens_until_its_end_and_not_a_moment_longer() {
    let place = Place::new();
    place.keyring();
    let (_, sealed) = place.seal();
    assert_eq!(place.open(&sealed, "TREAT"), 200);
    assert_eq!(place.open(&sealed, "BTG"), 403);
    let ceremony = break_glass(&place);
    assert_eq!(place.open(&sealed, "BTG"), 200);
    assert_eq!(place.open(&sealed, "HRESCH"), 403, "it is for one purpose");
    let record = place.record("grant.break_glass", "done");
    let facts = &record["facts"];
    assert_eq!((&facts["ceremony"], &facts["keyring"]), (&json!(ceremony.id), &json!("default/patients")), "{record}");
    assert_eq!((&facts["person"], &facts["grant_kind"]), (&json!("demo"), &json!("break-glass")), "{record}");
    let shown = grant(&place, &ceremony);
    assert_eq!((&shown["in_force"], &shown["review"]["overdue"]), (&json!(true), &json!(false)), "{shown}");
    eventually("metrics tell it", || place.health("/metrics").contains("\nkeyward_grants_in_force 1\n"));
    assert!(!ended(&place, &ceremony));

    place.advance(31 * 60);
    assert_eq!(place.open(&sealed, "BTG"), 403);
    assert_eq!(place.open(&sealed, "TREAT"), 200);
    assert_eq!(grant(&place, &ceremony)["in_force"], false);
    eventually("its end is recorded", || ended(&place, &ceremony));
    eventually("metrics tell it", || place.health("/metrics").contains("\nkeyward_grants_in_force 0\n"));
}

#[test]
fn a_broken_glass_is_reviewed_once_and_by_somebody_who_had_no_part_in_it() {
    let place = Place::new();
    place.keyring();
    let ceremony = break_glass(&place);
    place.refused(&review(&place, &ceremony, "rosa", "justified"), "not_approved", "review_does_not_count");
    place.refused(&review(&place, &ceremony, "bob", "justified"), "not_approved", "review_does_not_count");
    let signed = ceremony.signed(Word::Approve, "victor");
    let answer = place.post(&format!("/v1/grants/{}/review", ceremony.id), &signed);
    place.refused(&answer, "not_approved", "review_does_not_count");
    assert_eq!(grant(&place, &ceremony)["review"]["by"], Value::Null);

    let (status, answer) = review(&place, &ceremony, "victor", "not-justified");
    assert_eq!(status, 200, "{answer}");
    let shown = grant(&place, &ceremony);
    assert_eq!(
        (&shown["review"]["by"], &shown["review"]["verdict"]),
        (&json!("victor"), &json!("not-justified")),
        "{shown}"
    );
    let record = place.record("grant.reviewed", "done");
    let facts = (&record["facts"]["person"], &record["facts"]["verdict"]);
    assert_eq!(facts, (&json!("victor"), &json!("not-justified")), "{record}");
    place.refused(&review(&place, &ceremony, "victor", "justified"), "ceremony_state", "already_reviewed");
}

#[test]
fn a_review_that_nobody_makes_is_shown_until_it_is_made_also_after_a_restart() {
    let mut place = Place::new();
    place.keyring();
    let ceremony = break_glass(&place);
    let words = format!("the break-glass {} should have been reviewed by", ceremony.id);
    let told = |place: &Place| {
        let metrics = place.health("/metrics").contains("\nkeyward_reviews_overdue 1\n");
        metrics && place.health("/readyz?verbose").contains(&words)
    };
    assert!(!told(&place));
    place.advance(73 * 3600);
    eventually("it is told", || told(&place));
    assert_eq!(grant(&place, &ceremony)["review"]["overdue"], true);
    place.restart();
    place.advance(73 * 3600);
    eventually("it is told", || told(&place));
    let (status, answer) = review(&place, &ceremony, "victor", "justified");
    assert_eq!(status, 200, "{answer}");
    eventually("it is told no more", || {
        place.health("/metrics").contains("\nkeyward_reviews_overdue 0\n")
            && !place.health("/readyz?verbose").contains(&words)
    });
}

#[test]
fn a_glass_is_broken_by_responders_and_approved_within_minutes() {
    let place = Place::new();
    place.keyring();
    let parameters =
        json!({ "principal": "demo", "keyring": "patients", "minutes": "30", "reason": "outage", "ticket": "INC-9" });
    let drafted = place.draft("break-glass.open", &parameters, "kim");
    place.refused(&place.hand_in(&drafted, &drafted.signed(Word::Propose, "kim")), "not_approved", "may_not_propose");
    let ceremony = place.propose_by("rosa", "break-glass.open", &parameters);
    place.refused(&place.execute(&ceremony), "ceremony_state", "not_ready");
    place.approve(&ceremony, &["carol"]);
    place.advance(16 * 60);
    place.refused(&place.execute(&ceremony), "ceremony_state", "expired");
    assert_eq!(place.get("/v1/grants")["grants"], json!([]));
}

#[test]
fn one_person_ends_a_grant_before_its_time() {
    let place = Place::new();
    place.keyring();
    let (_, sealed) = place.seal();
    let parameters =
        json!({ "principal": "demo", "keyring": "patients", "purpose": "HRESCH", "minutes": "60", "reason": "study" });
    assert_eq!(place.open(&sealed, "HRESCH"), 403);
    let ceremony = place.carry_out("grant.give", &parameters, &["carol"]);
    assert_eq!(place.open(&sealed, "HRESCH"), 200);
    assert_eq!(place.open(&sealed, "BTG"), 403, "a grant breaks no glass");
    place.refused(&review(&place, &ceremony, "victor", "justified"), "ceremony_state", "no_review");
    let end = || place.post(&format!("/v1/grants/{}/end", ceremony.id), &json!({}));
    assert_eq!(end().0, 200);
    assert_eq!(place.open(&sealed, "HRESCH"), 403);
    assert_eq!(place.record("grant.ended", "done")["facts"]["ceremony"], ceremony.id.as_str());
    place.refused(&end(), "ceremony_state", "grant_ended");
}
