//! The key-encryption keys of a running sidecar: started with it, measured, and asked for a canary again and again, so
//! that readiness is true also while nobody calls.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, SharedClock};
use crate::config::Config;
use crate::durable::Disk;
use crate::kek::{self, EventSink, Kek, KekHealth, Metered};
use crate::keyring::Keks;
use crate::telemetry::{KekMetrics, Metrics};

use super::start::StartError;

/// Between two canaries of a KEK that answers: one call in this time is nothing to any device, and an outage and a
/// refusal are noticed within it even if nobody calls.
const CANARY: Duration = Duration::from_secs(5);
/// Between two tries at one that does not; its own breaker keeps it from being asked that often.
const RETRY: Duration = Duration::from_secs(1);
/// Nobody waits for a canary.
const PATIENCE: Duration = Duration::from_secs(10);

/// Those of the configuration.
pub(super) struct Standing {
    pub(super) primary: One,
    pub(super) escrow: Option<One>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct One {
    pub(super) kek: Arc<Metered>,
    pub(super) metrics: KekMetrics,
}

impl Standing {
    /// Starts all of them. One that is away starts too; one that is wrong or refuses stops the start.
    pub(super) async fn start(
        config: &Config,
        clock: &SharedClock,
        disk: &Disk,
        events: &EventSink,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let deployment = super::deployment(config.environment);
        let start = async |settings: &kek::Settings| -> Result<One, StartError> {
            let metrics = metrics.kek(settings.name().as_str())?;
            let kek = kek::start(settings.clone(), deployment, clock.clone(), disk.clone(), events.clone()).await?;
            Ok(One { kek: Arc::new(Metered::new(kek, clock.clone(), metrics.clone())), metrics })
        };
        let primary = start(&config.keks.primary).await?;
        let escrow = match &config.keks.escrow {
            Some(settings) => Some(start(settings).await?),
            None => None,
        };
        Ok(Self { primary, escrow })
    }

    /// What the keyrings wrap with and unwrap by.
    pub(super) fn keks(&self, events: EventSink) -> Keks {
        let of = |one: &One| Arc::clone(&one.kek) as Arc<dyn Kek>;
        Keks::new(of(&self.primary), self.escrow.as_ref().map(of), events)
    }

    /// All of them, the primary first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &One> {
        std::iter::once(&self.primary).chain(&self.escrow)
    }
}

/// Asks for a canary for ever. What it shows stands in the KEK's status, and a refusal comes as an event.
pub(super) async fn probe(kek: Arc<Metered>, clock: SharedClock) {
    let mut asked = clock.mono();
    loop {
        clock.sleep_until(clock.mono().plus(RETRY)).await;
        let answers = kek.health() == KekHealth::Reachable;
        if answers && clock.mono().since(asked) < CANARY {
            continue;
        }
        if let Err(error) = kek.probe(Deadline(clock.mono().plus(PATIENCE))).await {
            tracing::debug!(%error, "a canary did not open");
        }
        asked = clock.mono();
    }
}
