//! Which copies of the store do custodians answer for? Backups are made as long as they say, and a store that was put back is
//! held until they say that it is the one: grants and ceremonies of the time before it may have ended in the store that was
//! lost, so all of them end.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::audit::{Event, Restored};
use crate::ceremony::copies::{BackupLeave, RestoreLeave};
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

impl Service {
    /// The digests and heads of the restores that were approved.
    pub(super) async fn approved_restores(&self) -> Result<BTreeSet<String>, Refusal> {
        let mut known = BTreeSet::new();
        for document in self.keyrings.documents(RESTORES).await.map_err(|error| unavailable(&error))? {
            let leave = RestoreLeave::parse(&document.body).map_err(|error| broken(&document.name, &error))?;
            known.extend([hex::encode(leave.backup), leave.head]);
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
        let (proposal, now) = (ceremony.proposal(), self.wall()?);
        let roster = next(&custody.roster, proposal.ceremony.as_str());
        let facts = vec![("backup_digest", restored.digest.clone()), ("roster", hex::encode(roster.digest()))];
        let leave = RestoreLeave::of(proposal.ceremony.clone(), *backup, restored.head.clone(), now);
        let mut writes = vec![
            DocumentWrite { name: restore_name(backup), expect: 0, body: leave.body() },
            DocumentWrite { name: roster_name(roster.generation), expect: 0, body: roster.canonical() },
        ];
        for known in &custody.grants {
            // What has ended by itself stays as it is.
            let Ok(ended) = known.grant.end(proposal.initiator.clone(), "restored", now) else { continue };
            writes.push(DocumentWrite { name: name_of(&ended), expect: known.generation, body: ended.body() });
        }
        Ok(Deed::new(Event::RestoreApproved, writes, facts))
    }

    /// What lets backups be made: the newest approval is the one that counts.
    pub(super) fn backups_allowed(
        &self,
        custody: &Custody,
        (place, days): (&str, u32),
        ceremony: &Ceremony,
    ) -> Result<Deed, Refusal> {
        let leave = BackupLeave::of(ceremony.proposal().ceremony.clone(), place, days, self.wall()?);
        let facts = vec![("not_after", time(Wall(leave.until))), ("place", place.to_owned())];
        let write = DocumentWrite { name: BACKUPS.to_owned(), expect: custody.backups_generation, body: leave.body() };
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
