use std::time::Duration;

use super::*;
use crate::clock::Mono;
use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Suspended};

const DAY: Duration = Duration::from_secs(86_400);
const NOON: Wall = Wall(1_780_315_200_000_000);

fn at(days: u64) -> Now {
    let passed = Duration::from_secs(days * 86_400);
    Now {
        wall: Wall(NOON.0 + u64::try_from(passed.as_micros()).unwrap()),
        counted: Counted::default().plus(passed),
        certainty: Certainty::Steady,
    }
}

fn why(reason: Reason) -> Cause {
    Cause { reason, by: By::Principal("operator".parse().unwrap()), ceremony: None }
}

fn statement() -> Statement {
    Statement::of("all values were rewrapped, see change 17").unwrap()
}

fn schedule(days: u32) -> Step {
    Step::ScheduleDestroy { days, statement: statement() }
}

fn take(life: &Life, step: Step, day: u64) -> Result<Life, Forbidden> {
    life.step(step, &Facts::default(), at(day), &why(Reason::Retired))
}

/// A life in each state, entered on day 0.
fn in_state(state: KeyState) -> Life {
    let begun = Life::begun(at(0), &why(Reason::Created));
    let steps: &[Step] = match state {
        PreActive => return Life::born(at(0), &why(Reason::Created)),
        Active => &[],
        Suspended => &[Step::Suspend],
        Deactivated => &[Step::Deactivate],
        Compromised => &[Step::Compromise],
        Destroyed => {
            let planned = take(&in_state(Deactivated), schedule(7), 0).unwrap();
            return take(&planned, Step::Destroy, 7).unwrap();
        }
    };
    steps.iter().fold(begun, |life, step| take(&life, *step, 0).unwrap())
}

const STEPS: &[Step] = &[
    Step::Activate,
    Step::Suspend,
    Step::Resume,
    Step::Deactivate,
    Step::Compromise,
    Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) },
    Step::CancelDestroy,
    Step::Destroy,
];

#[test]
fn every_edge_is_one_of_the_standard_and_every_other_step_is_refused() {
    let mut taken = std::collections::BTreeSet::new();
    for state in KeyState::ALL {
        for step in STEPS {
            let life = in_state(*state);
            assert_eq!(life.state(), *state);
            match take(&life, *step, 20) {
                Ok(next) if next.state() != *state => {
                    assert!(state.becomes().contains(&next.state()), "{state:?} {step:?} {next:?}");
                    taken.insert((*state, next.state()));
                }
                Ok(next) => assert_eq!((*step, next.plan().is_some()), (schedule_of_table(), true)),
                Err(Forbidden::State { state: said, .. }) => assert_eq!(said, *state),
                Err(Forbidden::NotPlanned) => assert!([PreActive, Deactivated, Compromised].contains(state)),
                Err(other) => panic!("{state:?} {step:?}: {other}"),
            }
            if matches!(state, PreActive | Deactivated | Compromised) {
                let planned = take(&in_state(*state), schedule(7), 0).unwrap();
                taken.insert((*state, take(&planned, Step::Destroy, 7).unwrap().state()));
            }
        }
    }
    let all = KeyState::ALL.iter().flat_map(|from| from.becomes().iter().map(|to| (*from, *to)));
    assert_eq!(taken, all.collect(), "every edge of the standard can be taken");
}

const fn schedule_of_table() -> Step {
    Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) }
}

#[test]
fn each_state_allows_what_the_standard_allows() {
    let table = [
        (PreActive, Allowed::No, Allowed::No),
        (Active, Allowed::Yes, Allowed::Yes),
        (Suspended, Allowed::No, Allowed::ByPolicy),
        (Deactivated, Allowed::No, Allowed::Yes),
        (Compromised, Allowed::No, Allowed::ByPolicy),
        (Destroyed, Allowed::No, Allowed::No),
    ];
    for (state, seal, open) in table {
        let life = in_state(state);
        assert_eq!((life.allows(Use::Seal), life.allows(Use::Open)), (seal, open), "{state:?}");
        assert_eq!((state.seals(), state.opens()), (seal == Allowed::Yes, open == Allowed::Yes), "{state:?}");
    }
}

#[test]
fn whoever_may_only_restrict_cannot_lift_a_suspension_by_deactivating() {
    assert_eq!(Step::Deactivate.action(Active), Action::KeyDeactivate);
    assert_eq!(Step::Deactivate.action(Suspended), Action::KeyResume);
    assert_eq!(Step::Resume.action(Suspended), Action::KeyResume);
}

#[test]
fn a_version_that_waits_to_be_destroyed_is_treated_as_suspended_and_is_itself_again_when_cancelled() {
    for state in [PreActive, Deactivated, Compromised] {
        let before = in_state(state);
        let planned = take(&before, schedule(30), 1).unwrap();
        assert_eq!(planned.state(), state);
        assert_ne!((planned.allows(Use::Seal), planned.allows(Use::Open)), (Allowed::Yes, Allowed::Yes));
        assert_ne!(planned.allows(Use::Open), Allowed::Yes, "{state:?}");
        assert_eq!(take(&planned, Step::CancelDestroy, 2).unwrap(), before);
        assert!(matches!(take(&planned, schedule(7), 2), Err(Forbidden::Planned { .. })));
    }
    let worse = take(&take(&in_state(Deactivated), schedule(7), 0).unwrap(), Step::Compromise, 1).unwrap();
    assert_eq!((worse.state(), worse.plan().is_some()), (Compromised, true));
    assert_eq!(take(&worse, Step::CancelDestroy, 2).unwrap().state(), Compromised);
}

#[test]
fn a_destruction_waits_a_week_to_a_month_by_both_clocks() {
    let life = in_state(Deactivated);
    for days in [0, 6, 31, u32::MAX] {
        assert_eq!(take(&life, schedule(days), 0), Err(Forbidden::Wait { days }));
    }
    let planned = take(&life, schedule(7), 0).unwrap();
    let destroy = |now: Now| planned.step(Step::Destroy, &Facts::default(), now, &why(Reason::Retired));
    let almost = Now { wall: at(7).wall, counted: Counted(at(7).counted.0 - 1), certainty: Certainty::Steady };
    let early = Now { wall: Wall(at(7).wall.0 - 1), ..at(7) };
    let year_ahead = Now { wall: at(400).wall, ..at(1) };
    let year_back = Now { wall: Wall(NOON.0 - 365 * 86_400_000_000), ..at(8) };
    for (now, left) in [(almost, 1), (early, 1), (year_ahead, 6 * 86_400_000_000), (year_back, 372 * 86_400_000_000)] {
        let left = Duration::from_micros(left);
        assert_eq!(destroy(now), Err(Forbidden::NotDue { due: at(7).wall, left }));
    }
    assert_eq!(destroy(Now { certainty: Certainty::Stepped, ..at(9) }), Err(Forbidden::Clock));
    let done = destroy(at(7)).unwrap();
    assert_eq!((done.state(), done.plan()), (Destroyed, None));
    assert_eq!(done.entered(Destroyed).unwrap().reason, Reason::Retired);
}

#[test]
fn what_is_named_or_was_opened_lately_is_not_destroyed_neither_now_nor_when_it_is_due() {
    let life = in_state(Deactivated);
    let planned = take(&life, schedule(7), 0).unwrap();
    let opened = |days: u64| Facts { opened: Some(at(days).wall), ..Facts::default() };
    let cause = why(Reason::Retired);
    for facts in [Facts { partitions: 1, ..Facts::default() }, Facts { keys: 1, ..Facts::default() }] {
        for (life, step) in [(&life, schedule(7)), (&planned, Step::Destroy)] {
            assert!(matches!(life.step(step, &facts, at(50), &cause), Err(Forbidden::InUse { .. })));
        }
    }
    assert_eq!(
        planned.step(Step::Destroy, &opened(8), at(37), &cause),
        Err(Forbidden::OpenedLately { opened: at(8).wall, free: at(38).wall })
    );
    assert!(life.step(schedule(7), &opened(0), at(29), &cause).is_err());
    assert!(life.step(schedule(7), &opened(0), at(30), &cause).is_ok());
}

#[test]
fn a_second_active_version_is_refused_and_the_active_one_is_named() {
    let active = KeyVersionId([9; 8]);
    let facts = Facts { other_active: Some(active), ..Facts::default() };
    for (state, step) in [(PreActive, Step::Activate), (Suspended, Step::Resume)] {
        let refused = in_state(state).step(step, &facts, at(1), &why(Reason::Cleared)).unwrap_err();
        assert_eq!(refused, Forbidden::OtherActive { step, active });
        assert!(refused.to_string().contains(&active.to_string()), "{refused}");
    }
}

#[test]
fn a_rotation_deactivates_the_active_version_and_leaves_a_suspended_one_as_it_is() {
    let id = KeyVersionId([1; 8]);
    let (active_one, suspended) = (in_state(Active), in_state(Suspended));
    let now = |life| active([(id, life)].into_iter());
    let by = By::Sidecar;
    let turn = rotate(now(&active_one), Trigger::Schedule, at(90), by.clone(), None).unwrap();
    let (retired, life) = turn.retired.unwrap();
    assert_eq!((retired, life.state(), turn.fresh.state()), (id, Deactivated, Active));
    assert_eq!(life.entered(Deactivated).unwrap().reason, Reason::Rotation(Trigger::Schedule));
    assert_eq!(life.entered(Deactivated).unwrap().by, By::Sidecar);
    let turn = rotate(now(&suspended), Trigger::Incident, at(1), by, None).unwrap();
    assert_eq!((turn.retired, turn.fresh.state()), (None, Active));
}

#[test]
fn a_life_reads_back_from_its_marks_and_an_impossible_one_does_not() {
    for state in KeyState::ALL {
        let life = in_state(*state);
        assert_eq!(Life::read(life.marks().to_vec(), None), Some(life));
    }
    let plan = take(&in_state(Deactivated), schedule(7), 0).unwrap().plan().cloned();
    assert!(Life::read(in_state(Deactivated).marks().to_vec(), plan.clone()).is_some());
    assert_eq!(Life::read(in_state(Active).marks().to_vec(), plan), None);
    assert_eq!(Life::read(vec![], None), None);
    let mut backwards = in_state(Deactivated).marks().to_vec();
    backwards[0].at = at(1).wall;
    assert_eq!(Life::read(backwards, None), None);
    let marks = in_state(Active).marks().to_vec();
    assert_eq!(Life::read([marks.clone(), marks].concat(), None), None);
}

#[test]
fn a_clock_that_stepped_back_repeats_the_last_time() {
    let late = Life::begun(at(10), &why(Reason::Created));
    let life = take(&late, Step::Suspend, 3).unwrap();
    assert_eq!(life.entered(Suspended).unwrap().at, at(10).wall);
}

#[test]
fn counted_time_is_never_more_than_what_passed_however_many_sidecars_count() {
    let mono = |days: u64| Mono(days * 86_400_000_000_000);
    let mut a = Timekeeper::begin(NOON, mono(0), NOON, Counted::default());
    let mut b = Timekeeper::begin(NOON, mono(100), NOON, Counted::default());
    for day in 1..=10 {
        let (of_a, of_b) = (a.counted(mono(day)), b.counted(mono(100 + day)));
        a.observe(of_b, mono(day));
        b.observe(of_a, mono(100 + day));
        assert_eq!((of_a, of_b), (at(day).counted, at(day).counted));
    }
    // A restart: what was written goes on, what passed meanwhile is not counted.
    let c = Timekeeper::begin(at(400).wall, mono(0), at(10).wall, at(10).counted);
    assert_eq!(c.counted(mono(1)), at(11).counted);
}

#[test]
fn a_step_of_the_wall_clock_and_a_start_behind_the_log_are_not_believed() {
    let mut keeper = Timekeeper::begin(NOON, Mono(0), NOON, Counted::default());
    let (later, mono) = (|minutes: u64| Wall(NOON.0 + minutes * 60_000_000), Mono(3_600_000_000_000));
    for (wall, certainty) in [
        (later(64), Certainty::Steady),
        (Wall(NOON.0 + 365 * 86_400_000_000), Certainty::Stepped),
        (Wall(0), Certainty::Stepped),
    ] {
        let now = keeper.now(wall, mono);
        assert_eq!((now.certainty, now.counted), (certainty, Counted(3_600_000_000)), "{wall:?}");
    }
    let mut behind = Timekeeper::begin(NOON, Mono(0), at(1).wall, Counted::default());
    assert_eq!(behind.now(NOON, Mono(0)).certainty, Certainty::Stepped);
}

#[test]
fn codes_and_names_read_back() {
    for state in KeyState::ALL {
        assert_eq!(KeyState::of(state.name()), Some(*state));
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::of(reason.code()), Some(*reason));
        assert_eq!(Reason::given(reason.code()).is_some(), *reason != Reason::Created);
    }
    for trigger in Trigger::ALL {
        assert_eq!(Trigger::of(trigger.code()), Some(*trigger));
        assert_eq!(Reason::of(trigger.code()), Some(Reason::Rotation(*trigger)));
    }
    for by in [By::Sidecar, By::Principal("operator".parse().unwrap())] {
        assert_eq!(By::of(by.name()), Some(by));
    }
    assert_eq!(By::of("(nobody)"), None);
    assert_eq!(Statement::of("   done   "), None);
    assert_eq!(Statement::of(&"x".repeat(1_025)), None);
    assert_ne!(Statement::of("all rewrapped, 17"), Statement::of("all rewrapped, 18"));
}

#[test]
fn a_refusal_says_where_the_version_is_and_what_would_be_needed() {
    let text = |life: &Life, step, day| take(life, step, day).unwrap_err().to_string();
    assert_eq!(
        text(&in_state(Active), schedule(7), 0),
        "the version is active; to schedule the destruction of it, it must be pre-active, deactivated or compromised: \
         rotate the keyring or deactivate the version first"
    );
    assert_eq!(
        text(&in_state(Deactivated), Step::Resume, 0),
        "the version is deactivated; to resume it, it must be suspended"
    );
    assert_eq!(text(&in_state(Destroyed), Step::Resume, 0), "the version is destroyed, and that is final");
    let planned = take(&in_state(Deactivated), schedule(7), 0).unwrap();
    assert_eq!(
        text(&planned, Step::Destroy, 2),
        "the version is to be destroyed on 2026-06-08, and 5 days 0 hours of the wait are left (time in which no sidecar \
         ran does not count): try again then, or cancel"
    );
    assert_eq!(IDLE, 30 * DAY);
}
