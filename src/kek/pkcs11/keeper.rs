//! Who decides what to do when a token fails? The keeper: it owns the worker, lends its lanes to calls, and climbs back
//! step by step.
//! This module never trips the breaker for bad input, never retries a PIN, and believes a token that answers only when a
//! canary opens.
//!
//! The climb: a fresh session; a fresh worker, which loads the library and logs in from a known state; then the breaker
//! holds callers back. A canary decides after each step, since return codes mean different things on different tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify, Semaphore, SemaphorePermit};

use crate::clock::{Deadline, Mono};
use crate::crypto::RsaPublicKey;
use crate::kek::breaker::{Breaker, jittered};
use crate::kek::profile::ErrorClass;
use crate::kek::{BreakerState, EventSink, KekError, KekEvent, KekHealth, KekStatus, Recoveries};
use crate::secret::SecretBytes;

use super::access::{Access, Setback};
use super::board::Board;
use super::canary::Canary;
use super::fault::Fault;
use super::link::{Answer, Link, Process, Trouble};
use super::message::Request;
use super::recipe::Recipe;

/// What a caller wants of the token. Owned, since the call outlives a caller who gives up.
pub(super) enum Work {
    /// A wrapped key.
    Wrap { plain: SecretBytes, aad: Vec<u8> },
    /// A wrapped key, and what the wrap opens to.
    WrapAndOpen { plain: SecretBytes, aad: Vec<u8> },
    /// An unwrapped one.
    Unwrap { recipe: Recipe, version: u32, blob: Vec<u8>, aad: Vec<u8> },
    /// The token's randomness.
    Random { len: u16 },
    /// The proof that the token lives and holds the admitted key.
    Canary,
}

/// The owner of the worker.
pub(super) struct Keeper {
    pub(super) access: Access,
    pub(super) events: EventSink,
    pub(super) board: Arc<Board>,
    pub(super) opening: Turn<()>,
    /// A call failed: whoever looks after the token may have to look sooner.
    pub(super) failed: Arc<Notify>,
    seats: Semaphore,
    state: Mutex<State>,
}

/// What is open now.
#[derive(Default)]
pub(super) struct State {
    // Counts workers: what one lane learnt of its worker says nothing of the next.
    pub(super) generation: u64,
    pub(super) process: Option<Process>,
    pub(super) idle: Vec<Link>,
    pub(super) breaker: Breaker,
    /// Versions of the KEK whose attributes were looked at in this worker.
    pub(super) admitted: Vec<(u32, Recipe)>,
    /// Of the version that new wraps are made by.
    pub(super) canary: Option<Arc<Canary>>,
    pub(super) public: Option<Arc<RsaPublicKey>>,
    pub(super) proven: Option<Mono>,
    /// When a newer version was last looked for.
    pub(super) looked: Option<Mono>,
}

/// What came of the work.
pub(super) struct Done {
    pub(super) bytes: SecretBytes,
    /// Of a wrap that was opened: the key.
    pub(super) opened: Option<SecretBytes>,
    /// The version of the KEK that did it; of randomness, the version of new wraps.
    pub(super) version: u32,
}

/// A lane on loan. Dropped without being given back, its conversation is over.
pub(super) struct Seat<'a> {
    pub(super) link: Link,
    pub(super) generation: u64,
    _permit: SemaphorePermit<'a>,
    _busy: Busy<'a>,
}

/// Counts a session in use while it lives.
struct Busy<'a>(&'a Board);

/// Why a call did not succeed.
enum Snag {
    Trouble(Trouble),
    /// An older version of the KEK is not there or not fit; the KEK itself is well.
    Version(KekError),
}

impl From<Trouble> for Snag {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What to do after an error.
enum Next {
    Again(String),
    Answer(KekError),
}

impl Keeper {
    /// A keeper without a worker.
    pub(super) fn new(access: Access, events: EventSink, board: Arc<Board>) -> Self {
        let seats = Semaphore::new(access.pool());
        Self { access, events, board, opening: Turn::new(()), failed: Arc::default(), seats, state: Mutex::default() }
    }

    /// Opens and admits the token for the first time.
    pub(super) async fn start(&self) -> Result<(), Setback> {
        let opened = self.open().await;
        if let Err(setback) = &opened {
            self.set_back(setback);
        }
        opened
    }

    /// Does the work, with as many fresh starts as one failure deserves.
    pub(super) async fn serve(&self, work: &Work, deadline: Deadline) -> Result<Done, KekError> {
        let (mut detail, mut heard) = (String::new(), false);
        for attempt in 1..=ATTEMPTS {
            let mut seat = self.seat(deadline).await?;
            let next = match self.perform(&mut seat, work).await {
                Ok(done) => {
                    self.succeed(seat);
                    return Ok(done);
                }
                Err(Snag::Version(error)) => {
                    self.give_back(seat);
                    return Err(error);
                }
                Err(Snag::Trouble(trouble)) => self.settle(seat, trouble, work, &mut heard, attempt).await,
            };
            match next {
                Next::Answer(error) => return Err(error),
                Next::Again(why) => detail = why,
            }
        }
        Err(Setback::Away(detail).as_kek_error(&self.access.settings.name))
    }

    /// When the background should look again: the breaker's end, or a canary that is due.
    pub(super) fn next_look(&self) -> Mono {
        let (now, state) = (self.access.clock.mono(), self.state());
        match (&state.process, state.breaker.until(), state.proven) {
            (Some(_), _, Some(proven)) => proven.plus(jittered(self.access.canary_every())),
            (_, Some(until), _) if until > now => until,
            _ => now.plus(SOON),
        }
    }

    /// Whether a canary is of use now: nothing has shown lately that the token lives, and the breaker lets a call through.
    pub(super) fn is_due(&self) -> bool {
        let (now, state) = (self.access.clock.mono(), self.state());
        let held = state.process.is_none() && state.breaker.error(now).is_some();
        let lately = state.proven.is_some_and(|proven| now < proven.plus(self.access.canary_every() / 2));
        !(held || state.process.is_some() && lately)
    }

    pub(super) async fn seat(&self, deadline: Deadline) -> Result<Seat<'_>, KekError> {
        let late = || KekError::Deadline(self.access.settings.name.clone());
        let permit = self.seats.acquire().await.map_err(|_| late())?;
        if deadline.left(self.access.clock.mono()).is_none() {
            return Err(late());
        }
        let (link, generation) = self.link().await?;
        Ok(Seat { link, generation, _permit: permit, _busy: Busy::new(&self.board) })
    }

    async fn perform(&self, seat: &mut Seat<'_>, work: &Work) -> Result<Done, Snag> {
        let limit = self.access.hang_after();
        let (canary, public) = {
            let state = self.state();
            (state.canary.clone(), state.public.clone())
        };
        let canary = canary.ok_or_else(|| Trouble::Lost("nothing was admitted".into()))?;
        let by = |bytes, version| Done { bytes, opened: None, version };
        match work {
            Work::Wrap { plain, aad } => {
                let wrapped = self.access.wrap(&mut seat.link, canary.version, public.as_deref(), plain, aad).await?;
                Ok(by(wrapped, canary.version))
            }
            Work::WrapAndOpen { plain, aad } => {
                let (recipe, version) = (self.access.recipe, canary.version);
                self.admit_version(seat, version, recipe).await?;
                let label = self.access.label_of(version);
                let both = Request::WrapAndOpen { recipe, label: &label, plain: plain.expose(), aad };
                let (bytes, opened) = seat.link.wrapped(&both, limit * 2).await?;
                Ok(Done { bytes, opened: Some(opened), version })
            }
            Work::Unwrap { recipe, version, blob, aad } => {
                self.admit_version(seat, *version, *recipe).await?;
                let label = self.access.label_of(*version);
                let unwrap = Request::Unwrap { recipe: *recipe, label: &label, blob, aad };
                Ok(by(seat.link.bytes(&unwrap, limit).await?, *version))
            }
            Work::Random { len } => {
                Ok(by(seat.link.bytes(&Request::Random { len: *len }, limit).await?, canary.version))
            }
            Work::Canary => {
                canary.opens(&self.access, &mut seat.link).await?;
                self.canary_opened();
                Ok(by(SecretBytes::zeroed(0), canary.version))
            }
        }
    }

    /// The version of new wraps; None while the token has never been reached and the configuration names none.
    pub(super) fn current_version(&self) -> Option<u32> {
        let admitted = self.state().canary.as_ref().map(|canary| canary.version);
        admitted.or_else(|| self.access.settings.pinned())
    }

    /// Another version of the KEK must be as fit as the current one, whether it is older or newer: a fleet that is rotated
    /// has sidecars of both.
    async fn admit_version(&self, seat: &mut Seat<'_>, version: u32, recipe: Recipe) -> Result<(), Snag> {
        if self.state().admitted.contains(&(version, recipe)) {
            return Ok(());
        }
        match self.access.fit_key(&mut seat.link, version, recipe).await {
            Ok(_) => {
                let mut state = self.state();
                if state.generation == seat.generation {
                    state.admitted.push((version, recipe));
                }
                Ok(())
            }
            Err(Setback::Away(detail)) => Err(Trouble::Lost(detail).into()),
            Err(setback) => {
                let kek = &self.access.settings.name;
                let what = format!("version {version} of the key-encryption key {kek}: {}", setback.detail());
                Err(Snag::Version(KekError::Unsupported(what)))
            }
        }
    }

    /// What an error means, and what is done about it.
    async fn settle(&self, seat: Seat<'_>, trouble: Trouble, work: &Work, heard: &mut bool, attempt: usize) -> Next {
        let fault = match trouble {
            Trouble::Lost(detail) => return self.lost(&seat, detail),
            Trouble::Fault(fault) => fault,
        };
        let told = fault.to_string();
        let class = match fault {
            // A code that may mean anything is heard twice before the input is blamed, and what comes before the input was
            // given says nothing of it.
            Fault::Code { ref call, code } => match self.access.class(code) {
                ErrorClass::Ambiguous if !std::mem::replace(heard, true) || call.ends_with("Init") => {
                    ErrorClass::Session
                }
                class => class,
            },
            Fault::NotOurs => ErrorClass::BadInput,
            Fault::LoggedOut | Fault::NoKey(_) => ErrorClass::Session,
            _ => return self.lost(&seat, told),
        };
        match class {
            // Also after a code that says bad input: a key that was replaced under us answers the same.
            ErrorClass::BadInput | ErrorClass::Ambiguous => match self.canary_opens(seat).await {
                Ok(()) => Next::Answer(self.blame_input(told, work)),
                Err(seat) => self.lost(&seat, told),
            },
            ErrorClass::Session => match self.canary_opens(seat).await {
                Ok(()) => Next::Again(told),
                Err(seat) => self.lost(&seat, told),
            },
            // One that is busy for ever may be a library that says so instead of what is wrong.
            ErrorClass::Busy if attempt == ATTEMPTS => self.lost(&seat, told),
            ErrorClass::Busy => {
                self.give_back(seat);
                let point = self.access.clock.mono().plus(BUSY_PAUSE * u32::try_from(attempt).unwrap_or(1));
                self.access.clock.sleep_until(point).await;
                Next::Again(told)
            }
            ErrorClass::Reinit | ErrorClass::Gone => self.lost(&seat, told),
            // A wrap of an older profile or version may ask for what the token forbids; that says nothing of what it allows.
            ErrorClass::Denied if self.asks_otherwise(work) => match self.canary_opens(seat).await {
                Ok(()) => {
                    Next::Answer(KekError::Unsupported(format!("the token refuses an older way of wrapping: {told}")))
                }
                Err(seat) => self.lost(&seat, told),
            },
            ErrorClass::Denied | ErrorClass::PinStop => {
                let setback = Setback::Denied(told);
                self.lose(seat.generation, &setback);
                Next::Answer(setback.as_kek_error(&self.access.settings.name))
            }
        }
    }

    fn asks_otherwise(&self, work: &Work) -> bool {
        let (recipe, version) = (self.access.recipe, self.current_version());
        matches!(work, Work::Unwrap { recipe: its, version: of, .. } if *its != recipe || Some(*of) != version)
    }

    /// A canary in a fresh session decides whether the input was wrong or the token; the seat goes back if it opens.
    async fn canary_opens<'a>(&'a self, mut seat: Seat<'a>) -> Result<(), Seat<'a>> {
        self.board.count(|counts| counts.sessions_renewed += 1);
        let canary = self.state().canary.clone();
        let renewed = seat.link.call(&Request::Renew, self.access.hang_after()).await;
        match (canary, renewed) {
            (Some(canary), Ok(Answer::Done)) if canary.opens(&self.access, &mut seat.link).await.is_ok() => {
                self.canary_opened();
                self.succeed(seat);
                Ok(())
            }
            _ => Err(seat),
        }
    }

    /// The token lives, so the input is wrong. That only a stored wrap can be: for the rest the code is passed on.
    fn blame_input(&self, told: String, work: &Work) -> KekError {
        match work {
            Work::Unwrap { .. } => KekError::BadWrap,
            Work::Wrap { .. } | Work::WrapAndOpen { .. } | Work::Random { .. } | Work::Canary => {
                Setback::Away(told).as_kek_error(&self.access.settings.name)
            }
        }
    }

    fn succeed(&self, seat: Seat<'_>) {
        let generation = seat.generation;
        self.give_back(seat);
        let now = self.access.clock.mono();
        let mut state = self.state();
        // What a worker that is gone has shown says nothing of the one that is there.
        if state.generation == generation && state.process.is_some() {
            state.breaker.reset();
            state.proven = Some(now);
        }
    }

    pub(super) fn give_back(&self, seat: Seat<'_>) {
        let Seat { link, generation, .. } = seat;
        let mut state = self.state();
        if state.generation == generation && state.process.is_some() {
            state.idle.push(link);
        }
    }

    fn lost(&self, seat: &Seat<'_>, detail: String) -> Next {
        self.lose(seat.generation, &Setback::Away(detail.clone()));
        Next::Again(detail)
    }

    /// Kills the worker, unless another lane has done so already; the next attempt starts another one.
    pub(super) fn lose(&self, generation: u64, setback: &Setback) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        state.idle.clear();
        let Some(mut killed) = state.process.take() else { return };
        match (setback, killed.ended()) {
            (Setback::Away(_), Some(ended)) => self.worsen(&mut state, &Setback::Away(ended)),
            (setback, _) => self.worsen(&mut state, setback),
        };
    }

    /// Counts a failure, shows it, and gives the error that callers hear until the breaker lets the next attempt through.
    pub(super) fn set_back(&self, setback: &Setback) -> KekError {
        self.worsen(&mut self.state(), setback)
    }

    /// Under the lock: told after the next worker was announced, a failure of the one before would stand for ever.
    fn worsen(&self, state: &mut State, setback: &Setback) -> KekError {
        let kek = &self.access.settings.name;
        let error = setback.as_kek_error(kek);
        let health = match &error {
            KekError::Denied { .. } => KekHealth::Denied,
            _ => KekHealth::Unreachable,
        };
        self.board.worker_is(None);
        if self.board.worsen(health, matches!(setback, Setback::Stuck(_))) {
            let (kek, detail) = (kek.clone(), setback.detail().to_owned());
            self.events.emit(match health {
                KekHealth::Denied => KekEvent::Refused { kek, detail },
                KekHealth::Reachable | KekHealth::Unreachable => KekEvent::Unreachable { kek, detail },
            });
        }
        state.breaker.trip(self.access.clock.mono(), error.clone());
        self.failed.notify_one();
        error
    }

    pub(super) fn canary_opened(&self) {
        let wall = self.access.clock.wall();
        self.board.count(|counts| counts.canary = Some(wall));
    }

    /// What health and metrics show; no call is made for it.
    pub(super) fn status(&self) -> KekStatus {
        let (now, counts, health) = (self.access.clock.mono(), self.board.counts(), self.board.health());
        let state = self.state();
        let breaker = match (&state.process, state.breaker.until()) {
            (Some(_), _) | (None, None) => BreakerState::Closed,
            (None, Some(until)) if now < until => BreakerState::Open { until },
            (None, Some(_)) => BreakerState::HalfOpen,
        };
        let idle = u32::try_from(state.idle.len()).unwrap_or(u32::MAX);
        let after_the_first = counts.workers_started.saturating_sub(1);
        KekStatus {
            health,
            last_canary: counts.canary,
            breaker,
            sessions_in_use: counts.busy,
            sessions: if state.process.is_some() { idle.saturating_add(counts.busy) } else { 0 },
            most_calls: u32::try_from(self.access.pool()).unwrap_or(u32::MAX),
            recoveries: Recoveries {
                sessions: counts.sessions_renewed,
                logins: after_the_first,
                workers: after_the_first,
            },
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = state.process.take() {
            process.dismiss();
        }
    }
}

impl<'a> Busy<'a> {
    fn new(board: &'a Board) -> Self {
        board.count(|counts| counts.busy += 1);
        Self(board)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.count(|counts| counts.busy = counts.busy.saturating_sub(1));
    }
}

/// One failure may be the worker's, a second the session's; a third is the token's.
const ATTEMPTS: usize = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks of the background when nothing says otherwise.
const SOON: Duration = Duration::from_secs(1);
