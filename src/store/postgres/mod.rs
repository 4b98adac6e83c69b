//! How do sealed rows rest in a database that a whole fleet shares? PostgreSQL, read and changed by every sidecar at once.
//! This module never believes a commit that nobody answered, and never waits for the server without an end.
//!
//! Why every commit takes an advisory lock: committers that took row locks in different orders could wait for each other,
//! and whoever looks for the fate of a lost commit must know that its transaction is over. Batches of a single row share
//! the lock, since one row cannot deadlock; all others have it alone.

mod fault;
mod link;
mod listen;
mod pool;
mod rows;
mod schema;
mod settings;
mod settle;
mod snapshot;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::Row;

use self::fault::Fault;
use self::link::Value;
use self::listen::{Hints, Listener};
use self::pool::{Lease, Pool};
use self::settle::Fate;
use self::snapshot::Moment;
use self::writes::How;
use super::{
    ChangeRow, Counts, GenesisRow, KeyRow, KeyringRow, Opened, PartitionName, PartitionRow, Reader, RingRows,
    SidecarRow, Snapshot, StoreError, UsageRow, Write, Writer,
};
use crate::clock::BoxFuture;
use crate::names::KeyVersionId;

pub use settings::{Place, Settings, Tls};

/// Makes an empty store in a database that has none, and opens it. A schema that its owner made already is used.
pub async fn create(settings: &Settings) -> Result<Opened, StoreError> {
    let pool = Pool::new(settings.clone());
    {
        let lease = pool.take().await?;
        schema::check_server(&lease).await.map_err(Fault::harmless)?;
        if let schema::Found::Schema(_) = schema::find(&lease).await.map_err(Fault::harmless)?
            && schema::is_founded(&lease).await.map_err(Fault::harmless)?
        {
            return Err(StoreError::Exists(schema::place(settings)));
        }
        schema::admit(&lease, settings).await.map_err(Fault::harmless)?;
    }
    Ok(opened(Core::new(pool, OnceCell::new_with(Some(())))))
}

/// Opens a store that exists: migrates it forward if the role may, and refuses a newer schema.
pub async fn open(settings: &Settings) -> Result<Opened, StoreError> {
    let core = Core::new(Pool::new(settings.clone()), OnceCell::new());
    drop(core.take().await?);
    Ok(opened(core))
}

/// The same; but a server that cannot be reached now is opened as soon as it can be, by whoever asks for something.
pub async fn attach(settings: &Settings) -> Result<Opened, StoreError> {
    let core = Core::new(Pool::new(settings.clone()), OnceCell::new());
    match core.take().await {
        Ok(lease) => drop(lease),
        Err(StoreError::Unavailable(why)) => tracing::warn!(%why, "the store cannot be reached yet"),
        Err(other) => return Err(other),
    }
    Ok(opened(core))
}

/// The same, alone: a session lock that every committer needs is ours until the connection ends, and everything is
/// committed over that one connection.
pub async fn hold(settings: &Settings) -> Result<Opened, StoreError> {
    let pool = Pool::new(Settings { connections: 1, ..settings.clone() });
    {
        let lease = pool.take().await?;
        admit(&lease, settings).await.map_err(Fault::harmless)?;
        lease.timed(lease.run(NOTICE_DEATH)).await.map_err(Fault::harmless)?;
        // Whoever commits now is waited for, as long as a statement may take.
        lease.timed(lease.run("SELECT pg_catalog.pg_advisory_lock(1802990180, 1)")).await.map_err(Fault::harmless)?;
    }
    Ok(opened(Core { alone: true, ..Core::new(pool, OnceCell::new_with(Some(()))) }))
}

/// A host that loses its power does not close its connection: the server looks after it, and gives the lock back within
/// half a minute and not after the hours of its system's defaults. A socket of this machine ignores it.
const NOTICE_DEATH: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

async fn admit(lease: &Lease<'_>, settings: &Settings) -> Result<(), Fault> {
    schema::check_server(lease).await?;
    if let schema::Found::Nothing = schema::find(lease).await? {
        return Err(StoreError::Missing(schema::place(settings)).into());
    }
    schema::admit(lease, settings).await
}

/// What shows of the settings without a server: files that cannot be used.
pub fn problems(settings: &Settings) -> Vec<StoreError> {
    link::config(settings).err().into_iter().chain(link::authority(settings).err()).collect()
}

/// What the owner of the schema runs, in `psql` say: from schema number `from` (0: there is none) to the newest, and the
/// rights of the role that serves. None if this keyward knows no newer one.
pub fn script(from: u32, role: &str) -> Option<String> {
    let newer = schema::MIGRATIONS.get(usize::try_from(from).ok()?..)?;
    let migrations = newer.join("\n");
    let lock = lock(Lock::Migration);
    Some(format!("BEGIN;\n{lock};\n{migrations}\n{}COMMIT;\n", schema::grants(role)))
}

fn opened(core: Core) -> Opened {
    let listener = Listener::start(Arc::clone(&core.pool), Arc::clone(&core.hints));
    let store = Arc::new(Store { core: Arc::new(core), _listener: listener });
    Opened::new(store.clone(), store)
}

/// What a lock is for.
#[derive(Debug, Clone, Copy)]
enum Lock {
    /// One committer at a time.
    Alone,
    /// Committers of single rows.
    Shared,
    /// Migrations.
    Migration,
}

/// The statement that takes a lock until the transaction ends. The numbers are `kwrd` and a count: the database is
/// keyward's alone.
const fn lock(lock: Lock) -> &'static str {
    match lock {
        Lock::Alone => "SELECT pg_catalog.pg_advisory_xact_lock(1802990180, 1)",
        Lock::Shared => "SELECT pg_catalog.pg_advisory_xact_lock_shared(1802990180, 1)",
        Lock::Migration => "SELECT pg_catalog.pg_advisory_xact_lock(1802990180, 2)",
    }
}

struct Store {
    core: Arc<Core>,
    _listener: Listener,
}

struct Core {
    pool: Arc<Pool>,
    hints: Arc<Hints>,
    /// Set once server and schema were looked at: nothing is read or written before. Each new connection looks again.
    admitted: OnceCell<()>,
    /// Whether the one connection holds the lock of all committers: another one would not.
    alone: bool,
}

impl Core {
    fn new(pool: Pool, admitted: OnceCell<()>) -> Self {
        Self { pool: Arc::new(pool), hints: Arc::default(), admitted, alone: false }
    }

    /// A connection to a store that was looked at.
    async fn take(&self) -> Result<Lease<'_>, StoreError> {
        let lease = self.pool.take().await?;
        if self.alone && !lease.stale {
            // Nor may it lie in the pool, where the next one would take it for the one that has the lock.
            lease.set_broken(true);
            let why = "the connection that kept others from changing the store was lost";
            return Err(StoreError::Unavailable(why.to_owned()));
        }
        if self.admitted.initialized() && !lease.stale {
            schema::look_again(&lease).await.map_err(Fault::harmless)?;
        }
        self.admitted.get_or_try_init(|| admit(&lease, self.pool.settings())).await.map_err(Fault::harmless)?;
        Ok(lease)
    }

    /// A read of one statement. A connection that lay idle may have died unseen: then once more on a new one.
    async fn read<T>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        decode: impl Fn(&[Row]) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let mut again = true;
        loop {
            let lease = self.take().await?;
            match lease.timed(lease.query(sql, values)).await {
                Ok(rows) => return decode(&rows),
                Err(Fault::Lost(_)) if lease.stale && again => {
                    self.pool.forget_idle();
                    again = false;
                }
                Err(fault) => return Err(fault.harmless()),
            }
        }
    }

    /// All rows of the batch or none.
    async fn transact(&self, batch: &[Write], how: How) -> Result<(), StoreError> {
        let mut again = true;
        loop {
            let lease = self.take().await?;
            match self.prepare(&lease, batch, how).await {
                Ok(()) => return self.finish(lease, batch).await,
                // Nothing was asked to stay: the server forgets an open transaction with its connection.
                Err(Fault::Lost(_)) if lease.stale && again => {
                    self.pool.forget_idle();
                    again = false;
                }
                Err(fault) => {
                    if lease.timed(lease.run("ROLLBACK")).await.is_ok() {
                        lease.set_broken(false);
                    }
                    return Err(fault.harmless());
                }
            }
        }
    }

    /// Everything but the commit.
    async fn prepare(&self, lease: &Lease<'_>, batch: &[Write], how: How) -> Result<(), Fault> {
        let shared = batch.len() == 1 && writes::last_seq(batch).is_none();
        let begin = format!("BEGIN; {}", lock(if shared { Lock::Shared } else { Lock::Alone }));
        lease.set_broken(true);
        lease.timed(lease.run(&begin)).await?;
        lease.timed(writes::write(lease, batch, how)).await?;
        if let Some(seq) = writes::last_seq(batch) {
            lease.timed(lease.query(listen::TELL, &[&seq.to_string()])).await?;
        }
        Ok(())
    }

    async fn finish(&self, lease: Lease<'_>, batch: &[Write]) -> Result<(), StoreError> {
        // The server's own limit would give up waiting for a standby and call the commit done.
        let commit = lease.run("SET LOCAL statement_timeout = 0; COMMIT");
        let ended = match lease.timed(commit).await {
            Ok(()) => {
                lease.set_broken(false);
                Ok(())
            }
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Lost(why)) => {
                drop(lease);
                self.settle(batch, &why).await
            }
        };
        if let (Ok(()), Some(seq)) = (&ended, writes::last_seq(batch)) {
            self.hints.made(seq);
        }
        ended
    }

    /// Finds out what became of a commit that nobody answered. Gives up when the database stays away.
    async fn settle(&self, batch: &[Write], why: &str) -> Result<(), StoreError> {
        self.pool.forget_idle();
        let patience = pool::Patience::of(SETTLING);
        for failures in 0.. {
            match self.look(batch).await {
                Ok(fate) => return fate.answer(why),
                Err(error) => tracing::warn!(%error, "the fate of a commit is not known yet"),
            }
            if patience.is_over() {
                break;
            }
            pool::pause(failures).await;
        }
        Err(StoreError::Unsettled(format!("{why}; and the database stays away")))
    }

    /// A committer holds its lock until its commit is there for everybody; whoever had it alone once comes after all.
    async fn settled(&self) -> Result<(), StoreError> {
        let lease = self.take().await?;
        lease.set_broken(true);
        let alone = format!("BEGIN READ ONLY; {}; COMMIT", lock(Lock::Alone));
        lease.timed(lease.run(&alone)).await.map_err(Fault::harmless)?;
        lease.set_broken(false);
        Ok(())
    }

    async fn look(&self, batch: &[Write]) -> Result<Fate, StoreError> {
        // Also where the connection that we held alone was lost: its lock went with it, and we take one of our own.
        let lease = self.pool.take().await?;
        if !lease.stale {
            schema::look_again(&lease).await.map_err(Fault::harmless)?;
        }
        lease.set_broken(true);
        let looked = async {
            // Once we have the lock, whoever held it has ended; a standby may not have heard of it.
            let begin = format!("BEGIN READ ONLY; {}", lock(Lock::Alone));
            lease.timed(lease.run(&begin)).await?;
            let standby = lease.timed(lease.query("SELECT pg_catalog.pg_is_in_recovery()", &[])).await?;
            let fate = lease.timed(settle::look(&lease, batch)).await?;
            lease.timed(lease.run("COMMIT")).await?;
            match (fate, standby.first().is_some_and(|row| row.try_get(0).unwrap_or(true))) {
                (Fate::Here, _) | (_, false) => Ok(fate),
                (_, true) => Err(Fault::Lost("a standby answered, which may lag behind".to_owned())),
            }
        };
        let looked = looked.await.map_err(Fault::harmless)?;
        // The lock that it had ended with the look: nothing more is done over it by whoever held the store.
        lease.set_broken(self.alone);
        Ok(looked)
    }
}

/// How long the fate of a commit is looked for: a crashed server needs about so long to recover, and a failover to move an
/// address. The last look may take a statement's time more.
const SETTLING: Duration = Duration::from_secs(10);

impl Store {
    /// Goes on when the caller has gone: a commit is never left half way.
    fn start(&self, batch: Vec<Write>, how: How) -> BoxFuture<'_, Result<(), StoreError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let work = tokio::spawn(async move { core.transact(&batch, how).await });
            work.await.unwrap_or_else(|_| Err(StoreError::Unsettled("the commit's task has ended".to_owned())))
        })
    }
}

/// Every row by itself.
fn each<T>(one: impl Fn(&Row) -> Result<T, StoreError>) -> impl Fn(&[Row]) -> Result<Vec<T>, StoreError> {
    move |rows| rows.iter().map(&one).collect()
}

/// The first row, if there is one.
fn first<T>(one: impl Fn(&Row) -> Result<T, StoreError>) -> impl Fn(&[Row]) -> Result<Option<T>, StoreError> {
    move |rows| rows.first().map(&one).transpose()
}

impl Reader for Store {
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>> {
        Box::pin(self.core.read(rows::GENESIS, &[], first(rows::genesis)))
    }

    fn keyrings(&self, after: Option<String>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyringRow>, StoreError>> {
        Box::pin(async move {
            // No name is empty.
            let after = after.unwrap_or_default();
            self.core.read(rows::KEYRINGS, &[&after, &i64::from(limit)], each(rows::head)).await
        })
    }

    fn keys(&self, after: Option<KeyVersionId>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>> {
        Box::pin(async move {
            // Every id is longer than no bytes.
            let after = after.map_or(Vec::new(), |id| id.0.to_vec());
            self.core.read(rows::KEYS, &[&after, &i64::from(limit)], each(rows::key)).await
        })
    }

    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>> {
        Box::pin(async move {
            let after = rows::integer(after)?;
            self.core.read(rows::CHANGES, &[&after, &i64::from(limit)], each(rows::change)).await
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        Box::pin(self.core.read(rows::COUNTS, &[], rows::all_counts))
    }
}

impl Writer for Store {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.start(batch, How::Commit)
    }

    fn import(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.start(batch, How::Import)
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        Box::pin(self.core.read(rows::LAST_CHANGE, &[], first(rows::change)))
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        Box::pin(async move { Ok(self.core.read(rows::RING, &[&name], rows::rings).await?.pop()) })
    }

    fn ring_now(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.ring(name)
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        Box::pin(async move {
            let (after, most) = (after.unwrap_or_default(), i64::from(keys));
            // A keyring has a key: more heads than keys are never needed.
            self.core.read(rows::RINGS, &[&after, &most, &most.max(1)], rows::rings).await
        })
    }

    fn partition(
        &self,
        keyring: String,
        name: PartitionName,
    ) -> BoxFuture<'_, Result<Option<PartitionRow>, StoreError>> {
        Box::pin(
            async move { self.core.read(rows::PARTITION, &[&keyring, &&name.0[..]], first(rows::partition)).await },
        )
    }

    fn partitions(
        &self,
        keyring: String,
        parent: Option<KeyVersionId>,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>> {
        Box::pin(async move {
            let (after, limit) = (after.map_or(Vec::new(), |name| name.0.to_vec()), i64::from(limit));
            let decode = each(rows::partition);
            match parent {
                None => self.core.read(rows::PARTITIONS, &[&keyring, &after, &limit], decode).await,
                Some(parent) => {
                    let values: [Value<'_>; 4] = [&keyring, &after, &limit, &&parent.0[..]];
                    self.core.read(rows::PARTITIONS_OF_PARENT, &values, decode).await
                }
            }
        })
    }

    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>> {
        Box::pin(async move {
            match key {
                None => self.core.read(rows::USAGE, &[], each(rows::usage)).await,
                Some(key) => self.core.read(rows::USAGE_OF_KEY, &[&&key.0[..]], each(rows::usage)).await,
            }
        })
    }

    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>> {
        Box::pin(self.core.read(rows::SIDECARS, &[], each(rows::sidecar)))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        Box::pin(async move {
            // Server and schema were looked at before anything is read.
            drop(self.core.take().await?);
            Ok(Box::new(Moment::begin(&self.core.pool).await?) as Box<dyn Snapshot>)
        })
    }

    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.core.settled())
    }

    fn hint(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.core.hints.next())
    }
}
