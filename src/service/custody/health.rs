//! How does custody stand, for those who watch the sidecar? What is overdue or missing, in words; and which settings a start
//! must be refused for.

use std::collections::BTreeSet;

use crate::audit::Event;
use crate::clock::Wall;

use super::super::{Code, Refusal, Service};
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
        if !synchronised {
            words.push("the clock is not synchronised: no wait of a ceremony elapses".to_owned());
        }
        let late = custody.roster.active().filter(|member| member.recertify_by <= now);
        words.extend(late.map(|member| format!("{} is to be recertified since {}", member.person, time(member.recertify_by))));
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
        }))
    }

    /// Records that a grant came to its end by itself.
    pub async fn note_ended(&self, ceremony: &str) {
        let facts = vec![("ceremony", ceremony.to_owned())];
        if let Err(error) = self.note(Event::GrantEnded, facts).await {
            tracing::error!(%error, "the audit log did not take a record");
        }
    }

    /// Whether this sidecar may serve a store that has custodians: with the rules, and with the settings that they
    /// approved. The error says what differs.
    pub async fn check_custody(&self) -> Result<(), String> {
        if self.keyrings.in_custody() != Some(true) {
            return Ok(());
        }
        let refused = |refusal: Refusal| refusal.detail.map_or_else(|| refusal.code.title().to_owned(), |why| why.to_string());
        let custody = self.custody().await.map_err(refused)?;
        let running = &self.custody_settings.guarded;
        if custody.settings_digest() == hex::encode(running.digest()) {
            self.set_approved_policy(Some(self.policy_digest()));
            return Ok(());
        }
        let differences = running.differences(&custody.settings_known());
        let digest = hex::encode(running.digest());
        Err(format!(
            "the guarded settings are not those that the custodians approved ({}); put them back, or have a \
             settings.change of {digest} approved first",
            differences.join("; ")
        ))
    }
}
