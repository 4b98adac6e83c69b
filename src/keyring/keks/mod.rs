//! Which key-encryption keys wrap the keys of a store, and which of them is asked? Every new key is wrapped by all of
//! them; an unwrap asks the primary, and the escrow only while the primary cannot be reached. What neither of them has
//! wrapped yet is opened by the one that is retiring.
//!
//! A primary that refuses is not away: somebody may have disabled it on purpose. From its refusal until it next opens a
//! wrap this module never asks the escrow instead, whatever happens to the primary meanwhile.

mod rewrap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::views::Escrow;
use super::wraps::{self, Owner, WrapError};
use crate::clock::{Deadline, Mono, SharedClock};
use crate::crypto::DataKey;
use crate::kek::{EventSink, Kek, KekError, KekEvent, KekHealth, Wrap, WrapRole};
use crate::names::KekName;
use crate::secret::SecretBytes;

pub(super) use rewrap::{NotRewrapped, Rewrapped, Wrapped};

/// The key-encryption keys of a store.
pub struct Keks {
    primary: Arc<dyn Kek>,
    escrow: Option<Arc<dyn Kek>>,
    /// Never wrap; open what no other one has a wrap of.
    retiring: Vec<Arc<dyn Kek>>,
    events: EventSink,
    /// The primary refused, and has opened nothing since.
    refused: AtomicBool,
    /// How often it refused: a yes to what was asked before a refusal does not take that back.
    refusals: AtomicU64,
    /// The escrow opened something for the primary, which has opened nothing since.
    passed_over: AtomicBool,
    failovers: AtomicU64,
}

/// A key that was unwrapped.
pub(super) struct Given {
    pub key: DataKey,
    /// Who unwrapped it.
    pub by: KekName,
    /// Who was asked first and is away.
    pub instead_of: Option<KekName>,
    /// Before the call that gave it: the KEK's yes is never younger than that.
    pub asked: Mono,
}

/// Why no key was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotGiven {
    /// None of the wraps is by a configured KEK.
    Foreign,
    /// The KEK that was asked last says that its wrap does not open, and no other was away.
    BadWrap(KekName),
    /// This KEK refused.
    Refused(KekName, String),
    /// The deadline passed.
    Late(String),
    /// It may open another time.
    Away(String),
}

impl Keks {
    /// What happens between them goes into the events.
    pub fn new(primary: Arc<dyn Kek>, escrow: Option<Arc<dyn Kek>>, events: EventSink) -> Self {
        Self {
            primary,
            escrow,
            retiring: Vec::new(),
            events,
            refused: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            passed_over: AtomicBool::new(false),
            failovers: AtomicU64::new(0),
        }
    }

    /// The same with those that open what they wrapped until it is rewrapped, in the order in which they are asked.
    #[must_use]
    pub fn with_retiring(self, retiring: Vec<Arc<dyn Kek>>) -> Self {
        Self { retiring, ..self }
    }

    /// The same keys once more, with nothing known of them yet.
    #[must_use]
    pub fn again(&self) -> Self {
        let (primary, escrow) = (Arc::clone(&self.primary), self.escrow.clone());
        Self::new(primary, escrow, self.events.clone()).with_retiring(self.retiring.clone())
    }

    /// The one that is asked first.
    pub(super) fn primary(&self) -> &KekName {
        self.primary.name()
    }

    /// Those that wrap nothing any more.
    pub(super) fn retiring(&self) -> impl Iterator<Item = &dyn Kek> {
        self.retiring.iter().map(|kek| &**kek)
    }

    /// Those that wrap, with what they are for, the primary first.
    pub(super) fn each(&self) -> impl Iterator<Item = (WrapRole, &dyn Kek)> {
        let escrow = self.escrow.iter().map(|kek| (WrapRole::Escrow, &**kek));
        std::iter::once((WrapRole::Primary, &*self.primary)).chain(escrow)
    }

    /// Those that wrap the keys of a keyring that asks for an escrow or does without.
    pub(super) fn each_for(&self, escrow: Escrow) -> impl Iterator<Item = (WrapRole, &dyn Kek)> {
        self.each().filter(move |(role, _)| *role == WrapRole::Primary || escrow == Escrow::Yes)
    }

    /// The names, as an operator reads them.
    pub(super) fn shown(&self) -> String {
        self.each().map(|(_, kek)| kek.name().as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// Whether any of them, or of those that retire, made one of these wraps.
    pub(super) fn wrapped(&self, wraps: &[(WrapRole, Wrap)]) -> bool {
        self.each().map(|(_, kek)| kek).chain(self.retiring()).any(|kek| by(kek, wraps).is_some())
    }

    /// How many unwraps the escrow answered for the primary.
    pub(super) fn failovers(&self) -> u64 {
        self.failovers.load(Ordering::Relaxed)
    }

    /// Whether the primary refused and has opened nothing since.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// How often the primary has refused.
    fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Acquire)
    }

    /// Whether a KEK is known to be out of reach: not merely slow, and not refusing when it was last heard.
    pub(super) fn away(&self, name: &KekName) -> bool {
        let mut known = self.each().map(|(_, kek)| kek).chain(self.retiring());
        let unreachable = known.any(|kek| kek.name() == name && kek.health() == KekHealth::Unreachable);
        unreachable && !(name == self.primary() && self.refused())
    }

    /// Whether one of those that wrap can be reached and does not refuse.
    pub(super) fn answers(&self, name: &KekName) -> bool {
        self.each().any(|(_, kek)| kek.name() == name && kek.health() == KekHealth::Reachable)
            && !(name == self.primary() && self.refused())
    }

    /// Whether any of those that wrap does.
    pub(super) fn any_answers(&self) -> bool {
        self.each().any(|(_, kek)| self.answers(kek.name()))
    }

    /// A KEK refused. Only the primary's refusal outlives the call: the escrow is asked last anyway.
    pub(super) fn note_refusal(&self, kek: &KekName) {
        if kek == self.primary() {
            self.refusals.fetch_add(1, Ordering::AcqRel);
            self.refused.store(true, Ordering::Release);
        }
    }

    /// A KEK opened something, a canary say: what it refused and who stood in for it is over.
    pub(super) fn note_recovery(&self, kek: &KekName) {
        if kek == self.primary() {
            self.refused.store(false, Ordering::Release);
            self.passed_over.store(false, Ordering::Release);
        }
    }

    /// Makes a key, every token's randomness mixed with the operating system's, and wraps it by every KEK that is to. One that is
    /// away fails it all: a key without its escrow wrap would be a promise broken on the day the primary is lost.
    pub(super) async fn make(
        &self,
        owner: &Owner,
        escrow: Escrow,
        deadline: Deadline,
    ) -> Result<(DataKey, Vec<(WrapRole, Wrap)>), WrapError> {
        let mut extra = SecretBytes::new(Vec::new());
        for (_, kek) in self.each_for(escrow) {
            let random = SecretBytes::new(kek.random(deadline).await?);
            extra = SecretBytes::new([extra.expose(), random.expose()].concat());
        }
        let key = DataKey::generate(extra.expose())?;
        let mut made = Vec::with_capacity(2);
        for (role, kek) in self.each_for(escrow) {
            made.push((role, wraps::wrap(kek, role, &key, owner, deadline).await?));
        }
        Ok((key, made))
    }

    /// Unwraps by the primary, or by the escrow while the primary is away; by a retiring one what has no wrap by either.
    pub(super) async fn unwrap(
        &self,
        clock: &SharedClock,
        wraps: &[(WrapRole, Wrap)],
        owner: &Owner,
        deadline: Deadline,
    ) -> Result<Given, NotGiven> {
        let escrow = self.escrow.as_deref().and_then(|kek| Some((kek, by(kek, wraps)?)));
        let Some(wrap) = by(&*self.primary, wraps) else {
            let Some((kek, wrap)) = escrow else { return self.by_retiring(clock, wraps, owner, deadline).await };
            return ask(clock, kek, wrap, owner, deadline).await.map_err(|error| not_given(kek.name(), error));
        };
        let refusals = self.refusals();
        let asked = if escrow.is_some() && !self.refused() {
            // A primary that hangs must leave time for the escrow.
            let first = self.share(clock, deadline);
            tokio::select! {
                biased;
                given = ask(clock, &*self.primary, wrap, owner, first) => given,
                () = clock.sleep_until(first.0) => Err(KekError::Deadline(self.primary().clone())),
            }
        } else {
            ask(clock, &*self.primary, wrap, owner, deadline).await
        };
        let error = match asked {
            Ok(given) => {
                if self.refusals() == refusals {
                    self.note_recovery(self.primary());
                }
                return Ok(given);
            }
            Err(error) => error,
        };
        let away = matches!(error, KekError::Unreachable { .. } | KekError::Deadline(_));
        if matches!(error, KekError::Denied { .. }) {
            self.note_refusal(self.primary());
        }
        match escrow {
            Some(_) if away && self.refused() => Err(NotGiven::Away(format!(
                "{error}; it refused before it went away, so no other key-encryption key is asked"
            ))),
            Some((kek, wrap)) if away => self.fail_over(clock, error, kek, wrap, owner, deadline).await,
            _ => Err(not_given(self.primary(), error)),
        }
    }

    /// In their order; one that refuses ends it, as the primary's refusal does.
    async fn by_retiring(
        &self,
        clock: &SharedClock,
        wraps: &[(WrapRole, Wrap)],
        owner: &Owner,
        deadline: Deadline,
    ) -> Result<Given, NotGiven> {
        let mut why = NotGiven::Foreign;
        for kek in self.retiring() {
            let Some(wrap) = by(kek, wraps) else { continue };
            match ask(clock, kek, wrap, owner, deadline).await {
                Ok(given) => return Ok(given),
                Err(error @ KekError::Denied { .. }) => return Err(not_given(kek.name(), error)),
                Err(error) if why == NotGiven::Foreign => why = not_given(kek.name(), error),
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// Half of what is left, and an eighth once the escrow has had to stand in: whether the primary is back is found out
    /// by canaries, not at the cost of requests.
    fn share(&self, clock: &SharedClock, deadline: Deadline) -> Deadline {
        let (now, parts) = (clock.mono(), if self.passed_over.load(Ordering::Acquire) { 8 } else { 2 });
        deadline.left(now).map_or(deadline, |left| Deadline(now.plus(left / parts)))
    }

    async fn fail_over(
        &self,
        clock: &SharedClock,
        why: KekError,
        escrow: &dyn Kek,
        wrap: &(WrapRole, Wrap),
        owner: &Owner,
        deadline: Deadline,
    ) -> Result<Given, NotGiven> {
        match ask(clock, escrow, wrap, owner, deadline).await {
            Ok(given) => {
                self.failovers.fetch_add(1, Ordering::Relaxed);
                if !self.passed_over.swap(true, Ordering::AcqRel) {
                    let (kek, to) = (self.primary().clone(), escrow.name().clone());
                    self.events.emit(KekEvent::FailedOver { kek, to, detail: why.to_string() });
                }
                Ok(Given { instead_of: Some(self.primary().clone()), ..given })
            }
            Err(KekError::Denied { kek, detail }) => {
                Err(NotGiven::Refused(kek.clone(), format!("{why}, and {}", KekError::Denied { kek, detail })))
            }
            Err(error @ KekError::Deadline(_)) => Err(NotGiven::Late(format!("{why}, and {error}"))),
            // The primary may open it still: an outage is not a damaged key.
            Err(KekError::BadWrap) => {
                Err(NotGiven::Away(format!("{why}, and the wrap by {} does not open", escrow.name())))
            }
            Err(error) => Err(NotGiven::Away(format!("{why}, and {error}"))),
        }
    }
}

/// The wrap that a KEK made.
fn by<'a>(kek: &dyn Kek, wraps: &'a [(WrapRole, Wrap)]) -> Option<&'a (WrapRole, Wrap)> {
    wraps.iter().find(|(_, wrap)| wrap.kek == *kek.name())
}

async fn ask(
    clock: &SharedClock,
    kek: &dyn Kek,
    (role, wrap): &(WrapRole, Wrap),
    owner: &Owner,
    deadline: Deadline,
) -> Result<Given, KekError> {
    let asked = clock.mono();
    let key = kek.unwrap(wrap, &owner.binding(kek.name(), *role), deadline).await?;
    Ok(Given { key, by: kek.name().clone(), instead_of: None, asked })
}

fn not_given(kek: &KekName, error: KekError) -> NotGiven {
    match error {
        KekError::BadWrap => NotGiven::BadWrap(kek.clone()),
        KekError::Denied { .. } => NotGiven::Refused(kek.clone(), error.to_string()),
        KekError::Deadline(_) => NotGiven::Late(error.to_string()),
        KekError::Unreachable { .. } | KekError::Unsupported(_) => NotGiven::Away(error.to_string()),
    }
}
