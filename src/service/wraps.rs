//! By what are keys wrapped, and how do they move to the current versions of the key-encryption keys? A survey, parts of a
//! rewrapping each with its intent and outcome, and the end of a version that wraps nothing any more.

use crate::audit::{Event, Outcome, Record, Source};
use crate::clock::Deadline;
use crate::keyring::ApplyError;
use crate::names::KekName;
use crate::policy::Action;

use super::account::Account;
use super::change::change_refused;
use super::data::refused;
use super::{Answer, Asker, Code, Refusal, Service};

impl Service {
    pub(super) async fn read_wraps(&self, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::InventoryRead, None, asker, account)?;
        self.keyrings.wraps().await.map(Answer::Wraps).map_err(change_refused)
    }

    /// As many pages as fit into half of the request's time, so that the answer is never late.
    pub(super) async fn rewrap_keys(
        &self,
        after: Option<String>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let permit = self.permit(Action::KeysRewrap, None, asker, account)?;
        let authority = self.policy.load().founding(permit).map_err(|denial| refused(&denial, account))?;
        let now = self.clock.mono();
        let until = now.plus(asker.deadline.left(now).unwrap_or_default() / 2);
        let facts = vec![("authority", authority.code().to_owned())];
        let intent = intent(account, asker, facts.clone());
        let by = Deadline(now.plus(super::APPEND_TIME)).max(asker.deadline);
        let intent = self.log.intent(intent, by).await.map_err(|error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        })?;
        account.intent = Some(intent.index());
        account.intended = true;
        account.facts.extend(facts);
        let worked = self.keyrings.rewrap(&authority, intent, after, until).await;
        if matches!(worked, Err(ApplyError::Unsettled(_))) {
            account.intent = None;
        }
        account.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        let step = worked.map_err(change_refused)?;
        account.facts.push(("rewrapped", step.report.rewrapped.to_string()));
        if step.report.failed > 0 {
            account.facts.push(("failed", step.report.failed.to_string()));
        }
        if step.report.mended > 0 {
            account.facts.push(("mended", step.report.mended.to_string()));
        }
        Ok(Answer::Rewrapped(step))
    }

    /// Records that a version wraps nothing any more; refused while there is one wrap by it.
    pub(super) async fn retire_kek(
        &self,
        kek: KekName,
        version: Option<u32>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::KeysRewrap, None, asker, account)?;
        account.facts.push(("kek", kek.to_string()));
        account.facts.extend(version.map(|version| ("kek_key_version", version.to_string())));
        let report = self.keyrings.wraps().await.map_err(change_refused)?;
        let left = report.wraps_by(&kek, version);
        if left > 0 {
            let which = version.map_or_else(String::new, |version| format!(" v{version}"));
            let why = format!("{left} keys are wrapped by {kek}{which}: `keyward kek rewrap` moves them");
            return Err(Refusal::because(Code::InUse, why));
        }
        Ok(Answer::Wraps(report))
    }
}

fn intent(account: &Account, asker: &Asker<'_>, facts: Vec<(&'static str, String)>) -> Record {
    Record {
        event: Event::KeyRewrapped,
        outcome: Outcome::Intent,
        reason: None,
        actor: account.actor(),
        source: Source::ControlSocket,
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
