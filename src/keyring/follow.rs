//! How do the directory and the keyrings in use keep up with the store? New links of the chain are read and verified;
//! a keyring that is used is read whole and compared with the newest head that the chain names.
//!
//! Only what the chain proves replaces what was known: a store that has become shorter, or a row that is not the newest
//! one, is an edit and is never used.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::bodies::{ChangeBody, HeadBody, Retired, Wrapping};
use super::directory::{Directory, Intent, Known};
use super::documents::is_document;
use super::fleet::Time;
use super::lives;
use super::rings::{self, HotRings, Ring, Version};
use super::verify::{self, Damage, PAGE, describe_head};
use super::views::DECLARE;
use super::{ApplyError, Escrow, Inner, KeyState, SYSTEM, StoreHead, System, UnlockError};
use crate::kek::{Wrap, WrapRole};
use crate::names::{KeyVersionId, KeyringName};
use crate::store::{RingRows, SealedKey};

/// How often a keyring is read again because somebody else keeps changing it. A read is several times faster than a
/// change, so that one after another in vain is a fleet gone mad.
const ATTEMPTS: usize = 32;

/// An admitted store.
pub(super) struct Open {
    pub system: System,
    pub hot: HotRings,
    pub time: Time,
    directory: RwLock<Directory>,
    /// By what no key may be wrapped any more.
    retired: RwLock<Vec<Retired>>,
    /// Since when each version of a key-encryption key wraps.
    wrapping: RwLock<Vec<Wrapping>>,
    /// Keyrings that were found edited, and which row it is.
    blamed: Mutex<Blamed>,
}

type Blamed = HashMap<String, (Known, ApplyError)>;

/// The verified rows of a keyring.
pub(super) struct Loaded {
    pub rows: RingRows,
    pub head: HeadBody,
}

impl Loaded {
    /// Its keys, and whether the escrow is to wrap them.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Escrow, &SealedKey)> {
        let escrow = self.head.limits.escrow();
        self.rows.keys.iter().map(move |key| (escrow, key))
    }
}

/// Keyrings by name, as many as were asked for.
pub(super) struct Page {
    pub loaded: Vec<Loaded>,
    /// Those that were edited in the store.
    pub damaged: Vec<String>,
    /// The last one of either; None at the end.
    pub last: Option<String>,
}

impl Open {
    pub(super) fn new(system: System, directory: Directory, time: Time, limit: usize) -> Self {
        Self {
            system,
            hot: HotRings::new(limit),
            time,
            directory: RwLock::new(directory),
            retired: RwLock::default(),
            wrapping: RwLock::default(),
            blamed: Mutex::default(),
        }
    }

    /// The version of a key-encryption key among these wraps that was retired.
    pub(super) fn retired(&self, wraps: &[(WrapRole, Wrap)]) -> Option<String> {
        let retired = self.retired.read().unwrap_or_else(PoisonError::into_inner);
        let found = wraps.iter().find(|(_, wrap)| retired.iter().any(|one| one.is(wrap)));
        found.map(|(_, wrap)| format!("{} v{}", wrap.kek, wrap.kek_version))
    }

    fn blamed(&self) -> MutexGuard<'_, Blamed> {
        self.blamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keyward's own head says of key-encryption keys.
    pub(super) fn note_own(&self, own: &HeadBody) {
        self.retired.write().unwrap_or_else(PoisonError::into_inner).clone_from(&own.retired);
        self.wrapping.write().unwrap_or_else(PoisonError::into_inner).clone_from(&own.wrapping);
    }

    /// Since when which version wraps, but for those that were retired since.
    pub(super) fn wrapping(&self) -> Vec<Wrapping> {
        let retired = self.retired.read().unwrap_or_else(PoisonError::into_inner);
        let over = |one: &&Wrapping| {
            retired.iter().any(|it| it.kek == one.kek && it.version.is_none_or(|version| version == one.version))
        };
        let wrapping = self.wrapping.read().unwrap_or_else(PoisonError::into_inner);
        wrapping.iter().filter(|one| !over(one)).cloned().collect()
    }

    /// Of these wraps those by a version that has wrapped nothing yet.
    pub(super) fn first_uses<'w>(&self, wraps: &'w [(WrapRole, Wrap)]) -> impl Iterator<Item = &'w Wrap> {
        let wrapping = self.wrapping.read().unwrap_or_else(PoisonError::into_inner);
        wraps.iter().map(|(_, wrap)| wrap).filter(move |wrap| !wrapping.iter().any(|one| one.is(wrap)))
    }

    pub(super) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether custodians are there: from their genesis on.
    pub(super) fn in_custody(&self) -> bool {
        self.directory().known(&super::documents::roster_name(1)).is_some()
    }

    /// Where the chain ends, as far as it was followed.
    pub(super) fn head(&self) -> StoreHead {
        self.directory().head()
    }

    /// Puts a link's consequences into the directory, all at once, unless somebody did so already.
    pub(super) fn advance(
        &self,
        body: &ChangeBody,
        after: StoreHead,
        changed: &[Loaded],
        inner: &Inner,
    ) -> Result<(), Damage> {
        let heads: Vec<Known> = body.heads.iter().map(verify::named).collect::<Result<_, _>>()?;
        let names = inner.kek_names();
        let mut facts = Vec::with_capacity(changed.len());
        for ring in changed {
            facts.push((&ring.rows, rings::facts(ring, &names, inner.settings.data_key_period)?));
        }
        let (mut shredded, mut made) = (Vec::new(), Vec::new());
        for head in &body.heads {
            shredded.append(&mut verify::shredded(head)?);
            made.append(&mut verify::made(head)?);
        }
        let own = changed.iter().find(|ring| ring.rows.head.name == SYSTEM);
        let mut directory = self.directory_mut();
        if directory.head().changes >= after.changes {
            return Ok(());
        }
        for (head, known) in body.heads.iter().zip(heads) {
            directory.note(&head.keyring, known);
        }
        for (rows, facts) in facts {
            // Values name no key of keyward's own.
            let ids = rows.keys.iter().filter(|key| key.row.keyring != SYSTEM).map(|key| key.row.id);
            directory.describe(&rows.head.name, ids, facts);
        }
        if let Some(own) = own {
            self.note_own(&own.head);
        }
        directory.live(&made);
        directory.shred(&shredded);
        // While the directory is locked: whoever keeps a key looks there first.
        inner.partitions.evict(&shredded);
        if let (Some(log), Some(index), Some(head)) = (&body.log, body.intent, body.heads.first()) {
            directory.remember(Intent { log: log.clone(), index }, &head.keyring);
        }
        directory.set_head(after);
        inner.followed(body);
        if body.heads.iter().any(|head| is_document(&head.keyring)) {
            inner.documents.fetch_add(1, Ordering::Release);
        }
        for name in body.heads.iter().filter_map(|head| head.keyring.parse().ok()) {
            self.hot.forget(&name);
        }
        Ok(())
    }
}

impl Inner {
    /// Follows the chain to its end. Whatever another sidecar changed is known after it, and keys that may no longer be
    /// used have left the cache.
    pub(super) async fn catch_up(&self, open: &Open) -> Result<(), ApplyError> {
        let asked = self.clock.mono();
        let followed = self.follow(open).await;
        if let Err(ApplyError::Tampered(why)) = &followed {
            self.note_damage(why, why);
        }
        if followed.is_ok() {
            let served = self.mirror.as_ref().map_or(0, |mirror| mirror.served());
            self.mirrored.store(served, Ordering::Release);
            self.lease.confirm(asked);
        }
        followed
    }

    /// To where the chain ended when it was asked first: what comes later is for the next look, and there may be no end
    /// of it.
    async fn follow(&self, open: &Open) -> Result<(), ApplyError> {
        self.follow_until(open, || false).await
    }

    /// To the end that the chain has now, or until enough of it is known.
    async fn follow_until(&self, open: &Open, enough: impl Fn() -> bool + Send + Sync) -> Result<(), ApplyError> {
        let mut goal = None;
        loop {
            let before = open.head();
            // Each link that was followed names the one before it: nothing is left to compare.
            if goal.is_some_and(|goal| before.changes >= goal) {
                return Ok(());
            }
            let end = self.writer.last_change().await?;
            let seq = end.as_ref().map_or(0, |end| end.seq);
            goal = goal.or(Some(seq));
            if seq < before.changes {
                // A change of our own may have been noted between the two reads: then the head has moved on.
                if open.head().changes != before.changes {
                    continue;
                }
                return Err(shorter(before.changes, seq));
            }
            let Some(end) = end else { return Ok(()) };
            if seq == before.changes {
                let same = super::seal::digest(&end).is_ok_and(|digest| digest == before.digest);
                return if same { Ok(()) } else { Err(another(seq)) };
            }
            for link in self.reader.changes(before.changes, PAGE).await? {
                self.follow_one(open, &link).await?;
                if enough() {
                    return Ok(());
                }
            }
        }
    }

    async fn follow_one(&self, open: &Open, link: &crate::store::ChangeRow) -> Result<(), ApplyError> {
        let before = open.head();
        if link.seq <= before.changes {
            return Ok(());
        }
        let (body, after) = verify::link(link, before, &open.system.rows)?;
        self.still_here(&body)?;
        let mut changed = Vec::with_capacity(body.heads.len());
        for head in &body.heads {
            let known = verify::named(head)?;
            // One that has changed again since is described by a later link.
            if let Some(rows) = self
                .writer
                .ring_now(head.keyring.clone())
                .await?
                .filter(|rows| rows.head.generation <= known.generation)
            {
                let head = self.believe(open, &rows, known).await?;
                changed.push(Loaded { rows, head });
            }
        }
        open.advance(&body, after, &changed, self)?;
        self.evict_unusable(&changed);
        Ok(())
    }

    /// Keys whose state no longer allows any use leave the cache.
    pub(super) fn evict_unusable(&self, changed: &[Loaded]) {
        for key in changed.iter().flat_map(|ring| &ring.rows.keys) {
            if !lives::acting(key).is_some_and(KeyState::opens) {
                self.cache.evict_version(key.row.id);
            }
        }
    }

    /// Rows that are not what the chain names are an edit; the error says which row.
    pub(super) async fn believe(&self, open: &Open, rows: &RingRows, known: Known) -> Result<HeadBody, ApplyError> {
        let damage = match verify::ring(rows, known, &open.system.rows) {
            Ok(body) => return Ok(body),
            Err(damage) => damage,
        };
        // Who is to blame stands in the whole chain, which is read once for each keyring and what it should be.
        let name = &rows.head.name;
        let told = |blamed: &Blamed| blamed.get(name).filter(|(of, _)| *of == known).map(|(_, error)| error.clone());
        if let Some(error) = told(&open.blamed()) {
            return Err(error);
        }
        let error = self.blame(open, name, Some(rows), damage).await?;
        open.blamed().insert(name.clone(), (known, error.clone()));
        Err(error)
    }

    async fn blame(
        &self,
        open: &Open,
        name: &str,
        rows: Option<&RingRows>,
        otherwise: Damage,
    ) -> Result<ApplyError, ApplyError> {
        Ok(verify::blame(&*self.reader, &open.system.rows, name, rows, otherwise).await?.into())
    }

    /// The rows of a keyring as they are now; None if there is none.
    pub(super) async fn load(&self, open: &Open, name: &str) -> Result<Option<Loaded>, ApplyError> {
        let loaded = self.try_load(open, name).await;
        if let Err(ApplyError::Tampered(why)) = &loaded {
            self.note_damage(name, why);
        }
        loaded
    }

    async fn try_load(&self, open: &Open, name: &str) -> Result<Option<Loaded>, ApplyError> {
        let mut again = false;
        for _ in 0..ATTEMPTS {
            let Some(known) = open.directory().known(name) else { return Ok(None) };
            let read = if again { self.writer.ring_now(name.to_owned()) } else { self.writer.ring(name.to_owned()) };
            let Some(rows) = read.await? else {
                let gone = Damage::of(describe_head(name), "its row has been deleted");
                return Err(self.blame(open, name, None, gone).await?);
            };
            if rows.head.generation > known.generation {
                // Somebody changed it since: the link that says so was committed with it.
                // Not further than that: where everybody changes this keyring, what was read would be old by the end.
                let read = Known::new(rows.head.generation, &rows.head.tag);
                self.follow_until(open, || open.directory().known(name) == Some(read)).await?;
                let newest = open.directory().known(name);
                if newest == Some(read) {
                    let head = self.believe(open, &rows, read).await?;
                    return Ok(Some(Loaded { rows, head }));
                }
                if newest == Some(known) {
                    self.believe(open, &rows, known).await?;
                }
                continue;
            }
            if open.directory().known(name) != Some(known) {
                continue;
            }
            if rows.head.generation < known.generation && !again {
                // A mirror may be behind, the store itself may not.
                again = true;
                continue;
            }
            let head = self.believe(open, &rows, known).await?;
            return Ok(Some(Loaded { rows, head }));
        }
        Err(ApplyError::Unavailable("other sidecars keep changing the store".to_owned()))
    }

    /// A keyring, from memory or, when it was not used lately, by one read of the store. Names that the directory does
    /// not have never reach the store.
    pub(super) async fn ring(&self, open: &Open, name: &KeyringName) -> Result<Option<Arc<Ring>>, UnlockError> {
        if let Some(ring) = open.hot.named(name) {
            ring.touch(self.clock.mono());
            return Ok(Some(ring));
        }
        let Some(loaded) = self.load(open, &name.to_string()).await? else { return Ok(None) };
        let ring = Arc::new(
            Ring::read(&loaded.rows, &open.system.genesis, self.settings.data_key_period).map_err(ApplyError::from)?,
        );
        ring.touch(self.clock.mono());
        let known = Known::new(loaded.rows.head.generation, &loaded.rows.head.tag);
        let directory = open.directory();
        if directory.known(&loaded.rows.head.name) == Some(known) {
            open.hot.put(Arc::clone(&ring));
        }
        Ok(Some(ring))
    }

    /// The keyring of a version, and the version.
    pub(super) async fn version(
        &self,
        open: &Open,
        id: KeyVersionId,
    ) -> Result<Option<(Arc<Ring>, Arc<Version>)>, UnlockError> {
        if let Some((ring, version)) = open.hot.version(id) {
            ring.touch(self.clock.mono());
            return Ok(Some((ring, version)));
        }
        let name = open.directory().of_version(id).map(str::parse::<KeyringName>);
        let Some(Ok(name)) = name else { return Ok(None) };
        let Some(ring) = self.ring(open, &name).await? else { return Ok(None) };
        let version = ring.version(id).map(Arc::clone);
        Ok(version.map(|version| (ring, version)))
    }

    /// The keyrings after a name, verified, with at most so many keys; none when there are no more.
    pub(super) async fn page(&self, open: &Open, after: Option<String>, keys: u32) -> Result<Vec<Loaded>, ApplyError> {
        let page = self.writer.rings(after, keys).await?;
        let mut loaded = Vec::with_capacity(page.len());
        for (at, rows) in page.into_iter().enumerate() {
            breathe(at).await;
            self.reach(open, &rows).await?;
            loaded.push(self.loaded(open, rows).await?);
        }
        Ok(loaded)
    }

    /// The same for whoever goes on past a keyring that was edited: it is named, and left out.
    pub(super) async fn page_past(&self, open: &Open, after: Option<String>, keys: u32) -> Result<Page, ApplyError> {
        let rows = self.writer.rings(after, keys).await?;
        let last = rows.last().map(|rows| rows.head.name.clone());
        let (mut loaded, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
        for (at, rows) in rows.into_iter().enumerate() {
            breathe(at).await;
            let name = rows.head.name.clone();
            // A chain that was set back is the store's trouble and not this keyring's: it is not gone past.
            self.reach(open, &rows).await?;
            match self.loaded(open, rows).await {
                Ok(found) => loaded.push(found),
                Err(ApplyError::Tampered(why)) => {
                    self.note_damage(&name, &why);
                    damaged.push(name);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Page { loaded, damaged, last })
    }

    /// Follows the chain if a keyring is newer in the store than in the directory, or older, or unknown.
    async fn reach(&self, open: &Open, rows: &RingRows) -> Result<(), ApplyError> {
        let newest = open.directory().known(&rows.head.name);
        if newest == Some(Known::new(rows.head.generation, &rows.head.tag)) { Ok(()) } else { self.follow(open).await }
    }

    /// A keyring that was read with others; the chain decides, which was followed so far.
    async fn loaded(&self, open: &Open, rows: RingRows) -> Result<Loaded, ApplyError> {
        let known = Known::new(rows.head.generation, &rows.head.tag);
        if open.directory().known(&rows.head.name) == Some(known) {
            let head = self.believe(open, &rows, known).await?;
            return Ok(Loaded { rows, head });
        }
        let loaded = self.load(open, &rows.head.name).await?;
        loaded.ok_or_else(|| Damage::of(describe_head(&rows.head.name), "no change has made it").into())
    }
}

/// In the middle of long work: others that wait for this thread, calls to a token above all, get it in between.
pub(super) async fn breathe(at: usize) {
    if at % 64 == 63 {
        tokio::task::yield_now().await;
    }
}

/// Also a standby that was promoted without the last commits, so that nobody need have edited anything.
pub(super) fn shorter(known: u64, found: u64) -> ApplyError {
    set_back(format!("the chain of changes: it has become shorter, and ends at change {found} instead of {known}"))
}

pub(super) fn another(seq: u64) -> ApplyError {
    set_back(format!("change {seq}: it is not the one that was there before"))
}

fn set_back(what: String) -> ApplyError {
    ApplyError::Tampered(format!(
        "{what}; put back the newest copy of the store and restart, or, if what is missing is lost for good, declare it: \
         {DECLARE}"
    ))
}

impl From<ApplyError> for UnlockError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Tampered(_) => Self::Tampered,
            other => Self::Unavailable(other.to_string()),
        }
    }
}
