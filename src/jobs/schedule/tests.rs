use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::clock::{Clock, ManualClock, SharedClock, Steady};
use crate::names::{KeyVersionId, KeyringName};

const NOON: Wall = Wall(1_780_315_200_000_000);
const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY * 1_000_000;

fn settings() -> Settings {
    let days = |days| Duration::from_secs(days * DAY);
    Settings {
        data_key: days(90),
        kek: days(365),
        hard_limit: days(730),
        messages: 1 << 32,
        bytes: 1 << 46,
        check: Duration::from_secs(60),
        enabled: true,
    }
}

fn facts(activated: Wall) -> Facts {
    let Settings { data_key, messages, bytes, .. } = settings();
    let version = KeyVersionId([7; 8]);
    Facts { version, activated, period: data_key, used: Tally::default(), limits: UsageLimits { messages, bytes } }
}

fn at(days: u64) -> Reading {
    Reading { wall: Wall(NOON.0 + days * DAY * 1_000_000), trusted: true }
}

fn decide(name: &str, facts: &Facts, now: Reading) -> Decision {
    settings().decide(name, facts, now)
}

#[test]
fn a_version_comes_due_in_the_last_tenth_of_its_period_and_overdue_at_its_end() {
    let fresh = facts(NOON);
    for name in ["default/patients", "default/notes", "clinic/x"] {
        let decision = decide(name, &fresh, at(80));
        assert_eq!((decision.due, decision.overdue), (None, false), "{name}");
        assert!(decision.next >= at(81).wall && decision.next <= at(90).wall);
        let due = decide(name, &fresh, Reading { wall: decision.next, trusted: true });
        assert_eq!((due.due, due.overdue), (Some(Trigger::Schedule), false));
        let late = decide(name, &fresh, at(90));
        assert_eq!((late.due, late.overdue, late.past_hard_limit), (Some(Trigger::Schedule), true, false));
        assert!(decide(name, &fresh, at(730)).past_hard_limit);
    }
}

#[test]
fn the_hard_limit_bounds_the_period_that_a_keyring_asks_for() {
    let long = Facts { period: Duration::from_secs(3_000 * DAY), ..facts(NOON) };
    assert_eq!(decide("default/a", &long, at(600)).due, None);
    let ended = decide("default/a", &long, at(730));
    assert_eq!((ended.due, ended.overdue, ended.past_hard_limit), (Some(Trigger::Schedule), true, true));
}

#[test]
fn use_makes_due_at_nine_tenths_and_overdue_at_the_limit_whatever_the_clock_says() {
    let with = |messages, bytes| Facts {
        used: Tally { messages, bytes, ..Tally::default() },
        limits: UsageLimits { messages: 1_000, bytes: 10_000 },
        ..facts(NOON)
    };
    let doubted = Reading { wall: Wall(0), trusted: false };
    for (used, due, overdue) in [
        ((899, 8_999), None, false),
        ((900, 0), Some(Trigger::Usage), false),
        ((0, 9_000), Some(Trigger::Usage), false),
        ((1_000, 0), Some(Trigger::Usage), true),
        ((u64::MAX, u64::MAX), Some(Trigger::Usage), true),
    ] {
        for now in [at(1), doubted] {
            let decision = decide("default/a", &with(used.0, used.1), now);
            assert_eq!((decision.due, decision.overdue), (due, overdue), "{used:?}");
        }
    }
}

#[test]
fn a_doubted_time_and_a_version_of_the_future_make_nothing_due() {
    let doubted = Reading { trusted: false, ..at(900) };
    let decision = decide("default/a", &facts(NOON), doubted);
    assert_eq!((decision.due, decision.overdue, decision.past_hard_limit), (None, false, false));
    let decision = decide("default/a", &facts(Wall(NOON.0 + YEAR)), at(0));
    assert_eq!((decision.due, decision.overdue, decision.unborn), (None, false, true));
    let minutes_ahead = Wall(NOON.0 + 600_000_000);
    assert!(!decide("default/a", &facts(minutes_ahead), at(0)).unborn, "clocks of a fleet differ");
}

#[test]
fn names_and_sidecars_spread_over_their_spans() {
    let mut days = BTreeMap::new();
    let mut offsets = BTreeMap::new();
    for number in 0..1_000u64 {
        let name = format!("default/keyring-{number}");
        let next = decide(&name, &facts(NOON), at(0)).next;
        *days.entry((next.0 - NOON.0) / (DAY * 1_000_000)).or_insert(0) += 1;
        let wait = offset(number % 20, &name, settings().check);
        *offsets.entry(wait.as_secs() / 60).or_insert(0) += 1;
    }
    assert_eq!(days.keys().copied().collect::<Vec<_>>(), (81..90).collect::<Vec<_>>());
    assert!(days.values().all(|count| (70..160).contains(count)), "{days:?}");
    assert_eq!(offsets.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(offsets.values().all(|count| (60..140).contains(count)), "{offsets:?}");
    let twenty: std::collections::BTreeSet<Duration> =
        (0..20).map(|sidecar| offset(sidecar, "default/patients", settings().check)).collect();
    assert_eq!(twenty.len(), 20, "no two sidecars begin together");
}

/// The keyrings of a store, rotated by the loop.
struct Fleet {
    clock: Arc<ManualClock>,
    keyrings: RefCell<BTreeMap<KeyringName, Facts>>,
    rotated: RefCell<Vec<(u64, KeyringName, Trigger)>>,
    shown: RefCell<Vec<Summary>>,
    failing: RefCell<bool>,
}

impl Fleet {
    fn of(keyrings: u32) -> Self {
        let name = |number| format!("default/k{number}").parse().unwrap();
        Self {
            clock: ManualClock::at(NOON),
            keyrings: RefCell::new((0..keyrings).map(|number| (name(number), facts(NOON))).collect()),
            rotated: RefCell::default(),
            shown: RefCell::default(),
            failing: RefCell::new(false),
        }
    }

    fn page(&self, until: Wall, after: Option<KeyringName>) -> Page {
        let keyrings = self.keyrings.borrow();
        let end = |facts: &Facts| plus(facts.activated, facts.period);
        let much = |facts: &Facts| facts.used.messages >= facts.limits.messages / 2;
        let (near, far): (Vec<_>, Vec<_>) = keyrings.iter().partition(|(_, facts)| end(facts) <= until || much(facts));
        let found = near.into_iter().map(|(name, facts)| (name.clone(), *facts));
        Page {
            found: found.filter(|(name, _)| after.as_ref().is_none_or(|after| name > after)).take(100).collect(),
            keyrings: u64::try_from(keyrings.len()).unwrap(),
            later: far.into_iter().map(|(_, facts)| end(facts)).min(),
        }
    }

    fn rotate(&self, name: &KeyringName, trigger: Trigger) -> Result<(), String> {
        if *self.failing.borrow() {
            return Err("the key-encryption key is away".to_owned());
        }
        self.keyrings.borrow_mut().insert(name.clone(), facts(self.clock.wall()));
        self.rotated.borrow_mut().push((self.clock.mono().0 / 1_000_000_000, name.clone(), trigger));
        Ok(())
    }

    /// Runs the loop while time goes on in steps.
    async fn live(&self, settings: Settings, step: Duration, steps: u32, mut each: impl FnMut(u32)) {
        let clock = Arc::clone(&self.clock) as SharedClock;
        let page = |until, after| std::future::ready(Ok(self.page(until, after)));
        let rotate = |name: KeyringName, _, trigger| std::future::ready(self.rotate(&name, trigger));
        let show = |summary: &Summary| self.shown.borrow_mut().push(*summary);
        let time = async {
            for number in 0..steps {
                each(number);
                self.clock.advance(step);
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! {
            () = run(settings, clock, (7, Some(NOON)), page, rotate, || false, show) => {}
            () = time => {}
        }
    }

    fn most_in_a_minute(&self) -> usize {
        let mut minutes = BTreeMap::<u64, usize>::new();
        for (second, _, _) in self.rotated.borrow().iter() {
            *minutes.entry(second / 60).or_default() += 1;
        }
        minutes.values().copied().max().unwrap_or_default()
    }
}

#[tokio::test]
async fn over_half_a_year_every_keyring_is_rotated_twice_and_none_is_ever_overdue() {
    let fleet = Fleet::of(50);
    fleet.live(settings(), Duration::from_secs(1_800), 48 * 180, |_| {}).await;
    let mut times = BTreeMap::<KeyringName, u32>::new();
    for (_, name, trigger) in fleet.rotated.borrow().iter() {
        assert_eq!(*trigger, Trigger::Schedule);
        *times.entry(name.clone()).or_default() += 1;
    }
    assert!(times.len() == 50 && times.values().all(|times| *times == 2), "{times:?}");
    assert!(fleet.shown.borrow().iter().all(|summary| summary.overdue == 0 && summary.keyrings == 50));
}

#[tokio::test]
async fn a_clock_that_steps_a_year_back_or_forward_for_half_an_hour_rotates_nothing() {
    for target in [NOON.0 - YEAR, NOON.0 + YEAR] {
        let fleet = Fleet::of(1_000);
        let minute = Duration::from_secs(60);
        fleet
            .live(settings(), minute, 240, |number| match number {
                60 => fleet.clock.step_wall(Wall(target)),
                90 => fleet.clock.step_wall(Wall(NOON.0 + 90 * 60_000_000)),
                _ => {}
            })
            .await;
        assert_eq!(fleet.rotated.borrow().len(), 0);
    }
}

#[tokio::test]
async fn a_step_that_lasts_rotates_at_a_pace_when_forward_and_nothing_when_back() {
    for (target, some) in [(NOON.0 - YEAR, false), (NOON.0 + YEAR, true)] {
        let fleet = Fleet::of(1_000);
        fleet.clock.step_wall(Wall(NOON.0 + 1));
        let step = |number| {
            if number == 5 {
                fleet.clock.step_wall(Wall(target));
            }
        };
        fleet.live(settings(), Duration::from_secs(60), 300, step).await;
        assert_eq!(!fleet.rotated.borrow().is_empty(), some);
        assert!(fleet.most_in_a_minute() <= 10, "{}", fleet.most_in_a_minute());
        assert_eq!(fleet.shown.borrow().last().unwrap().keyrings, 1_000);
    }
}

#[tokio::test]
async fn a_rotation_that_fails_is_tried_again_and_one_that_is_switched_off_is_only_shown() {
    let fleet = Fleet::of(3);
    fleet.clock.advance(Duration::from_secs(89 * DAY + DAY / 2));
    *fleet.failing.borrow_mut() = true;
    let hour = Duration::from_secs(3_600);
    fleet.live(settings(), hour, 30, |number| *fleet.failing.borrow_mut() = number < 20).await;
    assert_eq!(fleet.rotated.borrow().len(), 3);
    let off = Fleet::of(3);
    off.clock.advance(Duration::from_secs(100 * DAY));
    off.live(Settings { enabled: false, ..settings() }, hour, 30, |_| {}).await;
    assert_eq!(off.rotated.borrow().len(), 0);
    let last = *off.shown.borrow().last().unwrap();
    assert_eq!((last.due, last.overdue, last.next), (3, 3, None));
}

#[tokio::test]
async fn use_is_rotated_without_a_believed_clock() {
    let fleet = Fleet::of(2);
    let name: KeyringName = "default/k1".parse().unwrap();
    let used = Tally { messages: 1 << 32, ..Tally::default() };
    fleet.keyrings.borrow_mut().insert(name.clone(), Facts { used, ..facts(NOON) });
    fleet.clock.step_wall(Wall(0));
    fleet.live(settings(), Duration::from_secs(60), 5, |_| {}).await;
    let rotated: Vec<_> = fleet.rotated.borrow().iter().map(|(_, name, trigger)| (name.clone(), *trigger)).collect();
    assert_eq!(rotated, [(name, Trigger::Usage)]);
}

/// It is spawned beside the requests.
#[test]
fn the_loop_can_move_between_threads() {
    fn sends(_: impl Send) {}
    let clock = ManualClock::at(NOON);
    let page = |_, _| async { Ok(Page::default()) };
    let rotate = |_, _, _| async { Ok(()) };
    sends(run(settings(), clock, (7, None), page, rotate, || false, |_| {}));
}

#[test]
fn a_steady_clock_is_what_the_loop_goes_by() {
    let mut steady = Steady::new(NOON, Mono(0), None);
    let now = steady.read(Wall(NOON.0 + YEAR), Mono(1));
    assert_eq!(decide("default/a", &facts(NOON), now).due, None);
}

#[tokio::test]
async fn what_is_used_up_goes_before_whatever_the_calendar_asks_for() {
    let fleet = Fleet::of(1_500);
    fleet.clock.advance(Duration::from_secs(100 * DAY));
    let used: KeyringName = "default/z-used".parse().unwrap();
    let much = Tally { messages: u64::MAX, ..Tally::default() };
    fleet.keyrings.borrow_mut().insert(used.clone(), Facts { used: much, ..facts(fleet.clock.wall()) });
    fleet.live(settings(), Duration::from_secs(60), 30, |_| {}).await;
    let rotated = fleet.rotated.borrow();
    assert!(rotated.len() > 10, "{}", rotated.len());
    assert_eq!((&rotated[0].1, rotated[0].2), (&used, Trigger::Usage));
}

#[tokio::test]
async fn an_agenda_that_is_seldom_looked_at_keeps_the_pace_of_minutes() {
    let fleet = Fleet::of(200);
    fleet.clock.advance(Duration::from_secs(100 * DAY));
    let settings = Settings { check: Duration::from_secs(3_600), ..settings() };
    // Each sidecar begins up to ten looks later.
    fleet.live(settings, Duration::from_secs(60), 14 * 60, |_| {}).await;
    assert_eq!(fleet.rotated.borrow().len(), 200, "ten an hour would be 140");
    assert!(fleet.most_in_a_minute() <= 10);
}
