//! How does a sink keep up? It reads what is committed, sends it in batches, and saves how far it has come once the target
//! has confirmed it. After a problem it begins again at the saved position, later and later.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::Log;
use crate::clock::{Mono, SharedClock};
use crate::durable::{Disk, DurableError};

use super::batch::{Batch, MOST};
use super::file::Lines;
use super::http::Http;
use super::nats::Nats;
use super::position::{Place, Position};
use super::syslog::Syslog;
use super::{Problem, Settings, Target};

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A position is saved so often at most: what a crash repeats.
const SAVE: Duration = Duration::from_secs(1);
/// One batch may take so long, whatever a target does.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a sink stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Records that were sent since the start, repeated ones among them.
    pub sent: u64,
    /// The first record that was not sent.
    pub next: u64,
    /// The first record that was not confirmed; what a restart begins with.
    pub confirmed: u64,
    /// Why it stands still.
    pub problem: Option<Problem>,
}

/// One sink at work.
pub struct Follower {
    name: String,
    settings: Settings,
    log: Log,
    clock: SharedClock,
    disk: Disk,
    dir: PathBuf,
    standing: watch::Sender<Standing>,
    stop: watch::Receiver<bool>,
}

/// What a follower knows while it goes on.
struct Course {
    place: Place,
    end: End,
    next: u64,
    saved: u64,
    /// When what was sent.
    sent: VecDeque<(Mono, u64)>,
    saved_at: Mono,
}

enum End {
    File(Lines),
    Syslog(Box<Syslog>),
    Http(Http),
    Nats(Box<Nats>),
}

impl Follower {
    /// A follower of the log; `dir` holds the positions. It ends soon after `stop` says so.
    pub fn new(settings: Settings, log: Log, clock: SharedClock, dir: PathBuf, stop: watch::Receiver<bool>) -> Self {
        let (name, disk, standing) = (settings.name.to_string(), Disk::real(), watch::Sender::default());
        Self { name, settings, log, clock, disk, dir, standing, stop }
    }

    /// The same with a disk that fails on command.
    #[must_use]
    pub fn on(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// How it stands, and every change of it.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Follows until it is stopped.
    pub async fn follow(mut self) {
        let mut wait = FIRST_WAIT;
        let mut course = None;
        let mut committed = self.log.committed();
        loop {
            committed.borrow_and_update();
            let went = self.go(&mut course).await;
            let stopping = *self.stop.borrow();
            let pause = match went {
                Ok(true) => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Ok(false) if stopping => return,
                Ok(false) => SAVE,
                Err(problem) => {
                    // Begins again at the saved position, with a new connection.
                    course = None;
                    self.standing.send_modify(|standing| standing.problem = Some(problem));
                    if stopping {
                        return;
                    }
                    let pause = wait;
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                    self.pause(pause).await;
                    continue;
                }
            };
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = committed.changed() => {}
                _ = stop.changed() => {}
                () = self.clock.sleep_until(self.clock.mono().plus(pause)) => {}
            }
        }
    }

    async fn pause(&mut self, pause: Duration) {
        let until = self.clock.mono().plus(pause);
        tokio::select! {
            () = self.clock.sleep_until(until) => {}
            _ = self.stop.changed() => {}
        }
    }

    /// One batch; whether there was any.
    async fn go(&self, course: &mut Option<Course>) -> Result<bool, Problem> {
        let mut at = match course.take() {
            Some(at) => at,
            None => self.begin()?,
        };
        let until = self.clock.mono().plus(PATIENCE);
        let sent = tokio::select! {
            sent = self.send(&mut at) => sent?,
            () = self.clock.sleep_until(until) => {
                return Err(Problem::new("timeout", format!("a batch took longer than {} s", PATIENCE.as_secs())));
            }
        };
        self.save(&mut at, !sent)?;
        *course = Some(at);
        Ok(sent)
    }

    fn begin(&self) -> Result<Course, Problem> {
        match self.disk.create_dir(&self.dir, 0o700) {
            Ok(()) | Err(DurableError::Exists { .. }) => {}
            Err(error) => return Err(Problem::new("position", error)),
        }
        let place = Place::new(&self.dir, &self.settings.name, self.disk.clone());
        let origin = self.origin();
        // Another log (a restored one, a new volume) is told from its beginning.
        let saved = place.load()?.filter(|position| position.origin == origin).map_or(0, |position| position.next);
        let there = *self.log.committed().borrow();
        if saved > there {
            let why = format!("record {} was sent, and the log has {there} records: it was cut or put back", saved - 1);
            return Err(Problem::new("log_behind", why));
        }
        let end = match &self.settings.target {
            Target::File(file) => End::File(Lines::new(file.clone(), self.disk.clone())),
            Target::Syslog(syslog) => End::Syslog(Box::new(Syslog::new(syslog.clone()))),
            Target::Nats(nats) => End::Nats(Box::new(Nats::new(nats.clone(), origin.clone()))),
            Target::Http(http) => End::Http(Http::new(http.clone(), &origin, &self.name, self.clock.clone())),
        };
        Ok(Course { place, end, next: saved, saved, sent: VecDeque::new(), saved_at: self.clock.mono() })
    }

    async fn send(&self, at: &mut Course) -> Result<bool, Problem> {
        let (log, next, origin, format) = (self.log.clone(), at.next, self.origin(), self.settings.format);
        let read = tokio::task::spawn_blocking(move || {
            let records = log.read(next, MOST).map_err(|error| Problem::new("log", error))?;
            Batch::new(&origin, &records, format)
        });
        let batch = read.await.map_err(|error| Problem::new("log", error))??;
        let count = u64::try_from(batch.items.len()).unwrap_or(0);
        if count > 0 {
            match &mut at.end {
                End::File(lines) => tokio::task::block_in_place(|| lines.deliver(&batch))?,
                End::Syslog(syslog) => syslog.deliver(&batch).await?,
                End::Http(http) => http.deliver(&batch).await?,
                End::Nats(nats) => nats.deliver(&batch).await?,
            }
            at.next = batch.end();
            at.sent.push_back((self.clock.mono(), at.next));
        }
        self.standing.send_if_modified(|standing| {
            let next = Standing { sent: standing.sent + count, next: at.next, confirmed: at.saved, problem: None };
            let changed = *standing != next;
            *standing = next;
            changed
        });
        Ok(count > 0)
    }

    /// Saves what is confirmed: at most each second, and before a pause.
    fn save(&self, at: &mut Course, idle: bool) -> Result<(), Problem> {
        let now = self.clock.mono();
        let settle = match &self.settings.target {
            Target::Syslog(syslog) => syslog.settle,
            Target::File(_) | Target::Http(_) | Target::Nats(_) => Duration::ZERO,
        };
        if !idle && now.since(at.saved_at) < SAVE {
            return Ok(());
        }
        let mut confirmed = at.saved;
        while let Some((_, next)) = at.sent.front().filter(|(when, _)| now.since(*when) >= settle) {
            confirmed = *next;
            at.sent.pop_front();
        }
        if confirmed == at.saved {
            return Ok(());
        }
        tokio::task::block_in_place(|| {
            match &mut at.end {
                End::File(lines) => lines.confirm()?,
                End::Syslog(syslog) => syslog.confirm()?,
                End::Http(_) | End::Nats(_) => {}
            }
            at.place.save(&Position { origin: self.origin(), next: confirmed })
        })?;
        (at.saved, at.saved_at) = (confirmed, now);
        self.standing.send_modify(|standing| standing.confirmed = confirmed);
        Ok(())
    }

    fn origin(&self) -> String {
        self.log.verifier_key().origin().as_str().to_owned()
    }
}
