//! Why was a step taken? Closed lists with codes, the same in rows, records and requests.

/// Why a keyring gets a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The cryptoperiod ended.
    Schedule,
    /// A limit of messages or bytes was reached.
    Usage,
    /// Somebody who could reach the keys left or changed roles.
    Personnel,
    /// The system around the keys changed.
    Architecture,
    /// Something happened that keys may have suffered from.
    Incident,
}

/// Why a version entered a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It was made with its keyring.
    Created,
    /// A rotation.
    Rotation(Trigger),
    /// Policy or law asks for it.
    Policy,
    /// Somebody else may know the key, or may be using it.
    Suspicion,
    /// Somebody else knows the key.
    Disclosure,
    /// What was suspected proved to be wrong.
    Cleared,
    /// The step before was a mistake.
    Mistake,
    /// It is needed no longer.
    Retired,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: &[Self] = &[Self::Schedule, Self::Usage, Self::Personnel, Self::Architecture, Self::Incident];

    /// The closed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Usage => "usage",
            Self::Personnel => "personnel",
            Self::Architecture => "architecture",
            Self::Incident => "incident",
        }
    }

    /// Reads a code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|trigger| trigger.code() == code)
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::Created,
        Self::Rotation(Trigger::Schedule),
        Self::Rotation(Trigger::Usage),
        Self::Rotation(Trigger::Personnel),
        Self::Rotation(Trigger::Architecture),
        Self::Rotation(Trigger::Incident),
        Self::Policy,
        Self::Suspicion,
        Self::Disclosure,
        Self::Cleared,
        Self::Mistake,
        Self::Retired,
    ];

    /// The closed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Rotation(trigger) => trigger.code(),
            Self::Policy => "policy",
            Self::Suspicion => "suspicion",
            Self::Disclosure => "disclosure",
            Self::Cleared => "cleared",
            Self::Mistake => "mistake",
            Self::Retired => "retired",
        }
    }

    /// Reads a code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Reads a code that a person may give: nobody but keyward makes a key.
    pub fn given(code: &str) -> Option<Self> {
        Self::of(code).filter(|reason| *reason != Self::Created)
    }
}
