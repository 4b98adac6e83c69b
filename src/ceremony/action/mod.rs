//! What can a ceremony do? A closed table: each action with its tier, its parameters, and what it does in words that are
//! made from the parameters alone, so that nobody signs one thing and reads another. This module carries nothing out.

pub mod form;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::names::{KeyringName, PrincipalName};
use crate::policy::separation::Tier;

pub use form::Form;

/// The parameters of an action, by name; values are spelt as in the requests of the control API.
pub type Parameters = BTreeMap<String, String>;

/// What a ceremony does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A new keyring.
    KeyringCreate,
    /// A new active version of a keyring.
    KeyringRotate,
    /// Other limits of a keyring.
    KeyringConfigure,
    /// A new look-up key.
    LookupCreate,
    /// A next version of a look-up key.
    LookupRotate,
    /// The end of a version of a look-up key.
    LookupRetire,
    /// A version that was made is used.
    KeyActivate,
    /// A version only opens from now on.
    KeyDeactivate,
    /// A version neither seals nor opens for now.
    KeySuspend,
    /// A suspended version is used again.
    KeyResume,
    /// A version may be known to somebody else.
    KeyCompromise,
    /// The destruction of a version is scheduled.
    KeyDestroy,
    /// A partition's key is destroyed.
    PartitionShred,
    /// The next version of a key-encryption key.
    KekRotate,
    /// The end of a version of a key-encryption key.
    KekRetire,
    /// Another escrow, or none.
    EscrowChange,
    /// A person, or another key of one, on the roster.
    CustodianEnrol,
    /// A person off the roster.
    CustodianRemove,
    /// A person still belongs on the roster.
    CustodianRecertify,
    /// Other guarded settings.
    SettingsChange,
    /// Access for a short time.
    GrantGive,
    /// Access for up to a day.
    GrantExtend,
    /// Emergency access.
    BreakGlassOpen,
    /// The end of a lock.
    SidecarUnlock,
    /// A copy of the store.
    StoreBackup,
    /// The store as a backup has it.
    StoreRestore,
    /// Another key for the log.
    LogRotateKey,
    /// Another place that the log is copied to.
    SinkChange,
    /// Another time for which records are kept.
    RetentionChange,
}

/// One parameter of an action.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Whether the action cannot do without it.
    pub required: bool,
    /// What its value looks like.
    pub form: Form,
}

/// One row of the table.
struct Row {
    action: Action,
    name: &'static str,
    tier: Tier,
    parameters: &'static [Parameter],
    /// `{name}` stands for a value; `[...]` falls away when a value in it is not given.
    effect: &'static str,
    /// The parameters that name people whom it concerns.
    concerns: &'static [&'static str],
}

/// The text names no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an action of ceremonies: see `keyward ceremony propose --help` for the list")]
pub struct UnknownAction;

impl Action {
    /// Every action.
    pub const ALL: &[Self] = table::ALL;

    /// The name in proposals.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// How much is at stake.
    pub fn tier(self) -> Tier {
        self.row().map_or(Tier::Three, |row| row.tier)
    }

    /// What it takes.
    pub fn parameters(self) -> &'static [Parameter] {
        self.row().map_or(&[], |row| row.parameters)
    }

    /// Checks that every parameter is known, every required one given, and every value spelt as its form says (CER-4).
    pub fn check(self, given: &Parameters) -> Result<(), String> {
        for (name, value) in given {
            let known = self.parameters().iter().find(|parameter| parameter.name == name);
            let known =
                known.ok_or_else(|| format!("{self} takes no parameter of that name; it takes {}", self.takes()))?;
            known.form.check(value).map_err(|what| format!("the parameter {} must be {what}", known.name))?;
        }
        let missing: Vec<_> =
            self.parameters().iter().filter(|one| one.required && !given.contains_key(one.name)).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|parameter| parameter.name).collect();
            return Err(format!("{self} lacks {}", names.join(", ")));
        }
        self.check_together(given)
    }

    /// What one parameter asks of another.
    fn check_together(self, given: &Parameters) -> Result<(), String> {
        for name in ["subject_key", "partition_key"] {
            let required = given.get("required_context").map_or("", String::as_str);
            if given.get(name).is_some_and(|key| !required.split(',').any(|one| one == key)) {
                return Err(format!("the parameter {name} must be one of required_context"));
            }
        }
        if given.contains_key("second_key") && given.get("second_key") == given.get("key") {
            return Err("the parameter second_key must be another key than the first".to_owned());
        }
        if given.contains_key("second_key") != given.contains_key("second_proof") {
            return Err("the parameters second_key and second_proof go together".to_owned());
        }
        let rules = given.get("rules").and_then(|text| form::rules(text)).map(|rules| hex::encode(rules.digest()));
        if rules.as_ref() != given.get("separation") {
            return Err(
                "the parameter separation must be the digest of rules, and neither goes without the other".to_owned()
            );
        }
        if self == Self::KeyringConfigure && given.len() < 2 {
            return Err(format!("{self} changes nothing: it takes {}", self.takes()));
        }
        Ok(())
    }

    /// What it does, in words for people; the same parameters always give the same words (CER-5).
    pub fn effect(self, given: &Parameters) -> String {
        self.row().map_or_else(String::new, |row| fill(row.effect, given))
    }

    /// The people whom it concerns: they do not decide about it.
    pub fn concerns(self, given: &Parameters) -> Vec<PrincipalName> {
        let names = self.row().map_or(&[][..], |row| row.concerns).iter();
        names.filter_map(|name| given.get(*name)?.parse().ok()).collect()
    }

    /// The keyring that it is about.
    pub fn keyring(self, given: &Parameters) -> Option<KeyringName> {
        given.get("keyring")?.parse().ok()
    }

    fn takes(self) -> String {
        let names: Vec<_> = self.parameters().iter().map(|parameter| parameter.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn row(self) -> Option<&'static Row> {
        table::ROWS.iter().find(|row| row.action == self)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.iter().copied().find(|action| action.name() == text).ok_or(UnknownAction)
    }
}

/// Puts values into a template. A value is never read as a template.
fn fill(template: &str, given: &Parameters) -> String {
    let mut out = String::new();
    for (index, part) in template.split(['[', ']']).enumerate() {
        // Brackets are not nested: every second part is optional.
        let optional = index % 2 == 1;
        match values(part, given) {
            Some(filled) => out.push_str(&filled),
            None if optional => {}
            None => out.push_str(part),
        }
    }
    out
}

fn values(part: &str, given: &Parameters) -> Option<String> {
    let mut out = String::new();
    for (index, piece) in part.split(['{', '}']).enumerate() {
        out.push_str(if index % 2 == 1 { given.get(piece)? } else { piece });
    }
    Some(out)
}

#[cfg(test)]
mod tests;
