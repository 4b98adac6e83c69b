//! What day is it, if the wall clock has just jumped? The time that decisions about days rest on.
//!
//! A step is an accident until it has lasted: somebody set the clock, a virtual machine was moved, a time server lies. For
//! an hour the time goes on as the boot-time clock counts it; what the wall clock has said all that while is believed then.

use std::time::Duration;

use super::{Mono, Wall};

/// How far the wall clock may be from where the boot-time clock expects it.
const STEP: Duration = Duration::from_secs(300);
/// How long a step must last to be believed; also how long small differences may add up before they are taken over.
const HOLD: Duration = Duration::from_secs(3_600);

/// A moment, and whether wall clock and boot-time clock agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time to go by.
    pub wall: Wall,
    /// False while a step is doubted.
    pub trusted: bool,
}

/// Follows both clocks.
#[derive(Debug, Clone)]
pub struct Steady {
    believed: (Wall, Mono),
    /// What the wall clock says since it jumped.
    doubted: Option<(Wall, Mono)>,
}

impl Steady {
    /// Believes the wall clock, unless it is earlier than `floor`: a time at which something is known to have happened.
    pub fn new(wall: Wall, mono: Mono, floor: Option<Wall>) -> Self {
        match floor {
            Some(floor) if apart(floor, wall) > STEP && wall < floor => {
                Self { believed: (floor, mono), doubted: Some((wall, mono)) }
            }
            _ => Self { believed: (wall, mono), doubted: None },
        }
    }

    /// What to go by now.
    pub fn read(&mut self, wall: Wall, mono: Mono) -> Reading {
        let expected = after(self.believed, mono);
        if apart(expected, wall) <= STEP {
            self.doubted = None;
            if mono.since(self.believed.1) >= HOLD {
                self.believed = (wall, mono);
            }
            return Reading { wall, trusted: true };
        }
        match self.doubted.filter(|doubted| apart(after(*doubted, mono), wall) <= STEP) {
            Some((_, since)) if mono.since(since) >= HOLD => {
                *self = Self { believed: (wall, mono), doubted: None };
                Reading { wall, trusted: true }
            }
            Some(_) => Reading { wall: expected, trusted: false },
            None => {
                self.doubted = Some((wall, mono));
                Reading { wall: expected, trusted: false }
            }
        }
    }
}

/// Where a clock that stood there is now.
fn after((wall, then): (Wall, Mono), now: Mono) -> Wall {
    let passed = u64::try_from(now.since(then).as_micros()).unwrap_or(u64::MAX);
    Wall(wall.0.saturating_add(passed))
}

fn apart(one: Wall, other: Wall) -> Duration {
    Duration::from_micros(one.0.abs_diff(other.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const NOON: Wall = Wall(1_780_315_200_000_000);
    const YEAR: u64 = 365 * 86_400 * 1_000_000;

    fn steady() -> (std::sync::Arc<ManualClock>, Steady) {
        let clock = ManualClock::at(NOON);
        let steady = Steady::new(clock.wall(), clock.mono(), None);
        (clock, steady)
    }

    fn read(steady: &mut Steady, clock: &ManualClock) -> Reading {
        steady.read(clock.wall(), clock.mono())
    }

    #[test]
    fn a_step_of_a_year_is_believed_after_an_hour_and_not_before() {
        for target in [NOON.0 + YEAR, NOON.0 - YEAR] {
            let (clock, mut steady) = steady();
            clock.step_wall(Wall(target));
            for minute in 0..60 {
                let expected = Wall(NOON.0 + minute * 60_000_000);
                assert_eq!(read(&mut steady, &clock), Reading { wall: expected, trusted: false });
                clock.advance(Duration::from_secs(60));
            }
            assert_eq!(read(&mut steady, &clock), Reading { wall: clock.wall(), trusted: true });
        }
    }

    #[test]
    fn a_step_that_is_taken_back_leaves_no_trace() {
        let (clock, mut steady) = steady();
        clock.step_wall(Wall(NOON.0 + YEAR));
        assert!(!read(&mut steady, &clock).trusted);
        clock.advance(Duration::from_secs(3_000));
        clock.step_wall(Wall(NOON.0 + 3_000_000_000));
        assert!(read(&mut steady, &clock).trusted);
        clock.step_wall(Wall(NOON.0 + YEAR));
        clock.advance(Duration::from_secs(3_000));
        assert!(!read(&mut steady, &clock).trusted, "the hour begins anew");
    }

    #[test]
    fn a_clock_that_jumps_about_is_never_believed() {
        let (clock, mut steady) = steady();
        for hour in 1..100 {
            clock.step_wall(Wall(NOON.0 + YEAR * (1 + hour % 3)));
            assert!(!read(&mut steady, &clock).trusted);
            clock.advance(Duration::from_secs(3_600));
        }
    }

    #[test]
    fn a_clock_that_drifts_is_followed_by_five_minutes_an_hour_at_most() {
        let (clock, mut steady) = steady();
        for minute in 1..=240 {
            clock.advance(Duration::from_secs(60));
            clock.step_wall(Wall(NOON.0 + minute * 61_000_000));
            assert!(read(&mut steady, &clock).trusted, "a second a minute");
        }
        for _ in 0..10 {
            clock.advance(Duration::from_secs(60));
            clock.step_wall(Wall(clock.wall().0 + 60_000_000));
        }
        assert!(!read(&mut steady, &clock).trusted, "as fast again as time");
    }

    #[test]
    fn a_start_before_something_that_happened_is_doubted() {
        let clock = ManualClock::at(Wall(0));
        let mut steady = Steady::new(clock.wall(), clock.mono(), Some(NOON));
        assert_eq!(read(&mut steady, &clock), Reading { wall: NOON, trusted: false });
        clock.step_wall(Wall(NOON.0 + 1));
        assert_eq!(read(&mut steady, &clock), Reading { wall: Wall(NOON.0 + 1), trusted: true });
    }
}
