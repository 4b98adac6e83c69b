//! Documents of custody as this format writes them, kept as files: what was signed once is read for ever, and read as it was
//! meant. Everything in them but the rules follows from numbers, so that they are made again here.

use keyward::ceremony::minutes::Minutes;
use keyward::ceremony::{Action, Ceremony, Event, Grant, Outcome, Proposal};
use keyward::clock::Wall;
use keyward::policy::approval::{Decision, Desk, Word};
use keyward::policy::roster::{Revocation, Roster};
use keyward::policy::separation::Separation;

use super::minutes::played_by;
use crate::ceremonies::{BREAK, DESTROY, HOUR, ROTATE, Stage, token};

/// Each with its name.
fn documents() -> Vec<(&'static str, String)> {
    let people = kept("separation.toml");
    let mut stage = Stage::with(&people, "production");
    let proposed = stage.propose(Action::KeyringRotate, ROTATE, "kim");
    let (decision, signature) = stage.signed(proposed.proposal(), Word::Approve, "alice", &token("alice"));
    let glass = stage.propose(Action::BreakGlassOpen, BREAK, "rosa");
    let glass = stage.start(&stage.decide(&glass, Word::Approve, "bob").unwrap()).unwrap();
    let grant = Grant::of(&glass, &stage.separation).unwrap();
    stage.pass(HOUR / 6);
    let (verdict, signed) = stage.signed(glass.proposal(), Word::Review, "victor", &token("victor"));
    let desk = Desk {
        roster: &stage.roster,
        separation: &stage.separation,
        namespace: stage.namespace(),
        last_counter: &|_| None,
    };
    let reviewed = grant.review(&verdict, &signed, &desk, Wall(stage.now)).unwrap();
    let executed = stage.step(&glass, Event::Finish { outcome: Outcome::Executed, why: None }).unwrap();
    let denied = stage.decide(&proposed, Word::Deny, "bob").unwrap();
    let mut roster = stage.roster.clone();
    (roster.generation, roster.previous) = (2, Some(stage.roster.digest()));
    let end = Revocation { at: Wall(stage.now), reason: "lost-token".to_owned(), by: "carol".parse().unwrap() };
    roster.members[1].credentials[0].revoked = Some(end);
    roster.members.truncate(3);
    let (minutes, export, _) = played_by(Stage::with(&people, "production"));
    vec![
        ("proposal.json", stage.proposal(Action::KeyDestroy, DESTROY, "kim").canonical()),
        ("decision.txt", decision),
        ("signature.txt", signature),
        ("proposed.json", proposed.body()),
        ("denied.json", denied.body()),
        ("executed.json", executed.body()),
        ("grant.json", grant.body()),
        ("reviewed.json", reviewed.body()),
        ("roster.json", roster.canonical()),
        ("minutes.json", minutes),
        ("export.json", export),
    ]
}

#[test]
fn documents_are_written_as_they_were_when_people_signed_them() {
    for (name, made) in documents() {
        assert_eq!(made, kept(name), "{name} is written otherwise: what was signed before has another digest now");
    }
}

#[test]
fn documents_that_were_kept_are_read_and_written_again_byte_for_byte() {
    for (name, written) in [
        ("proposal.json", Proposal::parse(&kept("proposal.json")).unwrap().canonical()),
        ("decision.txt", Decision::parse(&kept("decision.txt")).unwrap().text()),
        ("proposed.json", Ceremony::parse(&kept("proposed.json")).unwrap().body()),
        ("denied.json", Ceremony::parse(&kept("denied.json")).unwrap().body()),
        ("executed.json", Ceremony::parse(&kept("executed.json")).unwrap().body()),
        ("grant.json", Grant::parse(&kept("grant.json")).unwrap().body()),
        ("reviewed.json", Grant::parse(&kept("reviewed.json")).unwrap().body()),
        ("roster.json", Roster::parse(&kept("roster.json")).unwrap().canonical()),
        ("separation.toml", Separation::load(&kept("separation.toml")).unwrap().text().to_owned()),
        ("minutes.json", Minutes::parse(&kept("minutes.json")).unwrap().canonical()),
    ] {
        assert_eq!(written, kept(name), "{name}");
    }
}

fn kept(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors/custody").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
