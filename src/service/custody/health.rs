//! How does custody stand, for those who watch the sidecar? What is overdue or missing, in words; and which settings a start
//! must be refused for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::audit::Event;
use crate::clock::Wall;

use super::super::{Code, Refusal, Service};
use super::restored::restored_in_words;
use super::view::time;

/// How custody stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustodyHealth {
    /// Custodians beyond the largest quorum.
    pub margin: i64,
    /// Grants in force, broken glasses among them.
    pub grants: usize,
    /// Broken glasses that nobody reviewed in time.
    pub overdue_reviews: usize,
    /// What somebody should look at; nothing where all is well.
    pub words: Vec<String>,
    /// The grants in force, by the ids of their ceremonies.
    pub in_force: BTreeSet<String>,
    /// Whether nothing but ceremonies goes on.
    pub held: bool,
}

impl Service {
    /// How custody stands; None while there are no custodians.
    pub async fn custody_health(&self) -> Result<Option<CustodyHealth>, Refusal> {
        let Some(custody) = self.custody_now().await? else { return Ok(None) };
        let moment = self.keyrings.time().ok_or(Code::Unavailable)?;
        let synchronised = moment.steady && self.custody_settings.clock_synchronised();
        let (now, mono) = (moment.wall, self.clock.mono());
        let mut words = custody.separation.check_roster(&custody.roster);
        words.extend(custody.separation.check_margin(&custody.roster));
        words.extend(self.held().map(|why| why.to_string()));
        if self.held().is_none() && custody.settings_digest() != hex::encode(self.custody_settings.guarded.digest()) {
            let approved = custody.settings_known();
            if !self.custody_settings.guarded.changes_from(&approved).only_tighten(&approved) {
                words.push(
                    "other guarded settings were approved since this sidecar started: restart it with them".to_owned(),
                );
            }
        }
        if !synchronised {
            words.push("the clock is not synchronised: no wait of a ceremony elapses".to_owned());
        }
        let late = custody.roster.active().filter(|member| member.recertify_by <= now);
        words.extend(
            late.map(|member| format!("{} is to be recertified since {}", member.person, time(member.recertify_by))),
        );
        let overdue: Vec<_> = custody.grants.iter().filter(|known| known.grant.is_overdue(now)).collect();
        words.extend(overdue.iter().map(|known| {
            let due = known.grant.review.as_ref().map_or(0, |review| review.due);
            format!("the break-glass {} should have been reviewed by {}", known.grant.ceremony, time(Wall(due)))
        }));
        for duty in self.duties(&custody).await? {
            let late = if duty.overdue { "is overdue since" } else { "is due by" };
            words.push(format!("a rotation of {} {late} {}: {}", duty.keyring, duty.due, duty.because));
        }
        let in_force = custody.grants.iter().filter(|known| known.in_force(now, mono, synchronised));
        let in_force: BTreeSet<String> = in_force.map(|known| known.grant.ceremony.clone()).collect();
        Ok(Some(CustodyHealth {
            margin: custody.separation.margin(&custody.roster),
            grants: in_force.len(),
            overdue_reviews: overdue.len(),
            words,
            in_force,
            held: self.held().is_some(),
        }))
    }

    /// What is locked, in words.
    pub async fn lock_words(&self) -> Result<Vec<String>, Refusal> {
        Ok(self.locks_now().await?.words())
    }

    /// Records that a grant came to its end by itself.
    pub async fn note_ended(&self, ceremony: &str) {
        let facts = vec![("ceremony", ceremony.to_owned())];
        if let Err(error) = self.note(Event::GrantEnded, facts).await {
            tracing::error!(%error, "the audit log did not take a record");
        }
    }

    /// Whether this sidecar may serve a store that has custodians: with the rules, and with the settings that they
    /// approved. While it may not it is held: nothing but ceremonies goes on, so that the custodians can approve what is
    /// there. Where the rules themselves are others than theirs nothing does, since those would count the approvals.
    pub async fn check_custody(&self) -> Result<(), Unfit> {
        if self.keyrings.in_custody() != Some(true) {
            self.held.store(None);
            return Ok(());
        }
        let refused = |refusal: Refusal| {
            Unfit::Rules(refusal.detail.map_or_else(|| refusal.code.title().to_owned(), |why| why.to_string()))
        };
        let custody = self.custody().await.map_err(refused)?;
        if let Some(restored) = self.unapproved(&custody) {
            let why = restored_in_words(restored);
            self.held.store(Some(Arc::new(why.clone())));
            return Err(Unfit::Restored(why));
        }
        let running = &self.custody_settings.guarded;
        let digest = hex::encode(running.digest());
        let approved = custody.settings_known();
        let same = custody.settings_digest() == digest;
        if same || running.changes_from(&approved).only_tighten(&approved) {
            if !same && self.held.load().is_some() {
                self.note_stricter(&digest, &running.differences(&approved)).await;
            }
            self.held.store(None);
            return Ok(());
        }
        let differences = running.differences(&approved).join("; ");
        let why = format!("the guarded settings are not those that the custodians approved ({differences})");
        let why = format!(
            "{why}: put them back, or have them approved: `keyward ceremony propose settings.change --settings-of CONFIG`"
        );
        self.held.store(Some(Arc::new(why.clone())));
        Err(Unfit::Settings(why))
    }

    async fn note_stricter(&self, digest: &str, differences: &[String]) {
        tracing::warn!(differences = differences.join("; "), "stricter settings than the approved ones are in force");
        let facts = vec![("settings", digest.to_owned())];
        if let Err(error) = self.note(Event::SettingsStricter, facts).await {
            tracing::error!(%error, "the audit log did not take a record");
        }
    }

    /// Whether there are custodians.
    pub fn in_custody(&self) -> bool {
        self.keyrings.in_custody() == Some(true)
    }

    /// Nothing goes on before [`Self::check_custody`] has said that it may.
    pub fn hold(&self) {
        self.held.store(Some(Arc::new("what the custodians approved is being compared".to_owned())));
    }

    /// Why nothing but ceremonies goes on, if that is so. Before the keyrings are open that is theirs to say.
    pub(in crate::service) fn held(&self) -> Option<Arc<String>> {
        let held = self.held.load();
        if held.is_none() || self.keyrings.in_custody().is_none() { None } else { held.clone() }
    }
}

/// Why a sidecar may not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// The rules are missing or others: nothing can be decided here.
    Rules(String),
    /// The settings are others: custodians may approve them here.
    Settings(String),
    /// The store was put back: custodians may approve that here.
    Restored(String),
}
