//! Who may be what, and how many must agree? The separation file: people with their roles, groups and reporting lines, and
//! what each tier of ceremonies asks for. It can only be stricter than what stands here.
//! This module reads no file and counts no signature.

mod checks;
mod file;
mod matrix;
mod people;
mod roles;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::sha256;
use crate::names::{Name, PrincipalName};

pub use roles::{Role, Tier, UnknownRole, UnknownTier};
pub use rules::{BreakGlassRule, TierRule};

/// A person of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the person does.
    pub roles: BTreeSet<Role>,
    /// The group; custodians have exactly one.
    pub group: Option<Name>,
    /// Whom the person reports to.
    pub manager: Option<PrincipalName>,
}

/// A loaded file. Replaced whole, never edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Separation {
    text: String,
    people: BTreeMap<PrincipalName, Person>,
    rules: rules::Rules,
}

/// Why a separation file was refused: every problem at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the separation of duties is refused: {}", problems.join("; "))]
pub struct SeparationError {
    /// What is wrong and what to change, for people.
    pub problems: Vec<String>,
}

impl Separation {
    /// Reads and checks a file.
    pub fn load(text: &str) -> Result<Arc<Self>, SeparationError> {
        let mut problems = Vec::new();
        let Some(file::File { people, conflicts, rules }) = file::read(text, &mut problems) else {
            return Err(SeparationError { problems });
        };
        problems.extend(matrix::check(&people, &conflicts));
        let separation = Self { text: text.to_owned(), people, rules };
        problems.extend(separation.check());
        // Of a file with other problems it is not known who its custodians will be.
        if problems.is_empty() {
            problems = separation.check_reach();
        }
        if problems.is_empty() { Ok(Arc::new(separation)) } else { Err(SeparationError { problems }) }
    }

    /// SHA-256("keyward/separation/v1" 00 || text).
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"keyward/separation/v1\0", self.text.as_bytes()])
    }

    /// The file as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everybody in it.
    pub fn people(&self) -> impl Iterator<Item = (&PrincipalName, &Person)> {
        self.people.iter()
    }

    /// One of them.
    pub fn person(&self, name: &PrincipalName) -> Option<&Person> {
        self.people.get(name)
    }

    /// Whether the person holds the role.
    pub fn has(&self, name: &PrincipalName, role: Role) -> bool {
        self.person(name).is_some_and(|person| person.roles.contains(&role))
    }

    /// What a tier asks for.
    pub fn rule(&self, tier: Tier) -> TierRule {
        self.rules.of(tier)
    }

    /// What break-glass asks for.
    pub const fn break_glass(&self) -> &BreakGlassRule {
        &self.rules.break_glass
    }

    /// Whether keys outside of tokens count for the person at every tier: the named exception.
    pub fn software_keys_count_for(&self, person: &PrincipalName) -> bool {
        self.rules.software_keys.contains(person)
    }

    /// How long a person stays on the roster until somebody confirms it.
    pub const fn recertify_every(&self) -> Duration {
        self.rules.recertify_every
    }
}

#[cfg(test)]
mod tests;
