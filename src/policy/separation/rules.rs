//! What does each tier ask for, and how little may a file ask for?

use std::collections::BTreeSet;
use std::time::Duration;

use super::Tier;
use crate::names::PrincipalName;

/// What a tier asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierRule {
    /// People beside the initiator.
    pub approvals: u32,
    /// Distinct groups among them.
    pub groups: u32,
    /// Distinct reporting lines among them.
    pub lines: u32,
    /// How long a proposal lives.
    pub expires: Duration,
    /// How long it waits between the last approval and the deed.
    pub cool_off: Duration,
    /// Whether only keys in tokens count, touched and with a PIN or fingerprint.
    pub hardware: bool,
}

/// What break-glass asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakGlassRule {
    /// People beside the one who breaks it; 0 only where the file says so.
    pub approvals: u32,
    /// Time to approve.
    pub approve_within: Duration,
    /// Time of use, at most.
    pub use_for: Duration,
    /// Time until another person has judged it.
    pub review_within: Duration,
}

/// Everything in a file that is not a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub one: TierRule,
    pub two: TierRule,
    pub three: TierRule,
    pub break_glass: BreakGlassRule,
    pub margin: u32,
    pub software_keys: BTreeSet<PrincipalName>,
    pub recertify_every: Duration,
}

impl Rules {
    pub(super) const fn of(&self, tier: Tier) -> TierRule {
        match tier {
            Tier::One => self.one,
            Tier::Two => self.two,
            Tier::Three => self.three,
            Tier::BreakGlass => TierRule {
                approvals: self.break_glass.approvals,
                groups: 1,
                lines: 1,
                expires: self.break_glass.approve_within,
                cool_off: Duration::ZERO,
                hardware: true,
            },
        }
    }

    /// The most people that any tier asks for.
    pub(super) fn largest(&self) -> u32 {
        Tier::ALL.iter().map(|tier| self.of(*tier).approvals).max().unwrap_or_default()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            one: ONE,
            two: TWO,
            three: TierRule { approvals: 3, ..THREE },
            break_glass: BREAK_GLASS,
            margin: MARGIN,
            software_keys: BTreeSet::new(),
            recertify_every: Duration::from_secs(90 * DAY),
        }
    }
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// The floors: no file asks for less. Tier 3 asks for one person more than this where a file says nothing.
pub(super) const ONE: TierRule = TierRule {
    approvals: 1,
    groups: 1,
    lines: 1,
    expires: Duration::from_secs(24 * HOUR),
    cool_off: Duration::ZERO,
    hardware: false,
};
pub(super) const TWO: TierRule = TierRule {
    approvals: 2,
    groups: 2,
    lines: 2,
    expires: Duration::from_secs(72 * HOUR),
    cool_off: Duration::ZERO,
    hardware: true,
};
pub(super) const THREE: TierRule = TierRule {
    approvals: 2,
    groups: 2,
    lines: 2,
    expires: Duration::from_secs(7 * DAY),
    cool_off: Duration::from_secs(24 * HOUR),
    hardware: true,
};
pub(super) const BREAK_GLASS: BreakGlassRule = BreakGlassRule {
    approvals: 1,
    approve_within: Duration::from_secs(15 * 60),
    use_for: Duration::from_secs(60 * 60),
    review_within: Duration::from_secs(72 * HOUR),
};
/// One custodian may be lost and every tier still be reached.
pub(super) const MARGIN: u32 = 1;
/// A roster that nobody looks at for longer is not known to be true.
pub(super) const RECERTIFY_MOST: Duration = Duration::from_secs(365 * DAY);
