//! The verbs that read: keyrings are listed and shown, the inventory and the log are read. Changes are in `change`.

use crate::audit::{Log, ReadError};
use crate::names::{KeyringName, Tenant};
use crate::policy::{Action, Permit};

use super::account::Account;
use super::data::{refused, unavailable};
use super::{Answer, Asker, Code, Refusal, Service};

/// Records of one answer of `audit tail`.
const MOST_RECORDS: u32 = 1_000;
/// Keyrings of one listing.
const MOST_KEYRINGS: usize = 1_000;

impl Service {
    pub(super) async fn list_keyrings(
        &self,
        after: Option<KeyringName>,
        limit: u32,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let permit = self.permit(Action::KeyringList, None, asker, account)?;
        let limit = usize::try_from(limit).unwrap_or(MOST_KEYRINGS).min(MOST_KEYRINGS);
        let keyrings = self.keyrings.list(&permit, after.as_ref(), limit).await;
        let keyrings = keyrings.map_err(|error| unavailable(&error))?;
        let full = keyrings.len() == limit;
        let next = keyrings.last().filter(|_| full).map(|view| view.name.clone());
        Ok(Answer::Keyrings { keyrings, next, damaged: self.keyrings.damage() })
    }

    pub(super) async fn show_keyring(
        &self,
        name: &KeyringName,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.keyring(name);
        let _permit: Permit = self.permit(Action::KeyringShow, Some(name), asker, account)?;
        let found = self.keyrings.find(name).await.map_err(|error| unavailable(&error))?;
        found.map(Answer::Keyring).ok_or_else(|| Code::Denied.into())
    }

    pub(super) async fn read_audit(
        &self,
        from: Option<u64>,
        limit: u32,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let _permit: Permit = self.permit(Action::AuditRead, None, asker, account)?;
        let limit = limit.clamp(1, MOST_RECORDS);
        let committed = *self.log.committed().borrow();
        let from = from.unwrap_or_else(|| committed.saturating_sub(u64::from(limit)));
        let log = self.log.clone();
        let read = move || log.read(from, limit as usize);
        let records = tokio::task::spawn_blocking(read).await.map_err(|_| Code::Internal)?;
        let records = records.map_err(|error| Refusal::because(Code::Unavailable, error.to_string()))?;
        let text = |(index, bytes)| Some((index, String::from_utf8(bytes).ok()?));
        let records: Vec<(u64, String)> = records.into_iter().filter_map(text).collect();
        let next = records.last().map_or(from, |(index, _)| index.saturating_add(1));
        Ok(Answer::Records { records, next })
    }

    /// Looks for a subject among some records. Who asked is recorded with the same pseudonym, so that questions about a patient
    /// can themselves be asked for.
    pub(super) async fn look_up_subject(
        &self,
        (tenant, subject): &(Tenant, String),
        from: u64,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let _permit: Permit = self.permit(Action::AuditLookup, None, asker, account)?;
        let waiting =
            || Refusal::because(Code::Unavailable, "the keyrings are not open, and pseudonyms need a key of theirs");
        let pseudonym = self.keyrings.pseudonym(tenant, subject).ok_or_else(waiting)?;
        account.subjects.push(pseudonym);
        let log = self.log.clone();
        let found = tokio::task::spawn_blocking(move || search(&log, &hex::encode(pseudonym), from)).await;
        let (records, next) = found
            .map_err(|_| Code::Internal)?
            .map_err(|error| Refusal::because(Code::Unavailable, error.to_string()))?;
        Ok(Answer::Records { records, next })
    }

    pub(super) async fn read_inventory(
        &self,
        after: Option<KeyringName>,
        limit: u32,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let permit = self.permit(Action::InventoryRead, None, asker, account)?;
        let limit = usize::try_from(limit).unwrap_or(MOST_KEYRINGS).min(MOST_KEYRINGS);
        let keyrings = self.keyrings.inventory(&permit, after.as_ref(), limit).await;
        let keyrings = keyrings.map_err(|error| unavailable(&error))?;
        let full = keyrings.len() == limit;
        let next = keyrings.last().filter(|_| full).map(|(view, _)| view.name.clone());
        let (now, damaged) = (self.clock.wall(), self.keyrings.damage());
        Ok(Answer::Inventory { keyrings, next, now, damaged })
    }

    pub(super) fn permit(
        &self,
        action: Action,
        keyring: Option<&KeyringName>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Permit, Refusal> {
        let ask = self.ask(action, keyring, &[], None, asker);
        asker.policy.decide(&ask).map_err(|denial| refused(&denial, account))
    }
}

/// Records that one look-up looks at: a fraction of a second.
const LOOKED_AT: u64 = 100_000;
/// Records that are read at once.
const PAGE: usize = 4_096;

/// The records that name a pseudonym, and the index after the last one that was looked at. A pseudonym stands nowhere else:
/// 128 bits of a keyed hash between quotes.
fn search(log: &Log, pseudonym: &str, from: u64) -> Result<(Vec<(u64, String)>, u64), ReadError> {
    let (quoted, mut next, mut found) = (format!("\"{pseudonym}\""), from, Vec::new());
    while next < from.saturating_add(LOOKED_AT) && found.len() < MOST_RECORDS as usize {
        let page = log.read(next, PAGE)?;
        if page.is_empty() {
            break;
        }
        for (index, bytes) in page {
            next = index.saturating_add(1);
            found.extend(String::from_utf8(bytes).ok().filter(|text| text.contains(&quoted)).map(|text| (index, text)));
            if found.len() >= MOST_RECORDS as usize {
                break;
            }
        }
    }
    Ok((found, next))
}
