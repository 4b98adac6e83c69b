//! Access that ends by itself.

use std::time::Duration;

use keyward::ceremony::grant::{Kind, Lived};
use keyward::ceremony::{Action, Grant, GrantError, State};
use keyward::clock::Wall;
use keyward::policy::approval::{Desk, Word};

use crate::ceremonies::{BREAK, HOUR, NOW, SHIPPED, Stage, token};

fn broken(stage: &mut Stage) -> Grant {
    let it = stage.propose(Action::BreakGlassOpen, BREAK, "rosa");
    let it = stage.decide(&it, Word::Approve, "bob").unwrap();
    assert_eq!(Grant::of(&it, &stage.separation), Err(GrantError::NotGiven));
    Grant::of(&stage.start(&it).unwrap(), &stage.separation).unwrap()
}

#[test]
fn cer_16_a_grant_ends_by_the_earlier_of_two_clocks() {
    let mut stage = Stage::new();
    let grant = broken(&mut stage);
    assert_eq!((grant.kind, grant.principal.as_str(), grant.purpose.code()), (Kind::BreakGlass, "portal", "BTG"));
    assert_eq!(grant.lifetime(), Duration::from_secs(1_800));
    let lived = |seconds| Lived::For(Duration::from_secs(seconds));
    assert!(grant.in_force(Wall(NOW), lived(0)) && grant.in_force(Wall(NOW + HOUR / 2 - 1), lived(1_799)));
    assert!(!grant.in_force(Wall(NOW + HOUR / 2), lived(5)), "the wall clock says that it is over");
    assert!(!grant.in_force(Wall(NOW), lived(1_800)), "the clock was set back");
    assert!(!grant.in_force(Wall(NOW - 1), lived(5)), "before it began");
    assert!(grant.in_force(Wall(NOW + 1), Lived::Unknown { clock_synchronised: true }));
    assert!(
        !grant.in_force(Wall(NOW + 1), Lived::Unknown { clock_synchronised: false }),
        "nobody knows how long it lived"
    );
    let ended = grant.end("carol".parse().unwrap(), "done", Wall(NOW + 5)).unwrap();
    assert!(!ended.in_force(Wall(NOW + 6), lived(0)));
    assert_eq!(ended.end("carol".parse().unwrap(), "done", Wall(NOW + 7)), Err(GrantError::Ended));
    for one in [&grant, &ended] {
        assert_eq!(Grant::parse(&one.body()).unwrap(), *one);
    }
    let longer = grant.body().replace(&grant.not_after.to_string(), &(NOW + 25 * HOUR).to_string());
    assert!(Grant::parse(&longer).is_err());
}

#[test]
fn cer_17_a_broken_glass_is_reviewed_once_by_a_reviewer_who_had_no_part_in_it() {
    let mut stage = Stage::new();
    let it = stage.propose(Action::BreakGlassOpen, BREAK, "rosa");
    let it = stage.decide(&it, Word::Approve, "bob").unwrap();
    let grant = Grant::of(&stage.start(&it).unwrap(), &stage.separation).unwrap();
    assert!(
        grant.needs_review() && !grant.is_overdue(Wall(NOW + 72 * HOUR - 1)) && grant.is_overdue(Wall(NOW + 72 * HOUR))
    );
    stage.pass(HOUR / 6);
    let review = |word, person: &str| {
        let (text, signature) = stage.signed(it.proposal(), word, person, &token(person));
        let desk = Desk {
            roster: &stage.roster,
            separation: &stage.separation,
            namespace: "keyward-ceremony",
            last_counter: &|_| None,
        };
        grant.review(&text, &signature, &desk, Wall(stage.now))
    };
    for (word, person) in [(Word::Review, "rosa"), (Word::Review, "bob"), (Word::Approve, "victor")] {
        assert_eq!(review(word, person).unwrap_err().code(), "review_does_not_count", "{person}");
    }
    let reviewed = review(Word::Review, "victor").unwrap();
    assert!(!reviewed.needs_review() && !reviewed.is_overdue(Wall(NOW + 99 * HOUR)));
    assert_eq!(Grant::parse(&reviewed.body()).unwrap(), reviewed);
}

#[test]
fn a_responder_alone_breaks_the_glass_only_where_the_file_says_so() {
    let alone = SHIPPED.replace("approvals = 1           # 1 where", "approvals = 0           # 1 where");
    for (file, state) in [(SHIPPED, State::Proposed), (&alone, State::Ready)] {
        let mut stage = Stage::with(file, "production");
        let it = stage.propose(Action::BreakGlassOpen, BREAK, "rosa");
        assert_eq!(stage.state(&it), state);
        assert_eq!(stage.start(&it).is_ok(), state == State::Ready);
    }
    let mut stage = Stage::with(&alone, "production");
    let by_kim = stage.proposal(Action::BreakGlassOpen, BREAK, "kim");
    assert_eq!(stage.open(by_kim).unwrap_err().code(), "may_not_propose");
}
