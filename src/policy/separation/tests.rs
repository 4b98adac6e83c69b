use std::collections::BTreeSet;
use std::time::Duration;

use super::matrix::NEVER;
use super::{Role, Separation, SeparationError, Tier};
use crate::clock::Wall;
use crate::identity::PrincipalKind;
use crate::identity::sshsig::SshKey;
use crate::names::PrincipalName;
use crate::policy::roster::{Credential, Member, Revocation, Roster};

const SHIPPED: &str = include_str!("../../../policies/separation.toml");
const HOUR: u64 = 3_600;

fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

fn problems(text: &str) -> Vec<String> {
    Separation::load(text).unwrap_err().problems
}

/// The shipped file with something else in one place.
fn with(from: &str, to: &str) -> String {
    let edited = SHIPPED.replacen(from, to, 1);
    assert_ne!(edited, SHIPPED, "{from}");
    edited
}

/// That each file is refused with one problem, which has these words in it.
fn refused(cases: &[(&str, &str, &str)]) {
    for (from, to, told) in cases {
        let problems = problems(&with(from, to));
        assert!(problems.len() == 1 && problems[0].contains(told), "{to}: {problems:?}");
    }
}

#[test]
fn the_shipped_file_says_what_its_comments_say() {
    let shipped = Separation::load(SHIPPED).unwrap();
    for (tier, approvals, groups, lines, expires, cool_off, hardware) in [
        (Tier::One, 1, 1, 1, 24 * HOUR, 0, false),
        (Tier::Two, 2, 2, 2, 72 * HOUR, 0, true),
        (Tier::Three, 2, 2, 2, 168 * HOUR, 24 * HOUR, true),
        (Tier::BreakGlass, 1, 1, 1, 900, 0, true),
    ] {
        let rule = shipped.rule(tier);
        assert_eq!((rule.approvals, rule.groups, rule.lines), (approvals, groups, lines), "{tier}");
        assert_eq!((rule.expires.as_secs(), rule.cool_off.as_secs(), rule.hardware), (expires, cool_off, hardware));
    }
    assert_eq!(shipped.break_glass().use_for, Duration::from_secs(HOUR));
    assert_eq!(shipped.break_glass().review_within, Duration::from_secs(72 * HOUR));
    assert_eq!(shipped.recertify_every(), Duration::from_secs(90 * 24 * HOUR));
    assert!(shipped.has(&name("alice"), Role::Custodian) && !shipped.has(&name("kim"), Role::Custodian));
    assert!(!shipped.software_keys_count_for(&name("alice")));
    assert_eq!(shipped.text(), SHIPPED);
    assert_ne!(shipped.digest(), Separation::load(&format!("{SHIPPED}\n")).unwrap().digest());
}

#[test]
fn a_file_that_says_nothing_of_tiers_asks_for_three_approvals_at_tier_3() {
    let (people, _) = SHIPPED.split_once("[[conflict]]").unwrap();
    let told = problems(people);
    assert!(told.len() == 1 && told[0].contains("leave a margin of 0"), "{told:?}");
    let more = format!("{people}[person.eve]\nroles = [\"custodian\"]\ngroup = \"legal\"\n");
    let defaults = Separation::load(&more).unwrap();
    assert_eq!(defaults.rule(Tier::Three).approvals, 3);
    let shipped = Separation::load(SHIPPED).unwrap();
    for tier in [Tier::One, Tier::Two, Tier::BreakGlass] {
        assert_eq!(defaults.rule(tier), shipped.rule(tier));
    }
    assert_eq!(defaults.break_glass(), shipped.break_glass());
}

#[test]
fn two_roles_that_exclude_each_other_are_refused_with_the_person_and_both_roles() {
    let named: BTreeSet<_> = NEVER.iter().map(|(one, other, _)| (*one.min(other), *one.max(other))).collect();
    assert_eq!(named.len(), NEVER.len(), "a pair stands in the table twice");
    for (at, one) in Role::ALL.iter().enumerate() {
        for other in &Role::ALL[at + 1..] {
            let text = format!("{SHIPPED}\n[person.zoe]\ngroup = \"x\"\nroles = [\"{other}\", \"{one}\"]\n");
            let text = text.replace("\"reviewer\", \"responder\", \"key-administrator\"", "\"reviewer\", \"auditor\"");
            let nobody = [Role::Developer, Role::Service].iter().any(|role| [one, other].contains(&role));
            let by_file = (*one, *other) == (Role::Auditor, Role::Reviewer);
            match Separation::load(&text) {
                Ok(_) => assert!(!nobody && !by_file && !named.contains(&(*one, *other)), "{one} and {other}"),
                Err(SeparationError { problems }) => {
                    assert!(nobody || by_file || named.contains(&(*one, *other)), "{one} and {other}: {problems:?}");
                    let told = format!("zoe is {one} and {other} at once");
                    assert!(problems.len() == 1 && problems[0].starts_with(&told), "{problems:?}");
                }
            }
        }
    }
}

#[test]
fn the_rules_of_the_design_stand_in_the_table() {
    // Developers hold no production role; nobody who approves uses; nobody who audits operates.
    for (roles, who) in [
        ("[\"developer\", \"custodian\"]", "custodian and developer"),
        ("[\"developer\", \"operator\"]", "operator and developer"),
        ("[\"custodian\", \"responder\"]", "custodian and responder"),
        ("[\"custodian\", \"service\"]", "custodian and service"),
        ("[\"auditor\", \"operator\"]", "auditor and operator"),
        ("[\"auditor\", \"key-administrator\"]", "key-administrator and auditor"),
        ("[\"operator\", \"custodian\"]", "custodian and operator"),
    ] {
        let told = problems(&format!("{SHIPPED}\n[person.zoe]\ngroup = \"x\"\nroles = {roles}\n"));
        assert!(told.len() == 1 && told[0].contains(&format!("zoe is {who} at once")), "{told:?}");
    }
}

#[test]
fn a_rule_below_its_floor_is_refused() {
    refused(&[
        ("approvals = 1     # at least 1", "approvals = 0", "tier.1.approvals is 0, it is at least 1"),
        ("expires = \"24h\"", "expires = \"25h\"", "tier.1.expires is 25h, it is at most 1d"),
        ("expires = \"24h\"", "expires = \"0s\"", "tier.1.expires is zero"),
        ("cool_off = \"0s\"", "cool_off = \"24h\"", "nothing could ever be done"),
        ("approvals = 2     # at least 2\ngroups", "approvals = 1\ngroups", "tier.2.approvals is 1, it is at least 2"),
        ("groups = 2        # at least 2", "groups = 1", "tier.2.groups is 1, it is at least 2"),
        ("lines = 2         # at least 2;", "lines = 1 #", "tier.2.lines is 1, it is at least 2"),
        ("groups = 2        # at least 2", "groups = 3", "raise approvals to 3"),
        ("expires = \"72h\"", "expires = \"73h\"", "tier.2.expires is 73h, it is at most 3d"),
        ("approvals = 2     # at least 2; 3", "approvals = 1 # 3", "tier.3.approvals is 1, it is at least 2"),
        ("lines = 2         # at least 2\nexpires = \"7d\"", "lines = 1\nexpires = \"7d\"", "tier.3.lines is 1"),
        ("expires = \"7d\"", "expires = \"8d\"", "tier.3.expires is 8d, it is at most 7d"),
        ("cool_off = \"24h\"", "cool_off = \"23h\"", "tier.3.cool_off is 23h, it is at least 1d"),
        ("approve_within = \"15m\"", "approve_within = \"16m\"", "break-glass.approve_within is 16m"),
        ("use_for = \"60m\"", "use_for = \"61m\"", "break-glass.use_for is 61m, it is at most 1h"),
        ("review_within = \"72h\"", "review_within = \"4d\"", "break-glass.review_within is 4d"),
        ("custodians = 1", "custodians = 0", "margin.custodians is 0, it is at least 1"),
        ("every = \"90d\"", "every = \"366d\"", "recertification.every is 366d, it is at most 365d"),
    ]);
}

#[test]
fn what_is_stricter_than_the_floor_is_taken() {
    for (from, to) in [
        ("expires = \"24h\"", "expires = \"90s\""),
        ("cool_off = \"0s\"", "cool_off = \"30m\""),
        ("cool_off = \"24h\"", "cool_off = \"2d\""),
        ("approvals = 1     # at least 1", "approvals = 2"),
        ("use_for = \"60m\"", "use_for = \"15m\""),
        ("every = \"90d\"", "every = \"30d\""),
    ] {
        assert!(Separation::load(&with(from, to)).is_ok(), "{to}");
    }
    let alone = with("approvals = 1           # 1 where", "approvals = 0 # 1 where");
    assert_eq!(Separation::load(&alone).unwrap().rule(Tier::BreakGlass).approvals, 0);
}

#[test]
fn a_person_that_makes_no_sense_is_refused() {
    refused(&[
        ("group = \"privacy\"\n", "", "person.bob is a custodian without a group"),
        ("\"privacy\"", "[\"privacy\", \"security\"]", "person.bob.group names 2 groups"),
        ("\"privacy\"", "\"Privacy\"", "person.bob.group: \"Privacy\" does not match"),
        ("[\"auditor\"]", "[\"auditress\"]", "\"auditress\" is not a role"),
        ("[\"auditor\"]", "[\"auditor\", \"auditor\"]", "names auditor twice"),
        ("[\"auditor\"]", "\"auditor\"", "person.audrey.roles is not a list of texts"),
        ("roles = [\"auditor\"]", "", "person.audrey has no roles"),
        ("[person.audrey]", "[person.Audrey]", "person.Audrey: a person's name"),
        ("manager = \"peter\"", "manager = \"petra\"", "bob reports to petra, who is not in the file"),
        ("[person.sofia]\n", "[person.sofia]\nmanager = \"alice\"\n", "alice -> sofia -> alice report"),
        ("[person.sofia]\n", "[person.sofia]\nmanager = \"sofia\"\n", "sofia -> sofia report"),
    ]);
    let long = with("[person.sofia]\n", "[person.sofia]\nmanager = \"peter\"\n");
    let long = long.replace("[person.peter]\n", "[person.peter]\nmanager = \"clara\"\n");
    assert!(Separation::load(&long).is_ok());
    let circle = problems(&long.replace("[person.clara]\n", "[person.clara]\nmanager = \"sofia\"\n"));
    assert!(circle.len() == 1 && circle[0].contains("clara -> sofia -> peter -> clara"), "{circle:?}");
}

#[test]
fn keys_that_nobody_knows_and_values_of_other_types_are_refused() {
    refused(&[
        ("[margin]", "[margins]\nx = 1\n[margin]", "margins is not known"),
        ("[tier.1] ", "[tier.4]\n[tier.1] ", "tier.4 is not known"),
        ("groups = 1\n", "groups = 1\nhardware = false\n", "tier.1.hardware is not known"),
        ("group = \"privacy\"", "group = \"privacy\"\nteam = \"x\"", "person.bob.team is not known"),
        ("[[conflict]]", "[[conflict]]\nwhy = \"x\"", "conflict 1.why is not known"),
        ("[[conflict]]", "[[conflict]]\nroles = [\"auditor\"]\n[[conflict]]", "conflict 1 names fewer than two roles"),
        ("groups = 1\n", "groups = \"1\"\n", "tier.1.groups is not a whole number"),
        ("groups = 1\n", "groups = -1\n", "tier.1.groups is not a whole number"),
        ("expires = \"24h\"", "expires = 24", "tier.1.expires is not a text"),
        ("expires = \"24h\"", "expires = \"1.5h\"", "is not a duration"),
        ("expires = \"24h\"", "expires = \"24\"", "is not a duration"),
        ("schema = 1", "schema = 2", "has schema 2, this version reads schema 1"),
        ("schema = 1", "", "does not begin with schema = 1"),
        ("schema = 1", "schema = \"1\"", "does not begin with schema = 1"),
        ("groups = 1\n", "groups = \n", "line 71: "),
    ]);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = with("\"privacy\"", "[\"a\", \"b\"]").replace("custodians = 1", "custodians = 0\nx = 1");
    let told = problems(&text.replace("[\"auditor\"]", "[\"auditor\", \"operator\"]"));
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn the_exception_for_software_keys_is_by_name_and_with_a_reason() {
    let of = |text: &str| Separation::load(&format!("{SHIPPED}\n[software-keys]\n{text}\n"));
    let excepted = of("people = [\"alice\"]\nreason = \"tokens are ordered\"").unwrap();
    assert!(excepted.software_keys_count_for(&name("alice")) && !excepted.software_keys_count_for(&name("bob")));
    for (text, told) in [
        ("people = [\"alice\"]", "software-keys has no reason"),
        ("people = [\"alice\"]\nreason = \" \"", "software-keys has no reason"),
        ("people = [\"audrey\"]\nreason = \"x\"", "audrey, who holds no role that signs"),
        ("people = [\"nobody\"]\nreason = \"x\"", "nobody, who holds no role that signs"),
    ] {
        let problems = of(text).unwrap_err().problems;
        assert!(problems.len() == 1 && problems[0].contains(told), "{problems:?}");
    }
}

#[test]
fn a_file_that_locks_everybody_out_is_refused() {
    refused(&[
        ("[person.carol]\nroles = [\"custodian\"]", "[person.carol]\nroles = []", "leave a margin of 0"),
        ("approvals = 2     # at least 2; 3", "approvals = 3 # 3", "leave a margin of 0"),
        ("custodians = 1", "custodians = 2", "never below 2"),
    ]);
    let without = SHIPPED.replace(", \"key-administrator\"] #", "] #").replace("[\"key-administrator\"]", "[]");
    assert!(problems(&without)[0].contains("nobody is key-administrator"));
    let groups = SHIPPED.replace("\"privacy\"", "\"security\"").replace("\"clinical-it\"", "\"security\"");
    let told = problems(&groups);
    assert!(told.len() == 2 && told[0].starts_with("tier 2 asks for 2 approvals of 2 groups"), "{told:?}");
    // alice alone may propose, and without her everybody is in one line.
    let lines = without.replace("[\"custodian\"] #", "[\"custodian\", \"key-administrator\"] #");
    assert!(Separation::load(&lines).is_ok());
    let told = problems(&lines.replace("manager = \"peter\"", "manager = \"clara\""));
    assert!(told.len() == 2 && told[0].contains("whoever proposes"), "{told:?}");
}

#[test]
fn lines_are_managers_and_nobody_counts_beside_who_stands_above() {
    let shipped = Separation::load(SHIPPED).unwrap();
    assert_eq!((shipped.line(&name("alice")), shipped.line(&name("audrey"))), (name("sofia"), name("audrey")));
    assert!(shipped.stands_above(&name("sofia"), &name("alice")));
    assert!(
        !shipped.stands_above(&name("alice"), &name("sofia")) && !shipped.stands_above(&name("alice"), &name("alice"))
    );
    for (people, lines) in [
        (&["alice", "bob", "carol"][..], 3),
        (&["alice", "kim"], 1),
        (&["alice", "sofia"], 1),
        (&["alice", "sofia", "bob", "peter", "carol"], 3),
        (&["oscar", "carol", "rosa"], 1),
        (&[], 0),
    ] {
        let people: Vec<_> = people.iter().map(|person| name(person)).collect();
        assert_eq!(shipped.count_lines(&people), lines, "{people:?}");
    }
}

#[test]
fn configured_principals_are_people_of_the_file_with_a_fitting_role_and_services_are_not() {
    let shipped = Separation::load(SHIPPED).unwrap();
    let check = |who: &str, kind| shipped.check_principals(&[(name(who), kind)]);
    for (who, kind) in [
        ("portal", PrincipalKind::Service),
        ("alice", PrincipalKind::Custodian),
        ("kim", PrincipalKind::Custodian),
        ("rosa", PrincipalKind::Custodian),
        ("audrey", PrincipalKind::Auditor),
        ("oscar", PrincipalKind::Operator),
    ] {
        assert!(check(who, kind).is_empty(), "{who}");
    }
    for (who, kind, told) in [
        ("alice", PrincipalKind::Service, "is a person of the separation file and a configured service"),
        ("mallory", PrincipalKind::Custodian, "is not in the separation file"),
        ("dan", PrincipalKind::Custodian, "holds none of the roles"),
        ("dan", PrincipalKind::Operator, "holds none of the roles"),
        ("oscar", PrincipalKind::Custodian, "holds none of the roles"),
        ("audrey", PrincipalKind::Operator, "holds none of the roles"),
        ("alice", PrincipalKind::Auditor, "holds none of the roles"),
        ("sofia", PrincipalKind::Auditor, "holds none of the roles"),
    ] {
        let problems = check(who, kind);
        assert!(problems.len() == 1 && problems[0].contains(told), "{problems:?}");
    }
}

/// A key in a file, or in a token. Nobody signs with it here.
fn key(number: u8, token: bool) -> SshKey {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let point = string(&[number + 3; 32]);
    let blob = match token {
        true => [string(b"sk-ssh-ed25519@openssh.com"), point, string(b"ssh:")].concat(),
        false => [string(b"ssh-ed25519"), point].concat(),
    };
    SshKey::of_blob(&blob).unwrap()
}

fn credential(number: u8) -> Credential {
    Credential { key: key(number, true), enrolled: Wall(5), revoked: None }
}

fn member(person: &str, numbers: &[u8]) -> Member {
    let credentials = numbers.iter().map(|number| credential(*number)).collect();
    Member { person: name(person), since: Wall(5), recertify_by: Wall(6), acknowledgement: [0xac; 32], credentials }
}

fn roster() -> Roster {
    let members = [("alice", 1), ("bob", 2), ("carol", 3), ("kim", 4)];
    Roster {
        store: "00112233445566778899aabbccddeeff".to_owned(),
        environment: "production".to_owned(),
        generation: 1,
        previous: None,
        separation: [0x5e; 32],
        made_by: "genesis".to_owned(),
        members: members.iter().map(|(person, number)| member(person, &[*number])).collect(),
    }
}

fn revoked(mut member: Member) -> Member {
    for credential in &mut member.credentials {
        credential.revoked = Some(Revocation { at: Wall(9), reason: "a lost token".to_owned(), by: name("bob") });
    }
    member
}

mod rosters;
