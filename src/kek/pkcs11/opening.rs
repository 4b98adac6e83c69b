//! How does the keeper get at the token? An idle lane, a new lane, or a new worker that proves itself before it serves.
//! This module never lets two callers open at once, and never asks past the breaker.

use std::sync::Arc;

use crate::crypto::RsaPublicKey;
use crate::kek::profile::ErrorClass;
use crate::kek::{KekError, KekEvent, KekFacts, KekHealth};

use super::access::{Setback, facts};
use super::attributes::KeyAttributes;
use super::canary::Canary;
use super::fault::Fault;
use super::keeper::Keeper;
use super::link::{Link, Trouble};
use super::message::TokenFacts;

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
        let attributes = self.access.fit_key(&mut link, self.access.settings.key_version, self.access.recipe).await?;
        let public = self.access.public_key(&mut link).await?.map(Arc::new);
        let admitted = self.state().canary.clone();
        let canary = match admitted {
            Some(canary) => self.prove_again(&mut link, public.as_deref(), canary).await?,
            None => {
                let canary = Canary::make(&self.access, &mut link, public.as_deref()).await?;
                canary.refuses_what_is_wrong(&self.access, &mut link).await?;
                Arc::new(canary)
            }
        };
        self.board.worker_is(process.id());
        {
            let mut state = self.state();
            state.generation += 1;
            state.process = Some(process);
            state.idle = vec![link];
            state.admitted = vec![(self.access.settings.key_version, self.access.recipe)];
            state.canary = Some(canary);
            state.public = public;
            state.proven = Some(self.access.clock.mono());
            self.canary_opened();
            // Under the lock: a failure of this worker must not be told before the worker is.
            self.announce(&token, attributes);
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
        Canary::make(&self.access, link, public).await?;
        match canary.opens(&self.access, link).await {
            Ok(()) => Ok(canary),
            Err(lost @ Trouble::Lost(_)) => Err(self.access.setback(lost)),
            Err(Trouble::Fault(_)) => Err(Setback::Denied(
                "the key in the token is not the one that was admitted: restart keyward if it was replaced".into(),
            )),
        }
    }

    fn announce(&self, token: &TokenFacts, attributes: KeyAttributes) {
        let settings = &self.access.settings;
        let (kek, version) = (settings.name.clone(), settings.key_version);
        let key = format!("{} {}", attributes.label, hex::encode(&attributes.id));
        let facts = KekFacts { key, ..facts(&self.access, token) };
        let (known, health) = (self.board.attributes().is_some(), self.board.health());
        let lines = attributes.lines();
        self.board.admit(facts.clone(), attributes);
        if !known {
            self.events.emit(KekEvent::Admitted { kek, version, facts: Box::new(facts), attributes: lines });
        } else if health != KekHealth::Reachable {
            self.events.emit(KekEvent::Recovered { kek });
        }
    }
}
