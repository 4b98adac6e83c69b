//! How is a database read as of one moment? In one REPEATABLE READ transaction that changes nothing, on a connection
//! beside the pool's: requests go on while an admission or a backup reads for a minute.

use std::time::Duration;

use tokio_postgres::Row;

use super::fault::Fault;
use super::link::{Link, Value};
use super::pool::{ON_THE_WAY, Pool, within};
use super::{each, first, rows};
use crate::clock::BoxFuture;
use crate::names::KeyVersionId;
use crate::store::{
    ChangeRow, Counts, GenesisRow, PartitionName, PartitionRow, RingRows, SidecarRow, Snapshot, StoreError, UsageRow,
};

/// One statement: counting millions of rows takes longer than any request may.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two statements: whoever compares rows, or writes them to a slow disk, needs seconds; one that is gone must not
/// keep the server from cleaning up for ever.
const IDLE: Duration = Duration::from_secs(600);

/// The transaction ends with its connection.
pub(super) struct Moment(Link);

impl Moment {
    pub(super) async fn begin(pool: &Pool) -> Result<Self, StoreError> {
        let (link, _driver) = pool.dial(|_| {}).await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            LIMIT.as_millis(),
            IDLE.as_millis()
        );
        timed(link.run(&begin)).await?;
        let moment = Self(link);
        // The moment is that of the first read.
        moment.last_change().await?;
        Ok(moment)
    }

    async fn read<T>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        decode: impl Fn(&[Row]) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        decode(&timed(self.0.query(sql, values)).await?)
    }
}

async fn timed<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, StoreError> {
    let limit = LIMIT.saturating_add(ON_THE_WAY);
    let late = || StoreError::Unavailable(format!("no answer within {} ms", limit.as_millis()));
    within(limit, answer).await.ok_or_else(late)?.map_err(Fault::harmless)
}

impl Snapshot for Moment {
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>> {
        Box::pin(self.read(rows::GENESIS, &[], first(rows::genesis)))
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        Box::pin(self.read(rows::COUNTS, &[], rows::all_counts))
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        Box::pin(self.read(rows::LAST_CHANGE, &[], first(rows::change)))
    }

    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>> {
        Box::pin(async move {
            let after = rows::integer(after)?;
            self.read(rows::CHANGES, &[&after, &i64::from(limit)], each(rows::change)).await
        })
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        Box::pin(async move { Ok(self.read(rows::RING, &[&name], rows::rings).await?.pop()) })
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        Box::pin(async move {
            let (after, most) = (after.unwrap_or_default(), i64::from(keys));
            self.read(rows::RINGS, &[&after, &most, &most.max(1)], rows::rings).await
        })
    }

    fn partitions(
        &self,
        keyring: String,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>> {
        Box::pin(async move {
            let (after, limit) = (after.map_or(Vec::new(), |name| name.0.to_vec()), i64::from(limit));
            self.read(rows::PARTITIONS, &[&keyring, &after, &limit], each(rows::partition)).await
        })
    }

    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>> {
        Box::pin(async move {
            match key {
                None => self.read(rows::USAGE, &[], each(rows::usage)).await,
                Some(key) => self.read(rows::USAGE_OF_KEY, &[&&key.0[..]], each(rows::usage)).await,
            }
        })
    }

    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>> {
        Box::pin(self.read(rows::SIDECARS, &[], each(rows::sidecar)))
    }
}
