//! Whatever happens to a keyring, in whatever order, and whatever the clocks say: its versions stay within the states
//! and edges of NIST SP 800-57, one of them at most is active, and none is destroyed before its time or while needed.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use keyward::clock::{Mono, Wall};
use keyward::keyring::life::{
    Allowed, By, Cause, Counted, Facts, Forbidden, IDLE, KeyState, Life, Now, Reason, Statement, Step, Timekeeper,
    Trigger, Use, active, rotate,
};
use keyward::names::KeyVersionId;
use proptest::prelude::*;

const START: u64 = 1_780_315_200_000_000;
const DAY: u64 = 86_400_000_000;
const YEAR: i64 = 365 * DAY.cast_signed();

/// The edges of SP 800-57, said a second time.
const EDGES: &[(KeyState, KeyState)] = &[
    (KeyState::PreActive, KeyState::Active),
    (KeyState::PreActive, KeyState::Destroyed),
    (KeyState::PreActive, KeyState::Compromised),
    (KeyState::Active, KeyState::Suspended),
    (KeyState::Active, KeyState::Deactivated),
    (KeyState::Active, KeyState::Compromised),
    (KeyState::Suspended, KeyState::Active),
    (KeyState::Suspended, KeyState::Deactivated),
    (KeyState::Suspended, KeyState::Compromised),
    (KeyState::Deactivated, KeyState::Destroyed),
    (KeyState::Deactivated, KeyState::Compromised),
    (KeyState::Compromised, KeyState::Destroyed),
];

/// What may happen. The indexes are taken modulo what there is.
#[derive(Debug, Clone)]
enum Happening {
    /// A new version that waits to be used.
    Create,
    Rotate(Trigger),
    Take(usize, Step),
    /// Values are opened with a version, if its state lets them.
    Open(usize),
    /// So many partitions name a version.
    Partitions(usize, u64),
    /// Time passes, and all clocks show it.
    Pass(u64),
    /// The wall clocks step by so much, and nothing else happens.
    Jump(i64),
    /// A sidecar stops, and starts again after a while on a machine that was booted meanwhile.
    Restart(usize, u64),
    /// A sidecar writes its count, and the other one reads it.
    Write(usize),
}

/// A keyring as two sidecars keep it, and the true time, which neither of them knows.
struct World {
    versions: Vec<Version>,
    /// Microseconds that really passed.
    passed: u64,
    /// How far the wall clocks are off.
    off: i64,
    sidecars: [Sidecar; 2],
    /// What the store knows.
    fleet: Counted,
    recorded: Wall,
}

struct Version {
    life: Life,
    partitions: u64,
    opened: Option<Wall>,
    /// The true time of what follows.
    planned: Option<(u64, u32)>,
    last_opened: Option<u64>,
    wrapped: bool,
}

struct Sidecar {
    keeper: Timekeeper,
    /// The true time of the machine's boot.
    booted: u64,
}

impl World {
    fn new() -> Self {
        let sidecar =
            |_| Sidecar { keeper: Timekeeper::begin(Wall(START), Mono(0), Wall(START), Counted::default()), booted: 0 };
        Self {
            versions: Vec::new(),
            passed: 0,
            off: 0,
            sidecars: [0, 1].map(sidecar),
            fleet: Counted::default(),
            recorded: Wall(START),
        }
    }

    fn wall(&self) -> Wall {
        Wall((START + self.passed).saturating_add_signed(self.off))
    }

    fn now(&mut self, sidecar: usize) -> Now {
        let (wall, passed) = (self.wall(), self.passed);
        let it = &mut self.sidecars[sidecar];
        it.keeper.now(wall, Mono((passed - it.booted) * 1_000))
    }

    fn facts(&self, at: usize) -> Facts {
        let version = &self.versions[at];
        let lives =
            self.versions.iter().enumerate().filter(|(other, _)| *other != at).map(|(other, v)| (id(other), &v.life));
        Facts {
            other_active: active(lives).map(|(id, _)| id),
            partitions: version.partitions,
            keys: 0,
            opened: version.opened,
        }
    }

    fn happen(&mut self, happening: &Happening) -> Result<(), TestCaseError> {
        match *happening {
            Happening::Create => {
                let life = Life::born(self.now(0), &cause(Reason::Created));
                self.versions.push(Version::new(life));
            }
            Happening::Rotate(trigger) => self.rotate(trigger)?,
            Happening::Take(at, step) if !self.versions.is_empty() => {
                let (at, sidecar) = (at % self.versions.len(), at % 2);
                self.take(at, step, sidecar)?;
            }
            Happening::Open(at) if !self.versions.is_empty() => {
                let (wall, passed) = (self.wall(), self.passed);
                let at = at % self.versions.len();
                let version = &mut self.versions[at];
                if version.life.allows(Use::Open) == Allowed::Yes {
                    version.opened = version.opened.max(Some(wall));
                    version.last_opened = Some(passed);
                }
            }
            Happening::Partitions(at, count) if !self.versions.is_empty() => {
                let at = at % self.versions.len();
                // Only what seals can wrap a new partition.
                if count == 0 || self.versions[at].life.allows(Use::Seal) == Allowed::Yes {
                    self.versions[at].partitions = count;
                }
            }
            Happening::Pass(by) => self.passed += by,
            Happening::Jump(by) => self.off = by,
            Happening::Restart(sidecar, after) => {
                self.write(sidecar);
                self.passed += after;
                let keeper = Timekeeper::begin(self.wall(), Mono(0), self.recorded, self.fleet);
                self.sidecars[sidecar] = Sidecar { keeper, booted: self.passed };
            }
            Happening::Write(sidecar) => self.write(sidecar),
            Happening::Take(..) | Happening::Open(_) | Happening::Partitions(..) => {}
        }
        Ok(())
    }

    fn write(&mut self, sidecar: usize) {
        self.recorded = self.recorded.max(self.wall());
        self.fleet = self.fleet.max(self.now(sidecar).counted);
        let passed = self.passed;
        for it in &mut self.sidecars {
            it.keeper.observe(self.fleet, Mono((passed - it.booted) * 1_000));
        }
    }

    fn rotate(&mut self, trigger: Trigger) -> Result<(), TestCaseError> {
        let before: Vec<KeyState> = self.versions.iter().map(|v| v.life.state()).collect();
        let now = self.now(0);
        let found = active(self.versions.iter().enumerate().map(|(at, v)| (id(at), &v.life)));
        let turn = rotate(found, trigger, now, By::Sidecar, None);
        let turn = turn.map_err(|refused| TestCaseError::fail(format!("a rotation is always possible: {refused}")))?;
        if let Some((retired, life)) = turn.retired {
            self.versions[usize::from(retired.0[7])].life = life;
        }
        self.versions.push(Version::new(turn.fresh));
        for (at, was) in before.iter().enumerate() {
            let is = self.versions[at].life.state();
            let expected = if *was == KeyState::Active { KeyState::Deactivated } else { *was };
            prop_assert_eq!(is, expected, "a rotation touches nothing but the active version");
        }
        prop_assert_eq!(self.versions.last().unwrap().life.state(), KeyState::Active);
        Ok(())
    }

    fn take(&mut self, at: usize, step: Step, sidecar: usize) -> Result<(), TestCaseError> {
        let (facts, now, passed) = (self.facts(at), self.now(sidecar), self.passed);
        let version = &mut self.versions[at];
        let before = version.life.state();
        let taken = version.life.step(step, &facts, now, &cause(Reason::Policy));
        let after = match taken {
            Ok(life) => life,
            Err(refused) => {
                prop_assert!(!refused.to_string().is_empty());
                if let Forbidden::State { state, from, .. } = refused {
                    prop_assert!(state == before && !from.contains(&before));
                }
                return Ok(());
            }
        };
        let state = after.state();
        prop_assert!(state == before || EDGES.contains(&(before, state)), "{:?} to {:?}", before, state);
        match step {
            Step::ScheduleDestroy { days, .. } => {
                prop_assert!((7..=30).contains(&days));
                version.planned = Some((passed, days));
            }
            Step::CancelDestroy => {
                prop_assert_eq!(state, before);
                version.planned = None;
            }
            _ => {}
        }
        if state == KeyState::Destroyed {
            let Some((asked, days)) = version.planned else {
                return Err(TestCaseError::fail("destroyed without having been scheduled"));
            };
            prop_assert!(passed - asked >= u64::from(days) * DAY, "destroyed before its time");
            prop_assert_eq!(version.partitions, 0, "destroyed while partitions name it");
            prop_assert!(
                version.last_opened.is_none_or(|opened| opened <= asked),
                "destroyed though it opened in the wait"
            );
            version.wrapped = false;
        }
        version.life = after;
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let states: Vec<KeyState> = self.versions.iter().map(|v| v.life.state()).collect();
        prop_assert!(states.iter().filter(|state| **state == KeyState::Active).count() <= 1, "{:?}", states);
        for version in &self.versions {
            let life = &version.life;
            let gone = life.state() == KeyState::Destroyed;
            prop_assert_eq!(version.wrapped, !gone);
            prop_assert!(!gone || life.plan().is_none());
            prop_assert_eq!(life.allows(Use::Seal) == Allowed::Yes, life.state() == KeyState::Active);
            let opens = matches!(life.state(), KeyState::Active | KeyState::Deactivated) && life.plan().is_none();
            prop_assert_eq!(life.allows(Use::Open) == Allowed::Yes, opens);
            prop_assert_eq!(Life::read(life.marks().to_vec(), life.plan().cloned()), Some(life.clone()));
        }
        for it in &self.sidecars {
            let counted = it.keeper.counted(Mono((self.passed - it.booted) * 1_000));
            prop_assert!(counted.0 <= self.passed, "more time was counted than passed");
        }
        Ok(())
    }
}

impl Version {
    const fn new(life: Life) -> Self {
        Self { life, partitions: 0, opened: None, planned: None, last_opened: None, wrapped: true }
    }
}

fn id(at: usize) -> KeyVersionId {
    KeyVersionId([0, 0, 0, 0, 0, 0, 0, u8::try_from(at).unwrap()])
}

fn cause(reason: Reason) -> Cause {
    Cause { reason, by: By::Principal("operator".parse().unwrap()), ceremony: None }
}

fn step() -> impl Strategy<Value = Step> {
    let days = prop_oneof![4 => Just(7_u32), 1 => 0_u32..40];
    prop_oneof![
        1 => Just(Step::Activate),
        2 => Just(Step::Suspend),
        2 => Just(Step::Resume),
        3 => Just(Step::Deactivate),
        1 => Just(Step::Compromise),
        4 => days.prop_map(|days| Step::ScheduleDestroy { days, statement: Statement([1; 32]) }),
        1 => Just(Step::CancelDestroy),
        5 => Just(Step::Destroy),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let version = 0_usize..8;
    let jump = prop_oneof![Just(0_i64), Just(YEAR), Just(-YEAR), -600_000_000_i64..600_000_000];
    prop_oneof![
        1 => Just(Happening::Create),
        2 => prop::sample::select(Trigger::ALL).prop_map(Happening::Rotate),
        14 => (version.clone(), step()).prop_map(|(at, step)| Happening::Take(at, step)),
        2 => version.clone().prop_map(Happening::Open),
        2 => (version, prop_oneof![2 => Just(0_u64), 1 => Just(3)]).prop_map(|(at, count)| Happening::Partitions(at, count)),
        4 => (0..20 * DAY).prop_map(Happening::Pass),
        2 => jump.prop_map(Happening::Jump),
        1 => (0_usize..2, 0..DAY).prop_map(|(sidecar, after)| Happening::Restart(sidecar, after)),
        2 => (0_usize..2).prop_map(Happening::Write),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_sequence_of_events_reaches_a_forbidden_state(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut world = World::new();
        for happening in &happenings {
            world.happen(happening)?;
            world.check()?;
        }
    }
}

/// The property would also hold for a keyring in which nothing is ever possible: this one ends a life in good order,
/// and shows that each thing that must stop it does.
#[test]
fn a_life_in_good_order_ends_and_each_obstacle_stops_it() {
    let schedule = Step::ScheduleDestroy { days: 7, statement: Statement([1; 32]) };
    let good = [
        Happening::Rotate(Trigger::Schedule),
        Happening::Open(0),
        Happening::Rotate(Trigger::Schedule),
        Happening::Pass(u64::try_from(IDLE.as_micros()).unwrap()),
        Happening::Take(0, schedule),
        Happening::Pass(7 * DAY),
        Happening::Take(0, Step::Destroy),
    ];
    let end = |happenings: &[Happening]| {
        let mut world = World::new();
        for happening in happenings {
            world.happen(happening).unwrap();
            world.check().unwrap();
        }
        world.versions.first().map(|version| version.life.state())
    };
    assert_eq!(end(&good), Some(KeyState::Destroyed));
    // What passes only in a clock's mind, or while no sidecar runs, does not count.
    let (ahead, back) = (Happening::Jump(YEAR), Happening::Jump(-YEAR));
    let restart = Happening::Restart(0, DAY);
    let obstacles: &[(usize, usize, &[Happening])] = &[
        (1, 1, &[Happening::Partitions(0, 1)]),
        (3, 4, &[]),
        (4, 4, &[Happening::Open(0)]),
        (5, 5, &[Happening::Take(0, Step::CancelDestroy)]),
        (5, 6, &[Happening::Pass(DAY), ahead.clone()]),
        (5, 6, &[Happening::Pass(DAY), ahead, restart.clone()]),
        (6, 6, std::slice::from_ref(&back)),
        (6, 6, &[back.clone(), restart.clone()]),
        (5, 6, &[restart, Happening::Pass(6 * DAY + DAY / 2)]),
    ];
    for (from, to, obstacle) in obstacles {
        let changed = [&good[..*from], obstacle, &good[*to..]].concat();
        assert_eq!(end(&changed), Some(KeyState::Deactivated), "{obstacle:?}");
    }
}
