//! Is the token there, and what does an error of it mean? One task owns the worker, serves one call at a time and heals.
//! This module never believes a return code that a canary can check, and never blames the token for a corrupt wrap.
//!
//! The climb: a fresh session (the worker takes one after every error), then a fresh worker with a fresh login. The
//! rungs in between (login again, finalise and initialise again) are left out: a fresh worker does both, from a known state.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::{Deadline, Mono};
use crate::crypto::{self, canonical};
use crate::kek::profile::ErrorClass;
use crate::kek::{BreakerState, EventSink, KekError, KekEvent, KekFacts, KekHealth};
use crate::secret::SecretBytes;

use super::access::{Access, Setback};
use super::attributes::KeyAttributes;
use super::board::Board;
use super::link::{Answer, Link, Trouble};
use super::message::{Fault, Request, TokenFacts};

/// What a caller wants done.
pub(super) enum Work {
    /// Encrypt a data key.
    Wrap { plain: SecretBytes, aad: Vec<u8> },
    /// Decrypt one.
    Unwrap { blob: Vec<u8>, aad: Vec<u8> },
    /// The token's randomness.
    Random { len: u16 },
}

/// Work, until when it is of use, and where the answer goes.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Deadline,
    pub(super) answer: oneshot::Sender<Result<SecretBytes, KekError>>,
}

/// The owner of the worker.
pub(super) struct Keeper {
    access: Access,
    mechanism: u64,
    events: EventSink,
    board: std::sync::Arc<Board>,
    link: Option<Link>,
    canary: Option<Canary>,
    breaker: Breaker,
}

/// Something that the admitted KEK encrypted: as long as it opens, the token lives and the KEK is the same.
struct Canary {
    plain: SecretBytes,
    blob: Vec<u8>,
}

/// Keeps a device that does not answer from being asked again at once.
#[derive(Default)]
struct Breaker {
    failures: u32,
    closed_until: Option<(Mono, KekError)>,
}

/// What to do after an error.
enum Next {
    Again(String),
    Answer(KekError),
}

impl Keeper {
    /// A keeper without a worker.
    pub(super) fn new(access: Access, mechanism: u64, events: EventSink, board: std::sync::Arc<Board>) -> Self {
        Self { access, mechanism, events, board, link: None, canary: None, breaker: Breaker::default() }
    }

    /// Serves until the last handle of the KEK is gone; the worker goes with the keeper.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(Job { work, deadline, answer }) = jobs.recv().await {
            // Whoever asked may have gone at the deadline while the job stood in the queue.
            if !answer.is_closed() {
                let result = self.serve(&work, deadline).await;
                let _nobody_waits_any_more = answer.send(result);
            }
        }
    }

    /// Opens and admits the token for the first time.
    pub(super) async fn start(&mut self) -> Result<(), Setback> {
        match self.open().await {
            Ok(()) => Ok(()),
            Err(setback) => {
                self.set_back(&setback);
                Err(setback)
            }
        }
    }

    async fn serve(&mut self, work: &Work, deadline: Deadline) -> Result<SecretBytes, KekError> {
        let mut detail = String::new();
        for _ in 0..ATTEMPTS {
            if deadline.left(self.access.clock.mono()).is_none() {
                return Err(KekError::Deadline(self.access.settings.name.clone()));
            }
            self.ready().await?;
            let trouble = match self.perform(work).await {
                Ok(bytes) => {
                    self.breaker = Breaker::default();
                    self.board.breaker_is(BreakerState::Closed);
                    return Ok(bytes);
                }
                Err(trouble) => trouble,
            };
            match self.settle(trouble, work).await {
                Next::Answer(error) => return Err(error),
                Next::Again(why) => detail = why,
            }
        }
        Err(Setback::Away(detail).as_kek_error(&self.access.settings.name))
    }

    async fn ready(&mut self) -> Result<(), KekError> {
        if self.link.is_some() {
            return Ok(());
        }
        if let Some((until, error)) = &self.breaker.closed_until
            && self.access.clock.mono() < *until
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(()) => Ok(()),
            Err(setback) => Err(self.set_back(&setback)),
        }
    }

    /// A fresh worker, and the proof that it reaches the KEK.
    async fn open(&mut self) -> Result<(), Setback> {
        let (mut link, token) = self.access.open().await?;
        let limit = self.access.profile.calls.start_after();
        let find = Request::Find { label: &self.access.settings.key_label };
        let attributes = link.key(&find, limit).await.map_err(|trouble| self.access.setback(trouble))?;
        if let Some(objection) = attributes.objection() {
            let label = &self.access.settings.key_label;
            return Err(Setback::Unfit(format!("the key {label} in the token must not be used: {objection}")));
        }
        self.prove(&mut link).await?;
        self.board.canary_opened(self.access.clock.wall());
        self.board.worker_is(link.process());
        self.link = Some(link);
        self.announce(&token, attributes);
        Ok(())
    }

    fn announce(&self, token: &TokenFacts, attributes: KeyAttributes) {
        let (kek, version) = (self.access.settings.name.clone(), self.access.settings.key_version);
        let facts = facts(token);
        let (known, health) = (self.board.attributes().is_some(), self.board.health());
        let lines = attributes.lines();
        self.board.admit(facts.clone(), attributes);
        if !known {
            self.events.emit(KekEvent::Admitted { kek, version, facts, attributes: lines });
        } else if health != KekHealth::Reachable {
            self.events.emit(KekEvent::Recovered { kek });
        }
    }

    /// The canary of the admission opens; or, the first time, a canary is made and a wrong context is refused.
    async fn prove(&mut self, link: &mut Link) -> Result<(), Setback> {
        let Some(canary) = &self.canary else {
            let canary = self.fresh_canary(link).await?;
            self.refuses_a_wrong_context(link, &canary).await?;
            self.canary = Some(canary);
            return Ok(());
        };
        match self.unwrap(link, &canary.blob, &self.canary_aad("open")).await {
            Ok(plain) if crypto::constant_time_eq(plain.expose(), canary.plain.expose()) => return Ok(()),
            Ok(_) | Err(Trouble::Fault(_)) => {}
            Err(lost @ Trouble::Lost(_)) => return Err(self.access.setback(lost)),
        }
        // A canary that this key makes and opens, while the admitted one's does not open: it is another key.
        self.fresh_canary(link).await?;
        Err(Setback::Denied(
            "the key in the token is not the one that was admitted: restart keyward if it was replaced".into(),
        ))
    }

    async fn fresh_canary(&self, link: &mut Link) -> Result<Canary, Setback> {
        let mut plain = [0; 32];
        crypto::random(&mut plain).map_err(|error| Setback::Away(error.to_string()))?;
        let aad = self.canary_aad("open");
        let request = Request::Wrap { mechanism: self.mechanism, plain: &plain, aad: &aad };
        let wrapped = link.bytes(&request, self.hang_after()).await.map_err(|trouble| self.access.setback(trouble))?;
        let blob = wrapped.expose().to_vec();
        let opened = self.unwrap(link, &blob, &aad).await.map_err(|trouble| self.access.setback(trouble))?;
        if !crypto::constant_time_eq(opened.expose(), &plain) {
            return Err(Setback::Unfit("the token does not give back what it was given".into()));
        }
        Ok(Canary { plain: SecretBytes::new(plain.to_vec()), blob })
    }

    /// A token that ignores the context would open a wrap that was swapped in the database.
    async fn refuses_a_wrong_context(&self, link: &mut Link, canary: &Canary) -> Result<(), Setback> {
        let ignored = || Setback::Unfit("the token does not check the context of a wrap".into());
        match self.unwrap(link, &canary.blob, &self.canary_aad("refuse")).await {
            Ok(_) => return Err(ignored()),
            Err(Trouble::Fault(Fault::Code { call, code })) => match self.access.profile.errors.class(code) {
                ErrorClass::BadInput | ErrorClass::Ambiguous => {}
                _ => return Err(self.access.setback(Trouble::Fault(Fault::Code { call, code }))),
            },
            Err(trouble) => return Err(self.access.setback(trouble)),
        }
        let opened = self.unwrap(link, &canary.blob, &self.canary_aad("open")).await;
        opened.map(|_| ()).map_err(|trouble| self.access.setback(trouble))
    }

    async fn unwrap(&self, link: &mut Link, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Trouble> {
        link.bytes(&Request::Unwrap { mechanism: self.mechanism, blob, aad }, self.hang_after()).await
    }

    async fn perform(&mut self, work: &Work) -> Result<SecretBytes, Trouble> {
        let (mechanism, limit) = (self.mechanism, self.hang_after());
        let link = self.link.as_mut().ok_or_else(|| Trouble::Lost("there is no worker".into()))?;
        let request = match work {
            Work::Wrap { plain, aad } => Request::Wrap { mechanism, plain: plain.expose(), aad },
            Work::Unwrap { blob, aad } => Request::Unwrap { mechanism, blob, aad },
            Work::Random { len } => Request::Random { len: *len },
        };
        link.bytes(&request, limit).await
    }

    /// What an error means, and what is done about it.
    async fn settle(&mut self, trouble: Trouble, work: &Work) -> Next {
        let fault = match trouble {
            Trouble::Lost(detail) => return self.lose(detail),
            Trouble::Fault(fault) => fault,
        };
        let told = fault.to_string();
        let Fault::Code { code, .. } = fault else { return self.lose(told) };
        match self.access.profile.errors.class(code) {
            ErrorClass::BadInput => Next::Answer(self.blame_input(told, work)),
            ErrorClass::Ambiguous => match self.canary_opens().await {
                true => Next::Answer(self.blame_input(told, work)),
                false => self.lose(told),
            },
            ErrorClass::Busy => {
                let point = self.access.clock.mono().plus(BUSY_PAUSE);
                self.access.clock.sleep_until(point).await;
                Next::Again(told)
            }
            ErrorClass::Session => match self.canary_opens().await {
                true => Next::Again(told),
                false => self.lose(told),
            },
            ErrorClass::Reinit | ErrorClass::Gone => self.lose(told),
            ErrorClass::Denied | ErrorClass::PinStop => {
                self.link = None;
                Next::Answer(self.set_back(&Setback::Denied(told)))
            }
        }
    }

    /// The token lives, so the input is wrong. That only a stored wrap can be: for the rest the code is passed on.
    fn blame_input(&self, told: String, work: &Work) -> KekError {
        match work {
            Work::Unwrap { .. } => KekError::BadWrap,
            Work::Wrap { .. } | Work::Random { .. } => Setback::Away(told).as_kek_error(&self.access.settings.name),
        }
    }

    async fn canary_opens(&mut self) -> bool {
        let aad = self.canary_aad("open");
        let limit = self.hang_after();
        let (Some(link), Some(canary)) = (self.link.as_mut(), &self.canary) else { return false };
        if !matches!(link.call(&Request::Renew, limit).await, Ok(Answer::Done)) {
            return false;
        }
        let request = Request::Unwrap { mechanism: self.mechanism, blob: &canary.blob, aad: &aad };
        let opened = link.bytes(&request, limit).await;
        self.board.session_renewed();
        let opened = opened.is_ok_and(|plain| crypto::constant_time_eq(plain.expose(), canary.plain.expose()));
        if opened {
            self.board.canary_opened(self.access.clock.wall());
        }
        opened
    }

    /// Kills the worker; the next attempt starts another one.
    fn lose(&mut self, detail: String) -> Next {
        self.link = None;
        self.set_back(&Setback::Away(detail.clone()));
        Next::Again(detail)
    }

    /// Counts a failure, shows it, and gives the error that callers hear until the breaker lets the next attempt through.
    fn set_back(&mut self, setback: &Setback) -> KekError {
        let kek = &self.access.settings.name;
        let error = setback.as_kek_error(kek);
        let health = match &error {
            KekError::Denied { .. } => KekHealth::Denied,
            _ => KekHealth::Unreachable,
        };
        self.board.worker_is(None);
        if self.board.worsen(health) {
            let (kek, detail) = (kek.clone(), setback.detail().to_owned());
            self.events.emit(match health {
                KekHealth::Denied => KekEvent::Refused { kek, detail },
                KekHealth::Reachable | KekHealth::Unreachable => KekEvent::Unreachable { kek, detail },
            });
        }
        let until = self.breaker.trip(self.access.clock.mono(), error.clone());
        self.board.breaker_is(BreakerState::Open { until });
        error
    }

    fn hang_after(&self) -> Duration {
        self.access.profile.calls.hang_after()
    }

    fn canary_aad(&self, context: &str) -> Vec<u8> {
        let kek = self.access.settings.name.as_str();
        let pairs = [(b"context".as_slice(), context.as_bytes()), (b"kek".as_slice(), kek.as_bytes())];
        canonical::encode(CANARY_LABEL, &[], pairs).expect("two short pairs: the limits are 64 pairs and 4 GiB a value")
    }
}

impl Breaker {
    /// The first failure costs nothing: a worker that was killed is replaced at once. Then the pause doubles, and half of
    /// it is random, so that many sidecars do not ask a device that comes back all at once.
    fn trip(&mut self, now: Mono, error: KekError) -> Mono {
        let doubled = PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(MAX_DOUBLINGS));
        let pause = if self.failures == 0 { Duration::ZERO } else { jittered(doubled.min(LONGEST_PAUSE)) };
        self.failures = self.failures.saturating_add(1);
        let until = now.plus(pause);
        self.closed_until = Some((until, error));
        until
    }
}

fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pause is merely not spread.
    let _spread = crypto::random(&mut random);
    let [random] = random;
    pause / 2 + (pause / 2) * u32::from(random) / u32::from(u8::MAX)
}

pub(super) fn facts(token: &TokenFacts) -> KekFacts {
    KekFacts {
        kind: "pkcs11",
        manufacturer: token.manufacturer.clone(),
        model: token.model.clone(),
        serial: token.serial.clone(),
        version: format!("firmware {}, library {}", token.firmware, token.library),
        development_only: false,
    }
}

const CANARY_LABEL: &str = "keyward/canary/v1";
/// One failure may be the worker's, a second the session's; a third is the token's.
const ATTEMPTS: usize = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// 100 ms doubled nine times is past the longest pause.
const MAX_DOUBLINGS: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_free_and_the_pause_grows_to_its_limit() {
        let mut breaker = Breaker::default();
        let error = || KekError::BadWrap;
        let now = Mono(1_000);
        let pause = |breaker: &Breaker| breaker.closed_until.as_ref().unwrap().0.since(now);
        breaker.trip(now, error());
        assert_eq!(pause(&breaker), Duration::ZERO);
        for expected in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            breaker.trip(now, error());
            let (low, high) = (Duration::from_millis(expected / 2), Duration::from_millis(expected));
            assert!((low..=high).contains(&pause(&breaker)), "{:?} for {expected}", pause(&breaker));
        }
    }
}
