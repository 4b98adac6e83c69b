//! What every store promises: one suite (`claims`, `pages`), which each implementation runs on fresh places; and what
//! each implementation promises alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where its preparation fails")]

mod claims;
mod copying;
mod mirror;
mod pages;
mod postgresql;
mod sqlite;

use std::sync::Arc;

use keyward::names::KeyVersionId;
use keyward::store::{
    self, ChangeRow, GenesisRow, Image, KeyRow, KeyringRow, Opened, PartitionName, PartitionRow, Reader, SealedKey,
    Settings, SidecarId, SidecarRow, StoreError, Tag, UsageRow, Write, Writer,
};

/// Runs the suite on one kind of place.
macro_rules! suite {
    ($kind:ident: $($file:ident: $($claim:ident)*;)*) => {
        mod $kind {
            $($(
                #[tokio::test]
                async fn $claim() {
                    super::$file::$claim(&super::Place::$kind().await).await;
                }
            )*)*
        }
    };
}

/// Every claim, once for each kind of place.
macro_rules! every_store {
    ($($kind:ident)*) => {
        $(suite! { $kind:
            claims:
                a_new_store_is_empty
                a_committed_batch_reads_back_as_it_was_given_also_after_reopening
                a_row_that_exists_is_not_created_again
                a_row_is_replaced_only_by_its_next_generation
                a_key_never_changes_its_keyring_or_purpose
                a_key_without_its_keyring_is_refused
                one_conflict_in_a_batch_writes_nothing_of_it
                an_empty_batch_changes_nothing
                the_chain_grows_by_one_link_at_a_time_and_reads_in_order
                of_many_writers_at_one_generation_exactly_one_wins
                batches_in_opposite_orders_wait_for_each_other_and_never_for_ever
                a_reader_sees_what_another_opening_of_the_store_committed
                a_reader_never_shows_a_wrap
                work_that_was_queued_is_done_when_its_caller_has_gone
                creating_where_a_store_is_is_refused;
            pages:
                every_table_reads_page_by_page_in_the_order_of_its_bytes
                a_page_of_whole_keyrings_is_limited_by_keys_and_has_at_least_one
                a_keyring_is_read_with_its_keys_and_no_others
                a_keyring_is_read_as_of_one_moment
                a_snapshot_shows_one_moment_of_every_table_while_others_go_on_writing
                partitions_belong_to_their_keyring_and_are_found_by_parent
                counts_of_use_are_of_one_key_or_of_all
                the_last_change_is_the_newest
                every_table_is_counted
                an_import_takes_rows_as_they_are_and_never_twice
                a_copy_of_a_store_by_import_has_every_row;
        })*
    };
}

every_store! { sqlite_file postgresql_database postgresql_of_another_owner }

/// Where a fresh store is; opens it again, as a restart or a second sidecar would.
struct Place {
    settings: Settings,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn sqlite_file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::create(Settings::Sqlite(sqlite::settings(dir.path())), dir).await
    }

    async fn postgresql_database() -> Self {
        let server = crate::postgres::Postgres::shared();
        let settings = Settings::Postgresql(Box::new(server.settings(&server.database())));
        Self::create(settings, tempfile::tempdir().unwrap()).await
    }

    /// Served by a role that owns nothing, with a password, over TLS.
    async fn postgresql_of_another_owner() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = postgresql::of_another_owner(dir.path());
        Self::create(Settings::Postgresql(Box::new(settings)), dir).await
    }

    async fn create(settings: Settings, dir: tempfile::TempDir) -> Self {
        drop(store::create(&settings).await.unwrap());
        Self { settings, _dir: dir }
    }

    async fn open(&self) -> Halves {
        Halves::of(store::open(&self.settings).await.unwrap())
    }
}

struct Halves {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
}

impl Halves {
    fn of(opened: Opened) -> Self {
        Self { reader: opened.reader(), writer: opened.into_writer() }
    }

    async fn image(&self) -> Result<Image, StoreError> {
        store::image(&*self.reader, &*self.writer).await
    }

    async fn commit(&self, batch: Vec<Write>) {
        self.writer.commit(batch).await.unwrap();
    }

    async fn conflicts(&self, batch: Vec<Write>) {
        let told = format!("{batch:?}");
        assert_eq!(self.writer.commit(batch).await, Err(StoreError::Conflict), "{told}");
    }
}

fn genesis(generation: u64) -> Write {
    Write::Genesis(GenesisRow { generation, body: "{\"é\":\"\u{1f511}\"}".to_owned(), tag: tag(9) })
}

fn head(name: &str, generation: u64) -> Write {
    let body = format!("{{\"g\":{generation}}}");
    Write::Keyring(KeyringRow { name: name.to_owned(), generation, body, tag: tag(1) })
}

fn key(id: u8, keyring: &str, generation: u64, wraps: &[u8]) -> Write {
    Write::Key(sealed(id, keyring, generation, wraps))
}

fn sealed(id: u8, keyring: &str, generation: u64, wraps: &[u8]) -> SealedKey {
    let row = KeyRow {
        id: KeyVersionId([id; 8]),
        purpose: "data".to_owned(),
        keyring: keyring.to_owned(),
        parent: "kek:primary".to_owned(),
        state: "active".to_owned(),
        generation,
        body: "{}".to_owned(),
        tag: tag(2),
    };
    SealedKey { row, wraps: wraps.to_vec() }
}

fn change(seq: u64) -> Write {
    Write::Change(ChangeRow { seq, previous: [0; 32], body: format!("{{\"n\":{seq}}}"), tag: tag(3) })
}

fn partition(keyring: &str, name: u8, parent: u8, generation: u64) -> Write {
    Write::Partition(PartitionRow {
        keyring: keyring.to_owned(),
        name: PartitionName([name; 16]),
        parent: KeyVersionId([parent; 8]),
        state: "active".to_owned(),
        generation,
        body: "{}".to_owned(),
        wrap: vec![0, 255, name],
        tag: tag(4),
    })
}

fn usage(key: u8, sidecar: u8, generation: u64) -> Write {
    let (key, sidecar) = (KeyVersionId([key; 8]), SidecarId([sidecar; 16]));
    Write::Usage(UsageRow { key, sidecar, generation, body: format!("{{\"m\":{generation}}}"), tag: tag(5) })
}

fn sidecar(id: u8, generation: u64) -> Write {
    Write::Sidecar(SidecarRow { id: SidecarId([id; 16]), generation, body: "{}".to_owned(), tag: tag(6) })
}

fn tag(byte: u8) -> Tag {
    Tag([byte; 32])
}
