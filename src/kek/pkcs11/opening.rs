//! How does the keeper get at the token? An idle lane, a new lane, or a new worker that proves itself before it serves.
//! This module never lets two callers open at once, and never asks past the breaker.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, Mono};
use crate::crypto::RsaPublicKey;
use crate::kek::profile::ErrorClass;
use crate::kek::{KekError, KekEvent, KekFacts, KekHealth};

use super::access::{Setback, facts};
use super::attributes::KeyAttributes;
use super::canary::Canary;
use super::fault::Fault;
use super::keeper::{Keeper, Seat};
use super::link::{Link, Trouble};

impl Keeper {
    /// An idle lane, a new one, or a new worker.
    pub(super) async fn link(&self) -> Result<(Link, u64), KekError> {
        // One opens; the others wait here and then find its worker, or the breaker that its failure has tripped.
        loop {
            if let Some(found) = self.idle() {
                return Ok(found);
            }
            let _turn = self.opening.lock().await;
            if self.state().idle.is_empty() {
                match self.another_lane() {
                    Some((generation, lane)) => match lane.await {
                        Ok(link) => return Ok((link, generation)),
                        Err(trouble) => self.lose(generation, &self.access.setback(trouble)),
                    },
                    None => self.reopen().await?,
                }
            }
        }
    }

    fn idle(&self) -> Option<(Link, u64)> {
        let mut state = self.state();
        let link = state.idle.pop()?;
        Some((link, state.generation))
    }

    fn another_lane(&self) -> Option<(u64, impl Future<Output = Result<Link, Trouble>> + use<>)> {
        let state = self.state();
        let lane = state.process.as_ref()?.lane(self.access.start_after());
        Some((state.generation, lane))
    }

    async fn reopen(&self) -> Result<(), KekError> {
        let held = self.state().breaker.error(self.access.clock.mono());
        match held {
            Some(error) => Err(error),
            None => self.open().await.map_err(|setback| self.set_back(&setback)),
        }
    }

    /// A fresh worker, and the proof that it reaches the KEK.
    pub(super) async fn open(&self) -> Result<(), Setback> {
        let (process, mut link, token) = self.access.open().await?;
        self.board.count(|counts| counts.workers_started += 1);
        let admitted = self.state().canary.clone();
        // A worker goes on where the one before it was: a newer version is looked for beside the calls, and one that is
        // gone is no reason to wrap by an older one.
        let version = match &admitted {
            Some(canary) => canary.version,
            None => self.access.newest(&mut link).await?,
        };
        let attributes = self.access.fit_key(&mut link, version, self.access.recipe).await?;
        let public = self.access.public_key(&mut link, version).await?.map(Arc::new);
        let canary = match admitted {
            Some(canary) => self.prove_again(&mut link, public.as_deref(), canary).await?,
            None => Arc::new(Canary::admit(&self.access, &mut link, version, public.as_deref()).await?),
        };
        self.board.worker_is(process.id());
        {
            let mut state = self.state();
            state.generation += 1;
            state.process = Some(process);
            state.idle = vec![link];
            state.admitted = vec![(version, self.access.recipe)];
            state.canary = Some(canary);
            state.public = public;
            state.proven = Some(self.access.clock.mono());
            state.looked = state.proven;
            self.canary_opened();
            // Under the lock: a failure of this worker must not be told before the worker is.
            self.announce(facts(&self.access, &token), attributes, version);
        }
        Ok(())
    }

    /// When to look for a newer version; None if the configuration names the one to use.
    pub(super) fn next_version_look(&self) -> Option<Mono> {
        let state = self.state();
        let due = state.looked?.plus(LOOK_EVERY);
        (self.access.settings.pinned().is_none() && state.process.is_some()).then_some(due)
    }

    /// Whether `keyward kek rotate` has made a newer version: proven as at the admission, it makes new wraps from then on.
    /// One that is not fit changes nothing, and neither does a library that shows new keys to new processes only.
    pub(super) async fn look_for_newer(&self) {
        let (now, limit) = (self.access.clock.mono(), self.access.start_after());
        self.state().looked = Some(now);
        let Ok(mut seat) = self.seat(Deadline(now.plus(limit))).await else { return };
        // What has failed here may have left its lane in the middle of a call: it is not given back.
        if self.adopt_newer(&mut seat).await.is_ok() {
            self.give_back(seat);
        }
    }

    async fn adopt_newer(&self, seat: &mut Seat<'_>) -> Result<(), Setback> {
        let (access, link) = (&self.access, &mut seat.link);
        let current = self.current_version().unwrap_or_default();
        let newer = access.versions(link, current.saturating_add(1), LOOK_GAP).await?;
        let Some(version) = newer.into_iter().max() else { return Ok(()) };
        let attributes = access.fit_key(link, version, access.recipe).await?;
        let public = access.public_key(link, version).await?.map(Arc::new);
        let canary = Canary::admit(access, link, version, public.as_deref()).await?;
        let mut state = self.state();
        if state.generation == seat.generation && state.process.is_some() {
            state.admitted.push((version, access.recipe));
            state.canary = Some(Arc::new(canary));
            state.public = public;
            self.announce(self.board.facts(), attributes, version);
        }
        Ok(())
    }

    /// The canary of the admission opens in a new worker. Where it does not, although a fresh one of this key does and
    /// the old one still fails after that, the key is another one.
    async fn prove_again(
        &self,
        link: &mut Link,
        public: Option<&RsaPublicKey>,
        canary: Arc<Canary>,
    ) -> Result<Arc<Canary>, Setback> {
        let Err(trouble) = canary.opens(&self.access, link).await else { return Ok(canary) };
        match trouble {
            Trouble::Fault(Fault::Code { code, .. })
                if !matches!(self.access.class(code), ErrorClass::BadInput | ErrorClass::Ambiguous) =>
            {
                return Err(self.access.setback(trouble));
            }
            Trouble::Lost(_) => return Err(self.access.setback(trouble)),
            Trouble::Fault(_) => {}
        }
        Canary::make(&self.access, link, canary.version, public).await?;
        match canary.opens(&self.access, link).await {
            Ok(()) => Ok(canary),
            Err(lost @ Trouble::Lost(_)) => Err(self.access.setback(lost)),
            Err(Trouble::Fault(_)) => Err(Setback::Denied(
                "the key in the token is not the one that was admitted: restart keyward if it was replaced".into(),
            )),
        }
    }

    fn announce(&self, facts: KekFacts, attributes: KeyAttributes, version: u32) {
        let kek = self.access.settings.name.clone();
        let key = format!("{} {}", attributes.label, hex::encode(&attributes.id));
        let facts = KekFacts { key, ..facts };
        // Another label is another version: a key of its own, and a record of its own.
        let known = self.board.attributes().is_some_and(|known| known.label == attributes.label);
        let (health, lines) = (self.board.health(), attributes.lines());
        self.board.admit(facts.clone(), attributes);
        if !known {
            self.events.emit(KekEvent::Admitted { kek, version, facts: Box::new(facts), attributes: lines });
        } else if health != KekHealth::Reachable {
            self.events.emit(KekEvent::Recovered { kek });
        }
    }
}

/// How long a new version may stay unseen. One search in a session of its own.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// One version may be half made and the next one whole.
const LOOK_GAP: u16 = 2;
