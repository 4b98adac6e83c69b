//! Which configured principal do these credentials prove?

use std::collections::HashMap;

use crate::crypto::constant_time_eq;
use crate::names::PrincipalName;

use super::{Credentials, Door, IdentityError, KnownPrincipal, Principal, PrincipalKind, Proof, Settings, token};

/// Old and new: a token is replaced without a gap, and no third one is forgotten.
const MAX_TOKENS: usize = 2;

/// Recognises callers.
pub struct Authenticator {
    uids: HashMap<(Door, u32), (PrincipalName, PrincipalKind)>,
    tokens: Vec<([u8; 32], PrincipalName, PrincipalKind)>,
}

/// Why the settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Two principals claim one proof, or one claims it twice.
    #[error("{first} and {second} claim the same {what}")]
    Shared {
        /// The principal listed first.
        first: PrincipalName,
        /// The principal listed later.
        second: PrincipalName,
        /// `uid` or `token`.
        what: &'static str,
    },
    /// More than two tokens.
    #[error("{0} has more than two tokens")]
    TooManyTokens(PrincipalName),
    /// One name stands for two principals: a person and a service would share it.
    #[error("{0} is configured twice")]
    Duplicate(PrincipalName),
}

impl Authenticator {
    /// Checks the settings: a name, uid or token claimed twice is refused.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let mut built = Self { uids: HashMap::new(), tokens: Vec::new() };
        for (at, known) in settings.principals.iter().enumerate() {
            if settings.principals.iter().take(at).any(|earlier| earlier.name == known.name) {
                return Err(SettingsError::Duplicate(known.name.clone()));
            }
            built.claim_uids(known)?;
            built.claim_tokens(known)?;
        }
        Ok(built)
    }

    /// Recognises a caller at a door, in time that does not depend on which token is nearly right. At the data door
    /// only services are known, at the control door only people.
    pub fn authenticate(&self, door: Door, credentials: &Credentials) -> Result<Principal, IdentityError> {
        match credentials {
            Credentials::None => Err(IdentityError::Missing),
            Credentials::Peer { uid, .. } => {
                let (name, kind) = self.uids.get(&(door, *uid)).ok_or(IdentityError::Unknown)?;
                Ok(Principal::mint(name.clone(), *kind, Proof::Peer { uid: *uid }))
            }
            Credentials::Bearer(text) => {
                let offered = token::hash(text.expose()).ok_or(IdentityError::Unknown)?;
                let (name, kind) = self.bearer_of(door, &offered).ok_or(IdentityError::Unknown)?;
                Ok(Principal::mint(name.clone(), *kind, Proof::Token))
            }
        }
    }

    /// Looks at every configured hash, whichever matches: the time says how many there are and nothing else.
    fn bearer_of(&self, door: Door, offered: &[u8; 32]) -> Option<(&PrincipalName, &PrincipalKind)> {
        let mut found = None;
        for (hash, name, kind) in &self.tokens {
            if constant_time_eq(hash, offered) && Door::of(*kind) == door {
                found = Some((name, kind));
            }
        }
        found
    }

    fn claim_uids(&mut self, known: &KnownPrincipal) -> Result<(), SettingsError> {
        for uid in &known.uids {
            if let Some((first, _)) = self.uids.insert((Door::of(known.kind), *uid), (known.name.clone(), known.kind)) {
                return Err(SettingsError::Shared { first, second: known.name.clone(), what: "uid" });
            }
        }
        Ok(())
    }

    fn claim_tokens(&mut self, known: &KnownPrincipal) -> Result<(), SettingsError> {
        if known.token_sha256.len() > MAX_TOKENS {
            return Err(SettingsError::TooManyTokens(known.name.clone()));
        }
        for hash in &known.token_sha256 {
            if let Some((_, first, _)) = self.tokens.iter().find(|(taken, _, _)| taken == hash) {
                let (first, second) = (first.clone(), known.name.clone());
                return Err(SettingsError::Shared { first, second, what: "token" });
            }
            self.tokens.push((*hash, known.name.clone(), known.kind));
        }
        Ok(())
    }
}
