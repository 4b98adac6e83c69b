//! What has to be rotated because somebody left? Every keyring that the person took part in deciding about, within a day for
//! cause and within seven otherwise. Computed each time from the rosters and ceremonies: a rotation since then fulfils it,
//! and nothing else does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Wall;
use crate::keyring::documents::CEREMONIES;
use crate::names::KeyringName;
use crate::policy::approval::Decision;

use super::super::data::unavailable;
use super::super::{Refusal, Service};
use super::course::readable;
use super::desk::Custody;
use super::view::{DutyView, time};

impl Service {
    /// Rotations that are still to be done.
    pub(super) async fn duties(&self, custody: &Arc<Custody>) -> Result<Vec<DutyView>, Refusal> {
        let gone = gone(custody);
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let reach = self.reach().await?;
        let now = self.wall()?;
        let mut duties = Vec::new();
        for (person, (since, reason)) in gone {
            for keyring in reach.get(&person).into_iter().flatten() {
                let view = self.keyrings.find(keyring).await.map_err(|error| unavailable(&error))?;
                let active = view.as_ref().and_then(|view| view.active()).and_then(|active| active.activated);
                if active.is_none_or(|activated| activated >= since) {
                    continue;
                }
                let due = Wall(since.0.saturating_add(within(&reason)));
                duties.push(DutyView {
                    keyring: keyring.to_string(),
                    because: format!("{person} left ({reason})"),
                    since: time(since),
                    due: time(due),
                    overdue: now >= due,
                    propose: format!(
                        "keyward ceremony propose keyring.rotate --set keyring={keyring} --set trigger=personnel --reason personnel"
                    ),
                });
            }
        }
        Ok(duties)
    }

    /// The keyrings that each person took part in deciding about.
    async fn reach(&self) -> Result<BTreeMap<String, BTreeSet<KeyringName>>, Refusal> {
        let mut reach: BTreeMap<String, BTreeSet<KeyringName>> = BTreeMap::new();
        for document in self.keyrings.documents(CEREMONIES).await.map_err(|error| unavailable(&error))? {
            let Some(ceremony) = readable(&document) else { continue };
            let Some(keyring) = ceremony.proposal().keyring() else { continue };
            for decision in ceremony.decisions().iter().filter_map(|one| Decision::parse(&one.text).ok()) {
                reach.entry(decision.person.to_string()).or_default().insert(keyring.clone());
            }
        }
        Ok(reach)
    }
}

/// People none of whose keys counts any more, since when and why.
fn gone(custody: &Custody) -> BTreeMap<String, (Wall, String)> {
    let mut gone = BTreeMap::new();
    for member in custody.roster.members.iter().filter(|member| !member.is_active()) {
        let last = member.credentials.iter().filter_map(|held| held.revoked.as_ref()).max_by_key(|revoked| revoked.at);
        if let Some(last) = last {
            gone.insert(member.person.to_string(), (last.at, last.reason.clone()));
        }
    }
    gone
}

/// In microseconds.
fn within(reason: &str) -> u64 {
    const DAY: u64 = 86_400_000_000;
    if matches!(reason, "for-cause" | "lost-token" | "suspicion") { DAY } else { 7 * DAY }
}
