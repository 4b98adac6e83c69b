//! What every store promises of a commit: all or nothing, by compare-and-swap, durable, in one chain.

use keyward::store::{self, Image, StoreError, Write};

use super::{Place, change, genesis, head, key, partition, sealed, sidecar, tag, usage};

pub(super) async fn a_new_store_is_empty(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.reader.genesis().await.unwrap(), None);
    assert_eq!(store.reader.keyrings(None, 1_000).await.unwrap(), []);
    assert_eq!(store.reader.keys(None, 1_000).await.unwrap(), []);
    assert_eq!(store.reader.changes(0, 10).await.unwrap(), []);
    assert_eq!(store.writer.last_change().await.unwrap(), None);
    assert_eq!(store.writer.ring("default/a".to_owned()).await.unwrap(), None);
    assert_eq!(store.image().await.unwrap(), Image::default());
    assert_eq!(store.reader.counts().await.unwrap(), store::Counts::default());
}

pub(super) async fn a_committed_batch_reads_back_as_it_was_given_also_after_reopening(place: &Place) {
    let store = place.open().await;
    let batch = [genesis(1), key(7, "default/a", 1, b"wr\0p\xff"), head("default/a", 1), change(1)];
    store.commit(batch.to_vec()).await;
    let before = store.image().await.unwrap();
    let [Write::Genesis(root), Write::Key(sealed), Write::Keyring(keyring), Write::Change(link)] = batch else {
        panic!("the helpers give these variants")
    };
    assert_eq!(before.genesis, Some(root));
    assert_eq!(before.keys, [sealed]);
    assert_eq!(before.keyrings, [keyring]);
    assert_eq!(before.changes, [link]);
    drop(store);
    assert_eq!(place.open().await.image().await.unwrap(), before);
}

/// The first generation of each kind of row.
fn firsts() -> Vec<Write> {
    vec![
        genesis(1),
        head("default/a", 1),
        key(1, "default/a", 1, b"first"),
        partition("default/a", 1, 1, 1),
        usage(1, 1, 1),
        sidecar(1, 1),
    ]
}

/// The same rows at another generation.
fn at(generation: u64) -> Vec<Write> {
    vec![
        genesis(generation),
        head("default/a", generation),
        key(1, "default/a", generation, b"next"),
        partition("default/a", 1, 1, generation),
        usage(1, 1, generation),
        sidecar(1, generation),
    ]
}

pub(super) async fn a_row_that_exists_is_not_created_again(place: &Place) {
    let store = place.open().await;
    store.commit(firsts()).await;
    let before = store.reader.counts().await.unwrap();
    for again in at(1) {
        store.conflicts(vec![again]).await;
    }
    assert_eq!(store.image().await.unwrap().keys[0].wraps, b"first");
    assert_eq!(store.reader.counts().await.unwrap(), before);
}

pub(super) async fn a_row_is_replaced_only_by_its_next_generation(place: &Place) {
    let store = place.open().await;
    for missing in at(2) {
        store.conflicts(vec![missing]).await;
    }
    store.commit(firsts()).await;
    for wrong in [3, 0, u64::MAX] {
        for row in at(wrong) {
            store.conflicts(vec![row]).await;
        }
    }
    store.commit(at(2)).await;
    for again in at(2) {
        store.conflicts(vec![again]).await;
    }
    let image = store.image().await.unwrap();
    assert_eq!((image.keyrings[0].generation, image.keys[0].wraps.as_slice()), (2, b"next".as_slice()));
    assert_eq!(store.writer.usage(None).await.unwrap()[0].body, "{\"m\":2}");
    assert_eq!(store.writer.sidecars().await.unwrap()[0].generation, 2);
}

pub(super) async fn a_key_never_changes_its_keyring_or_purpose(place: &Place) {
    let store = place.open().await;
    store.commit(vec![head("default/a", 1), head("default/b", 1), key(1, "default/a", 1, b"")]).await;
    store.conflicts(vec![key(1, "default/b", 2, b"")]).await;
    let mut other = sealed(1, "default/a", 2, b"");
    other.row.purpose = "look-up".to_owned();
    store.conflicts(vec![Write::Key(other)]).await;
}

pub(super) async fn a_key_without_its_keyring_is_refused(place: &Place) {
    let store = place.open().await;
    store.conflicts(vec![key(1, "default/nowhere", 1, b"")]).await;
    assert_eq!(store.reader.keys(None, 1_000).await.unwrap(), []);
}

pub(super) async fn one_conflict_in_a_batch_writes_nothing_of_it(place: &Place) {
    let store = place.open().await;
    store.commit(vec![head("default/a", 1), partition("default/a", 1, 1, 1), change(1)]).await;
    let (before, counts) = (store.image().await.unwrap(), store.reader.counts().await.unwrap());
    let batches = [
        vec![head("default/b", 1), key(1, "default/b", 1, b""), change(2), head("default/a", 1)],
        vec![head("default/a", 2), key(1, "default/a", 1, b""), change(3)],
        vec![usage(1, 1, 1), sidecar(1, 1), partition("default/a", 2, 1, 1), partition("default/a", 1, 1, 3)],
        vec![partition("default/a", 1, 2, 2), usage(1, 1, 2)],
        vec![change(2), change(4)],
    ];
    for batch in batches {
        store.conflicts(batch).await;
        assert_eq!(store.image().await.unwrap(), before);
        assert_eq!(store.reader.counts().await.unwrap(), counts);
    }
}

pub(super) async fn an_empty_batch_changes_nothing(place: &Place) {
    let store = place.open().await;
    store.commit(vec![]).await;
    store.writer.import(vec![]).await.unwrap();
    assert_eq!(store.image().await.unwrap(), Image::default());
}

pub(super) async fn the_chain_grows_by_one_link_at_a_time_and_reads_in_order(place: &Place) {
    let store = place.open().await;
    store.conflicts(vec![change(2)]).await;
    for seq in 1..=12 {
        store.commit(vec![change(seq)]).await;
    }
    for wrong in [12, 14, 1, 0, u64::MAX] {
        store.conflicts(vec![change(wrong)]).await;
    }
    store.commit(vec![change(13), change(14)]).await;
    let page: Vec<u64> = store.reader.changes(3, 4).await.unwrap().iter().map(|row| row.seq).collect();
    assert_eq!(page, [4, 5, 6, 7]);
    assert_eq!(store.reader.changes(14, 4).await.unwrap(), []);
}

pub(super) async fn of_many_writers_at_one_generation_exactly_one_wins(place: &Place) {
    place.open().await.commit(vec![head("default/a", 1)]).await;
    for generation in 2..6 {
        let mut writers = Vec::new();
        for _ in 0..4 {
            let store = place.open().await;
            let batch = vec![head("default/a", generation), change(generation - 1)];
            writers.push(tokio::spawn(async move { store.writer.commit(batch).await }));
        }
        let mut won = 0;
        for writer in writers {
            match writer.await.unwrap() {
                Ok(()) => won += 1,
                Err(error) => assert_eq!(error, StoreError::Conflict),
            }
        }
        assert_eq!(won, 1);
    }
}

pub(super) async fn batches_in_opposite_orders_wait_for_each_other_and_never_for_ever(place: &Place) {
    place.open().await.commit((1..=20).map(|name| partition("default/a", name, 1, 1)).collect()).await;
    for generation in 2..8 {
        let forward: Vec<Write> = (1..=20).map(|name| partition("default/a", name, 1, generation)).collect();
        let backward: Vec<Write> = forward.iter().rev().cloned().collect();
        let (one, other) = (place.open().await, place.open().await);
        let one = tokio::spawn(async move { one.writer.commit(forward).await });
        let other = tokio::spawn(async move { other.writer.commit(backward).await });
        let mut ends = [one.await.unwrap(), other.await.unwrap()];
        ends.sort_by_key(Result::is_err);
        assert_eq!(ends, [Ok(()), Err(StoreError::Conflict)]);
    }
}

pub(super) async fn a_reader_sees_what_another_opening_of_the_store_committed(place: &Place) {
    let (store, other) = (place.open().await, place.open().await);
    other.commit(vec![head("default/a", 1)]).await;
    assert_eq!(store.reader.keyrings(None, 1_000).await.unwrap().len(), 1);
}

pub(super) async fn a_reader_never_shows_a_wrap(place: &Place) {
    let store = place.open().await;
    let wrap = b"WRAPPED-KEY-MATERIAL";
    store.commit(vec![head("default/a", 1), key(1, "default/a", 1, wrap), change(1)]).await;
    let shown = format!(
        "{:?}{:?}{:?}",
        store.reader.keys(None, 1_000).await.unwrap(),
        store.reader.keyrings(None, 1_000).await.unwrap(),
        store.reader.changes(0, 10).await.unwrap()
    );
    assert!(!shown.contains(&format!("{:?}", wrap.as_slice()).replace(['[', ']'], "")));
    assert!(format!("{:?}", store.image().await.unwrap()).contains("87, 82, 65, 80"), "the check would see it");
}

pub(super) async fn work_that_was_queued_is_done_when_its_caller_has_gone(place: &Place) {
    let store = place.open().await;
    let mut commit = store.writer.commit(vec![head("default/a", 1)]);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(commit.as_mut().poll(cx).is_pending())).await;
    drop(commit);
    for _ in 0..1_000 {
        if store.image().await.unwrap().keyrings.len() == 1 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never written; pending at the first poll: {polled}");
}

pub(super) async fn creating_where_a_store_is_is_refused(place: &Place) {
    let store = place.open().await;
    store.commit(vec![genesis(1), head("default/a", 1)]).await;
    assert!(matches!(store::create(&place.settings).await.err(), Some(StoreError::Exists(_))));
    assert_eq!(place.open().await.reader.genesis().await.unwrap().unwrap().tag, tag(9));
}
