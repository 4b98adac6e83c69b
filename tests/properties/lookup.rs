//! Whatever is asked of a look-up key, in whatever order: two versions live at most, and one writes unless the newest was
//! suspended or compromised by name.

use keyward::clock::{Mono, Wall};
use keyward::keyring::life::{
    By, Cause, Counted, Facts, Forbidden, KeyState, Life, MOST_LIVE, Now, Reason, Role, Statement, Step, Timekeeper,
    Trigger, rotate_lookup, step_lookup,
};
use proptest::prelude::*;

const START: u64 = 1_780_315_200_000_000;
const DAY: u64 = 86_400_000_000;

#[derive(Debug, Clone)]
enum Asked {
    Rotate,
    /// A version, modulo what there is, counted from the newest.
    Take(usize, Step),
    Pass(u64),
}

fn asked() -> impl Strategy<Value = Asked> {
    let step = prop::sample::select(vec![
        Step::Activate,
        Step::Suspend,
        Step::Resume,
        Step::Deactivate,
        Step::Compromise,
        Step::ScheduleDestroy { days: 7, statement: Statement([1; 32]) },
        Step::CancelDestroy,
        Step::Destroy,
    ]);
    prop_oneof![
        3 => Just(Asked::Rotate),
        8 => (0..4_usize, step).prop_map(|(at, step)| Asked::Take(at, step)),
        1 => (0..10 * DAY).prop_map(Asked::Pass),
    ]
}

fn now(passed: u64) -> Now {
    let mut keeper = Timekeeper::begin(Wall(START), Mono(0), Wall(START), Counted::default());
    keeper.now(Wall(START + passed), Mono(passed * 1_000))
}

fn live(versions: &[Life]) -> Vec<u32> {
    let active = versions.iter().zip(1..).filter(|(life, _)| life.state() == KeyState::Active);
    active.map(|(_, number)| number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_sequence_of_verbs_gives_a_look_up_key_more_than_two_live_versions_or_takes_its_current_one_in_passing(
        all in prop::collection::vec(asked(), 1..60)
    ) {
        let cause = Cause { reason: Reason::Created, by: By::Sidecar, ceremony: None };
        let mut versions = vec![Life::begun(now(0), &cause)];
        let mut passed = 0;
        for one in all {
            let before = live(&versions);
            match one {
                Asked::Pass(by) => passed += by,
                Asked::Rotate => {
                    let numbered: Vec<(u32, &Life)> = (1..).zip(&versions).collect();
                    match rotate_lookup(&numbered, Trigger::Incident, now(passed), By::Sidecar, None) {
                        Ok((number, life)) => {
                            prop_assert_eq!(usize::try_from(number).unwrap(), versions.len() + 1);
                            versions.push(life);
                        }
                        Err(why) => {
                            prop_assert_eq!(&why, &Forbidden::TwoLive { oldest: before[0] });
                            prop_assert_eq!(before.len(), MOST_LIVE, "there was room: {}", why);
                        }
                    }
                }
                Asked::Take(back, step) => {
                    let at = versions.len() - 1 - back % versions.len();
                    let numbered: Vec<(u32, &Life)> = (1..).zip(&versions).collect();
                    let others: Vec<(u32, &Life)> = numbered.iter().copied().filter(|(n, _)| *n != numbered[at].0).collect();
                    let facts = Facts::default();
                    if let Ok(next) = step_lookup(numbered[at], &others, step, &facts, now(passed), &cause) {
                        versions[at] = next;
                    }
                }
            }
            let after = live(&versions);
            prop_assert!(after.len() <= MOST_LIVE, "{:?}", after);
            let newest = u32::try_from(versions.len()).unwrap();
            let state = versions.last().unwrap().state();
            let current = (1..).zip(&versions).filter(|(n, life)| Role::of(*n, newest, life.state()) == Some(Role::Current));
            prop_assert_eq!(current.count(), usize::from(state == KeyState::Active));
            prop_assert!(
                matches!(state, KeyState::Active | KeyState::Suspended | KeyState::Compromised | KeyState::Destroyed),
                "the newest was taken away in passing: {:?}", state
            );
            prop_assert!(state != KeyState::Destroyed || versions.last().unwrap().entered(KeyState::Compromised).is_some());
        }
    }
}
