//! What does the server say of the key, and which versions of it are there? Newer ones are noticed, retired ones are told.
//! This module never judges a server that does not answer: the canary does.

use std::time::Duration;

use crate::clock::Mono;
use crate::kek::breaker::part_of;
use crate::kek::{KekEvent, KekFacts, KekHealth};

use super::api::{self, KeyInfo};
use super::fault::{Fault, Setback};
use super::keeper::{Keeper, late};
use super::session::Session;
use super::settings::TransitSettings;

impl Keeper {
    pub(super) async fn read_key(&self, session: &Session) -> Result<KeyInfo, Setback> {
        let (mount, key) = (&self.settings.mount, &self.settings.key);
        let read = api::read_key(&session.caller, &self.settings);
        self.limited(read, late()).await.map_err(|fault| match fault {
            Fault::Gone(detail) => Setback::Denied(format!("there is no key {key} at {mount}: {detail}")),
            Fault::Forbidden(detail) => {
                Setback::Denied(format!("the policies must allow reading {mount}/keys/{key}: {detail}"))
            }
            other => other.setback(),
        })
    }

    /// An operator has raised min_decryption_version: what older versions wrapped serves no longer, cached or not.
    pub(super) fn retire_versions(&self, info: &KeyInfo) {
        let min = info.min_decryption_version;
        if !self.board.is_admitted() || min <= self.board.min_decryption_version() {
            return;
        }
        self.board.worsen(KekHealth::Denied);
        let detail = format!("min_decryption_version is {min} now: wraps of older versions no longer open");
        self.events.emit(KekEvent::Refused { kek: self.settings.name.clone(), detail });
        let mut held = self.held();
        if held.canary.as_ref().is_some_and(|canary| canary.blob.version() < min) {
            held.canary = None;
        }
    }

    /// Whether the key was rotated at the server. New wraps are by its newest version anyway; this is how keyward learns
    /// that older ones are behind.
    pub(super) async fn look_for_newer(&self, session: &Session) {
        // A failure is for the canary to judge.
        let Ok(info) = self.read_key(session).await else { return };
        let facts = KekFacts { version: self.board.facts().version, ..describe(&self.settings, &info) };
        if self.board.saw_key(facts.clone(), &info) {
            let (kek, version) = (self.settings.name.clone(), info.latest_version);
            let (facts, attributes) = (Box::new(facts), info.lines());
            self.events.emit(KekEvent::Admitted { kek, version, facts, attributes });
        }
    }

    pub(super) fn next_version_look(&self) -> Mono {
        self.clock.mono().plus(LOOK_EVERY - part_of(LOOK_EVERY / 4))
    }
}

/// The key and its place, for records.
pub(super) fn describe(settings: &TransitSettings, info: &KeyInfo) -> KekFacts {
    let place = [settings.namespace.as_deref(), Some(&settings.mount), Some(&settings.key)];
    KekFacts {
        kind: "transit",
        manufacturer: settings.address.host(),
        model: format!("{} version {}", info.kind, info.latest_version),
        key: settings.key.clone(),
        serial: place.into_iter().flatten().collect::<Vec<_>>().join("/"),
        ..KekFacts::default()
    }
}

/// The longest time in which a rotation at the server stays unseen.
const LOOK_EVERY: Duration = Duration::from_secs(60);
