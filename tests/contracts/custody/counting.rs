//! What is enough, and who does not count? A rule a test, each with what holds and with the attempt that must fail.

use keyward::clock::Wall;
use keyward::policy::approval::Word;
use keyward::policy::quorum::{Matter, Tallied, check_review, count, count_change, tally};
use keyward::policy::separation::{Separation, Tier};

use super::{CEREMONY, DAY, DEADLINE, DIGEST, NOW, PEOPLE, SHIPPED, World, matter};

const TWO: &[&str] = &["alice", "bob"];

/// Why this person's approval does not count.
fn left_out(tallied: &Tallied, person: &str) -> &'static str {
    let found = tallied.left_out.iter().find(|(name, _)| name.as_str() == person);
    found.unwrap_or_else(|| panic!("{person} counts: {tallied:?}")).1
}

#[test]
fn enough_people_are_a_quorum_bound_to_the_proposal_and_its_deadline() {
    let world = World::new();
    let quorum = world.count(Tier::Two, "kim", TWO).unwrap();
    assert_eq!((quorum.ceremony(), quorum.digest(), quorum.action()), (CEREMONY, DIGEST, "keyring.rotate"));
    assert_eq!((quorum.tier(), quorum.deadline(), quorum.is_rehearsal()), (Tier::Two, DEADLINE, false));
    assert_eq!(quorum.keyring().map(ToString::to_string).as_deref(), Some("default/patients"));
    assert_eq!(quorum.initiator().as_str(), "kim");
    assert_eq!(quorum.people().iter().map(|person| person.as_str()).collect::<Vec<_>>(), TWO);
}

#[test]
fn each_tier_asks_for_its_number_of_people_beside_the_initiator() {
    let world = World::new();
    for (tier, initiator, needed) in
        [(Tier::One, "kim", 1), (Tier::Two, "kim", 2), (Tier::Three, "kim", 2), (Tier::BreakGlass, "rosa", 1)]
    {
        assert!(world.count(tier, initiator, &["alice", "bob", "carol"][..needed]).is_ok(), "{tier}");
        let tallied = world.count(tier, initiator, &["alice", "bob", "carol"][..needed - 1]).unwrap_err();
        assert_eq!(
            (tallied.have, tallied.needed),
            (u32::try_from(needed - 1).unwrap(), u32::try_from(needed).unwrap())
        );
        assert!(tallied.missing[0].contains("1 more custodian must approve"), "{tallied:?}");
    }
}

#[test]
fn the_initiator_does_not_approve() {
    let world = World::new();
    assert!(world.count(Tier::One, "alice", &["bob"]).is_ok());
    let tallied = world.count(Tier::One, "alice", &["alice"]).unwrap_err();
    assert_eq!((tallied.have, left_out(&tallied, "alice")), (0, "proposed it, and the initiator does not approve"));
}

#[test]
fn people_are_counted_and_not_keys() {
    let world = World::new();
    let propose = world.says(Word::Propose, "kim");
    let both = [
        propose,
        world.says(Word::Approve, "bob"),
        world.types(Word::Approve, "bob"),
        world.says(Word::Approve, "bob"),
    ];
    let tallied = world.count_all(Tier::Two, "kim", &both).unwrap_err();
    assert_eq!((tallied.have, tallied.groups, tallied.lines), (1, 1, 1));
    assert!(tallied.left_out.is_empty());
}

#[test]
fn approvals_come_from_two_groups() {
    let one_group = SHIPPED.replace("\"privacy\"", "\"security\"");
    let world = World::of(&one_group, PEOPLE);
    assert!(world.count(Tier::Two, "kim", &["alice", "carol"]).is_ok());
    let tallied = world.count(Tier::Two, "kim", TWO).unwrap_err();
    assert_eq!((tallied.have, tallied.groups, tallied.lines), (2, 1, 2));
    assert!(tallied.missing.len() == 1 && tallied.missing[0].contains("of another group"), "{tallied:?}");
}

#[test]
fn approvals_come_from_two_reporting_lines() {
    // One manager; one above the other; and one far above the other.
    let same = SHIPPED.replacen("manager = \"peter\"", "manager = \"sofia\"", 1);
    let above = SHIPPED.replacen("manager = \"peter\"", "manager = \"alice\"", 1);
    let far = above.replacen("manager = \"alice\"", "manager = \"peter\"", 1);
    let far = far.replace("[person.peter]\nroles = []", "[person.peter]\nroles = []\nmanager = \"alice\"");
    for file in [same, above, far] {
        let world = World::of(&file, PEOPLE);
        assert!(world.count(Tier::Two, "kim", &["bob", "carol"]).is_ok());
        let tallied = world.count(Tier::Two, "kim", TWO).unwrap_err();
        assert_eq!((tallied.have, tallied.groups, tallied.lines), (2, 2, 1));
        assert!(tallied.missing.len() == 1 && tallied.missing[0].contains("reporting line"), "{tallied:?}");
        assert!(world.count(Tier::Two, "kim", &["alice", "bob", "carol"]).is_ok(), "one more never makes it fewer");
    }
}

#[test]
fn the_person_whom_a_change_concerns_neither_approves_nor_denies_it() {
    let world = World::new();
    let (kim, concerns) = ("kim".parse().unwrap(), ["bob".parse().unwrap()]);
    let matter = Matter { concerns: &concerns, ..matter(Tier::Two, &kim) };
    let tally = |decisions: &[_]| tally(&world.separation, &world.roster, &matter, decisions, NOW);
    let says = |word, person| world.says(word, person);
    let propose = says(Word::Propose, "kim");
    let tallied = tally(&[propose.clone(), says(Word::Approve, "alice"), says(Word::Approve, "bob")]);
    assert_eq!((tallied.have, left_out(&tallied, "bob")), (1, "is concerned by it"));
    let others = [propose, says(Word::Approve, "alice"), says(Word::Approve, "carol"), says(Word::Deny, "bob")];
    assert!(tally(&others).is_met());
}

#[test]
fn only_custodians_approve() {
    let world = World::new();
    for person in ["kim", "rosa", "victor"] {
        let tallied = world.count(Tier::One, "alice", &[person]).unwrap_err();
        assert_eq!(left_out(&tallied, person), "is not a custodian");
    }
}

#[test]
fn only_key_administrators_propose_and_responders_break_the_glass() {
    let world = World::new();
    for (tier, initiator, fits) in [
        (Tier::One, "alice", true),
        (Tier::One, "kim", true),
        (Tier::One, "carol", false),
        (Tier::One, "rosa", false),
        (Tier::One, "victor", false),
        (Tier::BreakGlass, "rosa", true),
        (Tier::BreakGlass, "kim", false),
    ] {
        let counted = world.count(tier, initiator, &["bob"]);
        let told = counted.as_ref().err().map(|tallied| tallied.missing.join("; "));
        assert_eq!(counted.is_ok(), fits, "{tier} {initiator}");
        assert!(fits || told.unwrap().contains("may not propose this"));
    }
}

#[test]
fn the_initiator_has_signed_the_proposal() {
    let world = World::new();
    let approval = world.says(Word::Approve, "bob");
    for (other, told) in [
        (None, "has not signed the proposal"),
        (Some(world.says(Word::Propose, "alice")), "has not signed the proposal"),
        (Some(world.says(Word::Approve, "kim")), "has not signed the proposal"),
    ] {
        let decisions: Vec<_> = other.into_iter().chain([approval.clone()]).collect();
        let tallied = world.count_all(Tier::One, "kim", &decisions).unwrap_err();
        assert!(tallied.missing.len() == 1 && tallied.missing[0].contains(told), "{tallied:?}");
    }
}

#[test]
fn a_key_enrolled_for_less_than_a_day_does_not_count_at_tier_3() {
    let mut world = World::new();
    for (enrolled, counts) in [(NOW.0 - DAY, true), (NOW.0 - DAY + 1, false), (NOW.0 + 1, false)] {
        for credential in &mut world.roster.members[1].credentials {
            credential.enrolled = Wall(enrolled);
        }
        assert_eq!(world.count(Tier::Three, "kim", TWO).is_ok(), counts, "{enrolled}");
        assert!(world.count(Tier::Two, "kim", TWO).is_ok());
        if !counts {
            let tallied = world.count(Tier::Three, "kim", TWO).unwrap_err();
            assert!(left_out(&tallied, "bob").contains("less than 24 hours"));
        }
    }
}

#[test]
fn tier_2_and_above_count_tokens_that_saw_a_touch_and_a_pin() {
    let world = World::new();
    let excepted = "\n[software-keys]\npeople = [\"bob\", \"rosa\"]\nreason = \"their tokens are ordered\"\n";
    let exception = World::of(&format!("{SHIPPED}{excepted}"), PEOPLE);
    for (tier, initiator, needed) in [
        (Tier::One, "kim", false),
        (Tier::Two, "kim", true),
        (Tier::Three, "kim", true),
        (Tier::BreakGlass, "rosa", true),
    ] {
        let by = |world: &World, person: &str| {
            let propose = world.says(Word::Propose, initiator);
            let all = [propose, world.says(Word::Approve, "alice"), world.types(Word::Approve, person)];
            world.count_all(tier, initiator, &all[..])
        };
        let tallied = by(&world, "bob");
        let enough_without = tier == Tier::BreakGlass;
        assert_eq!(tallied.is_err(), needed && !enough_without, "{tier}");
        if let Err(tallied) = tallied {
            assert!(left_out(&tallied, "bob").contains("without a token"));
        }
        assert!(by(&exception, "bob").is_ok(), "{tier}: bob is excepted by name");
        assert_eq!(by(&exception, "carol").is_err(), needed && !enough_without, "{tier}: carol is not");
        // The one who proposes signs as those who approve.
        let proposed = |world: &World| {
            let all = [
                world.types(Word::Propose, initiator),
                world.says(Word::Approve, "alice"),
                world.says(Word::Approve, "bob"),
            ];
            world.count_all(tier, initiator, &all).is_ok()
        };
        assert_eq!(proposed(&world), !needed, "{tier}");
        assert_eq!(proposed(&exception), !needed || initiator == "rosa", "{tier}");
    }
}

#[test]
fn a_touched_token_without_a_pin_does_not_count_from_tier_2_on() {
    let world = World::new();
    let text = crate::custodians::decision(CEREMONY, DIGEST, Word::Approve, "bob", super::EXPIRES).text();
    let armoured = world.tokens["bob"].sign_with("keyward-ceremony", &text, crate::custodians::TOUCHED, 1);
    let touched = world.verify(&text, &armoured).unwrap();
    let all = [world.says(Word::Propose, "kim"), world.says(Word::Approve, "alice"), touched];
    assert!(world.count_all(Tier::One, "kim", &all).is_ok());
    let tallied = world.count_all(Tier::Two, "kim", &all).unwrap_err();
    assert!(left_out(&tallied, "bob").contains("PIN"));
}

#[test]
fn a_rehearsal_counts_keys_in_files_and_its_quorum_says_so() {
    let mut world = World::new();
    world.roster.environment = "development".to_owned();
    let (kim, types) = ("kim".parse().unwrap(), |word, person| world.types(word, person));
    let all = [types(Word::Propose, "kim"), types(Word::Approve, "alice"), types(Word::Approve, "bob")];
    let matter = |rehearsal| Matter { rehearsal, ..matter(Tier::Three, &kim) };
    let count = |roster: &_, rehearsal| count(&world.separation, roster, &matter(rehearsal), &all, NOW, DEADLINE);
    assert!(count(&world.roster, true).unwrap().is_rehearsal());
    let mut production = world.roster.clone();
    production.environment = "production".to_owned();
    for (roster, rehearsal) in [(&production, true), (&world.roster, false)] {
        let tallied = count(roster, rehearsal).unwrap_err();
        assert!(tallied.missing.join("; ").contains("the ceremony is not"), "{tallied:?}");
    }
}

#[test]
fn an_approval_of_another_proposal_or_ceremony_does_not_count() {
    let world = World::new();
    let kim = "kim".parse().unwrap();
    let all = [world.says(Word::Propose, "kim"), world.says(Word::Approve, "bob")];
    for other in [
        Matter { digest: [0xd2; 32], ..matter(Tier::One, &kim) },
        Matter { ceremony: "01jd-ceremonz", ..matter(Tier::One, &kim) },
    ] {
        let tallied = count(&world.separation, &world.roster, &other, &all, NOW, DEADLINE).unwrap_err();
        assert_eq!(left_out(&tallied, "bob"), "decided about another proposal");
        assert!(tallied.missing.join("; ").contains("kim decided about another proposal"));
    }
}

#[test]
fn an_approval_whose_time_is_over_does_not_count_any_more() {
    let world = World::new();
    let kim = "kim".parse().unwrap();
    let all = [world.says(Word::Propose, "kim"), world.says(Word::Approve, "bob")];
    for (at, counts) in [(super::EXPIRES * 1_000_000 - 1, true), (super::EXPIRES * 1_000_000, false)] {
        let counted = count(&world.separation, &world.roster, &matter(Tier::One, &kim), &all, Wall(at), DEADLINE);
        assert_eq!(counted.is_ok(), counts);
    }
}

#[test]
fn who_was_revoked_or_has_left_between_approval_and_count_does_not_count() {
    let mut world = World::new();
    let all = [world.says(Word::Propose, "kim"), world.says(Word::Approve, "alice"), world.says(Word::Approve, "bob")];
    assert!(world.count_all(Tier::Two, "kim", &all).is_ok());
    world.revoke("bob");
    let tallied = world.count_all(Tier::Two, "kim", &all).unwrap_err();
    assert_eq!(left_out(&tallied, "bob"), "signed with a key that was revoked");
    world.roster.members[1].credentials.remove(0);
    let tallied = world.count_all(Tier::Two, "kim", &all).unwrap_err();
    assert_eq!(left_out(&tallied, "bob"), "signed with a key that is not on the roster");
    world.roster.members.remove(1);
    let tallied = world.count_all(Tier::Two, "kim", &all).unwrap_err();
    assert_eq!(left_out(&tallied, "bob"), "is not on the roster");
    world.revoke("kim");
    assert_eq!(world.count_all(Tier::Two, "kim", &all).unwrap_err().missing.len(), 4);
    // A role that was taken away.
    let mut world = World::new();
    let without = SHIPPED.replace("[person.bob]\nroles = [\"custodian\"]", "[person.bob]\nroles = []");
    let more = "\n[person.eve]\nroles = [\"custodian\"]\ngroup = \"x\"\n[person.fay]\nroles = [\"custodian\"]\ngroup = \"y\"\n";
    world.separation = Separation::load(&format!("{without}{more}")).unwrap();
    let tallied = world.count_all(Tier::Two, "kim", &all).unwrap_err();
    assert_eq!(left_out(&tallied, "bob"), "is not a custodian");
}

#[test]
fn one_custodian_s_no_stops_it_and_so_does_the_initiator_s_withdrawal() {
    let world = World::new();
    let all = |word, person| {
        let yes = ["alice", "bob", "carol"].map(|person| world.says(Word::Approve, person));
        // With the key in a file: stopping is easier than going on.
        yes.into_iter().chain([world.says(Word::Propose, "kim"), world.types(word, person)]).collect::<Vec<_>>()
    };
    for (word, person, stops) in [
        (Word::Deny, "carol", true),
        (Word::Withdraw, "kim", true),
        (Word::Deny, "kim", false),
        (Word::Deny, "victor", false),
        (Word::Withdraw, "carol", false),
        (Word::Review, "carol", false),
    ] {
        let counted = world.count_all(Tier::Two, "kim", &all(word, person));
        assert_eq!(counted.is_err(), stops, "{word} of {person}");
        if let Err(tallied) = counted {
            assert!(tallied.missing.len() == 1 && tallied.missing[0].contains("a new proposal"), "{tallied:?}");
        }
    }
}

#[test]
fn a_no_to_another_proposal_stops_nothing_here() {
    let world = World::new();
    let text = crate::custodians::decision(CEREMONY, [0xd2; 32], Word::Deny, "carol", super::EXPIRES).text();
    let deny = world.verify(&text, &world.tokens["carol"].sign("keyward-ceremony", &text, 1)).unwrap();
    let all = [world.says(Word::Propose, "kim"), world.says(Word::Approve, "bob"), deny];
    assert!(world.count_all(Tier::One, "kim", &all).is_ok());
}

#[test]
fn a_change_of_quorum_needs_the_old_one_and_the_new_one() {
    let world = World::new();
    let stricter = SHIPPED.replacen("approvals = 1     #", "approvals = 2     #", 1);
    assert_ne!(stricter, SHIPPED);
    let stricter = Separation::load(&stricter).unwrap();
    let kim = "kim".parse().unwrap();
    let by = |change, people: &[&str]| {
        let yes = people.iter().map(|person| world.says(Word::Approve, person));
        let all: Vec<_> = yes.chain([world.says(Word::Propose, "kim")]).collect();
        count_change(change, &world.roster, &matter(Tier::One, &kim), &all, NOW, DEADLINE).is_ok()
    };
    let (old, new) = (&*world.separation, &*stricter);
    assert!(by((old, old), &["bob"]));
    assert!(!by((old, new), &["bob"]) && !by((new, old), &["bob"]));
    assert!(by((old, new), TWO) && by((new, old), TWO));
}

#[test]
fn break_glass_may_be_alone_only_where_the_file_says_so() {
    let world = World::new();
    assert!(world.count(Tier::BreakGlass, "rosa", &[]).is_err());
    let (head, tail) = SHIPPED.split_once("[break-glass]\napprovals = 1").unwrap();
    let alone = World::of(&format!("{head}[break-glass]\napprovals = 0{tail}"), PEOPLE);
    assert!(alone.count(Tier::BreakGlass, "rosa", &[]).unwrap().people().is_empty());
    let typed = [alone.types(Word::Propose, "rosa")];
    assert!(alone.count_all(Tier::BreakGlass, "rosa", &typed).is_err(), "her token is all there is");
    assert!(alone.count(Tier::BreakGlass, "kim", &[]).is_err());
    assert!(alone.count(Tier::One, "kim", &[]).is_err());
}

#[test]
fn a_broken_glass_is_reviewed_by_a_reviewer_who_did_not_break_it() {
    // Someone may be both, where the file lets them; not for the same glass.
    let both = SHIPPED
        .replace("roles = [\"reviewer\", \"responder\", \"key-administrator\"]", "roles = [\"reviewer\", \"auditor\"]");
    let both = both.replace("[\"responder\"]", "[\"responder\", \"reviewer\"]");
    let mut world = World::of(&both, PEOPLE);
    let rosa = "rosa".parse().unwrap();
    let check = |world: &World, review: &_| {
        check_review(&world.separation, &world.roster, &matter(Tier::BreakGlass, &rosa), review, NOW)
    };
    let victor = world.says(Word::Review, "victor");
    assert_eq!(check(&world, &victor), Ok(()));
    for (review, why) in [
        (world.says(Word::Review, "rosa"), "broke the glass, and somebody else reviews that"),
        (world.says(Word::Review, "alice"), "is not a reviewer"),
        (world.says(Word::Approve, "victor"), "decided something else"),
        (world.types(Word::Review, "victor"), "signed without a token that saw a touch and a PIN or fingerprint"),
    ] {
        assert_eq!(check(&world, &review), Err(why));
    }
    world.revoke("victor");
    assert_eq!(check(&world, &victor), Err("signed with a key that was revoked"));
}
