//! In which state may a key version be, how does it get from one to another, and what may be done with it there?
//! Pure: a life, a step, facts and the time go in; the life after it or a typed [`Forbidden`] comes out. Nothing here
//! reads a clock, a row or a key.
//!
//! The states and their edges are those of NIST SP 800-57 part 1, section 7. A destruction that is scheduled is not a
//! state but a [`Plan`] laid over one: while it waits the version is treated as suspended, and cancelling takes the plan
//! away and nothing else, so that the version is again what it was.

mod destroy;
mod forbidden;
mod lookup;
mod reason;
mod rotation;
mod spread;

mod time;

use crate::clock::Wall;
use crate::names::{KeyVersionId, PrincipalName};
use crate::policy::Action;

pub use destroy::{IDLE, MAX_WAIT_DAYS, MIN_WAIT_DAYS, Plan, Statement};
pub use forbidden::Forbidden;
pub use lookup::{MOST_LIVE, Role, lookup_action, rotate_lookup, step_lookup};
pub use reason::{Reason, Trigger};
pub use rotation::{Rotation, active, rotate};
pub use spread::{EARLIEST, early, hash, mixed, part_of};
pub use time::{Certainty, Counted, Now, Timekeeper};

/// States of a key version (NIST SP 800-57 part 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyState {
    /// Made, not yet used.
    PreActive,
    /// Seals and opens.
    Active,
    /// Neither, for now.
    Suspended,
    /// Opens only.
    Deactivated,
    /// Opens only where policy says so.
    Compromised,
    /// Gone.
    Destroyed,
}

/// What a key version is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Sealing a new value.
    Seal,
    /// Opening a sealed one.
    Open,
}

/// What a state says to a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// Yes.
    Yes,
    /// Only for a permit that says so explicitly.
    ByPolicy,
    /// No.
    No,
}

/// Who took a step, as rows and views name him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// An authenticated principal.
    Principal(PrincipalName),
    /// keyward itself, inside approved policy.
    Sidecar,
}

/// When, why and by whom a state was last entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The state.
    pub state: KeyState,
    /// When. Never before the mark before it.
    pub at: Wall,
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub by: By,
    /// The ceremony that allowed it; none in the founding time.
    pub ceremony: Option<String>,
}

/// The life of one key version so far: where it is, and when it last entered each state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// In the order of entering; the last one is the state it is in. One for each state at most, so that a row does not
    /// grow with every suspension: the log holds them all.
    marks: Vec<Mark>,
    plan: Option<Plan>,
}

/// What may be asked of one key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It becomes the one that seals.
    Activate,
    /// It neither seals nor opens for now.
    Suspend,
    /// It is active again.
    Resume,
    /// It only opens from now on.
    Deactivate,
    /// Somebody else may know it.
    Compromise,
    /// It is to be destroyed after so many days, in which it is treated as suspended.
    ScheduleDestroy {
        /// How long it waits.
        days: u32,
        /// What the owner of the values declared.
        statement: Statement,
    },
    /// It is not to be destroyed after all.
    CancelDestroy,
    /// It is destroyed, now that the wait is over.
    Destroy,
}

/// What a step needs to know beyond the version's own life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Another version of the keyring is active.
    pub other_active: Option<KeyVersionId>,
    /// Partitions that the version wraps.
    pub partitions: u64,
    /// Look-up keys, and any other keys, that it wraps.
    pub keys: u64,
    /// When anybody in the fleet last opened with it, rounded up; None if nobody did.
    pub opened: Option<Wall>,
}

/// Why a step is taken and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub by: By,
    /// The ceremony that allows it.
    pub ceremony: Option<String>,
}

impl KeyState {
    /// Every state.
    pub const ALL: &[Self] =
        &[Self::PreActive, Self::Active, Self::Suspended, Self::Deactivated, Self::Compromised, Self::Destroyed];

    /// The name in rows and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }

    /// Reads a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }

    /// The states that it may become.
    pub const fn becomes(self) -> &'static [Self] {
        match self {
            Self::PreActive => &[Self::Active, Self::Destroyed, Self::Compromised],
            Self::Active => &[Self::Suspended, Self::Deactivated, Self::Compromised],
            Self::Suspended => &[Self::Active, Self::Deactivated, Self::Compromised],
            Self::Deactivated => &[Self::Destroyed, Self::Compromised],
            Self::Compromised => &[Self::Destroyed],
            Self::Destroyed => &[],
        }
    }

    /// What may be done with a version in this state.
    pub const fn allows(self, wanted: Use) -> Allowed {
        match (self, wanted) {
            (Self::Active, _) | (Self::Deactivated, Use::Open) => Allowed::Yes,
            (Self::Suspended | Self::Compromised, Use::Open) => Allowed::ByPolicy,
            (Self::PreActive | Self::Destroyed, _)
            | (Self::Suspended | Self::Deactivated | Self::Compromised, Use::Seal) => Allowed::No,
        }
    }

    /// The state that a version is treated as. One that waits to be destroyed is treated as suspended, so that whoever
    /// still needs it fails while nothing is lost.
    pub const fn acting(self, waits: bool) -> Self {
        match self {
            Self::Active | Self::Deactivated if waits => Self::Suspended,
            state => state,
        }
    }

    /// Whether a version in this state seals.
    pub const fn seals(self) -> bool {
        matches!(self.allows(Use::Seal), Allowed::Yes)
    }

    /// Whether a version in this state opens for everybody who may open.
    pub const fn opens(self) -> bool {
        matches!(self.allows(Use::Open), Allowed::Yes)
    }
}

impl By {
    /// The name in rows; no principal is called so.
    const SIDECAR: &'static str = "(sidecar)";

    /// The name in rows and views.
    pub fn name(&self) -> &str {
        match self {
            Self::Principal(name) => name.as_str(),
            Self::Sidecar => Self::SIDECAR,
        }
    }

    /// Reads a name.
    pub fn of(name: &str) -> Option<Self> {
        if name == Self::SIDECAR { Some(Self::Sidecar) } else { name.parse().ok().map(Self::Principal) }
    }
}

impl Step {
    /// The states that it starts from and, where it ends in another one, that.
    const fn edges(self) -> (&'static [KeyState], Option<KeyState>) {
        use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Suspended};
        match self {
            Self::Activate => (&[PreActive], Some(Active)),
            Self::Suspend => (&[Active], Some(Suspended)),
            Self::Resume => (&[Suspended], Some(Active)),
            Self::Deactivate => (&[Active, Suspended], Some(Deactivated)),
            Self::Compromise => (&[PreActive, Active, Suspended, Deactivated], Some(Compromised)),
            Self::ScheduleDestroy { .. } | Self::CancelDestroy => (&[PreActive, Deactivated, Compromised], None),
            Self::Destroy => (&[PreActive, Deactivated, Compromised], Some(Destroyed)),
        }
    }

    /// The name in texts for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Deactivate => "deactivate",
            Self::Compromise => "compromise",
            Self::ScheduleDestroy { .. } => "schedule the destruction of",
            Self::CancelDestroy => "cancel the destruction of",
            Self::Destroy => "destroy",
        }
    }

    /// The action that policy must permit for it. Deactivating a suspended version lets it open again: that is a way
    /// back, which who may only restrict must not have.
    pub const fn action(self, from: KeyState) -> Action {
        match (self, from) {
            (Self::Activate, _) => Action::KeyringRotate,
            (Self::Suspend, _) => Action::KeySuspend,
            (Self::Resume, _) | (Self::Deactivate, KeyState::Suspended) => Action::KeyResume,
            (Self::Deactivate, _) => Action::KeyDeactivate,
            (Self::Compromise, _) => Action::KeyCompromise,
            (Self::ScheduleDestroy { .. } | Self::CancelDestroy | Self::Destroy, _) => Action::KeyDestroy,
        }
    }
}

impl Life {
    /// A version that was just made.
    pub fn born(now: Now, cause: &Cause) -> Self {
        let mut life = Self { marks: Vec::with_capacity(2), plan: None };
        life.enter(KeyState::PreActive, now, cause);
        life
    }

    /// A version that was just made and is active at once, as that of a new keyring and of a rotation.
    pub fn begun(now: Now, cause: &Cause) -> Self {
        let mut life = Self::born(now, cause);
        life.enter(KeyState::Active, now, cause);
        life
    }

    /// A version that a row describes; None if no sequence of steps leads there.
    pub fn read(marks: Vec<Mark>, plan: Option<Plan>) -> Option<Self> {
        let distinct =
            marks.iter().enumerate().all(|(at, mark)| marks.iter().skip(at + 1).all(|m| m.state != mark.state));
        let ordered = marks.is_sorted_by_key(|mark| mark.at);
        let last = marks.last()?.state;
        let plannable = Step::CancelDestroy.edges().0.contains(&last);
        let made = marks.first()?.state == KeyState::PreActive;
        (distinct && ordered && made && (plan.is_none() || plannable)).then_some(Self { marks, plan })
    }

    /// The state that it is in.
    pub fn state(&self) -> KeyState {
        self.marks.last().map_or(KeyState::Destroyed, |mark| mark.state)
    }

    /// When each state was last entered, the present one last.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// When a state was last entered.
    pub fn entered(&self, state: KeyState) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.state == state)
    }

    /// When it is to be destroyed.
    pub const fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What may be done with it now.
    pub fn allows(&self, wanted: Use) -> Allowed {
        self.state().acting(self.plan.is_some()).allows(wanted)
    }

    /// The life after a step, or why there is none.
    pub fn step(&self, step: Step, facts: &Facts, now: Now, cause: &Cause) -> Result<Self, Forbidden> {
        let (from, to) = step.edges();
        let state = self.state();
        if !from.contains(&state) {
            return Err(Forbidden::State { step, state, from });
        }
        let mut next = self.clone();
        match step {
            Step::Activate | Step::Resume => {
                if let Some(active) = facts.other_active {
                    return Err(Forbidden::OtherActive { step, active });
                }
                self.unplanned()?;
            }
            Step::Suspend | Step::Deactivate => self.unplanned()?,
            // Worse news about a key that waits to be destroyed is news all the same; the wait goes on.
            Step::Compromise => {}
            Step::ScheduleDestroy { days, statement } => {
                self.unplanned()?;
                next.plan = Some(Plan::make(days, statement, facts, now, cause)?);
            }
            Step::CancelDestroy => {
                next.plan.take().ok_or(Forbidden::NotPlanned)?;
            }
            Step::Destroy => return next.destroyed(facts, now, cause),
        }
        if let Some(to) = to {
            next.enter(to, now, cause);
        }
        Ok(next)
    }

    /// The reason is that of the plan: carrying it out is nobody's new decision.
    fn destroyed(mut self, facts: &Facts, now: Now, cause: &Cause) -> Result<Self, Forbidden> {
        let plan = self.plan.take().ok_or(Forbidden::NotPlanned)?;
        plan.due(facts, now)?;
        self.enter(KeyState::Destroyed, now, &Cause { reason: plan.cause.reason, ..cause.clone() });
        Ok(self)
    }

    fn unplanned(&self) -> Result<(), Forbidden> {
        self.plan.as_ref().map_or(Ok(()), |plan| Err(Forbidden::Planned { due: plan.due }))
    }

    /// A clock that steps back must not make a version younger than its last step: then the last time is repeated.
    fn enter(&mut self, state: KeyState, now: Now, cause: &Cause) {
        let at = self.marks.last().map_or(now.wall, |last| last.at.max(now.wall));
        let Cause { reason, by, ceremony } = cause.clone();
        self.marks.retain(|mark| mark.state != state);
        self.marks.push(Mark { state, at, reason, by, ceremony });
    }
}

#[cfg(test)]
mod tests;
