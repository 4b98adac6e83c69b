//! How long do calls to a KEK take, and how many fail? The same KEK with a stopwatch.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::crypto::DataKey;
use crate::names::KekName;
use crate::telemetry::KekMetrics;

use super::{Kek, KekError, KekFacts, KekHealth, KekStatus, Wrap, WrapBinding};

/// A KEK whose calls are measured.
pub struct Metered {
    kek: Arc<dyn Kek>,
    clock: SharedClock,
    metrics: KekMetrics,
}

impl Metered {
    /// Measures a KEK.
    pub const fn new(kek: Arc<dyn Kek>, clock: SharedClock, metrics: KekMetrics) -> Self {
        Self { kek, clock, metrics }
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

    fn wrap_and_open<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<(Wrap, DataKey), KekError>> {
        Box::pin(async move {
            let (done, took) = self.timed(self.kek.wrap_and_open(key, binding, deadline)).await;
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

    fn current_version(&self) -> Option<u32> {
        self.kek.current_version()
    }

    fn health(&self) -> KekHealth {
        self.kek.health()
    }

    fn status(&self) -> KekStatus {
        self.kek.status()
    }
}
