//! What does each control verb do? Keyring changes and reads under a Permit or an Authority.
//! This module never decides who may.

pub mod custody;
pub mod guarded;
pub mod locks;

use crate::keyring::life::{MAX_WAIT_DAYS, MIN_WAIT_DAYS, Reason, Step, Trigger};
use crate::keyring::{Change, Escrow, KeyLimits, LookupVersion, LookupView, Suite};
use crate::names::{KeyVersionId, KeyringName, LookupName, RESERVED_PREFIX};

/// A request to make a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKeyring {
    /// Its name.
    pub name: KeyringName,
    /// Context keys that every value must carry.
    pub required_context: Vec<String>,
    /// The context key that names the patient; must be one of the required ones.
    pub subject_key: Option<String>,
    /// The context key whose values get keys of their own; must be one of the required ones.
    pub partition_key: Option<String>,
    /// The suite of its values.
    pub suite: Suite,
    /// Whether the escrow wraps its keys, where there is one.
    pub escrow: Escrow,
}

/// A request to give a keyring a new active version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateKeyring {
    /// Which keyring.
    pub keyring: KeyringName,
    /// Why.
    pub trigger: Trigger,
    /// The version that the caller believes to be active.
    pub expect: Option<KeyVersionId>,
}

/// A request to change the limits of a keyring, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigureKeyring {
    /// Which keyring.
    pub keyring: KeyringName,
    /// What it asks for beyond the configuration's defaults.
    pub limits: KeyLimits,
}

/// A request to take one step with one key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    /// Which keyring.
    pub keyring: KeyringName,
    /// Which version.
    pub version: KeyVersionId,
    /// Which step.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// A request about a look-up key of a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskLookup {
    /// Whose.
    pub keyring: KeyringName,
    /// Which.
    pub name: LookupName,
    /// What is asked.
    pub verb: LookupVerb,
}

/// What is asked of a look-up key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupVerb {
    /// That it be made.
    Create,
    /// A next version.
    Rotate {
        /// Why.
        trigger: Trigger,
        /// The number of the version that the caller believes to be the newest.
        expect: Option<u32>,
    },
    /// The end of a version.
    Retire {
        /// Why.
        reason: Reason,
        /// Its number; without one the oldest that is left.
        version: Option<u32>,
    },
}

/// The version that is to be retired. The newest is one of them: that it is refused is the keyring's to say.
pub fn retiring(view: &LookupView, version: Option<u32>) -> Result<&LookupVersion, String> {
    let found = match version {
        Some(number) => view.numbered(number),
        None => view.retirable(),
    };
    found.ok_or_else(|| match version {
        Some(number) => format!("{} has no version {number}", view.name),
        None => format!("{} has no version beside the newest that could be retired: rotate it first", view.name),
    })
}

/// Checks what a keyring is asked to be and turns it into a change. The error says what to correct.
pub fn creation(create: CreateKeyring) -> Result<Change, &'static str> {
    let CreateKeyring { name, mut required_context, subject_key, partition_key, suite, escrow } = create;
    required_context.sort_unstable();
    if required_context.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err("required_context names a key twice");
    }
    if required_context
        .iter()
        .any(|key| key.is_empty() || key.len() > MAX_KEY_BYTES || key.starts_with(RESERVED_PREFIX))
    {
        return Err("required_context keys have 1 to 128 bytes and do not begin with kw.");
    }
    if required_context.len() > MAX_REQUIRED_KEYS {
        return Err("required_context has at most 16 keys");
    }
    if subject_key.as_ref().is_some_and(|key| !required_context.contains(key)) {
        return Err("subject_key must be one of required_context, or values without a subject could be sealed");
    }
    if partition_key.as_ref().is_some_and(|key| !required_context.contains(key)) {
        return Err("partition_key must be one of required_context, or values of no partition could be sealed");
    }
    let limits = KeyLimits { escrow: (escrow == Escrow::No).then_some(escrow), ..KeyLimits::default() };
    Ok(Change::Create { name, required_context, subject_key, suite, partition_key, limits })
}

/// Checks what a step asks for, before anything is recorded of it.
pub fn stepping(step: StepKey) -> Result<StepKey, &'static str> {
    match step.step {
        Step::ScheduleDestroy { days, .. } if !(MIN_WAIT_DAYS..=MAX_WAIT_DAYS).contains(&days) => {
            Err("a destruction waits 7 to 30 days: after_days")
        }
        _ => Ok(step),
    }
}

/// A required key is a field name of the application, not a value.
const MAX_KEY_BYTES: usize = 128;
/// Far below the 62 pairs of a context, so that free pairs always fit.
const MAX_REQUIRED_KEYS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn create(required: &[&str], subject: Option<&str>) -> CreateKeyring {
        CreateKeyring {
            name: "patients".parse().unwrap(),
            required_context: required.iter().map(|key| (*key).to_owned()).collect(),
            subject_key: subject.map(str::to_owned),
            partition_key: subject.map(str::to_owned),
            suite: Suite::XaesCommitted,
            escrow: Escrow::Yes,
        }
    }

    #[test]
    fn a_subject_key_must_be_required() {
        assert!(creation(create(&["patient"], Some("patient"))).is_ok());
        assert!(creation(create(&[], Some("patient"))).is_err());
    }

    #[test]
    fn required_keys_are_distinct_short_and_not_reserved() {
        for bad in [&["a", "a"][..], &[""], &["kw.keyring"], &[&*"x".repeat(129)]] {
            assert!(creation(create(bad, None)).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..17).map(|i| format!("k{i}")).collect();
        assert!(creation(create(&many.iter().map(String::as_str).collect::<Vec<_>>(), None)).is_err());
    }
}
