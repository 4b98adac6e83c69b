//! What is known of custody now? Read from the store's documents, kept until one of them changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::ceremony::grant::Grant;
use crate::clock::Mono;
use crate::control::guarded::Guarded;
use crate::keyring::Environment;
use crate::keyring::documents::{
    BACKUPS, COUNTERS, Document, GRANTS, KEKS, ROSTERS, SEPARATIONS, SETTINGS, kek_name, roster_name, separation_name,
};
use crate::names::KekName;
use crate::policy::approval;
use crate::policy::roster::Roster;
use crate::policy::separation::Separation;

use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::grants::Known;
use super::unfounded;

/// Custody as the store has it.
pub struct Custody {
    /// The newest roster.
    pub(super) roster: Roster,
    /// The rules.
    pub(super) separation: Arc<Separation>,
    /// The last counter of each hardware key, by its fingerprint.
    pub(super) counters: BTreeMap<String, u32>,
    pub(super) counters_generation: u64,
    /// Grants, by the ids of their ceremonies.
    pub(super) grants: Vec<Known>,
    /// The approved settings, as their document says them.
    settings: String,
    pub(super) settings_generation: u64,
    /// Names of the documents that are written once: rules, and versions of key-encryption keys.
    once: BTreeSet<String>,
    /// What restores were approved: digests of what they were from, and where the chain ended with each.
    pub(super) restores: BTreeSet<String>,
    pub(super) backups_generation: u64,
    /// Whether it is to rehearse with.
    pub(super) rehearsal: bool,
}

impl Custody {
    /// The namespace of signatures.
    pub(super) const fn namespace(&self) -> &'static str {
        approval::namespace(!self.rehearsal)
    }

    /// The digest of the approved settings, hexadecimal; empty where there are none.
    pub(super) fn settings_digest(&self) -> String {
        let settings: serde_json::Value = serde_json::from_str(&self.settings).unwrap_or_default();
        settings.get("settings").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    /// The approved settings by name, where they are known.
    pub(super) fn settings_known(&self) -> BTreeMap<String, String> {
        let settings: serde_json::Value = serde_json::from_str(&self.settings).unwrap_or_default();
        settings.get("known").and_then(|known| serde_json::from_value(known.clone()).ok()).unwrap_or_default()
    }

    /// What every count rests on: that no roster follows this one, and that the settings are those.
    pub(super) fn rests_on(&self) -> Vec<(String, u64)> {
        let next = roster_name(self.roster.generation.saturating_add(1));
        vec![(next, 0), (SETTINGS.to_owned(), self.settings_generation)]
    }

    /// Whether the store holds these rules.
    pub(super) fn has_rules(&self, digest: &[u8; 32]) -> bool {
        self.once.contains(&separation_name(digest))
    }

    /// Whether a version of a key-encryption key was admitted.
    pub(super) fn has_admitted(&self, kek: &KekName, version: u32) -> bool {
        self.once.contains(&kek_name(kek, version))
    }

    /// The last counter of a key.
    pub(super) fn counter(&self, fingerprint: &str) -> Option<u32> {
        self.counters.get(fingerprint).copied()
    }
}

impl Service {
    /// Custody as it is now; a refusal while there are no custodians.
    pub(super) async fn custody(&self) -> Result<Arc<Custody>, Refusal> {
        self.custody_now().await?.ok_or_else(unfounded)
    }

    /// The same; None while there are no custodians.
    pub(in crate::service) async fn custody_now(&self) -> Result<Option<Arc<Custody>>, Refusal> {
        let epoch = self.keyrings.documents_epoch();
        if self.custody_epoch.load(Ordering::Acquire) == epoch {
            return Ok(self.custody.load_full());
        }
        let read = match self.keyrings.in_custody() {
            None => return Err(Refusal::because(Code::Unavailable, "the keyrings are not open yet")),
            Some(false) => None,
            Some(true) => Some(Arc::new(self.read_custody().await?)),
        };
        self.custody.store(read.clone());
        self.custody_epoch.store(epoch, Ordering::Release);
        if let Some(custody) = &read {
            self.set_approved_policy(custody.settings_known().get("policy").and_then(|digest| digest_of(digest)));
        }
        // A decision that was kept may rest on a grant or a person that is there no more.
        self.policy.load().advance_epoch();
        Ok(read)
    }

    async fn read_custody(&self) -> Result<Custody, Refusal> {
        let newest = self.rosters().await?.pop().ok_or_else(unfounded)?;
        let roster = Roster::parse(&newest.body).map_err(|error| broken(&newest.name, &error))?;
        let separation = self.separation(&roster.separation).await?;
        let counters = self.keyrings.document(COUNTERS).await.map_err(|error| unavailable(&error))?;
        let (mut grants, before) = (Vec::new(), self.custody.load_full());
        for document in self.keyrings.documents(GRANTS).await.map_err(|error| unavailable(&error))? {
            // A grant that cannot be read gives nothing, and takes nothing else away.
            let Ok(grant) = Grant::parse(&document.body) else {
                tracing::error!(name = document.name, "a grant cannot be read");
                continue;
            };
            let since = before.as_ref().and_then(|before| self.first_seen(before, &grant));
            grants.push(Known { generation: document.generation, grant, since });
        }
        let mut once = BTreeSet::new();
        for folder in [SEPARATIONS, KEKS] {
            let there = self.keyrings.documents(folder).await.map_err(|error| unavailable(&error))?;
            once.extend(there.into_iter().map(|document| document.name));
        }
        let settings = self.keyrings.document(SETTINGS).await.map_err(|error| unavailable(&error))?;
        let backups = self.keyrings.document(BACKUPS).await.map_err(|error| unavailable(&error))?;
        let (counters_generation, counters) = match counters {
            Some(Document { generation, body, name }) => {
                (generation, serde_json::from_str(&body).map_err(|error| broken(&name, &error))?)
            }
            None => (0, BTreeMap::new()),
        };
        Ok(Custody {
            roster,
            separation,
            counters,
            counters_generation,
            grants,
            settings_generation: settings.as_ref().map_or(0, |document| document.generation),
            settings: settings.map(|document| document.body).unwrap_or_default(),
            once,
            restores: self.approved_restores().await?,
            backups_generation: backups.map_or(0, |document| document.generation),
            rehearsal: self.custody_settings.environment == Environment::Development,
        })
    }

    /// The rules that a roster was checked against, as custodians approved them; where an older keyward kept only their
    /// digest, those of the file, if they are those.
    pub(super) async fn separation(&self, digest: &[u8; 32]) -> Result<Arc<Separation>, Refusal> {
        let name = separation_name(digest);
        let document = self.keyrings.document(&name).await.map_err(|error| unavailable(&error))?;
        let known = match document {
            Some(document) => Some(Separation::load(&document.body).map_err(|error| broken(&name, &error))?),
            None => self.custody_settings.separation.clone(),
        };
        known.filter(|known| known.digest() == *digest).ok_or_else(|| {
            let why = "the separation file is not the one that the custodians approved: put it back";
            Refusal::because(Code::Unavailable, why)
        })
    }

    /// Since when this process knows a grant: a clock that never jumps counts from there.
    fn first_seen(&self, before: &Custody, grant: &Grant) -> Option<(Mono, Duration)> {
        if let Some(known) = before.grants.iter().find(|known| known.grant.ceremony == grant.ceremony) {
            return known.since;
        }
        let lived = self.keyrings.time()?.wall.0.saturating_sub(grant.since);
        Some((self.clock.mono(), Duration::from_micros(lived)))
    }

    /// Every roster, oldest first.
    pub(super) async fn rosters(&self) -> Result<Vec<Document>, Refusal> {
        self.keyrings.documents(ROSTERS).await.map_err(|error| unavailable(&error))
    }
}

/// What the document of approved settings says.
pub(super) fn settings_body(settings: &Guarded, by: &str) -> String {
    let digest = hex::encode(settings.digest());
    json!({ "by": by, "known": settings.all(), "schema": 1, "settings": digest }).to_string()
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok().map(|()| digest)
}

/// A sealed document that does not say what it should: a defect, or a newer keyward's.
pub(super) fn broken(name: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::because(Code::KeyDamaged, format!("{name} cannot be read: {error}"))
}
