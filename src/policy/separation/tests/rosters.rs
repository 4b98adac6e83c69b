//! Rosters: how one is written, and whether it fits the people.

use super::*;
use crate::policy::json;
use crate::policy::roster::RosterError;

fn told(edit: impl Fn(&mut Roster)) -> Vec<String> {
    let mut roster = roster();
    edit(&mut roster);
    Separation::load(SHIPPED).unwrap().check_roster(&roster)
}

#[test]
fn everybody_on_a_roster_is_known_and_signs_and_has_keys_of_their_own() {
    let one = |problems: Vec<String>, words: &str| {
        assert!(problems.len() == 1 && problems[0].contains(words), "{words}: {problems:?}");
    };
    assert!(told(|_| ()).is_empty());
    one(told(|roster| roster.members.push(member("mallory", &[9]))), "mallory is not in the separation file");
    for person in ["audrey", "dan", "oscar", "sofia"] {
        let words = format!("{person} holds none of the roles that sign");
        one(told(|roster| roster.members.push(member(person, &[9]))), &words);
    }
    assert!(told(|roster| roster.members.push(member("rosa", &[9]))).is_empty());
    assert!(told(|roster| roster.members.push(member("victor", &[9]))).is_empty());
    one(told(|roster| roster.members.push(member("victor", &[]))), "victor has no key");
    one(told(|roster| roster.members.push(member("victor", &[1]))), "alice and victor share the key SHA256:");
    one(told(|roster| roster.members.push(member("victor", &[9, 9]))), "victor has the key SHA256:");
    // A key that was revoked never comes back, for nobody.
    one(told(|roster| roster.members[0] = revoked(member("alice", &[4]))), "alice and kim share the key SHA256:");
    // Who has left may be gone from the file.
    assert!(told(|roster| roster.members.push(revoked(member("mallory", &[9])))).is_empty());
}

#[test]
fn the_margin_is_what_may_be_lost_and_a_revocation_goes_below_it() {
    let shipped = Separation::load(SHIPPED).unwrap();
    let mut roster = roster();
    assert_eq!((shipped.margin(&roster), shipped.check_margin(&roster).len()), (1, 0));
    for (index, margin) in [(0, 0), (1, -1), (2, -2)] {
        roster.members[index] = revoked(roster.members[index].clone());
        assert_eq!(shipped.margin(&roster), margin);
        assert!(shipped.check_margin(&roster)[0].contains("enrol more custodians"));
        assert!(shipped.check_roster(&roster).is_empty());
    }
}

#[test]
fn three_custodians_with_a_margin_and_tokens_found_a_production_store() {
    let shipped = Separation::load(SHIPPED).unwrap();
    assert!(shipped.check_genesis(&roster()).is_empty());
    let mut two = roster();
    two.members.remove(2);
    let problems = shipped.check_genesis(&two);
    assert!(problems[0].contains("2 custodians found no store") && problems[1].contains("margin of 0"), "{problems:?}");
    let mut typed = roster();
    typed.members[0].credentials[0].key = key(8, false);
    assert!(shipped.check_genesis(&typed)[0].contains("alice has no key in a token"));
    typed.environment = "development".to_owned();
    assert!(shipped.check_genesis(&typed).is_empty());
    typed.environment = "production".to_owned();
    let excepted = format!("{SHIPPED}\n[software-keys]\npeople = [\"alice\"]\nreason = \"x\"\n");
    assert!(Separation::load(&excepted).unwrap().check_genesis(&typed).is_empty());
    let mut stranger = roster();
    stranger.members.push(member("mallory", &[9]));
    assert_eq!(shipped.check_genesis(&stranger).len(), 1);
}

#[test]
fn a_roster_is_read_as_it_was_written_and_in_no_other_form() {
    let mut roster = roster();
    roster.members[1] = revoked(member("bob", &[2, 7]));
    for generation in [1, 2] {
        roster.generation = generation;
        roster.previous = (generation == 2).then_some([0x0f; 32]);
        let text = roster.canonical();
        assert_eq!(Roster::parse(&text).unwrap(), roster);
        assert_eq!(Roster::parse(&text).unwrap().digest(), roster.digest());
    }
    let text = roster.canonical();
    for (from, to) in [
        ("\"schema\":1", "\"schema\":0"),
        ("\"schema\":1", "\"schema\": 1"),
        ("\"generation\":2", "\"generation\":1"),
        ("\"generation\":2", "\"generation\":0"),
        ("\"generation\":2", "\"generation\":2.0"),
        ("\"environment\":\"production\"", "\"environment\":\"staging\""),
        ("\"environment\"", "\"environmen\""),
        ("{\"environment\"", "{\"a\":1,\"environment\""),
        ("\"person\":\"bob\"", "\"person\":\"Bob\""),
        ("\"person\":\"bob\"", "\"person\":\"alice\""),
        ("\"person\":\"bob\"", "\"person\":\"zoe\""),
        ("5e5e", "5E5E"),
        ("5e5e", "5e"),
        ("a lost token", "a lost tok\u{e9}n"),
        (" AAAA", "  AAAA"),
        ("\"key\":\"sk-", "\"key\":\"ck-"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert!(edited != text && matches!(Roster::parse(&edited), Err(RosterError::Malformed(_))), "{edited}");
    }
    assert_eq!(Roster::parse(&text.replace("\"schema\":1", "\"schema\":2")), Err(RosterError::Schema(2)));
}

#[test]
fn a_roster_s_digest_and_statement_are_as_written_down() {
    let roster = roster();
    let text = roster.canonical();
    assert!(
        text.starts_with("{\"environment\":\"production\",\"generation\":1,\"made_by\":\"genesis\",\"members\":[{")
    );
    assert!(json::read(&text).is_ok());
    let tagged = [b"keyward/roster/v1\0", text.as_bytes()].concat();
    assert_eq!(roster.digest(), crate::crypto::sha256(&[&tagged]));
    let statement = format!("keyward/roster/v1\n{}\nbob\n", "11".repeat(32));
    assert_eq!(Roster::statement(&[0x11; 32], &name("bob")), statement);
    let mine = key(2, true);
    assert_eq!(roster.holder(&mine).map(|(member, _)| member.person.as_str()), Some("bob"));
    assert!(roster.holder(&key(9, true)).is_none());
    assert!(roster.member(&name("kim")).is_some_and(Member::is_active) && roster.member(&name("zoe")).is_none());
    assert_eq!(roster.active().count(), 4);
}
