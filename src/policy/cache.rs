//! Has the same request been decided within the last second? Keeps answers under the hash of the complete request.
//!
//! A part of a request is never a key: two requests that differ in anything are two entries. The hash is SHA-256,
//! whole, so that nobody can make two requests meet; it also keeps context values (patients) out of the cache.

use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Mono;
use crate::crypto::{canonical, sha256};
use crate::identity::Proof;

use super::judge::Query;
use super::{DenialReason, GrantKind};

/// The longest that a change outside the policy set (a revoked role, say) can go unseen if nobody raises the epoch.
const LIFETIME: Duration = Duration::from_secs(1);
/// More distinct requests than a sidecar sees in a second; about 100 bytes each.
const CAPACITY: usize = 8 * 1024;

/// SHA-256 of the canonical request and the authority epoch.
pub(super) type Key = [u8; 32];

/// The kept answers.
pub(super) struct Decisions(Cache<Key, Kept>);

#[derive(Clone, Copy)]
struct Kept {
    answer: Result<(), DenialReason>,
    since: Mono,
}

impl Default for Decisions {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl Decisions {
    pub(super) fn find(&self, key: &Key, now: Mono) -> Option<Result<(), DenialReason>> {
        let kept = self.0.get(key)?;
        // An entry from the future belongs to a caller that read the clock later than this one: not ours to trust.
        (kept.since <= now && now.since(kept.since) < LIFETIME).then_some(kept.answer)
    }

    pub(super) fn keep(&self, key: Key, answer: Result<(), DenialReason>, since: Mono) {
        self.0.insert(key, Kept { answer, since });
    }
}

/// The key of a request; None if it does not fit the canonical form, and then it is not kept.
pub(super) fn key(query: &Query<'_>, epoch: u64) -> Option<Key> {
    let (tag, uid) = match query.proof {
        Proof::Peer { uid } => (b'p', *uid),
        Proof::Token => (b't', 0),
        // Policy sees the kind of a proof and whom it proves; which id or subject it was decides nothing.
        Proof::Mtls { .. } => (b'm', 0),
        Proof::Jwt { .. } => (b'j', 0),
    };
    let [a, b, c, d] = uid.to_be_bytes();
    let proof = [tag, a, b, c, d];
    // These come first and all of them always, with the empty text for none: no context key can take their place.
    let fixed: [(&[u8], &[u8]); 9] = [
        (b"epoch", &epoch.to_be_bytes()),
        (b"principal", query.name.as_str().as_bytes()),
        (b"kind", query.kind.code().as_bytes()),
        (b"proof", &proof),
        (b"action", query.action.name().as_bytes()),
        (b"tenant", query.keyring.map_or("", |keyring| keyring.tenant().as_str()).as_bytes()),
        (b"keyring", query.keyring.map_or("", |keyring| keyring.name().as_str()).as_bytes()),
        (b"purpose", query.purpose.map_or("", |purpose| purpose.code()).as_bytes()),
        (b"grant", query.grant.map_or("", GrantKind::code).as_bytes()),
    ];
    let pairs = query.pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    let request = canonical::encode("keyward/v1/decision", &[], fixed.into_iter().chain(pairs))?;
    Some(sha256(&[&request]))
}
