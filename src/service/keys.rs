//! The verbs that read: keyrings are listed and shown, the inventory and the log are read. Changes are in `change`.

use crate::names::KeyringName;
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
