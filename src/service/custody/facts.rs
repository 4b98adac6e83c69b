//! What must still be true when a proposal is carried out? The rules, the people, and what is about to change, each by a
//! digest: a keyring that somebody changed since is another one than people agreed about.

use std::collections::BTreeMap;

use crate::ceremony::action::{Action, Parameters};
use crate::ceremony::proposal::Preconditions;
use crate::control::custody::{Effect, effect};
use crate::keyring::KeyringView;

use super::super::data::unavailable;
use super::super::{Refusal, Service};
use super::desk::Custody;

impl Service {
    /// The preconditions as they are now, for a proposal of this action about these things.
    pub(super) async fn preconditions(
        &self,
        custody: &Custody,
        action: Action,
        parameters: &Parameters,
    ) -> Result<Preconditions, Refusal> {
        let mut targets = BTreeMap::new();
        if let Ok(Effect::Unlock(what)) = effect(action.name(), parameters) {
            let lock = self.locks_now().await?.digest(&what);
            targets.insert(format!("lock:{what}"), lock.unwrap_or_else(absent));
        } else if let Some(name) = action.keyring(parameters) {
            let view = self.keyrings.find(&name).await.map_err(|error| unavailable(&error))?;
            targets.insert(format!("keyring:{name}"), view.map_or_else(absent, |view| digest_of(&view)));
        }
        Ok(Preconditions {
            roster: hex::encode(custody.roster.digest()),
            separation: hex::encode(custody.separation.digest()),
            policy: hex::encode(self.policy.load().digest()),
            settings: custody.settings_digest(),
            targets,
        })
    }
}

/// Stands for a keyring that is not there.
fn absent() -> String {
    "0".repeat(64)
}

/// The row of a keyring changes with everything that happens to it but its use: its name and generation say which it is.
/// A partition that is made in passing changes the row too, and nothing that anybody decides about.
fn digest_of(view: &KeyringView) -> String {
    let versions: Vec<String> =
        view.versions.iter().map(|one| format!("{}={}@{}", one.id, one.state.name(), one.since.0)).collect();
    let lookups: Vec<String> = view
        .lookups
        .iter()
        .flat_map(|lookup| {
            lookup
                .versions
                .iter()
                .map(move |one| format!("{}:{}={}", lookup.name, one.number, one.version.state.name()))
        })
        .collect();
    let text = format!("{}\n{}\n{}\n{:?}", view.name, versions.join(","), lookups.join(","), view.limits);
    hex::encode(crate::keyring::documents::digest(&["keyward/target/v1\0", &text]))
}
