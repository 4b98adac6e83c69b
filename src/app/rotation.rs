//! The scheduler between its parts: it learns of candidates from the keyrings and has the service rotate.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, SharedClock, Wall};
use crate::jobs;
use crate::jobs::schedule::{self, Facts, Page, Summary};
use crate::keyring::life::Trigger;
use crate::keyring::{Aging, Elsewhere, KekUse, Keyrings, PartitionsApplied, Period};
use crate::names::{KeyVersionId, KeyringName};
use crate::service::{Code, Refusal, Service};
use crate::telemetry::Metrics;

/// Candidates that are in memory at once.
const PAGE: usize = 500;

#[derive(Clone)]
pub(super) struct Rotation {
    pub(super) settings: jobs::Settings,
    pub(super) service: Arc<Service>,
    pub(super) keyrings: Arc<Keyrings>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    /// A number of this sidecar's own.
    pub(super) sidecar: u64,
}

/// Rotates what is due, from the opening of the keyrings on.
pub(super) async fn run(rotation: Rotation, mut opened: tokio::sync::watch::Receiver<bool>) {
    if opened.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Rotation { settings, service, keyrings, clock, metrics, sidecar } = rotation;
    let page = |until: Wall, after: Option<KeyringName>| {
        let keyrings = keyrings.clone();
        async move {
            let aged = keyrings.aging(until, after.as_ref(), PAGE).await.map_err(|error| error.to_string())?;
            let found = aged.found.into_iter().map(facts).collect();
            Ok(Page { found, keyrings: aged.keyrings, later: aged.later })
        }
    };
    let rotate = |keyring: KeyringName, version: KeyVersionId, trigger: Trigger| {
        let (service, deadline) = (service.clone(), Deadline(clock.mono().plus(PATIENCE)));
        async move { rotate(&service, &keyring, version, trigger, deadline).await }
    };
    let urgent = || keyrings.used_up();
    let show = |summary: &Summary| {
        show(&metrics, summary);
        say_keks(&keyrings);
    };
    schedule::run(settings, clock.clone(), (sidecar, None), page, rotate, urgent, show).await;
}

/// Moves partitions after a rotation, from the opening of the keyrings on.
pub(super) async fn move_partitions(rotation: Rotation, mut opened: tokio::sync::watch::Receiver<bool>) {
    if opened.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Rotation { settings, service, keyrings, clock, metrics, sidecar } = rotation;
    let left = || {
        let keyrings = keyrings.clone();
        async move {
            let found = keyrings.partitions_elsewhere().await.map_err(|error| error.to_string())?;
            Ok(found
                .into_iter()
                .map(|Elsewhere { keyring, trigger, partitions }| (keyring, trigger, partitions))
                .collect())
        }
    };
    let page = |keyring: KeyringName, trigger: Trigger| {
        let (service, deadline) = (service.clone(), Deadline(clock.mono().plus(PATIENCE)));
        async move {
            let moved = service.rewrap_partitions_unattended(&keyring, trigger, deadline).await.map_err(in_words)?;
            match moved {
                PartitionsApplied { done: 0, damaged, .. } if damaged > 0 => {
                    Err(format!("{damaged} partitions were edited in the store and stay where they are"))
                }
                PartitionsApplied { done, remaining, .. } => Ok((done, remaining)),
            }
        }
    };
    let show = |left: u64| metrics.lives.partitions_behind.set(i64::try_from(left).unwrap_or(i64::MAX));
    jobs::partitions::run(settings, clock.clone(), sidecar, left, page, show).await;
}

fn in_words(refusal: Refusal) -> String {
    refusal.detail.map_or_else(|| refusal.code.as_str().to_owned(), |why| why.into_owned())
}

/// Of a whole fleet one makes it: for the others nothing is left to do.
async fn rotate(
    service: &Service,
    keyring: &KeyringName,
    due: KeyVersionId,
    trigger: Trigger,
    deadline: Deadline,
) -> Result<(), String> {
    match service.rotate_unattended(keyring, due, trigger, deadline).await {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.code == Code::Conflict => Ok(()),
        Err(refusal) => Err(in_words(refusal)),
    }
}

/// No request waits for a rotation; longer than the slowest token takes to make a key.
const PATIENCE: Duration = Duration::from_secs(30);

fn facts(aging: Aging) -> (KeyringName, Facts) {
    let Aging { keyring, version, activated, period, used, limits } = aging;
    (keyring, Facts { version, activated, period, used, limits })
}

/// Once in each survey: what only a token's owner can do.
fn say_keks(keyrings: &Keyrings) {
    for one in keyrings.kek_uses().into_iter().filter(|one| one.wraps) {
        let KekUse { kek, version, period, .. } = one;
        match period {
            Period::Over => {
                tracing::warn!(%kek, version, "the cryptoperiod of this key-encryption key is over: rotate it")
            }
            Period::Due => {
                tracing::info!(%kek, version, "the cryptoperiod of this key-encryption key ends within a month")
            }
            Period::Within | Period::Doubted => {}
        }
    }
}

fn show(metrics: &Metrics, summary: &Summary) {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let lifetimes = &metrics.lifetimes;
    lifetimes.rotation_due.set(signed(summary.due));
    lifetimes.rotation_overdue.set(signed(summary.overdue));
    lifetimes.rotation_next.set(summary.next.map_or(0, |next| signed(next.0 / 1_000_000)));
    let lives = &metrics.lives;
    lives.hard_limit_next.set(summary.hard_limit.map_or(0, |last| signed(last.0 / 1_000_000)));
    lives.hard_limit_past.set(signed(summary.past_hard_limit));
    if summary.past_hard_limit > 0 {
        tracing::error!(
            keyrings = summary.past_hard_limit,
            "active versions are past the hard limit: nothing is sealed"
        );
    }
    if summary.overdue > 0 {
        tracing::warn!(keyrings = summary.overdue, "rotations are overdue");
    }
    if summary.unborn > 0 {
        tracing::warn!(keyrings = summary.unborn, "active versions begin in the future: look at the clock");
    }
    if !summary.trusted {
        tracing::warn!("the clock jumped: what is due by time waits until it has been steady for an hour");
    }
}
