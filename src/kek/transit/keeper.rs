//! Is the server there, and what does an error of it mean? Logs in, admits the key, keeps a canary and heals.
//! This module never believes an error that a canary can check, and never blames the server for a corrupt wrap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Deadline, Mono, SharedClock};
use crate::kek::breaker::{Breaker, part_of};
use crate::kek::{BreakerState, EventSink, KekError, KekEvent, KekFacts, KekHealth, KekStatus, Recoveries};
use crate::secret::SecretBytes;

use super::api::{self, KeyInfo};
use super::board::{Board, News};
use super::canary::{self, Canary};
use super::ciphertext::Ciphertext;
use super::client::Connections;
use super::fault::{Fault, Setback};
use super::login;
use super::session::Session;
use super::settings::{Auth, TransitSettings};
use super::versions::describe;

/// What a caller wants done.
pub(super) enum Work {
    /// Encrypt a data key; the answer is the ciphertext's text.
    Wrap { plain: SecretBytes, aad: Vec<u8> },
    /// Decrypt one.
    Unwrap { blob: Ciphertext, aad: Vec<u8> },
    /// The engine's randomness.
    Random,
    /// Decrypt what the admitted key encrypted; the answer is empty.
    Canary,
}

/// The owner of the session.
pub(super) struct Keeper {
    pub(super) settings: TransitSettings,
    pub(super) clock: SharedClock,
    pub(super) board: Board,
    connections: Connections,
    pub(super) events: EventSink,
    /// Held by whoever logs in or admits: one at a time.
    opening: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
    changed: Notify,
}

pub(super) struct Held {
    session: Option<Arc<Session>>,
    pub(super) canary: Option<Arc<Canary>>,
    breaker: Breaker,
    prove_at: Mono,
    /// When to ask for the key's newest version.
    look_at: Mono,
}

/// What was tried for one piece of work; each is tried once.
#[derive(Default)]
struct Tried {
    connection: bool,
    login: bool,
}

impl Keeper {
    /// A keeper without a session.
    pub(super) fn new(
        settings: TransitSettings,
        connections: Connections,
        clock: SharedClock,
        events: EventSink,
    ) -> Self {
        let held = Held {
            session: None,
            canary: None,
            breaker: Breaker::default(),
            prove_at: clock.mono(),
            look_at: clock.mono(),
        };
        Self {
            settings,
            clock,
            board: Board::new(),
            connections,
            events,
            opening: tokio::sync::Mutex::new(()),
            held: Mutex::new(held),
            changed: Notify::new(),
        }
    }

    /// Logs in and admits the key for the first time.
    pub(super) async fn start(&self) -> Result<(), Setback> {
        let _one_at_a_time = self.opening.lock().await;
        match self.open().await {
            Ok(_) => Ok(()),
            Err(setback) => {
                self.set_back(None, &setback);
                Err(setback)
            }
        }
    }

    /// Renews, proves and recovers for as long as the KEK lives.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.clock.sleep_until(self.next()) => self.tend().await,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Does the work, by all means that may help, each once.
    pub(super) async fn serve(&self, work: &Work, deadline: Deadline) -> Result<SecretBytes, KekError> {
        let mut tried = Tried::default();
        loop {
            if deadline.left(self.clock.mono()).is_none() {
                return Err(KekError::Deadline(self.settings.name.clone()));
            }
            let session = self.ready().await?;
            let fault = match self.perform(&session, work).await {
                Ok(bytes) => {
                    self.proven();
                    return Ok(bytes);
                }
                Err(fault) => fault,
            };
            if let Some(error) = self.settle(fault, &session, work, &mut tried).await {
                return Err(error);
            }
        }
    }

    /// The session, or a new one if the breaker lets the attempt through.
    async fn ready(&self) -> Result<Arc<Session>, KekError> {
        if let Some(session) = self.session() {
            return Ok(session);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(session) = self.session() {
            return Ok(session);
        }
        if let Some(error) = self.held().breaker.error(self.clock.mono()) {
            return Err(error);
        }
        self.open().await.map_err(|setback| self.set_back(None, &setback))
    }

    /// A fresh login, and the proof that it reaches the key.
    async fn open(&self) -> Result<Arc<Session>, Setback> {
        let session = self.log_in().await?;
        self.admit(&session).await?;
        self.held().session = Some(session.clone());
        self.changed.notify_one();
        Ok(session)
    }

    async fn log_in(&self) -> Result<Arc<Session>, Setback> {
        let login = login::login(&self.connections, &self.settings.auth, self.clock.mono());
        let login = self.limited(login, Setback::Away(LATE.into())).await?;
        self.board.logged_in();
        Ok(Arc::new(Session::new(login)))
    }

    /// The key is fit and opens what it wrapped. Called with `opening` held.
    async fn admit(&self, session: &Arc<Session>) -> Result<(), Setback> {
        let info = self.read_key(session).await?;
        if let Some(objection) = info.objection() {
            return Err(Setback::Unfit(format!("the key {} must not be used: {objection}", self.settings.key)));
        }
        self.retire_versions(&info);
        self.prove(session).await?;
        self.announce(session, &info).await;
        Ok(())
    }

    /// The canary of the admission opens; or, the first time, a canary is made and a wrong context is refused.
    async fn prove(&self, session: &Session) -> Result<(), Setback> {
        match self.canary() {
            Some(canary) => match self.check(session, &canary).await {
                Err(Fault::Input(_)) => Err(replaced()),
                checked => checked.map_err(Fault::setback),
            },
            None => {
                let made = canary::make(&session.caller, &self.settings);
                let canary = self.limited(made, Setback::Away(LATE.into())).await?;
                self.held().canary = Some(Arc::new(canary));
                self.board.canary_opened(self.clock.wall());
                Ok(())
            }
        }
    }

    async fn announce(&self, session: &Session, info: &KeyInfo) {
        let outsider = self.connections.outsider();
        // What the server does not tell strangers stays empty in the record.
        let (version, cluster) = match self.limited(api::read_server(&outsider), late()).await {
            Ok(server) => (server.version, server.cluster_name),
            Err(_) => Default::default(),
        };
        let version = super::fault::clean(&format!("{version} {cluster}"));
        let facts = KekFacts { version, ..describe(&self.settings, info) };
        {
            let mut held = self.held();
            held.breaker = Breaker::default();
            held.prove_at = self.next_proof();
            held.look_at = self.next_version_look();
        }
        let kek = self.settings.name.clone();
        match self.board.admit(facts.clone(), info) {
            News::Admitted => {
                let attributes = [info.lines(), session.lease().lines(&self.settings.auth)].concat();
                self.events.emit(KekEvent::Admitted {
                    kek,
                    version: info.latest_version,
                    facts: Box::new(facts),
                    attributes,
                });
            }
            News::Recovered => self.events.emit(KekEvent::Recovered { kek }),
            News::None => {}
        }
    }

    async fn perform(&self, session: &Session, work: &Work) -> Result<SecretBytes, Fault> {
        let (caller, settings) = (&session.caller, &self.settings);
        match work {
            Work::Wrap { plain, aad } => {
                // Under policies with `create` the server makes a missing key anew and says nothing: the canary tells.
                self.check_canary(session).await?;
                let text = self.limited(api::encrypt(caller, settings, plain, aad), late()).await?;
                self.board.saw_version(text.version());
                Ok(SecretBytes::copy_of(text.text().as_bytes()))
            }
            Work::Unwrap { blob, aad } => self.limited(api::decrypt(caller, settings, blob, aad), late()).await,
            Work::Random => self.limited(api::random(caller, settings), late()).await,
            Work::Canary => self.check_canary(session).await.map(|()| SecretBytes::zeroed(0)),
        }
    }

    async fn check_canary(&self, session: &Session) -> Result<(), Fault> {
        match self.canary() {
            Some(canary) => self.check(session, &canary).await,
            None => Err(Fault::Away("there is no canary".into())),
        }
    }

    async fn check(&self, session: &Session, canary: &Canary) -> Result<(), Fault> {
        self.limited(canary::check(&session.caller, &self.settings, canary), late()).await?;
        self.board.canary_opened(self.clock.wall());
        Ok(())
    }

    /// What health and metrics show; no call is made for it.
    pub(super) fn status(&self) -> KekStatus {
        let now = self.clock.mono();
        let held = self.held();
        let breaker = match (&held.session, held.breaker.until()) {
            (Some(_), _) | (None, None) => BreakerState::Closed,
            (None, Some(until)) if now < until => BreakerState::Open { until },
            (None, Some(_)) => BreakerState::HalfOpen,
        };
        let (last_canary, logins) = self.board.counts();
        let recoveries = Recoveries { logins: logins.saturating_sub(1), ..Recoveries::default() };
        KekStatus { health: self.board.health(), last_canary, breaker, recoveries, ..KekStatus::default() }
    }

    /// What an error means, and what is done about it; None if the work is worth another attempt.
    async fn settle(&self, fault: Fault, session: &Arc<Session>, work: &Work, tried: &mut Tried) -> Option<KekError> {
        match fault {
            Fault::Lost(_) if !std::mem::replace(&mut tried.connection, true) => None,
            Fault::Forbidden(detail) if !std::mem::replace(&mut tried.login, true) => {
                match self.log_in_again(session, &detail).await {
                    Ok(()) => None,
                    // A token that no longer wraps and still opens: what is wrapped serves on.
                    Err(_) if matches!(work, Work::Wrap { .. }) => {
                        Some(self.settle_by_canary(detail, session, work).await)
                    }
                    Err(setback) => Some(self.set_back(Some(session), &setback)),
                }
            }
            Fault::TooOld(detail) => Some(self.settle_version(detail, session).await),
            Fault::Input(detail) | Fault::Forbidden(detail) => Some(self.settle_by_canary(detail, session, work).await),
            Fault::Lost(_) | Fault::Away(_) | Fault::Gone(_) => Some(self.set_back(Some(session), &fault.setback())),
        }
    }

    /// The canary opens: so the key is there, and the fault is that of one wrap or one request.
    async fn settle_by_canary(&self, detail: String, session: &Arc<Session>, work: &Work) -> KekError {
        let setback = match (self.check_canary(session).await, work) {
            (Ok(()), Work::Unwrap { .. }) => return KekError::BadWrap,
            (Ok(()), _) => return Setback::Denied(detail).as_kek_error(&self.settings.name),
            (Err(Fault::Input(_)), _) => replaced(),
            (Err(Fault::TooOld(_)), Work::Unwrap { .. }) => return KekError::BadWrap,
            (Err(fault), _) => fault.setback(),
        };
        self.set_back(Some(session), &setback)
    }

    /// Versions were retired, or the wrap is older than what was in force at the admission.
    async fn settle_version(&self, detail: String, session: &Arc<Session>) -> KekError {
        let _one_at_a_time = self.opening.lock().await;
        match self.admit(session).await {
            // That wrap alone: a refusal of the key would drop what newer versions wrapped, at each request for an old one.
            Ok(()) => KekError::Unsupported(format!("a version that the server has retired: {detail}")),
            Err(setback) => self.set_back(Some(session), &setback),
        }
    }

    /// A new token instead of a refused or ending one. The old one is revoked, unless somebody else obtained it.
    async fn log_in_again(&self, old: &Arc<Session>, why: &str) -> Result<(), Setback> {
        let _one_at_a_time = self.opening.lock().await;
        if !self.session().is_some_and(|session| Arc::ptr_eq(&session, old)) {
            return Ok(());
        }
        let foreign = matches!(self.settings.auth, Auth::Token { .. });
        if foreign && !login::is_news(&self.settings.auth, &old.caller) {
            return Err(Setback::Denied(format!("the token is refused and its file holds no other: {why}")));
        }
        let session = self.log_in().await?;
        self.held().session = Some(session);
        self.changed.notify_one();
        if !foreign {
            let (old, late) = (old.clone(), self.clock.sleep_until(self.clock.mono().plus(CALL_LIMIT)));
            tokio::spawn(async move {
                tokio::select! {
                    () = login::revoke(&old.caller) => {}
                    () = late => {}
                }
            });
        }
        Ok(())
    }

    /// Renews or proves what is due, or tries to recover.
    async fn tend(&self) {
        let now = self.clock.mono();
        let Some(session) = self.session() else {
            let _tried_again_later = self.ready().await;
            return;
        };
        if session.lease().renew_at.is_some_and(|at| at <= now) {
            self.renew(&session).await;
        }
        if self.held().prove_at <= now {
            let _settled = self.serve(&Work::Canary, Deadline(Mono(u64::MAX))).await;
            self.held().prove_at = self.next_proof();
        }
        if self.held().look_at <= now {
            self.held().look_at = self.next_version_look();
            self.look_for_newer(&session).await;
        }
    }

    async fn renew(&self, session: &Arc<Session>) {
        let lease = session.lease();
        if lease.renewable {
            match self.limited(login::renew(&session.caller, self.clock.mono()), late()).await {
                Ok(renewed) => {
                    session.prolong(renewed);
                    // Near its longest life a token is renewed for less and less: time for another one.
                    if !session.is_ending() {
                        return;
                    }
                }
                Err(Fault::Lost(_) | Fault::Away(_)) => return session.renew_later(self.soon()),
                Err(_) => {}
            }
        }
        let replaced = self.log_in_again(session, "it cannot be renewed").await.is_ok();
        if !replaced && session.lease().renew_at.is_some_and(|at| at <= self.clock.mono()) {
            session.renew_later(self.soon());
        }
    }

    /// Shows a failure, and gives the error that callers hear until the breaker lets the next attempt through. A failure
    /// of a session that has been replaced concerns its caller alone.
    fn set_back(&self, of: Option<&Arc<Session>>, setback: &Setback) -> KekError {
        let kek = &self.settings.name;
        let error = setback.as_kek_error(kek);
        {
            let mut held = self.held();
            let current = held.session.as_ref();
            if current.is_some_and(|current| of.is_none_or(|of| !Arc::ptr_eq(current, of))) {
                return error;
            }
            held.session = None;
            held.breaker.trip(self.clock.mono(), error.clone());
        }
        let health = match &error {
            KekError::Denied { .. } => KekHealth::Denied,
            _ => KekHealth::Unreachable,
        };
        if self.board.worsen(health) {
            let (kek, detail) = (kek.clone(), setback.detail().to_owned());
            self.events.emit(match health {
                KekHealth::Denied => KekEvent::Refused { kek, detail },
                KekHealth::Reachable | KekHealth::Unreachable => KekEvent::Unreachable { kek, detail },
            });
        }
        self.changed.notify_one();
        error
    }

    /// When there is something to do.
    fn next(&self) -> Mono {
        let held = self.held();
        match &held.session {
            None => held.breaker.until().unwrap_or_else(|| self.clock.mono()),
            Some(session) => {
                let due = held.prove_at.min(held.look_at);
                session.lease().renew_at.map_or(due, |at| at.min(due))
            }
        }
    }

    fn proven(&self) {
        self.held().prove_at = self.next_proof();
    }

    fn next_proof(&self) -> Mono {
        self.clock.mono().plus(PROOF_EVERY - part_of(PROOF_EVERY / 4))
    }

    fn soon(&self) -> Mono {
        self.clock.mono().plus(RENEW_AGAIN - part_of(RENEW_AGAIN / 2))
    }

    pub(super) async fn limited<T, E>(&self, call: impl Future<Output = Result<T, E>>, late: E) -> Result<T, E> {
        tokio::select! {
            biased;
            result = call => result,
            () = self.clock.sleep_until(self.clock.mono().plus(CALL_LIMIT)) => Err(late),
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.held().session.clone()
    }

    fn canary(&self) -> Option<Arc<Canary>> {
        self.held().canary.clone()
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn late() -> Fault {
    Fault::Away(LATE.into())
}

fn replaced() -> Setback {
    Setback::Denied("the key is not the one that was admitted: restart keyward if it was replaced".into())
}

/// A server in the same site answers within milliseconds; a request of an application has ten seconds.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const LATE: &str = "no answer within 5 s";
/// The longest idle time in which an outage stays unseen.
const PROOF_EVERY: Duration = Duration::from_secs(10);
/// After a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(10);
