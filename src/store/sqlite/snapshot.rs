//! How is a file read as of one moment? In a read transaction on a connection and a thread of its own: WAL readers keep
//! nobody from writing, and nobody's write shows to them.

use std::time::Duration;

use super::worker::Worker;
use super::{Settings, connect, rows, schema, wrong};
use crate::clock::BoxFuture;
use crate::names::KeyVersionId;
use crate::store::{
    ChangeRow, Counts, GenesisRow, PartitionName, PartitionRow, RingRows, SidecarRow, Snapshot, StoreError, UsageRow,
};

/// How long nothing may be read: a copy that hangs would keep every change since in the WAL, until the disk is full.
const IDLE: Duration = Duration::from_secs(600);

/// The transaction ends with its connection, and the connection with its thread.
pub(super) struct Moment(Worker);

impl Moment {
    pub(super) async fn begin(settings: Settings) -> Result<Self, StoreError> {
        let worker = Worker::start_until_idle("keyward-moment", IDLE, move || {
            let connection = connect(&settings)?;
            connection.pragma_update(None, "query_only", true).map_err(wrong)?;
            connection.execute_batch("BEGIN").map_err(wrong)?;
            // The moment is that of the first read.
            schema::recognise(&connection)?;
            schema::current(&connection)?;
            schema::compare(&connection)?;
            rows::last_change(&connection)?;
            Ok(connection)
        });
        Ok(Self(worker.await?))
    }
}

impl Snapshot for Moment {
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>> {
        self.0.read(|connection| rows::genesis(connection))
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        self.0.read(|connection| rows::counts(connection))
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        self.0.read(|connection| rows::last_change(connection))
    }

    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>> {
        self.0.read(move |connection| rows::changes(connection, after, limit))
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.0.read(move |connection| rows::ring(connection, &name))
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        self.0.read(move |connection| rows::rings(connection, after.as_deref(), keys))
    }

    fn partitions(
        &self,
        keyring: String,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>> {
        self.0.read(move |connection| rows::partitions(connection, &keyring, None, after, limit))
    }

    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>> {
        self.0.read(move |connection| rows::usage(connection, key))
    }

    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>> {
        self.0.read(|connection| rows::sidecars(connection))
    }
}
