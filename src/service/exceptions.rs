//! May what a suspended or compromised version sealed be opened all the same? Only where policy says so explicitly, beside
//! its permission to open, and the record says that it was done.

use std::sync::Arc;

use crate::keyring::{KeyState, KeyringView};
use crate::names::KeyVersionId;
use crate::operations::Permitted;
use crate::policy::Action;

use super::account::Account;
use super::{Asker, Service};

/// What each state that needs an exception asks of policy.
const EXCEPTIONS: [(KeyState, Action); 2] =
    [(KeyState::Suspended, Action::OpenSuspended), (KeyState::Compromised, Action::OpenCompromised)];

impl Service {
    /// Items of such versions get permits of their own where policy gives them. The others stay in their group, and fail
    /// with the state of their version.
    pub(super) fn with_exceptions(
        &self,
        permitted: Vec<Permitted>,
        located: &[Option<(Arc<KeyringView>, KeyVersionId)>],
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Vec<Permitted> {
        let (mut all, mut states) = (Vec::with_capacity(permitted.len()), Vec::new());
        for mut group in permitted {
            for (state, action) in EXCEPTIONS {
                let of = |place: &usize| state_of(located, *place) == Some(state);
                let Some(excepted) = self.excepted(&group, action, of, asker) else { continue };
                group.places.retain(|place| !excepted.places.contains(place));
                states.push(state.name());
                all.push(excepted);
            }
            all.push(group);
        }
        states.sort_unstable();
        states.dedup();
        if !states.is_empty() {
            account.facts.push(("key_state", states.join(" ")));
        }
        all
    }

    fn excepted(
        &self,
        group: &Permitted,
        action: Action,
        of: impl Fn(&usize) -> bool,
        asker: &Asker<'_>,
    ) -> Option<Permitted> {
        let places: Vec<usize> = group.places.iter().copied().filter(of).collect();
        if places.is_empty() {
            return None;
        }
        let pairs: Vec<(&str, &str)> = group.permit.pairs().iter().map(|(key, value)| (&**key, &**value)).collect();
        let ask = self.ask(action, group.permit.keyring(), &pairs, group.permit.purpose(), asker);
        let permit = asker.policy.decide(&ask).ok()?;
        Some(Permitted { permit, places, partition_key: group.partition_key.clone() })
    }
}

fn state_of(located: &[Option<(Arc<KeyringView>, KeyVersionId)>], place: usize) -> Option<KeyState> {
    let (view, id) = located.get(place)?.as_ref()?;
    view.versions.iter().find(|version| version.id == *id).map(|version| version.acting())
}
