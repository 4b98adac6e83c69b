//! How long do calls to a KEK take, and how many fail? The same KEK with a stopwatch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{BoxFuture, Deadline, SharedClock, Wall};
use crate::crypto::DataKey;
use crate::names::{KekName, KeyVersionId, StoreId};
use crate::telemetry::KekMetrics;

use super::{Kek, KekError, KekFacts, KekHealth, KekStatus, Wrap, WrapBinding, WrapRole};

/// A KEK whose calls are measured.
pub struct Metered {
    kek: Arc<dyn Kek>,
    clock: SharedClock,
    metrics: KekMetrics,
    canary: OnceLock<Wrap>,
    /// When a probe last succeeded, in microseconds since 1970; 0 for never.
    proven: AtomicU64,
}

impl Metered {
    /// Measures a KEK.
    pub const fn new(kek: Arc<dyn Kek>, clock: SharedClock, metrics: KekMetrics) -> Self {
        Self { kek, clock, metrics, canary: OnceLock::new(), proven: AtomicU64::new(0) }
    }

    /// Opens a canary, a wrap of a key that nobody uses: only that says that the next unwrap would succeed. The first
    /// probe makes it. Not measured, since no caller waits for it.
    pub async fn probe(&self, deadline: Deadline) -> Result<(), KekError> {
        let binding = WrapBinding {
            store: StoreId([0; 16]),
            owner: CANARY.to_owned(),
            key: KeyVersionId([0; 8]),
            kek: self.kek.name().clone(),
            role: WrapRole::Primary,
            created: Wall(0),
        };
        let wrap = match self.canary.get() {
            Some(wrap) => wrap,
            None => {
                let unusable = |_| KekError::Unsupported("no key could be made in this process".to_owned());
                let key = DataKey::generate(&[]).map_err(unusable)?;
                let wrap = self.kek.wrap(&key, &binding, deadline).await?;
                self.canary.get_or_init(|| wrap)
            }
        };
        // Its check value is compared by the unwrapping.
        self.kek.unwrap(wrap, &binding, deadline).await?;
        self.proven.store(self.clock.wall().0, Ordering::Relaxed);
        Ok(())
    }

    async fn timed<T>(&self, call: impl Future<Output = Result<T, KekError>>) -> (Result<T, KekError>, Duration) {
        let start = self.clock.mono();
        let done = call.await;
        if done.is_err() {
            self.metrics.failures.inc();
        }
        (done, self.clock.mono().since(start))
    }
}

/// The owner of a canary: no keyring and no key of keyward is called so.
const CANARY: &str = "kw.canary";

impl Kek for Metered {
    fn name(&self) -> &KekName {
        self.kek.name()
    }

    fn facts(&self) -> KekFacts {
        self.kek.facts()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(async move {
            let (done, took) = self.timed(self.kek.wrap(key, binding, deadline)).await;
            self.metrics.wrap_seconds.observe(took.as_secs_f64());
            done
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(async move {
            let (done, took) = self.timed(self.kek.unwrap(wrap, binding, deadline)).await;
            self.metrics.unwrap_seconds.observe(took.as_secs_f64());
            done
        })
    }

    fn random(&self, deadline: Deadline) -> BoxFuture<'_, Result<Vec<u8>, KekError>> {
        Box::pin(async move { self.timed(self.kek.random(deadline)).await.0 })
    }

    fn health(&self) -> KekHealth {
        self.kek.health()
    }

    fn status(&self) -> KekStatus {
        let status = self.kek.status();
        let proven = match self.proven.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Wall(at)),
        };
        KekStatus { last_canary: status.last_canary.max(proven), ..status }
    }
}
