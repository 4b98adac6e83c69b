//! May the device be asked again? Keeps one that does not answer from being asked at once, by everybody.

use std::time::Duration;

use crate::clock::Mono;
use crate::crypto;
use crate::kek::KekError;

/// Failures in a row and the pause after them.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open: Option<(Mono, KekError)>,
}

impl Breaker {
    /// The error that callers hear while the pause lasts.
    pub(super) fn error(&self, now: Mono) -> Option<KekError> {
        self.open.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error.clone())
    }

    /// Until when it holds callers back.
    pub(super) fn until(&self) -> Option<Mono> {
        self.open.as_ref().map(|(until, _)| *until)
    }

    /// A call succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The first failure costs nothing: a worker that was killed is replaced at once. Then the pause doubles, and half of
    /// it is random, so that many sidecars do not ask a device that comes back all at once.
    pub(super) fn trip(&mut self, now: Mono, error: KekError) {
        let doubled = PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(MAX_DOUBLINGS));
        let pause = if self.failures == 0 { Duration::ZERO } else { jittered(doubled.min(LONGEST_PAUSE)) };
        self.failures = self.failures.saturating_add(1);
        self.open = Some((now.plus(pause), error));
    }
}

/// Between half of a duration and all of it.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause / 2 + part_of(pause / 2)
}

/// A random part of a duration.
pub(super) fn part_of(whole: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness nothing is spread, and nothing else is wrong.
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
        let error = || KekError::BadWrap;
        let now = Mono(1_000);
        let pause = |breaker: &Breaker| breaker.until().unwrap().since(now);
        breaker.trip(now, error());
        assert_eq!(pause(&breaker), Duration::ZERO);
        assert_eq!(breaker.error(now), None);
        for expected in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            breaker.trip(now, error());
            let (low, high) = (Duration::from_millis(expected / 2), Duration::from_millis(expected));
            assert!((low..=high).contains(&pause(&breaker)), "{:?} for {expected}", pause(&breaker));
            assert_eq!(breaker.error(now), Some(error()));
        }
    }
}
