//! Proposals and documents have one text, and every other text is refused.

use keyward::ceremony::{Action, Ceremony, CeremonyId, Event, Outcome, Proposal};
use keyward::clock::Wall;
use keyward::policy::approval::Word;
use serde_json::Value;

use crate::ceremonies::{DAY, DESTROY, NOW, ROTATE, Stage};

/// The same document with one field otherwise, written canonically.
pub(super) fn changed(text: &str, pointer: &str, to: Value) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = to;
    keyward::policy::json::canonical(&value)
}

#[test]
fn cer_1_and_2_a_proposal_has_one_text_and_no_other_is_read() {
    let proposal = Stage::new().proposal(Action::KeyDestroy, DESTROY, "kim");
    let text = proposal.canonical();
    assert_eq!(Proposal::parse(&text).unwrap(), proposal);
    let keys: Vec<String> =
        serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().keys().cloned().collect();
    let expected = "action approvals ceremony cool_off effect environment groups initiator lines log nonce not_after not_before \
                    parameters policy reason roster schema separation settings store store_head targets ticket tier";
    assert_eq!(keys.join(" "), expected);
    for other in [
        text.replacen(':', ": ", 1),
        text.replacen("\"approvals\":2", "\"approvals\":2.0", 1),
        text.replacen("kim", "k\\u0069m", 1),
        text.replacen("{\"action\"", "{\"a\":1,\"action\"", 1),
        text.replacen("quarterly", "quart\u{e9}rly", 1),
        text.replacen("\"schema\":1", "\"schema\":2", 1),
        text.replacen("\"reason\":\"quarterly\",", "", 1),
        format!("{text}\n"),
        " ".repeat(40_000),
    ] {
        assert_ne!(other, text);
        assert!(Proposal::parse(&other).is_err(), "{other}");
    }
}

#[test]
fn cer_5_and_7_words_tiers_and_times_that_are_not_those_of_the_action_are_refused() {
    let text = Stage::new().proposal(Action::KeyDestroy, DESTROY, "kim").canonical();
    for (pointer, to) in [
        ("/effect", "Rotate the keyring patients.".into()),
        ("/parameters/after_days", "8".into()),
        ("/parameters/keyring", "other".into()),
        ("/tier", "1".into()),
        ("/action", "key.resume".into()),
        ("/reason", "Because I say so".into()),
        ("/ticket", "a b".into()),
        ("/store", "00".into()),
        ("/environment", "staging".into()),
        ("/roster", "ab".into()),
        ("/settings", "AB".repeat(32).into()),
        ("/targets/keyring~1patients", "ab".into()),
        ("/nonce", "00".into()),
        ("/not_after", (NOW / 1_000_000).into()),
        ("/not_after", (1_u64 << 53).into()),
        ("/ceremony", "81JD00000000000000000000000".into()),
        ("/initiator", "Kim".into()),
    ] {
        assert!(Proposal::parse(&changed(&text, pointer, to)).is_err(), "{pointer}");
    }
}

#[test]
fn cer_3_an_id_is_a_ulid_and_sorts_by_time() {
    assert_eq!(CeremonyId::new(Wall(0), [0; 10]).as_str(), "00000000000000000000000000");
    // The published example, 01ARZ3NDEKTSV4RRFFQ69G5FAV, is of 2016-07-30T23:54:10.259Z.
    let known = CeremonyId::new(Wall(1_469_922_850_259_000), [0xff; 10]);
    assert_eq!(known.as_str(), "01ARZ3NDEKZZZZZZZZZZZZZZZZ");
    let times = [NOW, NOW + 1_000, NOW + DAY];
    let ids: Vec<CeremonyId> = times.iter().map(|now| CeremonyId::new(Wall(*now), [0xff; 10])).collect();
    assert!(ids.is_sorted());
    for id in &ids {
        assert_eq!(id.as_str().parse::<CeremonyId>().as_ref(), Ok(id));
    }
    for bad in
        ["", "01ARYZ6S41", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01aryz6s410000000000000000", "01ARYZ6S41000000000000000U"]
    {
        assert!(bad.parse::<CeremonyId>().is_err(), "{bad}");
    }
}

#[test]
fn cer_6_every_byte_of_a_proposal_is_in_its_digest_and_its_words() {
    let mut stage = Stage::new();
    let proposal = stage.proposal(Action::KeyringRotate, ROTATE, "kim");
    let bytes = [b"keyward/proposal/v1\0".as_slice(), proposal.canonical().as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    assert_eq!(proposal.digest(), digest.as_ref());
    assert_eq!(keyward::ceremony::words::decode(&proposal.words()).as_deref(), Some(digest.as_ref()));
    // The same again but for what is random.
    assert_ne!(stage.proposal(Action::KeyringRotate, ROTATE, "kim").digest(), proposal.digest());
}

#[test]
fn cer_11_a_document_comes_back_as_it_was_at_every_stage_and_impossible_ones_are_refused() {
    let mut stage = Stage::new();
    let proposed = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    stage.pass(5);
    let met = ["alice", "bob"].iter().fold(proposed.clone(), |it, who| stage.decide(&it, Word::Approve, who).unwrap());
    stage.pass(DAY);
    let executing = stage.start(&met).unwrap();
    stage.pass(5);
    let outcome = Event::Finish { outcome: Outcome::Failed, why: Some("token_unreachable".to_owned()) };
    let failed = stage.step(&executing, outcome).unwrap();
    let denied = stage.decide(&met, Word::Deny, "carol").unwrap();
    for it in [&proposed, &met, &executing, &failed, &denied] {
        assert_eq!(Ceremony::parse(&it.body()).unwrap(), *it);
    }
    let body = failed.body();
    for (pointer, to) in [
        ("/opened/wall", (NOW + 9 * DAY).into()),
        ("/decisions/1/at", (NOW - 1).into()),
        ("/executing/at", (NOW - 1).into()),
        ("/end/at", (NOW + 1).into()),
        ("/end/kind", "denied".into()),
        ("/end/kind", "forgotten".into()),
        ("/met/wall", (NOW + 1).into()),
        ("/decisions", Value::Array(Vec::new())),
        ("/schema", 2.into()),
        ("/proposal", stage.proposal(Action::KeyringRotate, ROTATE, "kim").canonical().into()),
    ] {
        assert!(Ceremony::parse(&changed(&body, pointer, to)).is_err(), "{pointer}");
    }
    let no_quorum = body.replacen(&format!("\"met\":{{\"counted\":{},\"wall\":{}}},", 77 * DAY + 5, NOW + 5), "", 1);
    assert_ne!(no_quorum, body);
    assert!(Ceremony::parse(&no_quorum).is_err());
}
