//! What happened in a ceremony, so that anybody can verify it without us? The roster in all its generations and the minutes.

use serde_json::{Value, json};

use crate::audit::Event;
use std::sync::Arc;

use crate::ceremony::action::form::rules;
use crate::ceremony::machine::Ceremony;
use crate::ceremony::minutes::{LogProof, Minutes, ProvenRecord, Step};
use crate::clock::Deadline;
use crate::keyring::documents::{GENESIS, SEPARATIONS};
use crate::policy::roster::Roster;

use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::desk::{Custody, broken};
use super::view::{CustodyAnswer, CustodyView, RosterView, SettingsView};

impl Service {
    pub(super) async fn show_custody(&self) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody_now().await?;
        let configured = self.custody_settings.separation.clone();
        let rules = custody.as_ref().map(|custody| Arc::clone(&custody.separation)).or(configured);
        let duties = match &custody {
            Some(custody) => self.duties(custody).await?,
            None => Vec::new(),
        };
        let (roster, margin, problems) = match (&custody, &rules) {
            (Some(custody), Some(rules)) => {
                let mut problems = rules.check_roster(&custody.roster);
                problems.extend(rules.check_margin(&custody.roster));
                problems.extend(self.held().map(|why| why.to_string()));
                (Some(RosterView::of(&custody.roster, rules)), Some(rules.margin(&custody.roster)), problems)
            }
            _ => (None, None, Vec::new()),
        };
        Ok(CustodyAnswer::Custody(Box::new(CustodyView {
            founded: custody.is_some(),
            environment: self.custody_settings.environment.name(),
            store: self.keyrings.store().ok_or(Code::Unavailable)?.to_string(),
            roster,
            separation: rules.map(|rules| hex::encode(rules.digest())),
            margin,
            settings: custody.as_ref().map(|custody| self.settings_view(custody)),
            duties,
            problems,
        })))
    }

    fn settings_view(&self, custody: &Custody) -> SettingsView {
        let running = &self.custody_settings.guarded;
        SettingsView {
            approved: custody.settings_known(),
            approved_digest: custody.settings_digest(),
            running: running.all().clone(),
            running_digest: hex::encode(running.digest()),
        }
    }

    /// Every roster there was, with what verifies them.
    pub(super) async fn show_rosters(&self) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let rosters: Vec<String> = self.rosters().await?.into_iter().map(|document| document.body).collect();
        let known = self.keyrings.documents(SEPARATIONS).await.map_err(|error| unavailable(&error))?;
        let mut separations: Vec<String> = known.into_iter().map(|document| document.body).collect();
        if separations.is_empty() {
            separations.push(custody.separation.text().to_owned());
        }
        let genesis = self.keyrings.document(GENESIS).await.map_err(|error| unavailable(&error))?;
        let genesis: Value = genesis.and_then(|document| serde_json::from_str(&document.body).ok()).unwrap_or_default();
        Ok(CustodyAnswer::Text(json!({
            "schema": 1,
            "store": self.keyrings.store().ok_or(Code::Unavailable)?.to_string(),
            "environment": self.custody_settings.environment.name(),
            "rosters": rosters,
            "genesis": genesis,
            "separations": separations,
        })))
    }

    /// The minutes of a ceremony, with the proof that the log holds its records.
    pub(super) async fn minutes(&self, id: &str) -> Result<CustodyAnswer, Refusal> {
        let _founded = self.custody().await?;
        let (_, ceremony) = self.ceremony(id).await?;
        let then = self.roster_then(&ceremony.proposal().preconditions.roster).await?;
        let separation = self.separation(&then.separation).await?;
        let next = ceremony.proposal().parameters.get("rules").and_then(|text| rules(text));
        let steps = steps_of(&ceremony);
        let minutes = Minutes::new(&ceremony, steps, &then, &separation, next.as_deref());
        let told = self.tell(id, &minutes).await?;
        let proof = self.proof(&ceremony, id, told).await?;
        let text = minutes.with_log(proof).canonical();
        serde_json::from_str(&text).map(CustodyAnswer::Text).map_err(|_| Code::Internal.into())
    }

    /// The roster with this digest.
    async fn roster_then(&self, digest: &str) -> Result<Roster, Refusal> {
        for document in self.rosters().await? {
            let roster = Roster::parse(&document.body).map_err(|error| broken(&document.name, &error))?;
            if hex::encode(roster.digest()) == digest {
                return Ok(roster);
            }
        }
        Err(Refusal::because(Code::KeyDamaged, "the roster that the proposal names is not there"))
    }

    /// A record that names the digest of the minutes: from then on nothing in them can be changed.
    async fn tell(&self, id: &str, minutes: &Minutes) -> Result<u64, Refusal> {
        let facts = vec![("ceremony", id.to_owned()), ("minutes", hex::encode(minutes.digest()))];
        let by = Deadline(self.clock.mono().plus(super::super::APPEND_TIME));
        let record = super::super::account::own(Event::CeremonyMinuted, facts, self.policy.load().digest());
        let unrecorded = |_| Refusal::because(Code::Unavailable, super::super::NO_RECORD);
        let index = self.log.head().size;
        self.log.append(record, (), by).await.map_err(unrecorded)?.into_outcome();
        Ok(index)
    }

    /// The log's records of a ceremony, and the way from the tree that the proposal names to one that the log signed.
    async fn proof(&self, ceremony: &Ceremony, id: &str, told: u64) -> Result<LogProof, Refusal> {
        let wanted = self.log.head().size.max(told.saturating_add(1));
        let mut covered = self.log.checkpointed();
        let by = self.clock.mono().plus(COVERED);
        tokio::select! {
            _covered = covered.wait_for(|size| *size >= wanted) => {}
            () = self.clock.sleep_until(by) => {}
        }
        let (log, from) = (self.log.clone(), ceremony.proposal().log.size);
        let needle = format!("\"ceremony\":\"{id}\"");
        let read = move || log.prove_since(from, &|record: &str| record.contains(&needle) && is_course(record));
        let failed = |why: String| Refusal::because(Code::Unavailable, why);
        let proofs = tokio::task::spawn_blocking(read).await.map_err(|_| Code::Internal)?;
        let mut proofs = proofs.map_err(|error| failed(error.to_string()))?;
        // Of the records that minutes were written the newest is enough: reading them must not make them grow.
        let minuted = |record: &str| record.contains(MINUTED);
        let newest = proofs.records.iter().rposition(|(_, record, _)| minuted(record));
        let mut at = 0..;
        proofs.records.retain(|(_, record, _)| at.next() == newest || !minuted(record));
        let hashes = |path: &[[u8; 32]]| path.iter().map(hex::encode).collect::<Vec<_>>();
        Ok(LogProof {
            key: proofs.key.to_text(),
            checkpoint: proofs.key.alone(&proofs.note).unwrap_or(proofs.note),
            consistency: hashes(&proofs.consistency),
            records: proofs
                .records
                .into_iter()
                .map(|(index, record, path)| ProvenRecord { index, record, path: hashes(&path) })
                .collect(),
        })
    }
}

/// Whether something happened by it, or was to. Attempts that were refused stay in the log: whoever may ask could otherwise
/// make minutes longer than any verifier reads. Records are canonical, and quotes in their strings escaped.
fn is_course(record: &str) -> bool {
    ["\"outcome\":\"done\"", "\"outcome\":\"intent\"", "\"intent\":"].iter().any(|part| record.contains(part))
}

/// As canonical records spell the event.
const MINUTED: &str = "\"event\":\"ceremony.minuted\"";

/// How long a checkpoint is waited for: one is made each second.
const COVERED: std::time::Duration = std::time::Duration::from_secs(4);

/// What was done, as the ceremony says it: the effect is one transaction.
fn steps_of(ceremony: &Ceremony) -> Vec<Step> {
    let Some(end) = ceremony.end().filter(|_| ceremony.executing().is_some()) else { return Vec::new() };
    let result = if end.why.is_none() { "done" } else { "failed" };
    vec![Step {
        name: ceremony.proposal().action.name().to_owned(),
        at: end.at,
        result: result.to_owned(),
        output: end.why.clone().unwrap_or_default(),
    }]
}
