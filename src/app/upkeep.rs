//! The tasks that watch over lifetimes: keys leave the memory, peers' changes are learnt, outages are recorded, what is due
//! is rotated.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Event, Log};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::keyring::{Keyrings, RevocationBound, STORE_POLL};
use crate::server::health::Board;
use crate::service::Service;
use crate::store;
use crate::telemetry::Metrics;
use crate::{crypto, jobs};

use super::outage;
use super::rotation::{self, Rotation};

pub(super) struct Upkeep<'a> {
    pub(super) config: &'a Config,
    pub(super) log: &'a Log,
    pub(super) clock: &'a SharedClock,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) board: &'a Arc<Board>,
}

impl Upkeep<'_> {
    /// Starts them. What is due is rotated from the opening of the keyrings on.
    pub(super) fn begin(
        &self,
        jobs: &mut JoinSet<()>,
        service: &Arc<Service>,
        keyrings: &Arc<Keyrings>,
        opened: watch::Receiver<bool>,
    ) {
        let Self { config, log, clock, metrics, board } = *self;
        jobs.spawn(super::custody::watch(service.clone(), board.clone(), clock.clone(), metrics.clone()));
        jobs.spawn(jobs::sweep(keyrings.clone(), clock.clone()));
        jobs.spawn(jobs::follow(keyrings.clone(), clock.clone(), poll(config)));
        jobs.spawn(jobs::report_in(keyrings.clone(), clock.clone()));
        jobs.spawn(outage::record(service.clone(), keyrings.clone(), clock.clone()));
        jobs.spawn(super::backup::record_notices(service.clone(), config.state.clone(), clock.clone()));
        jobs.spawn(super::reported::record(service.clone(), config.state.clone(), clock.clone()));
        jobs.spawn(note_head(service.clone(), keyrings.clone(), clock.clone()));
        let rotation = Rotation {
            settings: config.rotation,
            service: service.clone(),
            keyrings: keyrings.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            sidecar: number(log),
        };
        jobs.spawn(rotation::move_partitions(rotation.clone(), opened.clone()));
        jobs.spawn(rotation::run(rotation, opened));
    }
}

/// Names the store's head in the log when it has moved, so that a store that is put back is older than what the log knows,
/// whoever made the changes. One's own changes name it in their own records; naming it twice does no harm.
async fn note_head(service: Arc<Service>, keyrings: Arc<Keyrings>, clock: SharedClock) {
    let (mut noted, mut damage) = (None, None);
    loop {
        let found = keyrings.damage();
        if found.is_some() && found != damage && service.note(Event::StoreDamaged, Vec::new()).await.is_ok() {
            damage = found;
        }
        let head = keyrings.head();
        if let Some(now) = head.filter(|_| head != noted) {
            // The first one stands in the record that says that the sidecar is ready.
            let told = match noted {
                None => Ok(()),
                Some(_) => service.note(Event::StoreFollowed, vec![("store_head", now.to_string())]).await,
            };
            match told {
                Ok(()) => noted = head,
                Err(error) => tracing::error!(%error, "the audit log did not take the head of the store"),
            }
        }
        clock.sleep_until(clock.mono().plus(HEAD)).await;
    }
}

/// What a rollback can undo unseen by a sidecar that did not make the change, if it falls together with a restart.
const HEAD: Duration = Duration::from_secs(10);

/// A number of this sidecar's own: no two logs share a name.
fn number(log: &Log) -> u64 {
    let digest = crypto::sha256(&[log.verifier_key().origin().as_str().as_bytes()]);
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// How often the store is asked for its head.
fn poll(config: &Config) -> Duration {
    match &config.store {
        store::Settings::Sqlite(_) => STORE_POLL,
        store::Settings::Postgresql(settings) => settings.poll,
    }
}

/// How long a revoked key may go on working, at worst.
pub(super) fn bound(config: &Config) -> RevocationBound {
    RevocationBound::of(&config.keyring, poll(config), config.server.limits.request_timeout)
}

/// The same for people.
pub fn revocation(config: &Config) -> String {
    let RevocationBound { unheard_refusal, refusal, unheard_state, .. } = bound(config);
    format!(
        "bites within {} s of a refusal, {} s if the refusal cannot be heard; {} s of a change of state",
        refusal.as_secs(),
        unheard_refusal.as_secs(),
        unheard_state.as_secs()
    )
}
