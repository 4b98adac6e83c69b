//! Which configured principal do these credentials prove?

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::clock::{BoxFuture, SharedClock, Wall};
use crate::crypto::constant_time_eq;
use crate::names::{Name, PrincipalName};
use crate::secret::SecretBytes;

use super::jwt::{self, JwtSubject, Providers};
use super::{Credentials, Door, IdentityError, KnownPrincipal, Principal, PrincipalKind, Proof, Settings};
use super::{SpiffeId, Svid, token};

/// Old and new: a token is replaced without a gap, and no third one is forgotten.
const MAX_TOKENS: usize = 2;

/// Recognises callers.
pub struct Authenticator {
    uids: HashMap<(Door, u32), (PrincipalName, PrincipalKind)>,
    tokens: Vec<([u8; 32], PrincipalName, PrincipalKind)>,
    /// An id or subject stands for one principal at both doors: people and services share none.
    workloads: HashMap<SpiffeId, (PrincipalName, PrincipalKind)>,
    subjects: HashMap<JwtSubject, (PrincipalName, PrincipalKind)>,
    providers: Arc<Providers>,
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
        /// `uid`, `token`, `SPIFFE id` or `subject`.
        what: &'static str,
    },
    /// More than two tokens.
    #[error("{0} has more than two tokens")]
    TooManyTokens(PrincipalName),
    /// One name stands for two principals: a person and a service would share it.
    #[error("{0} is configured twice")]
    Duplicate(PrincipalName),
    /// A subject of a provider that is not configured.
    #[error("{0} has a subject of the provider {1}, which is not configured")]
    NoProvider(PrincipalName, Name),
    /// A token could not say whose it is.
    #[error("the providers {0} and {1} have the same issuer")]
    SharedIssuer(Name, Name),
}

impl Authenticator {
    /// Checks the settings: a name, uid, token, SPIFFE id or subject claimed twice is refused.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        distinct_issuers(&settings.jwt)?;
        let mut built = Self {
            uids: HashMap::new(),
            tokens: Vec::new(),
            workloads: HashMap::new(),
            subjects: HashMap::new(),
            providers: Arc::new(Providers::new(&settings.jwt)),
        };
        for (at, known) in settings.principals.iter().enumerate() {
            if settings.principals.iter().take(at).any(|earlier| earlier.name == known.name) {
                return Err(SettingsError::Duplicate(known.name.clone()));
            }
            built.claim_uids(known)?;
            built.claim_tokens(known)?;
            built.claim_workloads(known)?;
            built.claim_subjects(known, &settings.jwt)?;
        }
        Ok(built)
    }

    /// Recognises a caller at a door, in time that does not depend on which token is nearly right. At the data door
    /// only services are known, at the control door only people.
    pub fn authenticate(&self, door: Door, credentials: &Credentials, now: Wall) -> Result<Principal, IdentityError> {
        match credentials {
            Credentials::None => Err(IdentityError::Missing),
            Credentials::Untrusted(why) => Err(IdentityError::Untrusted(why)),
            Credentials::Peer { uid, .. } => {
                let (name, kind) = self.uids.get(&(door, *uid)).ok_or(IdentityError::Unknown)?;
                Ok(Principal::mint(name.clone(), *kind, Proof::Peer { uid: *uid }))
            }
            Credentials::Bearer(text) => self.bearer(door, text, now),
            Credentials::Certificate { svid, .. } if svid.not_after() < now => Err(IdentityError::CertificateExpired),
            Credentials::Certificate { bearer: Some(text), .. } => self.bearer(door, text, now),
            Credentials::Certificate { svid, bearer: None } => self.workload(door, svid),
        }
    }

    /// If credentials may be somebody's once an issuer's keys were looked at again: looks, and resolves when it has.
    pub fn learn(&self, credentials: &Credentials, clock: &SharedClock) -> Option<BoxFuture<'static, ()>> {
        match credentials {
            Credentials::Bearer(text) | Credentials::Certificate { bearer: Some(text), .. }
                if self.is_jwt(text.expose()) =>
            {
                self.providers.learn(text.expose(), clock)
            }
            _ => None,
        }
    }

    /// The issuers, whose keys somebody must keep fresh.
    pub fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.providers)
    }

    fn is_jwt(&self, text: &[u8]) -> bool {
        !self.providers.is_empty() && jwt::looks_like(text)
    }

    fn bearer(&self, door: Door, text: &SecretBytes, now: Wall) -> Result<Principal, IdentityError> {
        if self.is_jwt(text.expose()) {
            let who = self.providers.verify(text.expose(), now)?;
            let (name, kind) = known_at(door, self.subjects.get(&who))?;
            return Ok(Principal::mint(name, kind, Proof::Jwt { who }));
        }
        let offered = token::hash(text.expose()).ok_or(IdentityError::Unknown)?;
        let (name, kind) = self.bearer_of(door, &offered).ok_or(IdentityError::Unknown)?;
        Ok(Principal::mint(name.clone(), *kind, Proof::Token))
    }

    fn workload(&self, door: Door, svid: &Svid) -> Result<Principal, IdentityError> {
        let (name, kind) = known_at(door, self.workloads.get(svid.id()))?;
        Ok(Principal::mint(name, kind, Proof::Mtls { spiffe: svid.id().clone() }))
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

    fn claim_workloads(&mut self, known: &KnownPrincipal) -> Result<(), SettingsError> {
        known.spiffe.iter().try_for_each(|id| claim(&mut self.workloads, id, known, "SPIFFE id"))
    }

    fn claim_subjects(
        &mut self,
        known: &KnownPrincipal,
        providers: &[jwt::ProviderSettings],
    ) -> Result<(), SettingsError> {
        for subject in &known.jwt {
            if !providers.iter().any(|provider| provider.name == subject.provider) {
                return Err(SettingsError::NoProvider(known.name.clone(), subject.provider.clone()));
            }
            claim(&mut self.subjects, subject, known, "subject")?;
        }
        Ok(())
    }
}

/// Whoever is known comes through the door of their kind alone.
fn known_at(
    door: Door,
    found: Option<&(PrincipalName, PrincipalKind)>,
) -> Result<(PrincipalName, PrincipalKind), IdentityError> {
    found.filter(|(_, kind)| Door::of(*kind) == door).cloned().ok_or(IdentityError::Unknown)
}

fn claim<K: Hash + Eq + Clone>(
    taken: &mut HashMap<K, (PrincipalName, PrincipalKind)>,
    key: &K,
    known: &KnownPrincipal,
    what: &'static str,
) -> Result<(), SettingsError> {
    match taken.entry(key.clone()) {
        Entry::Vacant(free) => {
            free.insert((known.name.clone(), known.kind));
            Ok(())
        }
        Entry::Occupied(of) => {
            Err(SettingsError::Shared { first: of.get().0.clone(), second: known.name.clone(), what })
        }
    }
}

fn distinct_issuers(providers: &[jwt::ProviderSettings]) -> Result<(), SettingsError> {
    for (at, provider) in providers.iter().enumerate() {
        if let Some(other) = providers.iter().take(at).find(|other| other.issuer == provider.issuer) {
            return Err(SettingsError::SharedIssuer(other.name.clone(), provider.name.clone()));
        }
    }
    Ok(())
}
