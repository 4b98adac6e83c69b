//! What moving a store promises: every row or no store at all.

use keyward::names::KeyVersionId;
use keyward::store::{CopyError, Counts, Progress, Settings, Write, copy, look, open};

use super::{Halves, Place, change, genesis, head, key, partition, sidecar, usage};

const MANY: u64 = 1_100;

/// More rows of each kind than one page has.
async fn filled(place: &Place) -> Counts {
    let store = place.open().await;
    let name = |n: u64| format!("default/{n:05}");
    let mut batch = vec![genesis(2)];
    for n in 1..=MANY {
        let Write::Key(mut sealed) = key(0, &name(n % 700), 1, b"wrap") else { panic!("it is a key") };
        sealed.row.id = KeyVersionId((n << 3).to_le_bytes());
        batch.extend((n <= 700).then(|| head(&name(n % 700), n)));
        batch.extend([Write::Key(sealed), change(n)]);
    }
    for n in 1..=MANY {
        let Write::Partition(mut row) = partition(&name(n % 2), 0, 1, 3) else { panic!("it is a partition") };
        row.name.0[..8].copy_from_slice(&n.to_le_bytes());
        batch.push(Write::Partition(row));
    }
    for (n, id) in (1..=9_u64).zip(1..) {
        let Write::Usage(mut row) = usage(0, id, n) else { panic!("it is usage") };
        row.key = KeyVersionId((n << 3).to_le_bytes());
        batch.extend([Write::Usage(row), sidecar(id, n)]);
    }
    store.writer.import(batch).await.unwrap();
    let counts = store.reader.counts().await.unwrap();
    let all = [counts.keyrings, counts.keys, counts.partitions, counts.usage, counts.sidecars, counts.changes];
    assert_eq!(all, [700, MANY, MANY, 9, 9, MANY]);
    counts
}

async fn copied(from: &Place, to: &Place) -> Result<(Counts, Vec<Progress>), CopyError> {
    let mut told = Vec::new();
    let (from, to) = (look(&from.settings).await.unwrap(), open(&to.settings).await.unwrap());
    let counts = copy(from, to, &mut |progress| told.push(progress)).await?;
    Ok((counts, told))
}

#[tokio::test]
async fn a_store_goes_to_a_database_and_back_with_every_row() {
    let (first, second, third) =
        (Place::sqlite_file().await, Place::postgresql_of_another_owner().await, Place::sqlite_file().await);
    let counts = filled(&first).await;
    for (from, to) in [(&first, &second), (&second, &third)] {
        let (moved, told) = copied(from, to).await.unwrap();
        assert_eq!(moved, counts);
        let last = told.last().unwrap();
        assert_eq!(last.done, last.all);
        assert!(told.is_sorted_by_key(|progress| progress.done));
    }
    assert_eq!(first.open().await.image().await.unwrap(), third.open().await.image().await.unwrap());
}

#[tokio::test]
async fn a_target_with_a_row_is_left_as_it_is() {
    let (from, to) = (Place::sqlite_file().await, Place::postgresql_database().await);
    filled(&from).await;
    to.open().await.commit(vec![sidecar(1, 1)]).await;
    assert_eq!(copied(&from, &to).await.err(), Some(CopyError::NotEmpty(1)));
    let counts = to.open().await.reader.counts().await.unwrap();
    assert_eq!(counts, Counts { sidecars: 1, ..Counts::default() });
}

#[tokio::test]
async fn what_was_never_founded_is_not_copied() {
    let (from, to) = (Place::sqlite_file().await, Place::sqlite_file().await);
    assert_eq!(copied(&from, &to).await.err(), Some(CopyError::Unfounded));
}

/// A target that loses or changes a row, as a trigger of somebody else would, is found out and never becomes a store.
#[tokio::test]
async fn a_copy_that_differs_is_no_store() {
    let server = crate::postgres::Postgres::shared();
    let edits = [
        ("keyrings and keys", "keys", "NEW.wraps := 'other'"),
        ("keyrings and keys", "keyrings", "NEW.body := 'other'"),
        ("partitions", "partitions", "NEW.state := 'other'"),
        ("counts of use", "usage", "NEW.generation := 77"),
        ("sidecars", "sidecars", "NEW.body := 'other'"),
        ("changes", "changes", "NEW.previous := decode(repeat('77', 32), 'hex')"),
    ];
    let from = Place::sqlite_file().await;
    filled(&from).await;
    for (what, table, edit) in edits {
        let to = Place::postgresql_database().await;
        let Settings::Postgresql(target) = &to.settings else { panic!("it is a database") };
        let opened = open(&to.settings).await.unwrap();
        // After the opening, which would refuse it.
        let trigger = format!(
            "CREATE FUNCTION public.edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {edit}; RETURN NEW; END $$;
             CREATE TRIGGER edit BEFORE INSERT ON keyward.{table} FOR EACH ROW EXECUTE FUNCTION public.edit()"
        );
        server.sql(&target.dbname, &trigger);
        let source = look(&from.settings).await.unwrap();
        assert_eq!(copy(source, opened, &mut |_| {}).await.err(), Some(CopyError::Different(what)), "{edit}");
        assert_eq!(server.sql(&target.dbname, "SELECT count(*) FROM keyward.genesis"), "0");
    }
}

#[tokio::test]
async fn rows_that_belong_to_nothing_are_missed_and_said_to_be() {
    let (from, to) = (Place::sqlite_file().await, Place::sqlite_file().await);
    let store = from.open().await;
    store.commit(vec![genesis(1), partition("default/nowhere", 1, 1, 1)]).await;
    assert_eq!(copied(&from, &to).await.err(), Some(CopyError::Different("the number of rows")));
    assert_eq!(Halves::of(open(&to.settings).await.unwrap()).reader.genesis().await.unwrap(), None);
}

/// What others change while a store is copied is in the next copy, and makes this one neither wrong nor late.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_of_one_moment_whatever_others_change_meanwhile() {
    for from in [Place::sqlite_file().await, Place::postgresql_database().await] {
        let to = Place::sqlite_file().await;
        let store = from.open().await;
        store.commit(vec![genesis(1), head("default/a", 1), key(1, "default/a", 1, b"wrap"), change(1)]).await;
        store.commit(vec![usage(1, 1, 1)]).await;
        let (before, moment) = (store.image().await.unwrap(), look(&from.settings).await.unwrap());
        let busy = store.writer.clone();
        let mut generation = 1;
        let mut changed = |_| {
            // Each row that can change, between any two pages.
            generation += 1;
            let row = head("default/a", generation);
            let batch = vec![row, usage(1, 1, generation), sidecar(2, generation - 1), change(generation)];
            let writer = busy.clone();
            let done = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(writer.commit(batch))
            });
            tokio::task::block_in_place(|| done.join().unwrap()).unwrap();
        };
        let counts = copy(moment, open(&to.settings).await.unwrap(), &mut changed).await.unwrap();
        assert_eq!((counts.changes, counts.sidecars), (1, 0));
        assert_eq!(to.open().await.image().await.unwrap(), before);
        assert!(store.reader.counts().await.unwrap().changes > 5, "others went on");
    }
}
