//! Which key-encryption keys stand behind a running sidecar? Started with it and measured, each under its name; whether
//! they answer while nobody calls they find out by themselves.

use std::sync::Arc;

use crate::clock::SharedClock;
use crate::config::{self, Config};
use crate::durable::Disk;
use crate::kek::{self, EventSink, Kek, Metered};
use crate::keyring::Keks;
use crate::telemetry::{KekMetrics, Metrics};

use super::start::StartError;

/// Those of the configuration.
pub(super) type Standing = Started<One>;

/// Those of a configuration, each as somebody started it.
pub(super) struct Started<T> {
    pub(super) primary: T,
    pub(super) escrow: Option<T>,
    pub(super) retiring: Vec<T>,
}

impl<T> Started<T> {
    /// Starts all of them, the primary first; the first that does not start ends it.
    pub(super) async fn of<E>(
        keks: &config::Keks,
        start: impl AsyncFn(&kek::Settings) -> Result<T, E>,
    ) -> Result<Self, E> {
        let primary = start(&keks.primary).await?;
        let escrow = match &keks.escrow {
            Some(settings) => Some(start(settings).await?),
            None => None,
        };
        let mut retiring = Vec::with_capacity(keks.retiring.len());
        for settings in &keks.retiring {
            retiring.push(start(settings).await?);
        }
        Ok(Self { primary, escrow, retiring })
    }
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
        let standing = Self::of(&config.keks, start).await?;
        if let Some(escrow) = &standing.escrow {
            independent(&*standing.primary.kek, &*escrow.kek)?;
        }
        if standing.in_one_token() {
            tracing::warn!("primary and escrow are keys of one token: whoever loses it loses both");
        }
        Ok(standing)
    }

    /// Whether the token says so; one that is away says nothing.
    fn in_one_token(&self) -> bool {
        let token = |one: &One| {
            let facts = one.kek.facts();
            (!facts.serial.is_empty()).then_some((facts.manufacturer, facts.model, facts.serial))
        };
        let primary = token(&self.primary);
        primary.is_some() && primary == self.escrow.as_ref().and_then(token)
    }

    /// What the keyrings wrap with and unwrap by.
    pub(super) fn keks(&self, events: EventSink) -> Keks {
        let of = |one: &One| Arc::clone(&one.kek) as Arc<dyn Kek>;
        let retiring = self.retiring.iter().map(of).collect();
        Keks::new(of(&self.primary), self.escrow.as_ref().map(of), events).with_retiring(retiring)
    }

    /// Those that wrap, the primary first.
    pub(super) fn wrapping(&self) -> impl Iterator<Item = &One> {
        std::iter::once(&self.primary).chain(&self.escrow)
    }

    /// All of them, the primary first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &One> {
        self.wrapping().chain(&self.retiring)
    }
}

/// An escrow that is the primary's key under other settings, as the token or server says; one that is away says nothing.
pub(super) fn independent(primary: &dyn Kek, escrow: &dyn Kek) -> Result<(), kek::StartError> {
    let place = |kek: &dyn Kek| {
        let facts = kek.facts();
        let known = !facts.serial.is_empty() && !facts.key.is_empty();
        known.then_some((facts.manufacturer, facts.model, facts.serial, facts.key))
    };
    if place(primary).is_some() && place(primary) == place(escrow) {
        let problem = "it is the primary's key, by what the token says: a second wrap by it saves nothing".into();
        return Err(kek::StartError::Unfit { kek: escrow.name().clone(), problem });
    }
    Ok(())
}
