//! How far has a change come in the fleet? Asked after whatever takes something away, so that its answer says who may
//! still go on and until when; and by whoever looks later.

use std::time::Duration;

use crate::clock::{Deadline, Mono, Wall};
use crate::keyring::Following;
use crate::policy::Action;

use super::account::Account;
use super::change::change_refused;
use super::life::Step;
use super::{Answer, Asker, Refusal, Service};

/// Several looks at the store: who can hear the change has said so by then.
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);
/// A sidecar that has not written its row for this long is not waited for; it is named all the same.
const SILENT: Duration = Duration::from_secs(30 * 60);

impl Service {
    pub(super) async fn read_following(
        &self,
        change: Option<u64>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::InventoryRead, None, asker, account)?;
        self.keyrings.following(change).await.map(Answer::Following).map_err(change_refused)
    }

    /// Who has not followed the newest change, after a short wait for those that are there. The change is made whatever
    /// comes out; None if the store does not say.
    pub(super) async fn followed(&self, deadline: Deadline, account: &mut Account) -> Option<Following> {
        let change = self.keyrings.head()?.changes;
        let now = self.clock.mono();
        let until: Mono = now.plus(PATIENCE.min(deadline.left(now).unwrap_or_default() / 2));
        loop {
            let following = match self.keyrings.following(Some(change)).await {
                Ok(following) => following,
                Err(error) => {
                    tracing::warn!(%error, change, "it is not known which sidecars followed a change");
                    return None;
                }
            };
            if self.clock.mono() >= until || !following.behind.iter().any(|one| self.is_lively(one.heard)) {
                account.facts.push(("sidecars_behind", following.behind.len().to_string()));
                return Some(following);
            }
            self.clock.sleep_until(self.clock.mono().plus(PAUSE)).await;
        }
    }

    fn is_lively(&self, heard: Option<Wall>) -> bool {
        let silent = heard.map_or(u64::MAX, |heard| self.clock.wall().0.saturating_sub(heard.0));
        u128::from(silent) < SILENT.as_micros()
    }
}

/// Whether a step takes something away from whoever has the key in memory.
pub(super) const fn takes_away(step: Step) -> bool {
    match step {
        Step::Suspend | Step::Compromise | Step::ScheduleDestroy { .. } | Step::Destroy => true,
        Step::Activate | Step::Resume | Step::Deactivate | Step::CancelDestroy => false,
    }
}
