//! The control verbs: keyrings are made, listed and shown, the log is read. Changes write their intent first.

use std::sync::Arc;

use crate::audit::{Event, Group, Outcome, Record, Source};
use crate::clock::Deadline;
use crate::control;
use crate::keyring::ApplyError;
use crate::names::KeyringName;
use crate::policy::{Action, Permit};

use super::account::Account;
use super::data::{refused, unavailable};
use super::{Answer, Asker, Code, CreateKeyring, Refusal, Service};

/// Records of one answer of `audit tail`.
const MOST_RECORDS: u32 = 1_000;
/// Keyrings of one listing.
const MOST_KEYRINGS: usize = 1_000;

impl Service {
    /// Intent, change, outcome. If we stop after the intent, the restart finds it open and settles it.
    pub(super) async fn create_keyring(
        &self,
        create: CreateKeyring,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.keyring(&create.name);
        let permit = self.permit(Action::KeyringCreate, Some(&create.name), asker, account)?;
        let authority = self.policy.load().founding(permit).map_err(|denial| refused(&denial, account))?;
        let change = control::creation(create).map_err(|detail| Refusal::because(Code::MalformedRequest, detail))?;
        let found = self.keyrings.find(change.keyring()).await;
        if found.map_err(|error| unavailable(&error))?.is_some() {
            return Err(Code::KeyringExists.into());
        }
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(asker.deadline);
        let intent = self.log.intent(intent_record(account, asker, change.keyring()), by).await;
        let intent = intent.map_err(|error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        })?;
        account.intent = Some(intent.index());
        account.intended = true;
        let applied = self.keyrings.apply(&change, &authority, intent).await;
        if matches!(applied, Err(ApplyError::Unsettled(_))) {
            // Nobody knows yet whether it happened: the intent stays open for the restart, this record does not close it.
            account.intent = None;
        }
        let applied = applied.map_err(change_refused)?;
        let view = Arc::new(applied.keyring);
        account.versions(&view);
        account.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        Ok(Answer::Keyring(view))
    }

    pub(super) async fn list_keyrings(&self, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let permit = self.permit(Action::KeyringList, None, asker, account)?;
        let listed = self.keyrings.list(&permit, None, MOST_KEYRINGS).await;
        listed.map(Answer::Keyrings).map_err(|error| unavailable(&error))
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

    pub(super) fn permit(
        &self,
        action: Action,
        keyring: Option<&KeyringName>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Permit, Refusal> {
        let ask = self.ask(action, keyring, &[], None, asker);
        self.policy.load().decide(&ask).map_err(|denial| refused(&denial, account))
    }
}

fn intent_record(account: &Account, asker: &Asker<'_>, keyring: &KeyringName) -> Record {
    Record {
        event: Event::KeyCreated,
        outcome: Outcome::Intent,
        reason: None,
        actor: account.actor(),
        source: Source::ControlSocket,
        request: Some(asker.request.clone()),
        purpose: None,
        groups: vec![Group { keyring: keyring.clone(), version: None, done: 0, failed: Vec::new() }],
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: account.policy,
        intent: None,
        facts: vec![("authority", "founding".to_owned())],
    }
}

pub(super) fn change_refused(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Exists(_) => Code::KeyringExists.into(),
        ApplyError::NotCovered => Code::Denied.into(),
        ApplyError::Invalid(why) => Refusal::because(Code::MalformedRequest, why),
        ApplyError::InState(why) | ApplyError::Superseded(why) => Refusal::because(Code::KeyState, why),
        ApplyError::Unavailable(why) | ApplyError::Unsettled(why) | ApplyError::Tampered(why) => {
            Refusal::because(Code::Unavailable, why)
        }
        ApplyError::Refused(why) => Refusal::because(Code::Denied, why),
        ApplyError::Founded | ApplyError::NotFounded => Code::Internal.into(),
    }
}
