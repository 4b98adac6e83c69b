//! What every store promises of reading: pages in the order of the bytes, whole keyrings as of one moment, copies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::names::KeyVersionId;
use keyward::store::{Counts, PartitionName, PartitionRow, RingRows, SidecarId, Write};

use super::{Halves, Place, change, genesis, head, key, partition, sidecar, usage};

/// In the order of their bytes, which is no language's.
const NAMES: [&str; 7] = ["Zeta/a", "a-b/c", "a/b", "a/b-c", "a0/b", "default/a", "\u{e9}/\u{e0}"];

pub(super) async fn every_table_reads_page_by_page_in_the_order_of_its_bytes(place: &Place) {
    let store = place.open().await;
    let ids = [0, 1, 2, 127, 128, 254, 255];
    for (name, id) in NAMES.iter().zip(ids).rev() {
        let rows = vec![head(name, 1), key(id, name, 1, b"w"), partition("default/a", id, 1, 1)];
        store.commit(rows).await;
    }
    let (mut heads, mut keys, mut names, mut rings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        let after = heads.last().cloned();
        heads.extend(store.reader.keyrings(after, 2).await.unwrap().into_iter().map(|row| row.name));
        let after = keys.last().map(|id| KeyVersionId([*id; 8]));
        keys.extend(store.reader.keys(after, 2).await.unwrap().iter().map(|row| row.id.0[0]));
        let after = names.last().map(|name| PartitionName([*name; 16]));
        names.extend(of_partitions(&store, None, after, 2).await.iter().map(|row| row.name.0[0]));
        let after = rings.last().cloned();
        rings.extend(store.writer.rings(after, 2).await.unwrap().into_iter().map(|ring| ring.head.name));
    }
    assert_eq!(heads, NAMES);
    assert_eq!(rings, NAMES);
    assert_eq!(keys, ids);
    assert_eq!(names, ids);
    assert_eq!(store.reader.keyrings(None, 0).await.unwrap(), []);
    assert_eq!(store.reader.keyrings(heads.pop(), 10).await.unwrap(), []);
}

async fn of_partitions(
    store: &Halves,
    parent: Option<u8>,
    after: Option<PartitionName>,
    limit: u32,
) -> Vec<PartitionRow> {
    let parent = parent.map(|id| KeyVersionId([id; 8]));
    store.writer.partitions("default/a".to_owned(), parent, after, limit).await.unwrap()
}

/// Keyrings a, b, c, d with 3, 0, 2 and 1 keys.
async fn four_keyrings(place: &Place) -> Halves {
    let store = place.open().await;
    let heads = ["a", "b", "c", "d"].map(|name| head(name, 1));
    let keys = [(6, "a"), (2, "a"), (4, "a"), (5, "c"), (1, "c"), (3, "d")].map(|(id, name)| key(id, name, 1, &[id]));
    store.commit(heads.into_iter().chain(keys).collect()).await;
    store
}

fn shape(rings: &[RingRows]) -> Vec<(String, Vec<u8>)> {
    rings.iter().map(|ring| (ring.head.name.clone(), ring.keys.iter().map(|key| key.row.id.0[0]).collect())).collect()
}

pub(super) async fn a_page_of_whole_keyrings_is_limited_by_keys_and_has_at_least_one(place: &Place) {
    let store = four_keyrings(place).await;
    let page = async |after: Option<&str>, keys| {
        let rings = store.writer.rings(after.map(str::to_owned), keys).await.unwrap();
        shape(&rings).into_iter().map(|(name, keys)| format!("{name}{keys:?}")).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 100).await, ["a[2, 4, 6]", "b[]", "c[1, 5]", "d[3]"]);
    assert_eq!(page(None, 5).await, ["a[2, 4, 6]", "b[]", "c[1, 5]"]);
    assert_eq!(page(None, 4).await, ["a[2, 4, 6]", "b[]"]);
    for few in [0, 1, 2] {
        assert_eq!(page(None, few).await, ["a[2, 4, 6]"], "{few}");
    }
    assert_eq!(page(Some("a"), 2).await, ["b[]", "c[1, 5]"]);
    assert_eq!(page(Some("b"), 1).await, ["c[1, 5]"]);
    assert_eq!(page(Some("c"), 1).await, ["d[3]"]);
    assert_eq!(page(Some("d"), 1).await, [""; 0]);
    assert_eq!(page(None, u32::MAX).await.len(), 4);
}

pub(super) async fn a_keyring_is_read_with_its_keys_and_no_others(place: &Place) {
    let store = four_keyrings(place).await;
    let ring = async |name: &str| store.writer.ring(name.to_owned()).await.unwrap();
    let found: Vec<RingRows> = ring("a").await.into_iter().chain(ring("b").await).collect();
    assert_eq!(shape(&found), [("a".to_owned(), vec![2, 4, 6]), ("b".to_owned(), vec![])]);
    assert_eq!(found[0].keys[1].wraps, [4]);
    assert_eq!(ring("aa").await, None);
    assert_eq!(ring("").await, None);
}

/// Head and key carry one generation in each commit: a reader that saw two moments would see two.
pub(super) async fn a_keyring_is_read_as_of_one_moment(place: &Place) {
    let store = place.open().await;
    store.commit(vec![head("default/a", 1), key(1, "default/a", 1, b"")]).await;
    let reader = place.open().await;
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    let writer = tokio::spawn(async move {
        for generation in (2..).take_while(|_| !told.load(Ordering::Relaxed)) {
            store.commit(vec![head("default/a", generation), key(1, "default/a", generation, b"")]).await;
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let ring = reader.writer.ring("default/a".to_owned()).await.unwrap();
        let page = reader.writer.rings(None, 10).await.unwrap();
        for ring in ring.iter().chain(&page) {
            assert_eq!(ring.head.generation, ring.keys[0].row.generation);
            seen.insert(ring.head.generation);
        }
        assert!(!writer.is_finished(), "the writer works as long as we read");
    }
    enough.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

pub(super) async fn partitions_belong_to_their_keyring_and_are_found_by_parent(place: &Place) {
    let store = place.open().await;
    let rows = [(1, 7), (2, 8), (3, 7), (4, 8), (5, 7)].map(|(name, parent)| partition("default/a", name, parent, 1));
    store.commit(rows.into_iter().chain([partition("default/b", 1, 7, 1)]).collect()).await;
    let names = |rows: Vec<PartitionRow>| rows.iter().map(|row| row.name.0[0]).collect::<Vec<_>>();
    assert_eq!(names(of_partitions(&store, Some(7), None, 2).await), [1, 3]);
    assert_eq!(names(of_partitions(&store, Some(7), Some(PartitionName([3; 16])), 2).await), [5]);
    assert_eq!(names(of_partitions(&store, Some(9), None, 2).await), [0; 0]);
    assert_eq!(names(of_partitions(&store, None, Some(PartitionName([1; 16])), 9).await), [2, 3, 4, 5]);
    // The first of them is wrapped by another key from now on; nobody else's row changed.
    store.commit(vec![partition("default/a", 1, 8, 2)]).await;
    assert_eq!(names(of_partitions(&store, Some(7), None, 9).await), [3, 5]);
    let one = async |keyring: &str, name| {
        store.writer.partition(keyring.to_owned(), PartitionName([name; 16])).await.unwrap()
    };
    let Write::Partition(expected) = partition("default/a", 1, 8, 2) else { panic!("it is a partition") };
    assert_eq!(one("default/a", 1).await, Some(expected));
    assert_eq!(one("default/b", 1).await.unwrap().parent, KeyVersionId([7; 8]));
    assert_eq!(one("default/b", 2).await, None);
    assert_eq!(one("default/c", 1).await, None);
}

pub(super) async fn counts_of_use_are_of_one_key_or_of_all(place: &Place) {
    let store = place.open().await;
    store.commit(vec![usage(2, 1, 1), usage(1, 9, 1), usage(1, 3, 1), sidecar(9, 1), sidecar(3, 1)]).await;
    store.commit(vec![usage(1, 3, 2)]).await;
    let told = async |key: Option<u8>| {
        let rows = store.writer.usage(key.map(|id| KeyVersionId([id; 8]))).await.unwrap();
        rows.iter().map(|row| (row.key.0[0], row.sidecar.0[0], row.generation)).collect::<Vec<_>>()
    };
    assert_eq!(told(None).await, [(1, 3, 2), (1, 9, 1), (2, 1, 1)]);
    assert_eq!(told(Some(1)).await, [(1, 3, 2), (1, 9, 1)]);
    assert_eq!(told(Some(5)).await, []);
    let fleet: Vec<SidecarId> = store.writer.sidecars().await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(fleet, [SidecarId([3; 16]), SidecarId([9; 16])]);
}

pub(super) async fn the_last_change_is_the_newest(place: &Place) {
    let store = place.open().await;
    for seq in 1..=10 {
        store.commit(vec![change(seq)]).await;
        let Write::Change(expected) = change(seq) else { panic!("it is a change") };
        assert_eq!(store.writer.last_change().await.unwrap(), Some(expected));
    }
}

/// A row of each kind, and of some more than one.
fn a_bit_of_everything() -> Vec<Write> {
    vec![
        genesis(3),
        head("default/a", 5),
        head("default/b", 1),
        key(1, "default/a", 2, b"one"),
        key(2, "default/a", 1, b""),
        key(3, "default/b", 9, b"three"),
        partition("default/a", 1, 1, 4),
        usage(1, 1, 7),
        usage(1, 2, 1),
        sidecar(1, 2),
        change(1),
        change(2),
        change(3),
        change(4),
    ]
}

const EVERYTHING: Counts =
    Counts { genesis: 1, keyrings: 2, keys: 3, partitions: 1, usage: 2, sidecars: 1, changes: 4 };

pub(super) async fn every_table_is_counted(place: &Place) {
    let store = place.open().await;
    store.writer.import(a_bit_of_everything()).await.unwrap();
    assert_eq!(store.reader.counts().await.unwrap(), EVERYTHING);
}

pub(super) async fn an_import_takes_rows_as_they_are_and_never_twice(place: &Place) {
    let store = place.open().await;
    store.writer.import(a_bit_of_everything()).await.unwrap();
    let image = store.image().await.unwrap();
    assert_eq!(image.genesis.as_ref().unwrap().generation, 3);
    assert_eq!(image.keys[2].row.generation, 9);
    for row in a_bit_of_everything() {
        // Not even with another row that is new.
        let twice = store.writer.import(vec![sidecar(77, 1), row]).await;
        assert_eq!(twice, Err(keyward::store::StoreError::Conflict));
    }
    assert_eq!(store.image().await.unwrap(), image);
    assert_eq!(store.reader.counts().await.unwrap(), EVERYTHING);
}

pub(super) async fn a_copy_of_a_store_by_import_has_every_row(place: &Place) {
    let store = place.open().await;
    store.writer.import(a_bit_of_everything()).await.unwrap();
    let copy = Place::sqlite_file().await.open().await;
    let image = store.image().await.unwrap();
    copy.writer.import(a_bit_of_everything()).await.unwrap();
    assert_eq!(copy.image().await.unwrap(), image);
    assert_eq!(copy.writer.usage(None).await.unwrap(), store.writer.usage(None).await.unwrap());
    assert_eq!(copy.writer.sidecars().await.unwrap(), store.writer.sidecars().await.unwrap());
    assert_eq!(of_partitions(&copy, None, None, 10).await, of_partitions(&store, None, None, 10).await);
}

/// Whoever holds one sees nothing of what is committed after it, in no table and on no page, and holds up nobody.
pub(super) async fn a_snapshot_shows_one_moment_of_every_table_while_others_go_on_writing(place: &Place) {
    let store = four_keyrings(place).await;
    let rows = vec![partition("a", 1, 2, 1), partition("a", 3, 2, 1), usage(2, 1, 1), sidecar(1, 1), change(1)];
    store.commit([vec![genesis(1)], rows].concat()).await;
    let snapshot = store.writer.snapshot().await.unwrap();
    let later =
        vec![head("a", 2), head("e", 1), key(9, "e", 1, b"w"), partition("a", 1, 9, 2), partition("a", 2, 2, 1)];
    store.commit([later, vec![usage(2, 1, 2), sidecar(2, 1), change(2)]].concat()).await;
    let all = snapshot.rings(None, 100).await.unwrap();
    assert_eq!(shape(&all).len(), 4);
    assert_eq!(all[0], snapshot.ring("a".to_owned()).await.unwrap().unwrap());
    assert_eq!((all[0].head.generation, snapshot.ring("e".to_owned()).await.unwrap()), (1, None));
    let first = snapshot.partitions("a".to_owned(), None, 1).await.unwrap();
    let rest = snapshot.partitions("a".to_owned(), Some(first[0].name), 10).await.unwrap();
    let told: Vec<_> = first.iter().chain(&rest).map(|row| (row.name.0[0], row.parent.0[0], row.generation)).collect();
    assert_eq!(told, [(1, 2, 1), (3, 2, 1)]);
    let key = KeyVersionId([2; 8]);
    assert_eq!(snapshot.usage(Some(key)).await.unwrap(), snapshot.usage(None).await.unwrap());
    assert_eq!(snapshot.usage(None).await.unwrap()[0].generation, 1);
    assert_eq!(snapshot.sidecars().await.unwrap().len(), 1);
    assert_eq!(snapshot.changes(0, 10).await.unwrap().len(), 1);
    assert_eq!(snapshot.last_change().await.unwrap().unwrap().seq, 1);
    assert!(snapshot.genesis().await.unwrap().is_some());
    let counts = Counts { genesis: 1, keyrings: 4, keys: 6, partitions: 2, usage: 1, sidecars: 1, changes: 1 };
    assert_eq!(snapshot.counts().await.unwrap(), counts);
    drop(snapshot);
    assert_eq!(store.writer.snapshot().await.unwrap().last_change().await.unwrap().unwrap().seq, 2);
}
