//! What time is it? The only reader of time, so that tests own it.
//! Wall time is for records and people; every lifetime and deadline uses the boot-time clock, which never jumps.

mod civil;
mod rehearsal;
mod steady;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use rehearsal::RehearsalClock;
pub use steady::{Reading, Steady};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// UTC in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// A point on the boot-time clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This point and a while.
    #[must_use]
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// When a request must have been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Mono);

impl Deadline {
    /// How much time is left; None when it has passed.
    pub fn left(self, now: Mono) -> Option<Duration> {
        (self.0 > now).then(|| self.0.since(now))
    }
}

/// A source of time.
pub trait Clock: Send + Sync {
    /// UTC.
    fn wall(&self) -> Wall;
    /// The boot-time clock.
    fn mono(&self) -> Mono;
    /// Resolves when the boot-time clock has reached the point.
    fn sleep_until(&self, point: Mono) -> BoxFuture<'static, ()>;
}

/// A clock that parts share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks: CLOCK_REALTIME and CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one door to wall time")]
    fn wall(&self) -> Wall {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn mono(&self) -> Mono {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(at.tv_nsec).unwrap_or(0);
        Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    fn sleep_until(&self, point: Mono) -> BoxFuture<'static, ()> {
        let left = point.since(self.mono());
        Box::pin(tokio::time::sleep(left))
    }
}

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Wall, Mono)>,
    moved: tokio::sync::watch::Sender<Mono>,
}

impl ManualClock {
    /// A clock that stands at the given wall time and at boot time one second.
    pub fn at(wall: Wall) -> Arc<Self> {
        let start = Mono(1_000_000_000);
        Arc::new(Self { now: Mutex::new((wall, start)), moved: tokio::sync::watch::Sender::new(start) })
    }

    /// Moves both clocks forward and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        now.0 = Wall(now.0.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)));
        now.1 = now.1.plus(by);
        self.moved.send_replace(now.1);
    }

    /// Steps the wall clock alone, as a time server or an operator would.
    pub fn step_wall(&self, to: Wall) {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = to;
    }

    fn read(&self) -> (Wall, Mono) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Wall {
        self.read().0
    }

    fn mono(&self) -> Mono {
        self.read().1
    }

    fn sleep_until(&self, point: Mono) -> BoxFuture<'static, ()> {
        let mut moved = self.moved.subscribe();
        Box::pin(async move {
            // The sender lives as long as the clock; a clock that is gone wakes nobody early, it just ends the sleep.
            let _gone = moved.wait_for(|now| *now >= point).await;
        })
    }
}
