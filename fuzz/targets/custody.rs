//! The documents of custody: what is read has one text and keeps its rules, and what nobody signed nobody has decided.
#![no_main]

#[path = "../kept.rs"]
mod kept;

use std::fmt::Debug;
use std::time::Duration;

use keyward::ceremony::grant::Lived;
use keyward::ceremony::minutes::Minutes;
use keyward::ceremony::{Ceremony, Event, Grant, Proposal, World, words};
use keyward::clock::Wall;
use keyward::policy::approval::{Decision, verify};
use keyward::policy::json;
use keyward::policy::roster::Roster;
use keyward::policy::separation::{Role, Separation, Tier};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

use crate::kept::{DECISION, NOW, SIGNATURE, desk, founders};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    one_text(text, json::read, json::canonical);
    is_not_believed(DECISION, text);
    if one_text(text, Decision::parse, Decision::text).is_some() {
        is_not_believed(text, SIGNATURE);
    }
    one_text(text, Proposal::parse, Proposal::canonical).map(|it| proposal(&it));
    one_text(text, Roster::parse, Roster::canonical).map(|it| roster(&it));
    one_text(text, Separation::load, |rules| rules.text().to_owned()).map(|it| separation(&it));
    one_text(text, Grant::parse, Grant::body).map(|it| grant(&it));
    one_text(text, Ceremony::parse, Ceremony::body).map(|it| ceremony(&it));
    one_text(text, Minutes::parse, Minutes::canonical).map(|it| minutes(&it));
});

/// What is read is written as it was, and read again as the same.
fn one_text<T: PartialEq + Debug, E: Debug>(
    text: &str,
    read: impl Fn(&str) -> Result<T, E>,
    write: impl Fn(&T) -> String,
) -> Option<T> {
    let found = read(text).ok()?;
    assert_eq!(write(&found), text, "a second text of one document is read");
    assert_eq!(read(&write(&found)).expect("what was written is read"), found);
    Some(found)
}

/// One decision was signed, and it alone is believed.
fn is_not_believed(decision: &str, signature: &str) {
    let spaceless = |text: &str| text.split_ascii_whitespace().collect::<String>();
    let signed = decision == DECISION && spaceless(signature) == spaceless(SIGNATURE);
    assert!(signed || verify(&desk(), decision, signature, NOW).is_err(), "{decision:?} {signature:?}");
}

/// Whatever is proposed can be written into a ceremony, of which the words are those of the digest.
fn proposal(it: &Proposal) {
    assert_eq!(words::decode(&it.words()).as_deref(), Some(&it.digest()[..]));
    assert_eq!((it.effect.as_str(), it.tier), (it.action.effect(&it.parameters).as_str(), it.action.tier()));
    let text = format!(
        "keyward/decision/v1\n{}\n{}\npropose\n{}\n-\n2027-01-15T08:00:00Z\n",
        it.ceremony,
        hex::encode(it.digest()),
        it.initiator
    );
    let decided = json!({ "at": 2, "signature": SIGNATURE, "text": text });
    let opened = json!({ "counted": 1, "wall": 1 });
    let body = json!({ "decisions": [decided], "opened": opened, "proposal": it.canonical(), "schema": 1 });
    let read = Ceremony::parse(&json::canonical(&body)).expect("a proposal that is read can be opened");
    assert_eq!((read.proposal(), read.digest()), (it, it.digest()));
    ceremony(&read);
}

fn roster(it: &Roster) {
    assert!(it.members.windows(2).all(|pair| pair[0].person < pair[1].person), "members twice or unsorted");
    for member in &it.members {
        assert_eq!(it.member(&member.person), Some(member));
        assert_eq!(member.is_active(), it.active().any(|active| active == member));
        for held in &member.credentials {
            assert!(it.holders(&held.key).any(|(of, credential)| (of, credential) == (member, held)));
        }
    }
    // Checking says what is wrong with any roster, and a margin is never more than its people.
    founders().1.check_roster(it);
    assert!(founders().1.margin(it) < i64::try_from(it.members.len().max(1)).expect("few members"));
}

/// No file asks for less than the floors, whatever it says (see `policy/separation/rules.rs`).
fn separation(it: &Separation) {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let floors = [
        (Tier::One, 1, 1, hours(24), hours(0)),
        (Tier::Two, 2, 2, hours(72), hours(0)),
        (Tier::Three, 2, 2, hours(168), hours(24)),
    ];
    for (tier, people, spread, expires, cool_off) in floors {
        let rule = it.rule(tier);
        assert!(rule.approvals >= people && rule.groups >= spread && rule.lines >= spread, "{tier}: {rule:?}");
        assert!(rule.expires <= expires && rule.cool_off >= cool_off && !rule.expires.is_zero(), "{tier}: {rule:?}");
        assert!(rule.hardware || tier == Tier::One, "{tier}: {rule:?}");
    }
    let glass = it.break_glass();
    assert!(
        glass.use_for <= hours(1) && glass.approve_within <= hours(1) && glass.review_within <= hours(72),
        "{glass:?}"
    );
    for (name, person) in it.people() {
        assert!(!it.stands_above(name, name), "{name} stands above themselves");
        let has = |role: Role| person.roles.contains(&role);
        assert!(!has(Role::Custodian) || person.group.is_some(), "{name} judges for no group");
        assert!(!has(Role::Developer) || person.roles.len() == 1, "{name} develops and does more");
        assert!(!(has(Role::Custodian) && has(Role::Auditor)), "{name} audits what they decide");
        assert!(!(has(Role::Custodian) && has(Role::Responder)), "{name} approves what they use");
    }
}

fn grant(it: &Grant) {
    assert!(it.lifetime() <= Duration::from_secs(86_400), "{it:?}");
    for lived in [Lived::For(Duration::ZERO), Lived::Unknown { clock_synchronised: true }] {
        assert!(!it.in_force(Wall(it.not_after), lived) && !it.in_force(Wall(u64::MAX), lived), "{it:?}");
        assert!(it.since == 0 || !it.in_force(Wall(it.since - 1), lived), "{it:?}");
    }
    assert!(it.review(DECISION, SIGNATURE, &desk(), NOW).is_err(), "an approval of something else reviews {it:?}");
    if let Ok(ended) = it.end("carol".parse().expect("a name"), "ended", Wall(it.since)) {
        assert_eq!(Grant::parse(&ended.body()).as_ref(), Ok(&ended));
        assert!(!ended.in_force(Wall(ended.since), Lived::For(Duration::ZERO)), "{ended:?}");
        assert!(ended.end("bob".parse().expect("a name"), "ended", Wall(it.since)).is_err());
    }
}

/// A document alone brings nothing about: where nobody is on the roster, nobody has agreed, whatever the document says.
fn ceremony(it: &Ceremony) {
    let proposal = it.proposal();
    for one in it.decisions() {
        let said = Decision::parse(&one.text).expect("a decision that was taken is one");
        assert_eq!((said.ceremony.as_str(), said.digest), (proposal.ceremony.as_str(), it.digest()));
    }
    let (mut nobody, rules) = founders().clone();
    nobody.members.clear();
    let now = &proposal.preconditions;
    let world = World {
        now: Wall(it.end().map_or(it.opened().wall, |end| end.at)),
        counted: u64::MAX,
        clock_synchronised: true,
        separation: &rules,
        next_separation: None,
        roster: &nobody,
        policy: &now.policy,
        settings: &now.settings,
        targets: &now.targets,
        margin: 9,
        last_counter: &|_| None,
    };
    assert_eq!(it.tally(&world).have, 0, "{it:?}");
    let start = Event::Start { by: "kim".parse().expect("a name"), intent: 1 };
    assert!(it.step(start, &world).is_err(), "{it:?}");
    assert!(it.step(Event::Decide { text: DECISION, signature: SIGNATURE }, &world).is_err(), "{it:?}");
    if let Some(end) = it.end() {
        assert_eq!(it.state(&world), end.kind.state(), "what has ended stays so");
    }
}

/// What a terminal and a browser are shown is text, whoever wrote the names in it.
fn minutes(it: &Minutes) {
    let plain = |text: &str| text.chars().all(|c| matches!(c, ' '..='~' | '\n' | '\u{2014}'));
    assert!(plain(&it.text()), "{:?}", it.text());
    let html = it.html();
    let (_, mut shown) = html.split_once("<body>").expect("a page has a body");
    assert!(plain(shown), "{shown:?}");
    while let Some((_, tag)) = shown.split_once('<') {
        let known = TAGS.iter().find_map(|known| tag.strip_prefix(known));
        shown = known.unwrap_or_else(|| panic!("a tag that nobody wrote: {tag}"));
    }
}

const TAGS: &[&str] = &[
    "h1>", "/h1>", "h2>", "/h2>", "table>", "/table>", "tr>", "/tr>", "th>", "/th>", "td>", "/td>", "/body>", "/html>",
];
