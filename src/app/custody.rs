//! What does custody rest on beside the store? The separation file, and the digest of the settings that custodians guard.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::Event;
use crate::clock::{RehearsalClock, SharedClock};
use crate::config::Config;
use crate::keyring::Keyrings;
use crate::policy::Policy;
use crate::policy::separation::{Separation, SeparationError};
use crate::server::health::{Board, Part, State};
use crate::service::{CustodyHealth, CustodySettings, Service, Unfit};
use crate::telemetry::Metrics;

/// Why the rules of separation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeparationRefused {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error("{}: {source}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SeparationError,
    },
    /// It does not fit those who are configured.
    #[error("{}: {}", path.display(), problems.join("; "))]
    Principals {
        /// Which file.
        path: PathBuf,
        /// All problems.
        problems: Vec<String>,
    },
}

/// The clock that counts, and the handle of a rehearsal's.
pub(super) fn clock(config: &Config, clock: SharedClock) -> (SharedClock, Option<Arc<RehearsalClock>>) {
    let rehearsal = config.custody.rehearsal_clock.then(RehearsalClock::new);
    (rehearsal.clone().map_or(clock, |rehearsal| rehearsal as SharedClock), rehearsal)
}

/// Reads the rules, and holds those who are configured against them.
pub(super) fn separation(config: &Config) -> Result<Option<Arc<Separation>>, SeparationRefused> {
    let Some(path) = config.custody.separation.clone() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SeparationRefused::Read { path, source }),
    };
    let rules = match Separation::load(&text) {
        Ok(rules) => rules,
        Err(source) => return Err(SeparationRefused::Wrong { path, source }),
    };
    let known: Vec<_> = config.identity.principals.iter().map(|known| (known.name.clone(), known.kind)).collect();
    let problems = rules.check_principals(&known);
    if problems.is_empty() { Ok(Some(rules)) } else { Err(SeparationRefused::Principals { path, problems }) }
}

pub(super) fn settings(
    config: &Config,
    separation: Option<Arc<Separation>>,
    policy: &Policy,
    rehearsal: Option<Arc<RehearsalClock>>,
) -> CustodySettings {
    let guarded = super::guarded::settings(config, separation.as_deref(), policy);
    let clock_check = config.custody.clock_check.clone();
    CustodySettings {
        separation,
        environment: config.environment,
        clock_check,
        guarded,
        rehearsal,
        restored: None,
        witnessing: None,
    }
}

/// Shows how custody stands, and records that grants came to their end.
pub(super) async fn watch(service: Arc<Service>, board: Arc<Board>, clock: SharedClock, metrics: Arc<Metrics>) {
    let (mut in_force, mut fits) = (BTreeSet::new(), false);
    loop {
        // Custodians may have been founded through another sidecar of the store: what they approved counts here as well.
        fits = fits || (service.in_custody() && service.check_custody().await.is_ok());
        if let Ok(locks) = service.lock_words().await {
            metrics.custody.locks.set(i64::try_from(locks.len()).unwrap_or(i64::MAX));
            board.post(&locked(&locks));
        }
        match service.custody_health().await {
            Ok(Some(health)) => {
                for ended in in_force.difference(&health.in_force) {
                    service.note_ended(ended).await;
                }
                metrics.custody.margin.set(health.margin);
                metrics.custody.grants.set(i64::try_from(health.grants).unwrap_or(i64::MAX));
                metrics.custody.overdue_reviews.set(i64::try_from(health.overdue_reviews).unwrap_or(i64::MAX));
                board.post(&part(&health));
                in_force = health.in_force;
            }
            Ok(None) => {}
            Err(refusal) => tracing::debug!(detail = refusal.detail.as_deref().unwrap_or_default(), "custody"),
        }
        clock.sleep_until(clock.mono().plus(EVERY)).await;
    }
}

/// A grant ends within so long of its end in the log; it opens nothing from its end on.
const EVERY: Duration = Duration::from_secs(2);

fn locked(locks: &[String]) -> Part {
    let (state, text) = match locks {
        [] => (State::Ok, "nothing is locked".to_owned()),
        locks => (State::Degraded, locks.join("; ")),
    };
    Part { name: "locks".to_owned(), state, text }
}

fn part(health: &CustodyHealth) -> Part {
    let (state, text) = if health.held {
        (State::Failing, health.words.join("; "))
    } else if health.words.is_empty() {
        let CustodyHealth { margin, grants, .. } = health;
        (State::Ok, format!("custodians beyond the largest quorum: {margin}; grants in force: {grants}"))
    } else {
        (State::Degraded, health.words.join("; "))
    };
    Part { name: "custody".to_owned(), state, text }
}

/// Waits until the sidecar runs with what the custodians approved; false where that cannot come about here.
pub(super) async fn fit(service: &Service, keyrings: &Keyrings, clock: &SharedClock) -> bool {
    let mut told = "";
    loop {
        let (why, error, ends) = match service.check_custody().await {
            Ok(()) => return true,
            Err(Unfit::Rules(why)) => (why, "guarded_settings", true),
            Err(Unfit::Settings(why)) => (why, "guarded_settings", false),
            Err(Unfit::Restored(why)) => (why, "restored", false),
        };
        if std::mem::replace(&mut told, error) != error {
            tracing::error!(%why, "nothing is served but ceremonies");
            super::note(service, Event::SidecarRefused, vec![("error", error.to_owned())]).await;
        }
        if ends {
            keyrings.shut(&why);
            return false;
        }
        clock.sleep_until(clock.mono().plus(EVERY)).await;
    }
}
