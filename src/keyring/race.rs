//! Somebody else was first: when is a change tried again, and when is it given up? All changes of a store append to one
//! chain, so whoever is slower plans again; by the deadline of whoever asked, never by a number of rounds.
//!
//! Why two kinds: those that lose and pause leave the field to those that do not. Making and moving partitions is what a
//! fleet does all day and in bulk; it makes room, longer with each lost round. A compromise, a suspension, a shredding or
//! a rotation pauses for no longer than it takes not to run in step with others: against whoever is left it wins one
//! round in a few.

use std::time::Duration;

use super::ApplyError;
use crate::clock::{Deadline, SharedClock};
use crate::crypto;

/// How soon a change that lost tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// What somebody waits for: he is one of few.
    Urgent,
    /// What comes in bulk, and can wait.
    Yielding,
}

/// Rounds that are lost without a pause: of two who meet by chance the second wins the next.
const AT_ONCE: u32 = 3;
/// A commit takes some milliseconds: within so long somebody else's is over.
const FIRST: Duration = Duration::from_millis(4);
/// With twenty sidecars that yield, one a few milliseconds.
const LONGEST: Duration = Duration::from_millis(250);

/// One change's rounds.
pub(super) struct Race<'a> {
    clock: &'a SharedClock,
    deadline: Deadline,
    manner: Manner,
    lost: u32,
}

impl<'a> Race<'a> {
    pub(super) const fn until(clock: &'a SharedClock, deadline: Deadline, manner: Manner) -> Self {
        Self { clock, deadline, manner, lost: 0 }
    }

    /// After a lost round: returns when the next may begin. The caller keeps nobody else waiting meanwhile.
    pub(super) async fn lost(&mut self) -> Result<(), ApplyError> {
        self.lost = self.lost.saturating_add(1);
        let now = self.clock.mono();
        let Some(left) = self.deadline.left(now) else {
            return Err(ApplyError::Unavailable("other sidecars keep changing the store".to_owned()));
        };
        let pause = jittered(self.longest()).min(left);
        if !pause.is_zero() {
            self.clock.sleep_until(now.plus(pause)).await;
        }
        Ok(())
    }

    fn longest(&self) -> Duration {
        match (self.manner, self.lost.checked_sub(AT_ONCE + 1)) {
            (_, None) => Duration::ZERO,
            (Manner::Urgent, Some(_)) => FIRST,
            (Manner::Yielding, Some(rounds)) => FIRST.saturating_mul(1 << rounds.min(10)).min(LONGEST),
        }
    }
}

/// Anything up to the longest. Without randomness the longest: what is to be made will fail on its own account.
fn jittered(longest: Duration) -> Duration {
    let mut drawn = [u8::MAX; 2];
    if !longest.is_zero() {
        let _without = crypto::random(&mut drawn);
    }
    longest.mul_f64(f64::from(u16::from_be_bytes(drawn)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock, Wall};

    async fn pauses(manner: Manner, rounds: usize) -> Vec<Duration> {
        let clock = ManualClock::at(Wall(0));
        let shared = Arc::clone(&clock) as SharedClock;
        let mut race = Race::until(&shared, Deadline(clock.mono().plus(Duration::from_secs(5))), manner);
        let mut pauses = Vec::new();
        for _ in 0..rounds {
            let before = clock.mono();
            let mut lost = std::pin::pin!(race.lost());
            while futures_ready(lost.as_mut()).await.is_none() {
                clock.advance(Duration::from_micros(100));
            }
            pauses.push(clock.mono().since(before));
        }
        pauses
    }

    async fn futures_ready<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn the_first_rounds_are_tried_at_once_and_what_is_in_bulk_makes_more_and_more_room() {
        let urgent = pauses(Manner::Urgent, 40).await;
        assert!(urgent[..3].iter().all(Duration::is_zero), "{urgent:?}");
        assert!(urgent.iter().all(|pause| *pause <= FIRST + Duration::from_micros(100)), "{urgent:?}");
        let yielding = pauses(Manner::Yielding, 20).await;
        assert!(yielding[..3].iter().all(Duration::is_zero), "{yielding:?}");
        assert!(yielding.iter().max() > Some(&(FIRST * 2)), "{yielding:?}");
        assert!(yielding.iter().all(|pause| *pause <= LONGEST + Duration::from_micros(100)), "{yielding:?}");
    }

    #[tokio::test]
    async fn a_race_ends_with_the_deadline_and_not_before() {
        let clock = ManualClock::at(Wall(0));
        let shared = Arc::clone(&clock) as SharedClock;
        let mut race = Race::until(&shared, Deadline(clock.mono().plus(FIRST)), Manner::Urgent);
        for _ in 0..3 {
            assert_eq!(race.lost().await, Ok(()));
        }
        clock.advance(FIRST);
        assert!(matches!(race.lost().await, Err(ApplyError::Unavailable(_))));
    }
}
