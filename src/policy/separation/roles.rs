//! Which roles and tiers are there? Two closed lists.

use std::fmt;
use std::str::FromStr;

macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// What a person does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Role {
            $($(#[$doc])* $variant,)+
        }

        impl Role {
            /// All roles.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in the file.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }
    };
}

roles! {
    /// Approves.
    Custodian = "custodian",
    /// Proposes.
    KeyAdministrator = "key-administrator",
    /// Runs the script of a ceremony.
    CeremonyAdministrator = "ceremony-administrator",
    /// Attests that the script was kept to.
    InternalWitness = "internal-witness",
    /// Writes policy.
    PolicyOfficer = "policy-officer",
    /// Reads and verifies.
    Auditor = "auditor",
    /// Root on the host: no key and no audit role.
    Operator = "operator",
    /// Runs a witness of the log, elsewhere.
    WitnessOperator = "witness-operator",
    /// Breaks the glass.
    Responder = "responder",
    /// Judges afterwards whether the glass had to be broken.
    Reviewer = "reviewer",
    /// Has no role in production.
    Developer = "developer",
    /// Not a person.
    Service = "service",
}

impl Role {
    /// The roles whose holders sign: they stand on the roster, and nobody else does.
    pub const SIGNING: &[Self] = &[
        Self::Custodian,
        Self::KeyAdministrator,
        Self::CeremonyAdministrator,
        Self::InternalWitness,
        Self::PolicyOfficer,
        Self::Responder,
        Self::Reviewer,
    ];

    /// Whether its holders sign.
    pub fn signs(self) -> bool {
        Self::SIGNING.contains(&self)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a role: it must be custodian, key-administrator, ceremony-administrator, internal-witness, policy-officer, auditor, \
     operator, witness-operator, responder, reviewer, developer or service"
)]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.iter().copied().find(|role| role.code() == text).ok_or(UnknownRole)
    }
}

/// How much is at stake in a ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Nothing is lost: a new key.
    One,
    /// The way back after a lock or suspension.
    Two,
    /// Weakens, destroys, exports.
    Three,
    /// An emergency.
    BreakGlass,
}

impl Tier {
    /// All tiers.
    pub const ALL: &[Self] = &[Self::One, Self::Two, Self::Three, Self::BreakGlass];

    /// The name in proposals.
    pub const fn code(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Three => "3",
            Self::BreakGlass => "break-glass",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text names no tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tier: it must be 1, 2, 3 or break-glass")]
pub struct UnknownTier;

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::ALL.iter().copied().find(|tier| tier.code() == text).ok_or(UnknownTier)
    }
}
