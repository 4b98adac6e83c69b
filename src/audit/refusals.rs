//! How are refusals recorded without letting a caller fill the log? A few one by one, the rest counted (LOG-26).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Mono;

use super::render::Denials;
use super::{Actor, Admission, AppendError};

/// Distinct pairs of actor and reason that are told apart; more share one bucket and one line. 256 lines of at most
/// 200 bytes fit one record.
const DISTINCT: usize = 256;
/// The name under which the others are counted.
const OTHER: &str = "other";

type Key = (String, &'static str);

/// What a summary's waiters hear: nothing yet, the index of the record, or why there is none.
pub(super) type Heard = Option<Result<u64, AppendError>>;

/// The buckets and counts of all actors and reasons.
pub(super) struct Refusals {
    per_second: u32,
    state: Mutex<State>,
}

struct State {
    buckets: HashMap<Key, Bucket>,
    counts: HashMap<Key, u64>,
    heard: watch::Sender<Heard>,
    closed: bool,
}

/// Tokens of one actor and reason, in billionths, so that no time is lost to rounding.
#[derive(Clone, Copy)]
struct Bucket {
    nanotokens: u64,
    filled: Mono,
}

/// The counts of about a second, and who waits for their record.
pub(super) struct Summary {
    pub(super) denials: Vec<Denials>,
    pub(super) heard: watch::Sender<Heard>,
}

impl Refusals {
    pub(super) fn new(per_second: u32) -> Self {
        let heard = watch::Sender::new(None);
        let state = State { buckets: HashMap::new(), counts: HashMap::new(), heard, closed: false };
        Self { per_second, state: Mutex::new(state) }
    }

    /// Spends a token.
    pub(super) fn admit(&self, actor: &Actor, reason: &'static str, now: Mono) -> Admission {
        let full = u64::from(self.per_second).saturating_mul(TOKEN);
        let mut state = self.lock();
        if state.buckets.len() >= DISTINCT {
            // A bucket that has had a second to fill is as good as none.
            state.buckets.retain(|_, bucket| now.since(bucket.filled) < Duration::from_secs(1));
        }
        let key = bounded(&state.buckets, actor, reason);
        let bucket = state.buckets.entry(key).or_insert(Bucket { nanotokens: full, filled: now });
        let passed = u64::try_from(now.since(bucket.filled).min(Duration::from_secs(1)).as_nanos()).unwrap_or(TOKEN);
        bucket.nanotokens = bucket.nanotokens.saturating_add(passed * u64::from(self.per_second)).min(full);
        bucket.filled = now;
        match bucket.nanotokens.checked_sub(TOKEN) {
            Some(rest) => {
                bucket.nanotokens = rest;
                Admission::Record
            }
            None => Admission::Coalesce,
        }
    }

    /// Counts a refusal; the receiver hears when the summary that holds it is durable.
    pub(super) fn count(&self, actor: &Actor, reason: &'static str) -> watch::Receiver<Heard> {
        let mut state = self.lock();
        if state.closed {
            return state.heard.subscribe();
        }
        let key = bounded(&state.counts, actor, reason);
        *state.counts.entry(key).or_insert(0) += 1;
        state.heard.subscribe()
    }

    /// Takes what was counted; None when there was nothing.
    pub(super) fn summary(&self) -> Option<Summary> {
        let mut state = self.lock();
        if state.counts.is_empty() {
            return None;
        }
        let mut denials: Vec<Denials> = std::mem::take(&mut state.counts)
            .into_iter()
            .map(|((actor, reason), count)| Denials { actor, reason, count })
            .collect();
        denials.sort_unstable_by(|a, b| (&a.actor, a.reason).cmp(&(&b.actor, b.reason)));
        let heard = std::mem::replace(&mut state.heard, watch::Sender::new(None));
        Some(Summary { denials, heard })
    }

    /// Tells who waits, and everybody who comes later, that there will be no summary.
    pub(super) fn close(&self, error: AppendError) {
        let mut state = self.lock();
        state.closed = true;
        state.heard.send_replace(Some(Err(error)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token, in billionths.
const TOKEN: u64 = 1_000_000_000;

/// The key of an actor and a reason, or the shared one when there are too many.
fn bounded<V>(known: &HashMap<Key, V>, actor: &Actor, reason: &'static str) -> Key {
    let name = match actor {
        Actor::Principal { name, .. } => name.as_str(),
        Actor::Unknown => "(unknown)",
        Actor::Sidecar => "(sidecar)",
    };
    let key = (name.to_owned(), reason);
    if known.len() < DISTINCT || known.contains_key(&key) { key } else { (format!("({OTHER})"), OTHER) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str) -> Actor {
        let proof = crate::identity::Proof::Token;
        Actor::Principal { name: name.parse().unwrap(), kind: crate::identity::PrincipalKind::Service, proof }
    }

    #[test]
    fn a_bucket_is_spent_and_refills_with_time() {
        let refusals = Refusals::new(2);
        let admit = |at: u64| refusals.admit(&actor("a"), "no_permit", Mono(at));
        assert_eq!([admit(0), admit(0), admit(0)], [Admission::Record, Admission::Record, Admission::Coalesce]);
        assert_eq!([admit(TOKEN / 2), admit(TOKEN / 2)], [Admission::Record, Admission::Coalesce]);
        assert_eq!(refusals.admit(&actor("b"), "no_permit", Mono(0)), Admission::Record, "each actor has its own");
        assert_eq!(refusals.admit(&actor("a"), "malformed", Mono(0)), Admission::Record, "and each reason");
    }

    #[test]
    fn counts_are_bounded_and_none_is_lost() {
        let refusals = Refusals::new(0);
        for n in 0..DISTINCT * 2 {
            let _heard = refusals.count(&actor(&format!("p{n}")), "no_permit");
        }
        let summary = refusals.summary().unwrap();
        assert_eq!(summary.denials.len(), DISTINCT + 1);
        assert_eq!(summary.denials.iter().map(|d| d.count).sum::<u64>(), (DISTINCT * 2) as u64);
        assert!(refusals.summary().is_none());
    }
}
