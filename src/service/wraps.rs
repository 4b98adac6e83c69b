//! By what are keys wrapped, and how do they move to the current versions of the key-encryption keys? A survey, parts of a
//! rewrapping each with its intent and outcome, and the end of a version that wraps nothing any more.

use crate::audit::{Event, IntentReceipt, Outcome, Record};
use crate::clock::Deadline;
use crate::keyring::life::{Reason, Trigger};
use crate::keyring::{ApplyError, Retirement};
use crate::names::KekName;
use crate::policy::{Action, Authority};

use super::account::Account;
use super::change::change_refused;
use super::data::unavailable;
use super::{Answer, Asker, Code, Refusal, Service};

impl Service {
    pub(super) async fn read_wraps(&self, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::InventoryRead, None, asker, account)?;
        self.keyrings.wraps().await.map(Answer::Wraps).map_err(change_refused)
    }

    pub(super) fn read_keks(&self, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::InventoryRead, None, asker, account)?;
        self.keyrings.ready().map_err(|error| unavailable(&error))?;
        Ok(Answer::Keks { uses: self.keyrings.kek_uses(), now: self.clock.wall() })
    }

    /// As many pages as fit into half of the request's time, so that the answer is never late.
    pub(super) async fn rewrap_keys(
        &self,
        trigger: Trigger,
        after: Option<String>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let facts = vec![("trigger", trigger.code().to_owned())];
        let (authority, intent) = self.begin(Event::KeyRewrapped, facts, asker, account).await?;
        let now = self.clock.mono();
        let until = now.plus(asker.deadline.left(now).unwrap_or_default() / 2);
        let worked = self.keyrings.rewrap(&authority, intent, after, until).await;
        let step = worked.map_err(change_refused)?;
        if matches!(step.stopped, Some(ApplyError::Unsettled(_))) {
            account.intent = None;
        }
        account.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        account.facts.push(("rewrapped", step.report.rewrapped.to_string()));
        if step.report.failed > 0 {
            account.facts.push(("failed", step.report.failed.to_string()));
        }
        if step.report.mended > 0 {
            account.facts.push(("mended", step.report.mended.to_string()));
        }
        match step.stopped {
            Some(error) => Err(change_refused(error)),
            None => Ok(Answer::Rewrapped(step)),
        }
    }

    /// Nothing can be wrapped by it any more, in the whole fleet; refused while there is one wrap by it.
    pub(super) async fn retire_kek(
        &self,
        (kek, version): (KekName, Option<u32>),
        reason: Reason,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let mut facts = vec![("kek", kek.to_string()), ("key_reason", reason.code().to_owned())];
        facts.extend(version.map(|version| ("kek_key_version", version.to_string())));
        let (authority, intent) = self.begin(Event::KekRetired, facts, asker, account).await?;
        let retired = self.keyrings.retire(&authority, intent, kek.clone(), version).await;
        if matches!(retired, Err(ApplyError::Unsettled(_))) {
            account.intent = None;
        }
        account.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        match retired.map_err(change_refused)? {
            Retirement::Done(report) => Ok(Answer::Wraps(report)),
            Retirement::Needed(left) => {
                let which = version.map_or_else(String::new, |version| format!(" v{version}"));
                let why = format!(
                    "{left} keys are wrapped by {kek}{which}: `keyward kek rewrap --trigger architecture` moves them"
                );
                Err(Refusal::because(Code::InUse, why))
            }
            Retirement::Wraps(current) => Err(Refusal::because(Code::InUse, wraps_on(&kek, version, current))),
        }
    }

    /// The authority, and the durable intent that names it.
    async fn begin(
        &self,
        event: Event,
        mut facts: Vec<(&'static str, String)>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<(Authority, IntentReceipt), Refusal> {
        let authority = self.authority(Action::KeysRewrap, None, asker, account)?;
        if event == Event::KekRetired && matches!(authority, Authority::Alone(_)) {
            return Err(Code::CeremonyRequired.into());
        }
        facts.push(("authority", authority.code().to_owned()));
        let record = intent(event, account, asker, facts.clone());
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(asker.deadline);
        let unrecorded = |error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        };
        let intent = match asker.intent() {
            Some(intent) => intent,
            None => self.log.intent(record, by).await.map_err(unrecorded)?,
        };
        account.intent = Some(intent.index());
        account.intended = true;
        account.happens(event);
        account.facts.extend(facts);
        Ok((authority, intent))
    }
}

/// Why what wraps new keys is not retired, and what comes first.
fn wraps_on(kek: &KekName, version: Option<u32>, current: u32) -> String {
    let wraps = format!("{kek} wraps new keys by version {current}");
    match version {
        Some(version) if version == current => format!(
            "{wraps}: first `keyward kek rotate --kek {kek}`, and `keyward kek rewrap --trigger architecture` once the sidecars \
             wrap by version {}",
            current.saturating_add(1)
        ),
        Some(version) => format!("{wraps}: only older ones can be retired, and not version {version}"),
        None => format!(
            "{wraps}: name one of its older versions, or first let another key take its place and name it in [keyring] retiring"
        ),
    }
}

fn intent(event: Event, account: &Account, asker: &Asker<'_>, facts: Vec<(&'static str, String)>) -> Record {
    Record {
        event,
        outcome: Outcome::Intent,
        reason: None,
        actor: account.actor(),
        source: super::account::source_of(account.surface),
        request: Some(asker.request.clone()),
        purpose: None,
        groups: Vec::new(),
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: account.policy,
        intent: None,
        facts,
    }
}
