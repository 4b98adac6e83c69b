//! The loop over the decisions: who is due is asked for page by page, and rotated at a pace. Constant work while nothing
//! is due: all keyrings are looked at once an hour, and when the first of them comes due.

use std::collections::VecDeque;
use std::time::Duration;

use super::{EARLIEST, Facts, Pace, Settings, Trigger, offset};
use crate::clock::{Mono, Reading, SharedClock, Steady, Wall};
use crate::names::{KeyVersionId, KeyringName};

/// Some of the keyrings that may be due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// With what is known of the active version, by name.
    pub found: Vec<(KeyringName, Facts)>,
    /// How many keyrings there are altogether.
    pub keyrings: u64,
    /// When the period of the first one ends that is on no page.
    pub later: Option<Wall>,
}

/// What is due, for metrics and readiness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keyrings that there are.
    pub keyrings: u64,
    /// To be rotated.
    pub due: u64,
    /// Should have been.
    pub overdue: u64,
    /// Older than any version may be.
    pub past_hard_limit: u64,
    /// When the first active version reaches that age; None while none is near.
    pub hard_limit: Option<Wall>,
    /// Candidates with an active version that begins in the future.
    pub unborn: u64,
    /// When the next one comes due; None while one is due or there is none.
    pub next: Option<Wall>,
    /// Whether the time is believed.
    pub trusted: bool,
}

/// Rotates what is due, for ever.
///
/// `page` gives keyrings whose period ends before a moment or whose use is near its limits, by name, those after the last
/// one of the page before; an empty page is the end. `rotate` rotates one, and does nothing if the version that was due is
/// no longer the active one: another sidecar may have been first. `urgent` tells of a key that was used up since. `show` hears every survey. `sidecar` is any number of this
/// sidecar's own; `floor` is a time at which something is known to have happened.
pub async fn run<P, R>(
    settings: Settings,
    clock: SharedClock,
    (sidecar, floor): (u64, Option<Wall>),
    page: impl Fn(Wall, Option<KeyringName>) -> P,
    rotate: impl Fn(KeyringName, KeyVersionId, Trigger) -> R,
    urgent: impl Fn() -> bool,
    show: impl Fn(&Summary),
) where
    P: Future<Output = Result<Page, String>>,
    R: Future<Output = Result<(), String>>,
{
    let mut steady = Steady::new(clock.wall(), clock.mono(), floor);
    let mut pace = Pace::new(clock.mono());
    let mut agenda = Agenda::new(settings, sidecar);
    loop {
        // Not at once: a crash loop must not be a loop of rotations. The pace is one of minutes, however seldom the agenda
        // is looked at.
        let wait = if agenda.is_done() { settings.check } else { settings.check.min(super::MINUTE) };
        clock.sleep_until(clock.mono().plus(wait)).await;
        let now = steady.read(clock.wall(), clock.mono());
        if agenda.is_stale(now, clock.mono()) || urgent() {
            match agenda.survey(now, clock.mono(), &page).await {
                Ok(summary) => show(&summary),
                Err(why) => tracing::warn!(why, "the keyrings could not be looked through for rotations"),
            }
        }
        while !agenda.is_done() && pace.take(clock.mono()) {
            let Some((name, version, trigger)) = agenda.next() else { break };
            agenda.surveyed = None;
            match rotate(name.clone(), version, trigger).await {
                Ok(()) => tracing::info!(keyring = %name, trigger = trigger.code(), "rotated"),
                Err(why) => tracing::warn!(keyring = %name, why, "a rotation that is due did not happen"),
            }
        }
    }
}

/// Which version of which keyring, and why.
type Due = (KeyringName, KeyVersionId, Trigger);

/// What is to be done, as of the last survey.
struct Agenda {
    settings: Settings,
    sidecar: u64,
    /// By the calendar.
    due: VecDeque<Due>,
    /// Used up: the calendar can wait for days, a limit cannot.
    used: VecDeque<Due>,
    /// When something next begins to be due here.
    wake: Option<Wall>,
    surveyed: Option<Mono>,
}

impl Agenda {
    const fn new(settings: Settings, sidecar: u64) -> Self {
        Self { settings, sidecar, due: VecDeque::new(), used: VecDeque::new(), wake: None, surveyed: None }
    }

    /// Something may have changed. What is on the list comes first.
    fn is_stale(&self, now: Reading, mono: Mono) -> bool {
        if !self.is_done() {
            return false;
        }
        let woken = now.trusted && self.wake.is_some_and(|wake| now.wall >= wake);
        woken || self.surveyed.is_none_or(|surveyed| mono.since(surveyed) >= SURVEY)
    }

    /// Nothing is on the list that this sidecar would do.
    fn is_done(&self) -> bool {
        !self.settings.enabled || (self.due.is_empty() && self.used.is_empty())
    }

    fn next(&mut self) -> Option<Due> {
        self.used.pop_front().or_else(|| self.due.pop_front())
    }

    async fn survey<P: Future<Output = Result<Page, String>>>(
        &mut self,
        now: Reading,
        mono: Mono,
        page: &impl Fn(Wall, Option<KeyringName>) -> P,
    ) -> Result<Summary, String> {
        let mut summary = Summary { trusted: now.trusted, ..Summary::default() };
        (self.due, self.used, self.wake) = (VecDeque::new(), VecDeque::new(), None);
        let mut after = None;
        loop {
            let Page { found, keyrings, later } = page(super::plus(now.wall, EARLIEST), after.take()).await?;
            summary.keyrings = keyrings;
            let Some((last, _)) = found.last() else {
                self.expect(later, &mut summary);
                break;
            };
            after = Some(last.clone());
            for (name, facts) in found {
                self.note(name, &facts, now, &mut summary);
            }
        }
        self.surveyed = Some(mono);
        Ok(summary)
    }

    fn note(&mut self, name: KeyringName, facts: &Facts, now: Reading, summary: &mut Summary) {
        let decision = self.settings.decide(&name.to_string(), facts, now);
        summary.due += u64::from(decision.due.is_some());
        summary.overdue += u64::from(decision.overdue);
        summary.past_hard_limit += u64::from(decision.past_hard_limit);
        let last = super::plus(facts.activated, self.settings.hard_limit);
        summary.hard_limit = Some(summary.hard_limit.map_or(last, |first| first.min(last)));
        summary.unborn += u64::from(decision.unborn);
        let offset = offset(self.sidecar, &name.to_string(), self.settings.check);
        let begins = super::plus(decision.next, offset);
        match decision.due {
            Some(Trigger::Schedule) if now.wall < begins => self.wake_at(begins),
            Some(Trigger::Schedule) if self.due.len() < LISTED => {
                self.due.push_back((name, facts.version, Trigger::Schedule));
            }
            Some(trigger) if trigger != Trigger::Schedule && self.used.len() < LISTED => {
                self.used.push_back((name, facts.version, trigger));
            }
            // Found again by the survey after these.
            Some(_) => {}
            None => {
                self.wake_at(begins);
                summary.next = Some(summary.next.map_or(decision.next, |next| next.min(decision.next)));
            }
        }
    }

    /// The keyrings that are no candidates yet: the first of them becomes one some days before its period ends.
    fn expect(&mut self, later: Option<Wall>, summary: &mut Summary) {
        let Some(end) = later else { return };
        self.wake_at(Wall(end.0.saturating_sub(super::micros(EARLIEST))));
        if summary.due == 0 {
            summary.next = Some(summary.next.map_or(end, |next| next.min(end)));
        }
    }

    fn wake_at(&mut self, at: Wall) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Limits that an operator lowers and counters of other sidecars are seen within this time.
const SURVEY: Duration = Duration::from_secs(3_600);
/// What is kept in memory of what is due; as much as a pace of ten a minute takes in an hour and a half.
const LISTED: usize = 1_000;
