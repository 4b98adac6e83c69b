//! What does custody rest on beside the store? The separation file, and the digest of the settings that custodians guard.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::policy::Policy;
use crate::policy::separation::{Separation, SeparationError};
use crate::service::CustodySettings;

/// Why the rules of separation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeparationRefused {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error("{}: {source}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SeparationError,
    },
    /// It does not fit those who are configured.
    #[error("{}: {}", path.display(), problems.join("; "))]
    Principals {
        /// Which file.
        path: PathBuf,
        /// All problems.
        problems: Vec<String>,
    },
}

/// Reads the rules, and holds those who are configured against them.
pub(super) fn separation(config: &Config) -> Result<Option<Arc<Separation>>, SeparationRefused> {
    let Some(path) = config.custody.separation.clone() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SeparationRefused::Read { path, source }),
    };
    let rules = match Separation::load(&text) {
        Ok(rules) => rules,
        Err(source) => return Err(SeparationRefused::Wrong { path, source }),
    };
    let known: Vec<_> = config.identity.principals.iter().map(|known| (known.name.clone(), known.kind)).collect();
    let problems = rules.check_principals(&known);
    if problems.is_empty() { Ok(Some(rules)) } else { Err(SeparationRefused::Principals { path, problems }) }
}

pub(super) fn settings(config: &Config, separation: Option<Arc<Separation>>, policy: &Policy) -> CustodySettings {
    let guarded = super::guarded::settings(config, separation.as_deref(), policy);
    let clock_check = config.custody.clock_check.clone();
    CustodySettings { separation, environment: config.environment, clock_check, guarded }
}
