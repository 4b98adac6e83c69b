//! How do the data verbs pass through policy? Items are grouped, each group earns a Permit or fails alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::keyring::{KeyState, KeyringView, UnlockError};
use crate::names::{Context, KeyVersionId, KeyringName, Purpose};
use crate::operations::{self, Permitted};
use crate::policy::{Action, Ask, Denial, DenialReason};

use super::account::Account;
use super::{Answer, Asker, Code, ItemError, Open, Opened, Refusal, Seal, Sealed, Service};

impl Service {
    pub(super) async fn seal(
        &self,
        mut seal: Seal,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.keyring(&seal.keyring);
        let found = self.keyrings.find(&seal.keyring).await;
        let view = found.map_err(|error| unavailable(&error))?.ok_or(Code::Denied)?;
        let contexts = || seal.items.iter().map(|item| item.as_ref().ok().map(|item| (&view, &item.context)));
        self.note_subjects(contexts(), account)?;
        let mut permitted = self.authorise(Action::Seal, None, contexts(), asker, account)?;
        let nothing = permitted.is_empty();
        permitted.retain(|one| self.passes(&one.permit, false, &one.places, &mut seal.items));
        if nothing {
            // Every item is malformed: who may not seal here does not learn even that the keyring exists.
            permitted.push(self.bare_permit(&view.name, asker, account)?);
        }
        if view.partition_key.is_some() {
            let needs = seal.needs(&self.keyrings, &permitted).await;
            self.make_partitions(needs, asker, account).await?;
        }
        let keyring = seal.keyring.clone();
        let results = seal.execute(&self.keyrings, &permitted).await;
        account.items_digest =
            Some(operations::items_digest(results.iter().flatten().map(|sealed| sealed.text.as_bytes())));
        for result in &results {
            account.item(&keyring, result.as_ref().ok().map(|sealed| sealed.version), result.as_ref().err().copied());
        }
        Ok(Answer::Sealed(results.into_iter().map(sealed_answer).collect()))
    }

    pub(super) async fn open(
        &self,
        mut open: Open,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.purpose = open.purpose;
        if open.purpose.is_none() {
            // Asked before any key is looked up, so that the answer says nothing about which keys there are.
            account.denial = Some(DenialReason::PurposeMissing);
            return Err(Code::PurposeMissing.into());
        }
        let located = self.locate(&mut open.items, super::OpenItem::version).await?;
        let contexts = || {
            located.iter().zip(&open.items).map(|(at, item)| match (at, item) {
                (Some((view, _)), Ok(item)) => Some((view, &item.context)),
                _ => None,
            })
        };
        self.note_subjects(contexts(), account)?;
        account.items_digest = Some(operations::items_digest(open.values()));
        let permitted = self.authorise(Action::Open, open.purpose, contexts(), asker, account);
        let permitted = permitted.and_then(|permitted| {
            let asked = open.items.iter().any(Result::is_ok);
            if permitted.is_empty() && asked { Err(Code::Denied.into()) } else { Ok(permitted) }
        });
        let mut permitted = permitted.inspect_err(|_| {
            for (view, version) in located.iter().flatten() {
                account.item(&view.name, Some(*version), Some(ItemError::Denied));
            }
        })?;
        permitted.retain(|one| self.passes(&one.permit, true, &one.places, &mut open.items));
        let permitted = self.with_exceptions(permitted, &located, asker, account);
        let results = open.execute(&self.keyrings, &permitted).await;
        for (at, result) in located.iter().zip(&results) {
            match (at, result.as_ref().err().copied()) {
                (Some((view, version)), failed) => account.item(&view.name, Some(*version), failed),
                (None, Some(error)) => account.orphan(error),
                (None, None) => {}
            }
        }
        Ok(Answer::Opened(results.into_iter().map(opened_answer).collect()))
    }

    /// The keyring of each item's key. An item whose keyring was edited in the store fails alone; a store that is away
    /// fails the request.
    pub(super) async fn locate<T>(
        &self,
        items: &mut [Result<T, ItemError>],
        version: fn(&T) -> KeyVersionId,
    ) -> Result<Vec<Located>, Refusal> {
        let mut located = Vec::with_capacity(items.len());
        for item in items {
            let Ok(id) = item.as_ref().map(version) else {
                located.push(None);
                continue;
            };
            match self.keyrings.locate(id).await {
                Ok(view) => located.push(view.map(|view| (view, id))),
                Err(UnlockError::Tampered) => {
                    *item = Err(ItemError::KeyDamaged);
                    located.push(None);
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Ok(located)
    }

    /// One decision per group of items that share keyring and policy-relevant context. Items without a context (refused
    /// already, or of an unknown key) are in no group and so get no permit. If nothing at all is permitted, the whole
    /// request is denied; an unknown key and a forbidden keyring are the same.
    fn authorise<'a>(
        &self,
        action: Action,
        purpose: Option<Purpose>,
        items: impl Iterator<Item = Option<(&'a Arc<KeyringView>, &'a Context)>>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Vec<Permitted>, Refusal> {
        let policy = asker.policy;
        let mut groups = Groups::new();
        for (place, item) in items.enumerate() {
            let Some((view, context)) = item else { continue };
            let pairs = relevant(policy.context_keys(), context);
            let group = groups.entry((&view.name, pairs)).or_insert((&view.partition_key, Vec::new()));
            group.1.push(place);
        }
        let (mut permitted, mut denied) = (Vec::with_capacity(groups.len()), None);
        for ((keyring, pairs), (partition_key, places)) in groups {
            match policy.decide(&self.ask(action, Some(keyring), &pairs, purpose, asker)) {
                Ok(permit) => {
                    permitted.push(Permitted { permit, places, partition_key: partition_key.clone() });
                }
                Err(denial) => denied = Some(denial),
            }
        }
        match denied {
            Some(denial) if permitted.is_empty() => Err(refused(&denial, account)),
            Some(denial) => {
                account.denial = Some(denial.reason);
                Ok(permitted)
            }
            None => Ok(permitted),
        }
    }

    /// A permit to seal that no item needs.
    fn bare_permit(
        &self,
        keyring: &KeyringName,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Permitted, Refusal> {
        let ask = self.ask(Action::Seal, Some(keyring), &[], None, asker);
        let permit = asker.policy.decide(&ask).map_err(|denial| refused(&denial, account))?;
        Ok(Permitted { permit, places: Vec::new(), partition_key: None })
    }

    pub(super) fn ask<'a>(
        &self,
        action: Action,
        keyring: Option<&'a KeyringName>,
        pairs: &'a [(&'a str, &'a str)],
        purpose: Option<Purpose>,
        asker: &Asker<'a>,
    ) -> Ask<'a> {
        Ask {
            principal: asker.principal,
            action,
            keyring,
            pairs,
            purpose,
            grant: keyring.and_then(|keyring| self.grant_of(asker.principal.name(), keyring, purpose)),
            request: asker.request,
            deadline: asker.deadline,
            now: self.clock.wall(),
            mono: self.clock.mono(),
        }
    }

    /// Notes the pseudonyms of the patients that the request is about, also of items that will fail.
    pub(super) fn note_subjects<'a>(
        &self,
        items: impl Iterator<Item = Option<(&'a Arc<KeyringView>, &'a Context)>>,
        account: &mut Account,
    ) -> Result<(), Refusal> {
        let mut seen: Vec<(&KeyringName, &str)> = Vec::new();
        for (view, context) in items.flatten() {
            let Some(subject) = view.subject_key.as_ref().and_then(|key| context.get(key)) else { continue };
            seen.push((&view.name, subject));
        }
        seen.sort_unstable();
        seen.dedup();
        for (name, subject) in seen {
            // A record that cannot say whom it is about is no record of an access.
            let pseudonym = self.keyrings.pseudonym(name.tenant(), subject);
            account.subjects.push(pseudonym.ok_or(Code::Unavailable)?);
        }
        Ok(())
    }
}

type Groups<'a> = BTreeMap<(&'a KeyringName, Vec<(&'a str, &'a str)>), (&'a Option<String>, Vec<usize>)>;

/// The keyring of a value and the version that it names; None where it is not known, or the item was refused already.
pub(super) type Located = Option<(Arc<KeyringView>, KeyVersionId)>;

/// The pairs that policy looks at, in the order of their keys.
pub(super) fn relevant<'a>(keys: &[String], context: &'a Context) -> Vec<(&'a str, &'a str)> {
    context.iter().filter(|(key, _)| keys.iter().any(|known| known == key)).collect()
}

/// A denial as the caller may hear it; the reason goes to the log.
pub(super) fn refused(denial: &Denial, account: &mut Account) -> Refusal {
    account.denial = Some(denial.reason);
    match denial.reason {
        DenialReason::PurposeMissing => Code::PurposeMissing.into(),
        DenialReason::NoPermit | DenialReason::Forbidden | DenialReason::EvaluationError => Code::Denied.into(),
    }
}

/// Nothing was decided: trying again is right, but for a keyring that was edited.
pub(super) fn unavailable(error: &UnlockError) -> Refusal {
    match error {
        UnlockError::Tampered => Code::KeyDamaged.into(),
        other => Refusal::because(Code::Unavailable, other.to_string()),
    }
}

fn sealed_answer(result: Result<Sealed, ItemError>) -> Result<String, Refusal> {
    result.map(|sealed| sealed.text).map_err(item_refusal)
}

fn opened_answer(result: Result<Opened, ItemError>) -> Result<Opened, Refusal> {
    result.map_err(item_refusal)
}

/// What the caller hears of an item's error: few classes.
pub(super) fn item_refusal(error: ItemError) -> Refusal {
    match error {
        ItemError::MalformedItem => Code::MalformedItem.into(),
        ItemError::MalformedValue => Code::MalformedValue.into(),
        ItemError::InvalidContext | ItemError::ContextConflict => Code::InvalidContext.into(),
        ItemError::ContextMissing => Code::ContextMissing.into(),
        ItemError::Denied => Code::Denied.into(),
        ItemError::CannotOpen => Code::CannotOpen.into(),
        ItemError::KeyState(state) => Refusal::because(Code::KeyState, needed(state)),
        ItemError::Spent => Refusal::because(Code::KeyState, SPENT),
        ItemError::Shredded => {
            Refusal::because(Code::KeyState, "the partition is shredded: its key is destroyed for good")
        }
        ItemError::Locked => Code::Locked.into(),
        ItemError::KeyDamaged => Code::KeyDamaged.into(),
        ItemError::Unavailable => Code::Unavailable.into(),
        ItemError::NotText => Code::NotText.into(),
    }
}

/// Until somebody acts nothing is sealed: that is what a hard limit is for.
const SPENT: &str = "the active version has reached rotation.hard_limit: it opens, and seals no more; rotate the keyring \
                     (`keyward keyring rotate NAME --trigger schedule`) and find out why no scheduled rotation did";

/// In which state the key is, and what would be needed to seal or open.
const fn needed(state: KeyState) -> &'static str {
    match state {
        KeyState::PreActive => "the key version is pre-active: it is not in use yet",
        KeyState::Suspended => "the key version is suspended: to seal or open, it must be resumed",
        KeyState::Compromised => {
            "the key version is compromised: it opens only where policy says so, and to seal the keyring must be rotated"
        }
        KeyState::Destroyed => "the key version is destroyed: nothing opens what it sealed",
        KeyState::Active | KeyState::Deactivated => "no key version is active: to seal, the keyring must be rotated",
    }
}
