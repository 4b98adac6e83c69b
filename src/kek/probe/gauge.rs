//! What does the way to the worker cost? The same unwrap in the worker and through it, for benchmarks.
//! This module never takes a wrap from outside: it measures one of its own, under a temporary key.

use std::time::Duration;

use crate::clock::SharedClock;
use crate::crypto;
use crate::durable::Disk;
use crate::kek::pkcs11::{Trouble, Workbench};
use crate::secret::SecretBytes;

use super::rates::Lanes;
use super::{ProbeError, Target, away, profile_of, refusal, settings, trial};

/// A token with a temporary key and something wrapped by it.
pub struct Gauge {
    bench: Workbench,
    blob: Vec<u8>,
    aad: Vec<u8>,
    lanes: Option<(u32, Lanes)>,
}

impl Gauge {
    /// Logs in and wraps random bytes by the method that the target names, or the profile's first.
    pub async fn open(target: &Target, clock: SharedClock, disk: Disk) -> Result<Self, ProbeError> {
        let asked = |what: &str| ProbeError::Asked(what.into());
        let wanted = target.token.as_ref().ok_or_else(|| asked("name a token"))?;
        let profile = profile_of(target, true)?;
        let table = profile.chosen(wanted.method.as_deref()).map_err(ProbeError::Asked)?.clone();
        let settings = settings(target, wanted, &profile)?;
        let mut bench = Workbench::prepare(settings, profile, clock, disk).map_err(|error| refusal(&error))?;
        bench.open().await.map_err(|error| refusal(&error))?;
        bench.aim(&table, &trial::temporary_label());
        match bench.make(false).await {
            Some(Ok(_)) => {}
            Some(Err((_, trouble))) => return Err(away(trouble)),
            None => return Err(asked("the keys of this method are made with the vendor's tools")),
        }
        let (mut plain, aad) = (SecretBytes::zeroed(32), trial::context("open"));
        crypto::random(plain.expose_mut()).map_err(|error| ProbeError::Away(error.to_string()))?;
        let blob = bench.wrap(&plain, &aad).await.map_err(away)?;
        Ok(Self { bench, blob, aad, lanes: None })
    }

    /// How long `times` unwraps in each of so many sessions take the token, without the way to the worker.
    pub async fn raw(&mut self, sessions: u32, times: u64) -> Result<Duration, ProbeError> {
        self.run(sessions, times, true).await.map_err(away)
    }

    /// The same through the worker.
    pub async fn through(&mut self, sessions: u32, times: u64) -> Result<Duration, ProbeError> {
        self.run(sessions, times, false).await.map_err(away)
    }

    /// Removes the temporary key and lets the worker leave in order.
    pub async fn close(mut self) -> Result<(), ProbeError> {
        self.lanes = None;
        let discarded = self.bench.discard().await;
        self.bench.leave().await;
        discarded.map(drop).map_err(away)
    }

    async fn run(&mut self, sessions: u32, times: u64, raw: bool) -> Result<Duration, Trouble> {
        let mut lanes = match self.lanes.take() {
            Some((count, lanes)) if count == sessions => lanes,
            _ => Lanes::open(&self.bench, &self.blob, &self.aad, sessions).await?,
        };
        let (mut left, mut took) = (times, Duration::ZERO);
        while left > 0 {
            let some = u16::try_from(left).unwrap_or(u16::MAX);
            took += lanes.run(some, raw).await?;
            left -= u64::from(some);
        }
        self.lanes = Some((sessions, lanes));
        Ok(took)
    }
}
