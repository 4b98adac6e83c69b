//! In which state is a ceremony now? Computed from its marks and the world each time; only what ended it is kept.

use crate::clock::Wall;

use super::body::Ended;
use super::{Action, Ceremony, Rejection, Tier, World, needs_certainty};

/// Where a ceremony is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has approved it yet.
    Proposed,
    /// Some have, or an approval that was enough is void.
    Approving,
    /// Enough have, and it waits for its time or for a clock that is certain.
    QuorumMet,
    /// It waits so that somebody may still say no.
    CoolingOff,
    /// It may be carried out.
    Ready,
    /// It is being carried out.
    Executing,
    /// It was carried out.
    Executed,
    /// It was not, or not wholly, carried out.
    Failed,
    /// It was given up before anything changed.
    Aborted,
    /// The initiator took it back.
    Withdrawn,
    /// Somebody said no.
    Denied,
    /// Its time is over.
    Expired,
    /// What it rested on has changed.
    Superseded,
}

impl State {
    /// All states.
    pub const ALL: &[Self] = &[
        Self::Proposed,
        Self::Approving,
        Self::QuorumMet,
        Self::CoolingOff,
        Self::Ready,
        Self::Executing,
        Self::Executed,
        Self::Failed,
        Self::Aborted,
        Self::Withdrawn,
        Self::Denied,
        Self::Expired,
        Self::Superseded,
    ];

    /// The closed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approving => "approving",
            Self::QuorumMet => "quorum_met",
            Self::CoolingOff => "cooling_off",
            Self::Ready => "ready",
            Self::Executing => "executing",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Withdrawn => "withdrawn",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }

    /// Whether anything can still happen.
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Proposed | Self::Approving | Self::QuorumMet | Self::CoolingOff | Self::Ready | Self::Executing
        )
    }
}

impl Ceremony {
    /// Where it is.
    pub fn state(&self, world: &World<'_>) -> State {
        if let Some(end) = &self.end {
            return end.kind.state();
        }
        if self.executing.is_some() {
            return State::Executing;
        }
        match self.check_open(world).and_then(|()| self.check_quorum(world)).and_then(|()| self.check_time(world)) {
            Ok(()) => State::Ready,
            Err(Rejection::Superseded { .. }) => State::Superseded,
            Err(Rejection::Expired) => State::Expired,
            Err(Rejection::CoolingOff { .. }) => State::CoolingOff,
            Err(Rejection::NotYet { .. } | Rejection::ClockUnsynchronised) => State::QuorumMet,
            Err(_) if self.decisions.len() > 1 => State::Approving,
            Err(_) => State::Proposed,
        }
    }

    /// Until when people may still say no; None while the quorum is not met.
    pub fn cool_off_until(&self) -> Option<Wall> {
        let met = self.met?;
        Some(Wall(met.wall.saturating_add(self.proposal.cool_off.saturating_mul(1_000_000))))
    }

    /// Why nothing can happen any more.
    pub(super) fn closed(&self) -> Option<Rejection> {
        Some(match self.end.as_ref()?.kind {
            Ended::Executed => Rejection::Spent,
            Ended::Failed => Rejection::Failed,
            Ended::Aborted => Rejection::Aborted,
            Ended::Withdrawn => Rejection::Withdrawn,
            Ended::Denied => Rejection::AlreadyDenied,
            Ended::Expired => Rejection::Expired,
            Ended::Superseded => {
                Rejection::Superseded { by: self.end.as_ref().and_then(|end| end.why.clone()).unwrap_or_default() }
            }
        })
    }

    /// That its time is not over (CER-13), and that what it rests on is what it was (CER-14).
    pub(super) fn check_open(&self, world: &World<'_>) -> Result<(), Rejection> {
        let proposal = &self.proposal;
        if proposal.store != world.roster.store || proposal.environment != world.roster.environment {
            return Err(Rejection::ForeignStore);
        }
        let life = proposal.not_after.saturating_sub(proposal.not_before).saturating_mul(1_000_000);
        let lived = world.counted.saturating_sub(self.opened.counted);
        // The earlier of both: a clock that is set back prolongs nothing.
        if self.now(world).0 >= proposal.not_after.saturating_mul(1_000_000) || lived >= life {
            return Err(Rejection::Expired);
        }
        match self.changed(world) {
            Some(by) => Err(Rejection::Superseded { by }),
            None => Ok(()),
        }
    }

    /// What is not any more what it was when the proposal was written.
    fn changed(&self, world: &World<'_>) -> Option<String> {
        let then = &self.proposal.preconditions;
        let now = [
            ("roster", hex::encode(world.roster.digest()), &then.roster),
            ("separation", hex::encode(world.separation.digest()), &then.separation),
            ("policy", world.policy.to_owned(), &then.policy),
            ("settings", world.settings.to_owned(), &then.settings),
        ];
        let moved = now.into_iter().find(|(_, now, then)| now != *then).map(|(name, ..)| name.to_owned());
        let target = || then.targets.iter().find(|(name, digest)| world.targets.get(*name) != Some(digest));
        moved.or_else(|| target().map(|(name, _)| format!("target {name}")))
    }

    /// Everything that carrying out needs, beside being open.
    pub(super) fn check_ready(&self, world: &World<'_>) -> Result<(), Rejection> {
        self.check_quorum(world)?;
        self.check_time(world)?;
        // Enrolling, the way back, is of tier 2.
        if self.proposal.tier == Tier::Three && world.margin < 1 {
            return Err(Rejection::Margin { margin: world.margin, enrol: Action::CustodianEnrol.name() });
        }
        Ok(())
    }

    fn check_quorum(&self, world: &World<'_>) -> Result<(), Rejection> {
        let missing = self.tally(world).missing;
        if missing.is_empty() && self.met.is_some() { Ok(()) } else { Err(Rejection::NotReady { missing }) }
    }

    /// Uncertain time never enables; a cool-off is over when both clocks say so (CER-12).
    fn check_time(&self, world: &World<'_>) -> Result<(), Rejection> {
        let now = self.now(world);
        if needs_certainty(self.proposal.tier) && !world.clock_synchronised {
            return Err(Rejection::ClockUnsynchronised);
        }
        if let (Some(until), Some(met)) = (self.cool_off_until(), self.met) {
            let cool_off = self.proposal.cool_off.saturating_mul(1_000_000);
            let counted = world.counted.saturating_sub(met.counted);
            if now < until || counted < cool_off {
                return Err(Rejection::CoolingOff {
                    until,
                    counted_left: cool_off.saturating_sub(counted) / 1_000_000,
                });
            }
        }
        let from = Wall(self.proposal.not_before.saturating_mul(1_000_000));
        if now < from { Err(Rejection::NotYet { from }) } else { Ok(()) }
    }
}
