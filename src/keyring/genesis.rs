//! How does a store begin, and when may it serve? Founding makes keyward's own keys; admission unwraps them and verifies
//! every row. Until a store is admitted nothing unlocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bodies::{self, GenesisBody, HeadBody, KeyBody, SCHEMA};
use super::change::fresh_id;
use super::directory::{Directory, Intent};
use super::documents::is_keyring;
use super::draft::{Draft, NewKey, RingDraft};
use super::follow::{Loaded, Open};
use super::kek_uses::note_first_use;
use super::keks::NotGiven;
use super::lookup;
use super::partition::{self, Partitions};
use super::pseudonym::Pseudonyms;
use super::rings::{self, Ring, describe, owner};
use super::seal::{Row, RowSealer};
use super::verify::{self, Damage, describe_head};
use super::wraps::Owner;
use super::{ApplyError, Environment, Escrow, Genesis, Inner, Keks, SYSTEM, Settings, StoreHead, System, wraps};
use crate::clock::{Deadline, SharedClock, Wall};
use crate::crypto::{self, DataKey};
use crate::kek::Kek;
use crate::names::{KeyVersionId, StoreId};
use crate::store::{Counts, GenesisRow, Opened, RingRows, SealedKey, Tag, Write};

/// What the wraps of keyward's own keys are bound to.
const STORE_KEY: &str = "kw.store";
const PSEUDONYM_KEY: &str = "kw.pseudonym";

/// How the genesis row is called to an operator.
const GENESIS: &str = "the genesis row";

/// No request waits for these calls; ten seconds is longer than any healthy token takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the genesis of an empty store.
pub(super) async fn found(
    store: Opened,
    keks: &Keks,
    clock: &SharedClock,
    settings: &Settings,
) -> Result<Genesis, ApplyError> {
    check_keks(keks, settings.environment)?;
    let (reader, writer) = (store.reader(), store.into_writer());
    if reader.counts().await? != Counts::default() {
        return Err(ApplyError::Founded);
    }
    let mut store = StoreId([0; 16]);
    crypto::random(&mut store.0).map_err(|_| ApplyError::Unavailable("no randomness".to_owned()))?;
    let (at, deadline) = (clock.wall(), Deadline(clock.mono().plus(PATIENCE)));
    let store_id = fresh_id(|_| false)?;
    let pseudonym_id = fresh_id(|id| id == store_id)?;
    let new = |id, purpose, owner: &str, epoch| NewKey {
        store,
        environment: settings.environment,
        id,
        owner: owner.to_owned(),
        purpose,
        keyring: SYSTEM.to_owned(),
        created: at,
        suite: None,
        epoch,
        lookup: None,
        escrow: Escrow::Yes,
        life: None,
    };
    let (store_key, sealed_store) = new(store_id, "store", STORE_KEY, None).make(keks, deadline).await?;
    let (_, sealed_pseudonym) = new(pseudonym_id, "pseudonym", PSEUDONYM_KEY, Some(1)).make(keks, deadline).await?;
    let no_memory = |_| ApplyError::Unavailable("no locked memory is left".to_owned());
    let rows = RowSealer::new(&store_key).map_err(no_memory)?;
    let body = GenesisBody {
        created: at.0,
        environment: settings.environment.name().to_owned(),
        schema: SCHEMA,
        store: store.to_string(),
        store_key: store_id.to_string(),
    };
    let genesis = genesis_row(&body, &rows).map_err(no_memory)?;
    let draft = founding(at, [sealed_store, sealed_pseudonym])?;
    let drafted = draft.seal(&rows, StoreHead::default()).map_err(no_memory)?;
    let mut writes = vec![Write::Genesis(genesis)];
    writes.extend(drafted.writes);
    writer.commit(writes).await.map_err(|error| match error {
        crate::store::StoreError::Conflict => ApplyError::Founded,
        other => other.into(),
    })?;
    Ok(Genesis { store, environment: settings.environment, created: at, store_key_check: rows.check_value() })
}

fn genesis_row(body: &GenesisBody, rows: &RowSealer) -> Result<GenesisRow, crypto::CryptoError> {
    let body = bodies::encode(body).ok_or(crypto::CryptoError)?;
    let mut row = GenesisRow { generation: 1, body, tag: Tag([0; 32]) };
    row.tag = rows.tag(Row::Genesis(&row))?;
    Ok(row)
}

fn founding(at: Wall, keys: [SealedKey; 2]) -> Result<Draft, Damage> {
    let head = HeadBody {
        count: 0,
        created: at.0,
        document: None,
        limits: bodies::Limits::default(),
        partition_key: None,
        partitions: None,
        required_context: Vec::new(),
        retired: Vec::new(),
        root: String::new(),
        schema: SCHEMA,
        subject_key: None,
        suite: None,
        used: BTreeMap::new(),
        wrapping: Vec::new(),
    };
    let mut ring = RingDraft::new(SYSTEM.to_owned(), head);
    for key in keys {
        for (_, wrap) in rings::wraps_of(&key)? {
            note_first_use(&mut ring.head, &wrap, at);
        }
        ring.add(key);
    }
    Ok(Draft { kind: "store.founded", at, intent: None, rings: vec![ring], partitions: Vec::new() })
}

/// Unwraps keyward's own keys, verifies every row and opens the store for use. Nothing to do when it is open.
pub(super) async fn admit(inner: &Inner) -> Result<Genesis, ApplyError> {
    let _turn = inner.turn.lock().await;
    if let Some(open) = inner.open.load_full() {
        return Ok(open.system.genesis.clone());
    }
    if inner.shut.load(Ordering::SeqCst) {
        return Err(ApplyError::Unavailable(inner.reason()));
    }
    let admitted = try_admit(inner).await;
    if let Err(error) = &admitted {
        inner.wait(error.to_string());
    }
    admitted
}

async fn try_admit(inner: &Inner) -> Result<Genesis, ApplyError> {
    check_keks(&inner.keks, inner.settings.environment)?;
    let Some(row) = inner.reader.genesis().await? else { return Err(no_genesis(inner).await?) };
    let wrong = |what: &str| Damage::of(GENESIS.to_owned(), what);
    let body: GenesisBody = bodies::decode(&row.body).map_err(|why| Damage::unreadable(GENESIS.to_owned(), why))?;
    let store: StoreId = body.store.parse().map_err(|_| wrong("its store id is none"))?;
    let key_id: KeyVersionId = body.store_key.parse().map_err(|_| wrong("its store key is none"))?;
    // What was read so far is not verified. It leads to the store key, whose wrap is bound to the store's and the key's
    // ids; and the store key then says whether all of it is true.
    let own = inner.writer.ring(SYSTEM.to_owned()).await?;
    let own =
        own.ok_or_else(|| Damage::of(describe_head(SYSTEM), "its row has been deleted: the store key is there"))?;
    let store_key = own.keys.iter().find(|key| key.row.id == key_id);
    let store_key = store_key.ok_or_else(|| Damage::of(format!("the store key {key_id}"), "its row is missing"))?;
    let (store_key, _) = unwrap_system(inner, store_key, store, STORE_KEY).await?;
    let no_memory = |_| ApplyError::Unavailable("no locked memory is left".to_owned());
    let rows = RowSealer::new(&store_key).map_err(no_memory)?;
    let partitions = Partitions::new(&store_key).map_err(no_memory)?;
    rows.verify(Row::Genesis(&row)).map_err(|_| wrong("its seal does not verify"))?;
    let environment = Environment::of(&body.environment);
    let environment = environment.ok_or_else(|| wrong("its environment is unknown"))?;
    let genesis = Genesis { store, environment, created: Wall(body.created), store_key_check: rows.check_value() };
    let asked = inner.clock.mono();
    let directory = replay(inner, &rows).await?;
    let own = newer_own(inner, &directory, own).await?;
    let own = Loaded { head: believe_own(inner, &directory, &own, &rows).await?, rows: own };
    check_environment(environment, inner.settings.environment)?;
    inner.moved.check()?;
    if let Some(objection) = inner.pinned.get().and_then(|pinned| pinned.objection(&genesis, directory.head())) {
        return Err(ApplyError::Tampered(objection));
    }
    let pseudonyms = pseudonyms(inner, &own.rows, store).await?;
    let time = inner.begin_time(&rows, directory.head()).await?;
    let system = System { genesis: genesis.clone(), rows, pseudonyms, partitions };
    let open = Open::new(system, directory, time, inner.settings.cache_keys);
    open.note_own(&own.head);
    describe_all(inner, &open).await?;
    inner.lease.confirm(asked);
    inner.join_fleet(&open).await?;
    inner.show(open);
    inner.tick();
    Ok(genesis)
}

/// The newest head of every keyring, as the chain of changes proves it.
async fn replay(inner: &Inner, rows: &RowSealer) -> Result<Directory, ApplyError> {
    let counts = inner.reader.counts().await?;
    let room = |rows| usize::try_from(rows).unwrap_or_default();
    let mut directory = Directory::with_room(room(counts.keyrings), room(counts.keys));
    loop {
        let links = inner.reader.changes(directory.head().changes, verify::PAGE).await?;
        // What comes after the last page is followed later: while others go on there may be no end of it.
        let last = u32::try_from(links.len()).is_ok_and(|links| links < verify::PAGE);
        for link in &links {
            let (body, after) = verify::link(link, directory.head(), rows)?;
            inner.moved.follow(&body);
            for head in &body.heads {
                directory.note(&head.keyring, verify::named(head)?);
                directory.shred(&verify::shredded(head)?);
            }
            if let (Some(log), Some(index), Some(head)) = (body.log, body.intent, body.heads.first()) {
                directory.remember(Intent { log, index }, &head.keyring);
            }
            directory.set_head(after);
            if let Some(objection) = inner.pinned.get().and_then(|pinned| pinned.other_history(after)) {
                return Err(ApplyError::Tampered(objection));
            }
        }
        if last {
            return Ok(directory);
        }
    }
}

/// keyward's own rows as the chain that was just read names them: a peer may have rewrapped them since they were read.
async fn newer_own(inner: &Inner, directory: &Directory, own: RingRows) -> Result<RingRows, ApplyError> {
    let known = directory.known(SYSTEM).map_or(own.head.generation, |known| known.generation);
    if own.head.generation == known {
        return Ok(own);
    }
    let newer = inner.writer.ring(SYSTEM.to_owned()).await?.filter(|newer| newer.head.generation == known);
    newer.map_or_else(
        || {
            if own.head.generation < known {
                Err(ApplyError::Unavailable("keyward's own keys are being rewrapped by another sidecar".to_owned()))
            } else {
                Ok(own)
            }
        },
        Ok,
    )
}

async fn believe_own(
    inner: &Inner,
    directory: &Directory,
    own: &RingRows,
    rows: &RowSealer,
) -> Result<HeadBody, ApplyError> {
    let unknown = || Damage::of(describe_head(SYSTEM), "no change has made it");
    let known = directory.known(SYSTEM).ok_or_else(unknown)?;
    match verify::ring(own, known, rows) {
        Ok(body) => Ok(body),
        Err(damage) => Err(verify::blame(&*inner.reader, rows, SYSTEM, Some(own), damage).await?.into()),
    }
}

/// Reads every keyring once: each is as the chain says, none is missing, none is more than the chain knows, and this
/// build can read it.
async fn describe_all(inner: &Inner, open: &Open) -> Result<(), ApplyError> {
    let (names, mut keys, mut partitioned) = (inner.kek_names(), 0_usize, BTreeSet::new());
    let mut seen = Seen::with_room(open.directory().len());
    let mut after: Option<String> = None;
    loop {
        let page = inner.page(open, after.take(), PAGE_OF_KEYS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.rows.head.name.clone());
        for loaded in page {
            if loaded.head.partition_key.is_some() {
                partitioned.insert(loaded.rows.head.name.clone());
            }
            let facts = rings::facts(&loaded, &names, inner.settings.data_key_period)?;
            let rows = loaded.rows;
            let own = rows.head.name == SYSTEM;
            if is_keyring(&rows.head.name) {
                Ring::read(&rows, &open.system.genesis, inner.settings.data_key_period)?;
            }
            keys = keys.saturating_add(rows.keys.len());
            let ids = rows.keys.iter().filter(|_| !own).map(|key| key.row.id);
            let mut directory = open.directory_mut();
            directory.describe(&rows.head.name, ids, facts);
            seen.mark(directory.find(&rows.head.name));
        }
    }
    if seen.many < open.directory().len() {
        let all: Vec<String> = open.directory().names().map(str::to_owned).collect();
        for name in all {
            inner.load(open, &name).await?;
        }
    }
    let counts = inner.reader.counts().await?;
    let there = usize::try_from(counts.keys).unwrap_or(usize::MAX);
    inner.catch_up(open).await?;
    if there > keys && open.directory().len() == seen.many && open.directory().totals().0 < there {
        return Err(Damage::of("a key row".to_owned(), "its keyring has no head").into());
    }
    partition::admit(inner, open, partitioned).await
}

/// The keyrings that were seen, by their numbers in the directory: a store that shows one twice has shown one.
struct Seen {
    marks: Vec<bool>,
    many: usize,
}

impl Seen {
    fn with_room(keyrings: usize) -> Self {
        Self { marks: vec![false; keyrings], many: 0 }
    }

    fn mark(&mut self, keyring: Option<usize>) {
        let Some(at) = keyring else { return };
        // One that was made meanwhile.
        if at >= self.marks.len() {
            self.marks.resize(at.saturating_add(1), false);
        }
        let new = self.marks.get_mut(at).is_some_and(|mark| !std::mem::replace(mark, true));
        self.many = self.many.saturating_add(usize::from(new));
    }
}

/// Keys that are read at once at the admission: what is read and given back is not all given back to the system.
const PAGE_OF_KEYS: u32 = 250;

async fn pseudonyms(inner: &Inner, own: &RingRows, store: StoreId) -> Result<Pseudonyms, ApplyError> {
    let of_epoch = |key: &SealedKey| bodies::decode::<KeyBody>(&key.row.body).ok().and_then(|body| body.epoch);
    let newest = own.keys.iter().filter(|key| key.row.purpose == "pseudonym").max_by_key(|key| of_epoch(key));
    let newest = newest.ok_or_else(|| Damage::of("the pseudonym key".to_owned(), "its row is missing"))?;
    let (key, body) = unwrap_system(inner, newest, store, PSEUDONYM_KEY).await?;
    let epoch = body.epoch.ok_or_else(|| Damage::of(describe(newest), "it has no epoch"))?;
    Pseudonyms::new(&key, epoch).map_err(|_| ApplyError::Unavailable("no locked memory is left".to_owned()))
}

/// What the wraps of any key are bound to.
pub(super) fn owner_of(key: &SealedKey, store: StoreId) -> Result<Owner, Damage> {
    let body: KeyBody = bodies::decode(&key.row.body).map_err(|why| Damage::unreadable(describe(key), why))?;
    let name = match &*key.row.purpose {
        "store" => STORE_KEY,
        "pseudonym" => PSEUDONYM_KEY,
        _ => &*lookup::owner_name(&key.row.keyring, body.name.as_deref()),
    };
    Ok(owner(key, store, name.to_owned(), Wall(body.created)))
}

async fn unwrap_system(
    inner: &Inner,
    key: &SealedKey,
    store: StoreId,
    use_: &str,
) -> Result<(DataKey, KeyBody), ApplyError> {
    let unreadable = |why| Damage::unreadable(describe(key), why);
    let body: KeyBody = bodies::decode(&key.row.body).map_err(unreadable)?;
    let wraps = wraps::decode(&key.wraps).map_err(unreadable)?;
    let owner = owner(key, store, use_.to_owned(), Wall(body.created));
    let deadline = Deadline(inner.clock.mono().plus(PATIENCE));
    match inner.keks.unwrap(&inner.clock, &wraps, &owner, deadline).await {
        Ok(given) => Ok((given.key, body)),
        Err(NotGiven::BadWrap(kek)) => {
            let what = format!(
                "it does not unwrap: this row or the genesis row was edited, or {kek} is not the key-encryption key that wrapped it"
            );
            Err(Damage::of(describe(key), what).into())
        }
        Err(NotGiven::Refused(_, why) | NotGiven::Late(why) | NotGiven::Away(why)) => Err(ApplyError::Unavailable(why)),
        Err(NotGiven::Foreign) => Err(ApplyError::Refused(format!(
            "{} is wrapped by {}, not by {}: configure the key-encryption key that wrapped it",
            describe(key),
            wraps::shown(&wraps).join(" and "),
            inner.keks.shown()
        ))),
    }
}

async fn no_genesis(inner: &Inner) -> Result<ApplyError, ApplyError> {
    if inner.reader.counts().await? == Counts::default() {
        return Ok(ApplyError::NotFounded);
    }
    Ok(Damage::of(GENESIS.to_owned(), "it is missing").into())
}

fn check_keks(keks: &Keks, environment: Environment) -> Result<(), ApplyError> {
    let unfit = |kek: &&dyn Kek| environment == Environment::Production && kek.facts().development_only;
    match keks.each().map(|(_, kek)| kek).chain(keks.retiring()).find(unfit) {
        Some(kek) => Err(ApplyError::Refused(format!("the key-encryption key {} is for development", kek.name()))),
        None => Ok(()),
    }
}

fn check_environment(of_store: Environment, configured: Environment) -> Result<(), ApplyError> {
    if of_store == configured {
        return Ok(());
    }
    let (of_store, configured) = (of_store.name(), configured.name());
    Err(ApplyError::Refused(format!("the store is for {of_store} and the configuration says {configured}")))
}
