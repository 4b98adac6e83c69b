//! A clock for rehearsals: the machine's time, moved forward by hand. Waits of days can be gone through in an afternoon;
//! only a development store may be served by it.

use std::sync::Arc;
use std::time::Duration;

use super::{BoxFuture, Clock, Mono, SystemClock, Wall};

/// The machine's clocks plus what they were moved forward by.
#[derive(Debug)]
pub struct RehearsalClock {
    moved: tokio::sync::watch::Sender<Duration>,
}

impl RehearsalClock {
    /// A clock that shows the machine's time.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { moved: tokio::sync::watch::Sender::new(Duration::ZERO) })
    }

    /// Moves both clocks forward and wakes the sleepers whose time has come. How far they are ahead now.
    pub fn advance(&self, by: Duration) -> Duration {
        self.moved.send_modify(|moved| *moved = moved.saturating_add(by));
        *self.moved.borrow()
    }
}

impl Clock for RehearsalClock {
    fn wall(&self) -> Wall {
        let moved = u64::try_from(self.moved.borrow().as_micros()).unwrap_or(u64::MAX);
        Wall(SystemClock.wall().0.saturating_add(moved))
    }

    fn mono(&self) -> Mono {
        SystemClock.mono().plus(*self.moved.borrow())
    }

    fn sleep_until(&self, point: Mono) -> BoxFuture<'static, ()> {
        let mut moved = self.moved.subscribe();
        Box::pin(async move {
            loop {
                let now = SystemClock.mono().plus(*moved.borrow_and_update());
                if now >= point {
                    return;
                }
                let left = SystemClock.mono().plus(point.since(now));
                tokio::select! {
                    () = SystemClock.sleep_until(left) => {}
                    changed = moved.changed() => {
                        // The clock is gone: what is left is slept by the machine's.
                        if changed.is_err() {
                            return SystemClock.sleep_until(left).await;
                        }
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moving_it_wakes_whoever_sleeps_for_days() {
        let clock = RehearsalClock::new();
        let (wall, mono) = (clock.wall(), clock.mono());
        let days = Duration::from_secs(8 * 86_400);
        let sleeper = tokio::spawn(clock.sleep_until(mono.plus(days)));
        clock.advance(days);
        sleeper.await.unwrap();
        assert!(clock.mono().since(mono) >= days && clock.wall().0 - wall.0 >= 8 * 86_400_000_000);
    }
}
