//! When may a server that does not answer be asked again? Pauses that double, half of each of them random.
//! This module never waits: it names the point from which the next attempt is allowed.

use std::time::Duration;

use crate::clock::Mono;
use crate::crypto;
use crate::kek::KekError;

/// Keeps a server that does not answer, or says no, from being asked again at once.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    closed: Option<(Mono, KekError)>,
}

impl Breaker {
    /// The first failure costs nothing: a server that was restarted is asked again at once.
    pub(super) fn trip(&mut self, now: Mono, error: KekError) {
        let doubled = PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(MAX_DOUBLINGS));
        let pause = if self.failures == 0 { Duration::ZERO } else { spread(doubled.min(LONGEST_PAUSE)) };
        self.failures = self.failures.saturating_add(1);
        self.closed = Some((now.plus(pause), error));
    }

    /// What callers hear while nobody may ask.
    pub(super) fn refusal(&self, now: Mono) -> Option<KekError> {
        self.closed.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error.clone())
    }

    /// When the next attempt is allowed.
    pub(super) fn opens_at(&self) -> Option<Mono> {
        self.closed.as_ref().map(|(until, _)| *until)
    }
}

/// Between half of the pause and all of it.
pub(super) fn spread(pause: Duration) -> Duration {
    pause / 2 + part_of(pause / 2)
}

/// A random part of it.
pub(super) fn part_of(whole: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pauses are merely not spread.
    let _spread = crypto::random(&mut random);
    let [random] = random;
    whole * u32::from(random) / u32::from(u8::MAX)
}

const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// 100 ms doubled nine times is past the longest pause.
const MAX_DOUBLINGS: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_free_and_the_pause_grows_to_its_limit() {
        let mut breaker = Breaker::default();
        let now = Mono(1_000);
        breaker.trip(now, KekError::BadWrap);
        assert_eq!(breaker.refusal(now), None);
        for expected in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            breaker.trip(now, KekError::BadWrap);
            let pause = breaker.opens_at().unwrap().since(now);
            let (low, high) = (Duration::from_millis(expected / 2), Duration::from_millis(expected));
            assert!((low..=high).contains(&pause), "{pause:?} for {expected}");
            assert_eq!(breaker.refusal(now), Some(KekError::BadWrap));
            assert_eq!(breaker.refusal(now.plus(pause)), None);
        }
    }
}
