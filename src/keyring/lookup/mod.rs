//! Which look-up keys has a keyring? Keys for values that must stay equal where plaintexts are equal (deterministic values,
//! blind indexes, tokens): rows of the keyring like any other, with numbered versions under a name.
//!
//! Rotating the keyring never touches them, or no join would outlive it. They get a next version when somebody asks for
//! one, and lose the one before when somebody says that the values have moved; no job does either.

mod plan;
mod unlock;

use std::sync::Arc;
use std::time::Duration;

use super::bodies::{self, KeyBody};
use super::life::{Role, Trigger};
use super::rings::{Version, describe};
use super::verify::Damage;
use super::{Genesis, VersionView};
use crate::names::{KeyVersionId, KeyringName, LookupName};
use crate::store::{RingRows, SealedKey};

pub(super) use plan::{plan, step};
pub use unlock::{LookupKey, LookupKeys};

/// The purpose of their rows.
pub(super) const LOOKUP: &str = "look-up";
/// How long a version should be current, as long as a key-encryption key: a new one costs a pass over every row of the
/// application. The end of it is shown and nothing follows from it.
const PERIOD: Duration = Duration::from_secs(365 * 86_400);
/// Names in one keyring: they are read with it, and an application has as many as it has columns to search.
const MOST_NAMES: usize = 64;

/// A change to a look-up key; steps of one version are [`super::Change::Step`] as for any other key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupChange {
    /// Whose.
    pub keyring: KeyringName,
    /// Which.
    pub name: LookupName,
    /// What is to become of it.
    pub verb: LookupVerb,
}

/// What is to become of a look-up key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupVerb {
    /// It is made, with version 1.
    Create,
    /// It gets its next version; the one before matches on.
    Rotate {
        /// Why.
        trigger: Trigger,
        /// The number of the version that is the newest; another one means that somebody else was first.
        expect: Option<u32>,
    },
}

/// A look-up key, without its wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupView {
    /// `USE/NAME`.
    pub name: LookupName,
    /// Its versions by number.
    pub versions: Vec<LookupVersion>,
}

/// One version of a look-up key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupVersion {
    /// From 1.
    pub number: u32,
    /// What it is for; None when it is for nothing now.
    pub role: Option<Role>,
    /// What is known of it as of any key.
    pub version: VersionView,
}

impl LookupView {
    /// The version that writes.
    pub fn current(&self) -> Option<&LookupVersion> {
        self.versions.iter().find(|version| version.role == Some(Role::Current))
    }

    /// The oldest version that could be retired: it lives or is suspended, and is not the newest.
    pub fn retirable(&self) -> Option<&LookupVersion> {
        let (_, older) = self.versions.split_last()?;
        older
            .iter()
            .find(|version| matches!(version.version.state, super::KeyState::Active | super::KeyState::Suspended))
    }

    /// A version by its number.
    pub fn numbered(&self, number: u32) -> Option<&LookupVersion> {
        self.versions.iter().find(|version| version.number == number)
    }
}

/// A version of a look-up key as a keyring in use holds it.
pub(super) struct Lookup {
    pub name: LookupName,
    pub number: u32,
    pub version: Arc<Version>,
}

/// What a key's wraps are bound to: the keyring, and for a look-up key its name too.
pub(super) fn owner_name(keyring: &str, name: Option<&str>) -> String {
    name.map_or_else(|| keyring.to_owned(), |name| format!("{keyring}/{name}"))
}

/// The name and the number that a look-up key's row says.
pub(super) fn numbered(key: &SealedKey, body: &KeyBody) -> Result<(LookupName, u32), Damage> {
    let wrong = |what: &str| Damage::of(describe(key), what);
    let name = body.name.as_ref().and_then(|name| name.parse().ok()).ok_or_else(|| wrong("its name is none"))?;
    Ok((name, body.version.filter(|number| *number > 0).ok_or_else(|| wrong("it has no number"))?))
}

/// The look-up keys of verified rows, by name and number.
pub(super) fn read(rows: &RingRows, genesis: &Genesis) -> Result<Vec<Lookup>, Damage> {
    let mut found = Vec::new();
    for key in rows.keys.iter().filter(|key| key.row.purpose == LOOKUP) {
        let body: KeyBody = bodies::decode(&key.row.body).map_err(|why| Damage::unreadable(describe(key), why))?;
        let (name, number) = numbered(key, &body)?;
        found.push((name, number, Version::of_lookup(key, genesis, PERIOD)?));
    }
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    if let Some([(name, number, _), _]) =
        found.windows(2).find(|two| matches!(two, [a, b] if (&a.0, a.1) == (&b.0, b.1)))
    {
        return Err(Damage::of(
            format!("the look-up key {name} of {}", rows.head.name),
            format!("version {number} is there twice"),
        ));
    }
    Ok(found.into_iter().map(|(name, number, version)| Lookup { name, number, version: Arc::new(version) }).collect())
}

/// What may be known of them.
pub(super) fn views(lookups: &[Lookup]) -> Vec<LookupView> {
    lookups.chunk_by(|a, b| a.name == b.name).filter_map(view).collect()
}

fn view(of_name: &[Lookup]) -> Option<LookupView> {
    let newest = of_name.last()?;
    let versions = of_name.iter().map(|lookup| {
        let mut version = lookup.version.view.clone();
        let role = Role::of(lookup.number, newest.number, version.state);
        // One that writes nothing wears out no more.
        version.expires = version.expires.filter(|_| role == Some(Role::Current));
        LookupVersion { number: lookup.number, role, version }
    });
    Some(LookupView { name: newest.name.clone(), versions: versions.collect() })
}

impl super::KeyringView {
    /// A version, of the keyring or of one of its look-up keys.
    pub fn version(&self, id: KeyVersionId) -> Option<&VersionView> {
        let own = self.versions.iter().find(|version| version.id == id);
        own.or_else(|| self.lookup_of(id).map(|(_, version)| &version.version))
    }

    /// The look-up key that has this version.
    pub fn lookup_of(&self, id: KeyVersionId) -> Option<(&LookupView, &LookupVersion)> {
        let of = |view: &'_ LookupView| view.versions.iter().position(|version| version.version.id == id);
        self.lookups.iter().find_map(|view| Some((view, view.versions.get(of(view)?)?)))
    }

    /// A look-up key by its name.
    pub fn lookup(&self, name: &LookupName) -> Option<&LookupView> {
        self.lookups.iter().find(|view| view.name == *name)
    }
}
