//! Who has a connection? At most so many, made when they are needed, made again with growing pauses when they are lost.
//! Nothing here waits for ever: each wait ends by a time of the settings, whatever the server or the network does.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use super::fault::Fault;
use super::link::Link;
use super::settings::Settings;
use crate::clock::{Clock, Mono, SystemClock};
use crate::store::StoreError;

/// Why the system's clock and no other: these are limits on a real network, and a test that stops time would hang in them.
const CLOCK: SystemClock = SystemClock;

/// The pauses between attempts to connect: a server that starts is found soon, one that is gone is not pestered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a statement's answer may need on the way, beside the time at the server.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(2);

/// The connections of one store.
pub(super) struct Pool {
    settings: Settings,
    room: Semaphore,
    idle: Mutex<Vec<Link>>,
    pause: Mutex<Pause>,
}

/// When the next attempt to connect may be made.
#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Mono>,
    why: String,
}

/// A connection that is somebody's; back in the pool when dropped, unless it is broken.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    link: Option<Link>,
    /// Set while a transaction is open, too: a caller that goes away in the middle must not leave it to the next.
    broken: AtomicBool,
    /// Whether it lay idle before: then the server may have gone unseen.
    pub(super) stale: bool,
    _room: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Self {
        let room = Semaphore::new(settings.connections.max(1));
        Self { settings, room, idle: Mutex::default(), pause: Mutex::default() }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A connection, one that lay idle or a new one.
    pub(super) async fn take(&self) -> Result<Lease<'_>, StoreError> {
        let busy = || StoreError::Unavailable(format!("all {} connections are busy", self.settings.connections));
        let longest = self.settings.statement_timeout.saturating_add(ON_THE_WAY);
        let room = within(longest, self.room.acquire()).await.ok_or_else(busy)?.map_err(|_| busy())?;
        let (link, stale) = match self.idle_one() {
            Some(link) => (link, true),
            None => (self.connect().await?, false),
        };
        Ok(Lease { pool: self, link: Some(link), broken: AtomicBool::new(false), stale, _room: room })
    }

    fn idle_one(&self) -> Option<Link> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find(|link| !link.is_closed())
    }

    /// A connection that was idle turned out to be dead: so are the others, most likely.
    pub(super) fn forget_idle(&self) {
        lock(&self.idle).clear();
    }

    async fn connect(&self) -> Result<Link, StoreError> {
        self.may_try()?;
        let connected = self.dial(|_| {}).await;
        let mut pause = lock(&self.pause);
        match &connected {
            Ok(_) => *pause = Pause::default(),
            Err(error) => {
                pause.until = Some(CLOCK.mono().plus(pause_after(pause.failures)));
                pause.failures = pause.failures.saturating_add(1);
                pause.why = error.to_string();
            }
        }
        connected.map(|(link, _)| link)
    }

    /// Refuses at once while the last failure is fresh: whoever asks has better things to do than to wait with us.
    fn may_try(&self) -> Result<(), StoreError> {
        let pause = lock(&self.pause);
        match pause.until {
            Some(until) if CLOCK.mono() < until => {
                let why = pause.why.strip_prefix("the store is not available: ").unwrap_or(&pause.why);
                Err(StoreError::Unavailable(why.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Connects and sets the session up. The handle ends with the connection; each notification is told.
    pub(super) async fn dial(
        &self,
        told: impl Fn(&str) + Send + 'static,
    ) -> Result<(Link, JoinHandle<()>), StoreError> {
        let limit = self.settings.connect_timeout;
        let late = || StoreError::Unavailable(format!("no connection within {} ms", limit.as_millis()));
        let (link, wire) = within(limit, Link::connect(&self.settings)).await.ok_or_else(late)??;
        let driver = tokio::spawn(wire.drive(told));
        let set_up = within(limit, link.set_up(self.settings.statement_timeout)).await.ok_or_else(late)?;
        set_up.map_err(Fault::harmless)?;
        Ok((link, driver))
    }
}

impl Lease<'_> {
    /// An answer in time. A connection that owes one is not used again.
    pub(super) async fn timed<T>(&self, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.timed_for(self.pool.settings.statement_timeout, answer).await
    }

    /// The same with another limit at the server, for what takes long by its nature.
    pub(super) async fn timed_for<T>(
        &self,
        at_server: Duration,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let limit = at_server.saturating_add(ON_THE_WAY);
        let late = || Fault::Lost(format!("no answer within {} ms", limit.as_millis()));
        let answered = within(limit, answer).await.unwrap_or_else(|| Err(late()));
        if matches!(answered, Err(Fault::Lost(_))) {
            self.set_broken(true);
        }
        answered
    }

    /// Whether the connection may be somebody else's next.
    pub(super) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }
}

impl Deref for Lease<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        self.link.as_ref().expect("it is taken out in drop and nowhere else")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let whole = !*self.broken.get_mut();
        let back = self.link.take().filter(|link| whole && !link.is_closed());
        lock(&self.pool.idle).extend(back);
    }
}

/// The answer, or None when the time is over.
pub(super) async fn within<T>(limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = CLOCK.sleep_until(CLOCK.mono().plus(limit)) => None,
    }
}

/// How long something is tried.
pub(super) struct Patience(Mono);

impl Patience {
    pub(super) fn of(while_: Duration) -> Self {
        Self(CLOCK.mono().plus(while_))
    }

    pub(super) fn is_over(&self) -> bool {
        CLOCK.mono() >= self.0
    }
}

/// A pause between attempts, longer with each failure.
pub(super) async fn pause(failures: u32) {
    CLOCK.sleep_until(CLOCK.mono().plus(pause_after(failures))).await;
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
