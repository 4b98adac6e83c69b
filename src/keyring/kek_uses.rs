//! Since when does each version of a key-encryption key wrap keys of this store, and when is it to be rotated? The first
//! key that a version wraps puts the time into keyward's own sealed head, in the same change: a token's own clock or
//! attributes prove nothing about this store. This module never rotates one: that takes the token's owner.

use std::time::Duration;

use super::bodies::{HeadBody, Wrapping};
use super::draft::{Draft, RingDraft};
use super::follow::Open;
use super::life::Certainty;
use super::{ApplyError, Inner, Keyrings, SYSTEM};
use crate::clock::Wall;
use crate::kek::Wrap;
use crate::names::KekName;

/// One version of a key-encryption key that wraps keys of this store, or has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekUse {
    /// The name of the key-encryption key.
    pub kek: KekName,
    /// Its version.
    pub version: u32,
    /// Whether new keys are wrapped by it.
    pub wraps: bool,
    /// When it wrapped a key of this store for the first time.
    pub since: Wall,
    /// When its cryptoperiod ends.
    pub expires: Wall,
    /// How it stands in it.
    pub period: Period,
}

/// Where in its cryptoperiod a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// It may go on.
    Within,
    /// It ends within a month: time to rotate and rewrap.
    Due,
    /// It has ended.
    Over,
    /// The clock has stepped: nobody knows.
    Doubted,
}

impl Period {
    /// The word in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Due => "due",
            Self::Over => "overdue",
            Self::Doubted => "clock_doubted",
        }
    }
}

impl Keyrings {
    /// The versions of key-encryption keys that were not retired, by name and version; empty until admitted.
    pub fn kek_uses(&self) -> Vec<KekUse> {
        let Ok(open) = self.inner.opened() else { return Vec::new() };
        let mut uses: Vec<KekUse> =
            open.wrapping().iter().filter_map(|wrapping| self.inner.kek_use(&open, wrapping)).collect();
        uses.sort_by(|one, other| (&one.kek, one.version).cmp(&(&other.kek, other.version)));
        uses
    }
}

impl Inner {
    fn kek_use(&self, open: &Open, Wrapping { kek, since, version }: &Wrapping) -> Option<KekUse> {
        let kek: KekName = kek.parse().ok()?;
        let wraps = self.keks.each().any(|(_, one)| *one.name() == kek && one.current_version() == Some(*version));
        let (since, now) = (Wall(*since), self.now(open));
        let expires = Wall(since.0.saturating_add(micros(self.settings.kek_period)));
        let due = expires.0.saturating_sub(micros(NOTICE.min(self.settings.kek_period / 10)));
        let period = match now.certainty {
            Certainty::Stepped => Period::Doubted,
            Certainty::Steady if now.wall >= expires => Period::Over,
            Certainty::Steady if now.wall.0 >= due => Period::Due,
            Certainty::Steady => Period::Within,
        };
        Some(KekUse { kek, version: *version, wraps, since, expires, period })
    }

    /// The draft with the times of versions that wrap for the first time. One that the chain has overtaken since is
    /// planned again, and then finds them there.
    pub(super) async fn with_first_uses(
        &self,
        open: &Open,
        mut draft: Draft,
        first: Vec<Wrap>,
    ) -> Result<Draft, ApplyError> {
        if first.is_empty() {
            return Ok(draft);
        }
        if !draft.rings.iter().any(|ring| ring.is_of(SYSTEM)) {
            let own = self.load(open, SYSTEM).await?;
            let own = own.ok_or_else(|| ApplyError::Unavailable("keyward's own keys are not there".to_owned()))?;
            // Behind the keyring that the change is about: the first one is whose it is.
            draft.rings.push(RingDraft::of(&own));
        }
        let at = draft.at;
        if let Some(own) = draft.rings.iter_mut().find(|ring| ring.is_of(SYSTEM)) {
            first.iter().for_each(|wrap| note_first_use(&mut own.head, wrap, at));
        }
        Ok(draft)
    }
}

/// Puts a first use into keyward's own head.
pub(super) fn note_first_use(own: &mut HeadBody, wrap: &Wrap, at: Wall) {
    if !own.wrapping.iter().any(|known| known.is(wrap)) {
        own.wrapping.push(Wrapping { kek: wrap.kek.to_string(), since: at.0, version: wrap.kek_version });
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A token's owner, its backup and a rewrapping take days, not minutes.
const NOTICE: Duration = Duration::from_secs(30 * 86_400);
