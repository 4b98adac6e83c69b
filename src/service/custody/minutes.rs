//! What happened in a ceremony, so that anybody can verify it without us? The roster in all its generations and the minutes.

use serde_json::{Value, json};

use crate::keyring::documents::GENESIS;

use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::view::{CustodyAnswer, CustodyView, RosterView};

impl Service {
    pub(super) async fn show_custody(&self) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody_now().await?;
        let rules = self.custody_settings.separation.as_deref();
        let duties = match &custody {
            Some(custody) => self.duties(custody).await?,
            None => Vec::new(),
        };
        let (roster, margin, problems) = match (&custody, rules) {
            (Some(custody), Some(rules)) => {
                let mut problems = rules.check_roster(&custody.roster);
                problems.extend(rules.check_margin(&custody.roster));
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
            duties,
            problems,
        })))
    }

    /// Every roster there was, with what verifies them.
    pub(super) async fn show_rosters(&self) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let rosters: Vec<String> = self.rosters().await?.into_iter().map(|document| document.body).collect();
        let genesis = self.keyrings.document(GENESIS).await.map_err(|error| unavailable(&error))?;
        let genesis: Value = genesis.and_then(|document| serde_json::from_str(&document.body).ok()).unwrap_or_default();
        Ok(CustodyAnswer::Text(json!({
            "schema": 1,
            "store": self.keyrings.store().ok_or(Code::Unavailable)?.to_string(),
            "environment": self.custody_settings.environment.name(),
            "rosters": rosters,
            "genesis": genesis,
            "separations": [custody.separation.text()],
        })))
    }

    pub(super) async fn minutes(&self, id: &str) -> Result<CustodyAnswer, Refusal> {
        let (_, _ceremony) = self.ceremony(id).await?;
        Err(Refusal::because(Code::Unavailable, "minutes are not written yet"))
    }
}
