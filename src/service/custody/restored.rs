//! Which copies of the store do custodians answer for? Backups are made as long as they say, and a store that was put back is
//! held until they say that it is the one: grants and ceremonies of the time before it may have ended in the store that was
//! lost, so all of them end.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::{Event, Restored};
use crate::ceremony::machine::Ceremony;
use crate::clock::Wall;
use crate::control::custody::Effect;
use crate::keyring::documents::{BACKUPS, DocumentWrite, RESTORES, restore_name, roster_name};

use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::desk::{Custody, broken};
use super::execute::Deed;
use super::grants::name_of;
use super::revoke::next;
use super::view::time;

/// What the document of an approved restore says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approved {
    at: u64,
    backup: String,
    ceremony: String,
    /// Where the chain ended when it was put back, so that a sidecar of the fleet that only declared it in place knows it.
    head: String,
    schema: u32,
}

impl Service {
    /// The digests and heads of the restores that were approved.
    pub(super) async fn approved_restores(&self) -> Result<BTreeSet<String>, Refusal> {
        let mut known = BTreeSet::new();
        for document in self.keyrings.documents(RESTORES).await.map_err(|error| unavailable(&error))? {
            let approved: Approved =
                serde_json::from_str(&document.body).map_err(|error| broken(&document.name, &error))?;
            known.extend([approved.backup, approved.head]);
        }
        Ok(known)
    }

    /// The restore that the log tells of, as long as custodians have not approved it.
    pub(super) fn unapproved(&self, custody: &Custody) -> Option<&Restored> {
        let restored = self.custody_settings.restored.as_ref()?;
        let known = |name: &String| custody.restores.contains(name);
        (!known(&restored.digest) && !known(&restored.head)).then_some(restored)
    }

    /// Why this may not be carried out while the sidecar is held. What was put back comes first: what waits in it may have
    /// happened already.
    pub(super) fn held_against(&self, effect: &Effect, custody: &Custody) -> Option<Arc<String>> {
        let why = self.held()?;
        let may = match self.unapproved(custody) {
            Some(_) => matches!(effect, Effect::Restore(_)),
            None => matches!(effect, Effect::Settings(_)),
        };
        (!may).then_some(why)
    }

    /// The restore from this backup, if this sidecar waits for its approval.
    pub(super) fn awaited(&self, custody: &Custody, backup: &[u8; 32]) -> Result<&Restored, Refusal> {
        let found = self.unapproved(custody).filter(|restored| restored.digest == hex::encode(backup));
        let none = || {
            let why = "this sidecar does not wait for the approval of a restore from that backup: `keyward custody show` \
                       says what it waits for";
            Refusal::because(Code::CeremonyState, why)
        };
        found.ok_or_else(none)
    }

    /// What lets a store that was put back serve: its approval, another roster, by which every proposal of before is
    /// superseded, and the end of every grant.
    pub(super) fn put_back(&self, custody: &Custody, backup: &[u8; 32], ceremony: &Ceremony) -> Result<Deed, Refusal> {
        let restored = self.awaited(custody, backup)?;
        let (id, now) = (ceremony.proposal().ceremony.to_string(), self.wall()?);
        let roster = next(&custody.roster, &id);
        let facts = vec![("backup_digest", restored.digest.clone()), ("roster", hex::encode(roster.digest()))];
        let (backup_digest, head) = (restored.digest.clone(), restored.head.clone());
        let approved = Approved { at: now.0, backup: backup_digest, ceremony: id, head, schema: 1 };
        let mut writes = vec![
            DocumentWrite { name: restore_name(backup), expect: 0, body: canonical(&approved)? },
            DocumentWrite { name: roster_name(roster.generation), expect: 0, body: roster.canonical() },
        ];
        for known in &custody.grants {
            // What has ended by itself stays as it is.
            let Ok(ended) = known.grant.end(ceremony.proposal().initiator.clone(), "restored", now) else { continue };
            writes.push(DocumentWrite { name: name_of(&ended), expect: known.generation, body: ended.body() });
        }
        Ok(Deed::new(Event::RestoreApproved, writes, facts))
    }

    /// What lets backups be made: the newest approval is the one that counts.
    pub(super) fn backups_allowed(
        &self,
        custody: &Custody,
        (place, days): (&str, u32),
        id: &str,
    ) -> Result<Deed, Refusal> {
        let until = Wall(self.wall()?.0.saturating_add(u64::from(days).saturating_mul(DAY)));
        let body = serde_json::json!({ "ceremony": id, "place": place, "schema": 1, "until": until.0 }).to_string();
        let write = DocumentWrite { name: BACKUPS.to_owned(), expect: custody.backups_generation, body };
        let facts = vec![("not_after", time(until)), ("place", place.to_owned())];
        Ok(Deed::new(Event::BackupApproved, vec![write], facts))
    }
}

/// Why nothing goes on, and what lets it.
pub(super) fn restored_in_words(Restored { digest, .. }: &Restored) -> String {
    format!(
        "the store was put back, and what happened since its backup may not happen twice: the custodians approve it first, \
         `keyward ceremony propose store.restore --set backup={digest}`"
    )
}

/// Sorted keys, as every document.
fn canonical(document: &impl Serialize) -> Result<String, Refusal> {
    let value = serde_json::to_value(document).map_err(|_| Refusal::from(Code::Internal))?;
    Ok(value.to_string())
}

/// In microseconds.
const DAY: u64 = 86_400_000_000;
