//! What is true of an HSM product? Facts from `hsm-profiles/*.toml`, each with its source; strict, so that a typo is no fact.
//! This module never guesses: a method, an IV mode or an error class that the profile does not name does not exist.

#![deny(clippy::indexing_slicing)]

mod errors;
mod schema;
mod shipped;
mod wraps;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Method;

pub use errors::{ErrorClass, Errors};
pub use schema::{
    AttributeName, Attributes, Calls, Login, Module, PinShape, Pitfall, Profile, Select, Session, Setup, Slot, User,
    Verified,
};
pub use shipped::SHIPPED;
pub use wraps::{IvMode, OaepHash, WrapMethod};

/// Which profile the configuration means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileChoice {
    /// One that keyward ships, by its id.
    Shipped(String),
    /// A file of the operator's.
    File(PathBuf),
}

impl ProfileChoice {
    /// Whether the product logs in, as far as its profile can be read; one that cannot be is refused later.
    pub fn wants_pin(&self) -> bool {
        Profile::load(self).map_or(true, |profile| profile.login.user == User::User)
    }
}

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No such shipped profile.
    #[error("keyward ships no profile {id}: it ships {shipped}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// What there is.
        shipped: String,
    },
    /// The file cannot be read.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It was written for a newer keyward.
    #[error("a profile of schema {0} needs a newer keyward: this one reads schema {SCHEMA}")]
    Newer(u64),
    /// It does not say what a profile must say.
    #[error("the profile is not valid: {0}")]
    Invalid(String),
}

impl Profile {
    /// The profile that the configuration means.
    pub fn load(choice: &ProfileChoice) -> Result<Self, ProfileError> {
        match choice {
            ProfileChoice::Shipped(id) => Self::parse(Self::text_of(id)?),
            ProfileChoice::File(path) => Self::read(path),
        }
    }

    /// Parses and checks a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let invalid = |error: toml::de::Error| ProfileError::Invalid(error.to_string().trim_end().into());
        // The schema is looked at first: a newer profile must say so, not complain of a field that this keyward lacks.
        let header: Header = toml::from_str(text).map_err(invalid)?;
        if header.schema > u64::from(SCHEMA) {
            return Err(ProfileError::Newer(header.schema));
        }
        let profile: Self = toml::from_str(text).map_err(invalid)?;
        profile.check().map_err(ProfileError::Invalid)?;
        Ok(profile)
    }

    /// The table that new wraps use: the one that the configuration names, else the first that needs no opting in.
    pub fn chosen(&self, named: Option<&str>) -> Result<&WrapMethod, String> {
        let found = match named {
            Some(name) => self.wrap.iter().find(|wrap| wrap.name() == name || wrap.full_name() == name),
            None => self.wrap.iter().find(|wrap| !matches!(wrap, WrapMethod::UnwrapGetattr { .. })),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.wrap.iter().map(WrapMethod::full_name).collect();
            let names = names.join(", ");
            match named {
                Some(name) => format!("the profile {} has no method {name}: it has {names}", self.id),
                None => format!("the profile {} has only {names}, which `method` must ask for by name", self.id),
            }
        })
    }

    /// The table by which a wrap of this method was made, if the profile still has it.
    pub fn table_of(&self, method: Method) -> Option<&WrapMethod> {
        self.wrap.iter().find(|wrap| wrap.method() == method)
    }

    /// Whether the token truly reports an attribute.
    pub fn reports(&self, name: AttributeName) -> bool {
        self.attributes.reported.contains(&name)
    }

    /// A shipped profile as it is written, for operators to copy and change.
    pub fn text_of(id: &str) -> Result<&'static str, ProfileError> {
        let unknown = || {
            let shipped: Vec<_> = SHIPPED.iter().map(|(id, _)| *id).collect();
            ProfileError::Unknown { id: id.into(), shipped: shipped.join(", ") }
        };
        SHIPPED.iter().find(|(shipped, _)| *shipped == id).map(|(_, text)| *text).ok_or_else(unknown)
    }

    fn read(path: &Path) -> Result<Self, ProfileError> {
        let unreadable = |problem: String| ProfileError::Unreadable { path: path.to_path_buf(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} does not exist", self.schema));
        }
        if self.wrap.is_empty() {
            return Err("no method of wrapping is listed".into());
        }
        if self.calls.hang_after_ms == 0 || self.calls.start_after_ms == 0 {
            return Err("a limit of calls is zero".into());
        }
        self.wrap.iter().try_for_each(WrapMethod::check)?;
        self.check_sessions()?;
        // The loader's variables would run other code in the worker, with the PIN in hand.
        if let Some(name) = self.module.env.iter().find(|name| name.starts_with("LD_")) {
            return Err(format!("the environment variable {name} is the loader's, not the library's"));
        }
        match self.errors.listed_twice() {
            Some(code) => Err(format!("the code {code:#x} stands in two classes")),
            None => self.sources_given(),
        }
    }

    fn check_sessions(&self) -> Result<(), String> {
        let Session { max, pool, .. } = self.session;
        if pool == 0 || pool > MAX_POOL {
            return Err(format!("pool must be 1 to {MAX_POOL}"));
        }
        if max != 0 && pool >= max {
            return Err(format!("pool {pool} and the session that keeps the login are more than max {max}"));
        }
        if pool > 1 && !self.module.os_locking {
            return Err("a pool of more than one session needs os_locking".into());
        }
        if self.slot.select.is_empty() {
            return Err("select names no property of a token".into());
        }
        Ok(())
    }

    fn sources_given(&self) -> Result<(), String> {
        let tables = [
            ("module", self.module.source.as_str()),
            ("slot", &self.slot.source),
            ("login", &self.login.source),
            ("session", &self.session.source),
            ("calls", &self.calls.source),
            ("errors", &self.errors.source),
            ("attributes", &self.attributes.source),
            ("setup", &self.setup.source),
        ];
        let wraps = self.wrap.iter().map(|wrap| ("wrap", wrap.source()));
        let pitfalls = self.pitfall.iter().map(|pitfall| ("pitfall", pitfall.source.as_str()));
        let mut all = tables.into_iter().chain(wraps).chain(pitfalls);
        match all.find(|(_, source)| source.trim().is_empty()) {
            Some((table, _)) => Err(format!("the table {table} names no source")),
            None => Ok(()),
        }
    }
}

/// What every schema has.
#[derive(Deserialize)]
struct Header {
    schema: u64,
}

const SCHEMA: u16 = 1;
/// More threads in a vendor's library than this help no token.
const MAX_POOL: u32 = 64;

#[cfg(test)]
mod tests;
