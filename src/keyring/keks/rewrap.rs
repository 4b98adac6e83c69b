//! Is a key wrapped as it would be if it were made now? If not, it is unwrapped by whoever can, and wrapped anew.
//! This module never drops a wrap before every wrap that takes its place has been opened, and never goes around a refusal.
//!
//! It changes nothing by itself: the wraps that it gives replace those it was given in one transaction of the store. If we
//! stop before that, the key is as it was.

use std::collections::BTreeMap;

use super::{Given, Keks, NotGiven, ask, by, not_given};
use crate::clock::{Deadline, SharedClock};
use crate::crypto;
use crate::kek::{Kek, KekError, Wrap, WrapRole};
use crate::keyring::Escrow;
use crate::keyring::wraps::{self, Owner, WrapError};
use crate::names::KekName;

/// A key as it would be wrapped now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::keyring) struct Rewrapped {
    /// One by each KEK that wraps, the primary's first. Those that were current are as they were.
    pub wraps: Vec<(WrapRole, Wrap)>,
    /// KEKs whose wrap did not open, or whose version is gone, and that have wrapped the key anew.
    pub mended: Vec<KekName>,
}

/// Why a key keeps the wraps that it has.
#[derive(Debug)]
pub(in crate::keyring) enum NotRewrapped {
    /// Nobody opens it.
    Closed(NotGiven),
    /// A KEK did not wrap it, or wrapped something that does not open.
    NotWrapped(WrapError),
    /// Its wraps are of two different keys: this KEK's and the one that was opened.
    Contradicts(KekName),
}

/// How many wraps there are by each version of each KEK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::keyring) struct Wrapped(BTreeMap<(KekName, u32), u64>);

impl Keks {
    /// Whether a key's wraps are other than one by each of primary and escrow, in its role and by its current version; by
    /// the primary alone where the keyring does without an escrow.
    /// A version that is not known yet proves nothing, so the key counts as behind. A newer one than ours does not: a peer
    /// of the fleet has been restarted already, and two sidecars must not wrap against each other.
    pub(in crate::keyring) fn behind(&self, wraps: &[(WrapRole, Wrap)], escrow: Escrow) -> bool {
        let wanted = || self.each_for(escrow);
        wraps.len() != wanted().count() || wanted().any(|(role, kek)| current(kek, role, wraps).is_none())
    }

    /// How many calls of [`Self::rewrap`] at once keep every KEK busy.
    pub(in crate::keyring) fn at_once(&self) -> usize {
        let calls = |kek: &dyn Kek| usize::try_from(kek.status().most_calls).unwrap_or(usize::MAX);
        self.each().map(|(_, kek)| calls(kek)).fold(0, usize::saturating_add).max(1)
    }

    /// The wraps that a key would have if it were made now: unwrapped by any that opens, wrapped by each KEK that is
    /// behind, every new wrap opened again. Costs one unwrap, and a wrap and an unwrap for each KEK that is behind.
    pub(in crate::keyring) async fn rewrap(
        &self,
        clock: &SharedClock,
        wraps: &[(WrapRole, Wrap)],
        owner: &Owner,
        escrow: Escrow,
        deadline: Deadline,
    ) -> Result<Rewrapped, NotRewrapped> {
        let (given, broken) = self.open_any(clock, wraps, owner, deadline).await.map_err(NotRewrapped::Closed)?;
        let check = given.key.check_value();
        let other = |(_, wrap): &&(WrapRole, Wrap)| !crypto::constant_time_eq(&wrap.check_value, &check);
        if let Some((_, wrap)) = wraps.iter().filter(|(_, wrap)| !broken.contains(&wrap.kek)).find(other) {
            return Err(NotRewrapped::Contradicts(wrap.kek.clone()));
        }
        let mut out = Rewrapped { wraps: Vec::with_capacity(2), mended: Vec::new() };
        let alone = self.each_for(escrow).count() == 1;
        for (role, kek) in self.each_for(escrow) {
            // A wrap that will be the only one must have been opened, not just look right.
            let proven = !alone || given.by == *kek.name();
            let kept = current(kek, role, wraps).filter(|_| proven && !broken.contains(kek.name()));
            let wrap = match kept {
                Some(wrap) => wrap.clone(),
                None => wraps::wrap(kek, role, &given.key, owner, deadline).await.map_err(NotRewrapped::NotWrapped)?,
            };
            if broken.contains(kek.name()) {
                out.mended.push(kek.name().clone());
            }
            out.wraps.push((role, wrap));
        }
        Ok(out)
    }

    /// The key by the first that opens it, and whose wraps did not: the primary's, the escrow's, then those that retire.
    /// Unlike a request, a job goes on past a damaged wrap. It stops at a refusal.
    async fn open_any(
        &self,
        clock: &SharedClock,
        wraps: &[(WrapRole, Wrap)],
        owner: &Owner,
        deadline: Deadline,
    ) -> Result<(Given, Vec<KekName>), NotGiven> {
        let (mut broken, mut why) = (Vec::new(), None);
        for kek in self.each().map(|(_, kek)| kek).chain(self.retiring()) {
            let Some(wrap) = by(kek, wraps) else { continue };
            let refusals = self.refusals();
            match ask(clock, kek, wrap, owner, deadline).await {
                Ok(given) => {
                    if self.refusals() == refusals {
                        self.note_recovery(kek.name());
                    }
                    return Ok((given, broken));
                }
                Err(error @ KekError::Denied { .. }) => {
                    self.note_refusal(kek.name());
                    return Err(not_given(kek.name(), error));
                }
                Err(error) if kek.name() == self.primary() && self.refused() => {
                    return Err(not_given(kek.name(), error));
                }
                Err(error) => {
                    if matches!(error, KekError::BadWrap | KekError::Unsupported(_)) {
                        broken.push(kek.name().clone());
                    }
                    why.get_or_insert(not_given(kek.name(), error));
                }
            }
        }
        Err(why.unwrap_or(NotGiven::Foreign))
    }
}

impl Wrapped {
    /// Counts a key's wraps.
    pub(in crate::keyring) fn add(&mut self, wraps: &[(WrapRole, Wrap)]) {
        for (_, wrap) in wraps {
            *self.0.entry((wrap.kek.clone(), wrap.kek_version)).or_default() += 1;
        }
    }

    /// By name and version.
    pub(in crate::keyring) fn each(&self) -> impl Iterator<Item = (&KekName, u32, u64)> {
        self.0.iter().map(|((kek, version), count)| (kek, *version, *count))
    }
}

/// The wrap that a KEK would make now, if it has made it.
fn current<'a>(kek: &dyn Kek, role: WrapRole, wraps: &'a [(WrapRole, Wrap)]) -> Option<&'a Wrap> {
    let version = kek.current_version()?;
    let (its, wrap) = by(kek, wraps)?;
    (*its == role && wrap.kek_version >= version).then_some(wrap)
}
