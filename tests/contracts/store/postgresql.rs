//! What PostgreSQL promises of its database, beside what every store promises.

use std::path::Path;
use std::time::Duration;

use keyward::store::postgres::{Settings, Tls, attach, create, open, script};
use keyward::store::{StoreError, Write};

use super::{Halves, change, genesis, head, key, partition};
use crate::postgres::{OWNER, Postgres};

const ROLE: &str = "serving";

/// A database whose schema its owner made, for a role with the rights that `script` gives, over TLS.
pub(super) fn of_another_owner(dir: &Path) -> Settings {
    let server = Postgres::shared();
    let name = server.database();
    server.role(ROLE);
    server.sql(&name, &script(0, ROLE).unwrap());
    let tls = Tls::VerifyFull { ca_file: server.ca_file() };
    Settings { user: ROLE.to_owned(), ..server.over_tcp(&name, "localhost", tls, dir) }
}

async fn fresh() -> (String, Settings, Halves) {
    let server = Postgres::shared();
    let name = server.database();
    let settings = server.settings(&name);
    let opened = create(&settings).await.unwrap();
    (name, settings, Halves::of(opened))
}

fn unavailable(error: Option<StoreError>, words: &str) {
    match error {
        Some(StoreError::Unavailable(told)) => assert!(told.contains(words), "{told}"),
        other => panic!("{other:?} is not unavailable for {words}"),
    }
}

#[tokio::test]
async fn opens_only_what_was_created() {
    let server = Postgres::shared();
    let settings = server.settings(&server.database());
    let refused = open(&settings).await.err().unwrap();
    assert!(matches!(refused, StoreError::Missing(_)), "{refused}");
    let place = format!("postgresql://{OWNER}@{}", server.socket_dir().display());
    assert!(refused.to_string().starts_with(&format!("there is no store at {place}")), "{refused}");
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_finished_and_many_at_once_make_one_schema() {
    let server = Postgres::shared();
    let settings = server.settings(&server.database());
    let creations = (0..4).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move { create(&settings).await.map(Halves::of) })
    });
    let mut founded = 0;
    for creation in creations.collect::<Vec<_>>() {
        match creation.await.unwrap() {
            Ok(store) => founded += u32::from(store.writer.commit(vec![genesis(1)]).await.is_ok()),
            Err(error) => assert!(matches!(error, StoreError::Exists(_)), "{error}"),
        }
    }
    assert_eq!(founded, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_keyward_it_needs() {
    let (name, settings, store) = fresh().await;
    drop(store);
    Postgres::shared().sql(&name, "UPDATE keyward.needs SET schema = 8, keyward = '7.1.0'");
    let refused = open(&settings).await.err().unwrap();
    assert_eq!(refused, StoreError::NewerSchema { found: 8, known: 1, needs: "7.1.0".to_owned() });
    assert!(matches!(create(&settings).await.err(), Some(StoreError::NewerSchema { .. })));
}

#[tokio::test]
async fn a_schema_that_somebody_changed_is_refused() {
    let edits = [
        "CREATE FUNCTION keyward.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER quiet BEFORE INSERT ON keyward.keys FOR EACH ROW EXECUTE FUNCTION keyward.quiet()",
        "CREATE FUNCTION public.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER quiet BEFORE INSERT ON keyward.keys FOR EACH ROW EXECUTE FUNCTION public.quiet()",
        "DROP TRIGGER changes_are_not_edited ON keyward.changes",
        "ALTER TABLE keyward.changes DISABLE TRIGGER changes_are_not_edited",
        "CREATE OR REPLACE FUNCTION keyward.is_a_record() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE RULE quiet AS ON INSERT TO keyward.usage DO INSTEAD NOTHING",
        "ALTER TABLE keyward.keys ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE keyward.keys ADD COLUMN more integer",
        "ALTER TABLE keyward.keyrings ALTER COLUMN name TYPE text COLLATE \"und-x-icu\"",
        "CREATE TABLE keyward.more (one integer)",
        "ALTER TABLE keyward.sidecars RENAME TO others; CREATE VIEW keyward.sidecars AS SELECT * FROM keyward.others",
        "ALTER TABLE keyward.keys ALTER CONSTRAINT keys_keyring_fkey NOT DEFERRABLE",
        "DELETE FROM keyward.needs",
    ];
    for edit in edits {
        let (name, settings, store) = fresh().await;
        drop(store);
        Postgres::shared().sql(&name, edit);
        let refused = open(&settings).await.err();
        assert!(matches!(refused, Some(StoreError::Corrupt(_))), "{edit}: {refused:?}");
    }
}

#[tokio::test]
async fn an_index_and_statistics_of_the_owner_are_no_harm() {
    let (name, settings, store) = fresh().await;
    drop(store);
    Postgres::shared()
        .sql(&name, "CREATE INDEX mine ON keyward.keys (state); ANALYZE; COMMENT ON SCHEMA keyward IS 'x'");
    open(&settings).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused() {
    let server = Postgres::shared();
    let made = "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    server.sql("postgres", made);
    match create(&server.settings("ascii")).await.err() {
        Some(StoreError::Unsuitable(why)) => assert!(why.contains("SQL_ASCII"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_order_of_names_is_that_of_bytes_in_a_database_of_any_language() {
    let server = Postgres::shared();
    let made = "CREATE DATABASE words LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8' TEMPLATE template0";
    server.sql("postgres", made);
    assert_eq!(server.sql("words", "SELECT 'Z' < 'a'"), "f", "the database orders as a language does");
    let store = Halves::of(create(&server.settings("words")).await.unwrap());
    store.commit(["a", "B", "Z", "\u{e9}"].map(|name| head(name, 1)).to_vec()).await;
    let names = store.reader.keyrings(None, 10).await.unwrap().into_iter().map(|row| row.name);
    assert_eq!(names.collect::<Vec<_>>(), ["B", "Z", "a", "\u{e9}"]);
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_the_database_prefers() {
    let server = Postgres::shared();
    let name = server.database();
    // A transaction that does not wait says so in what the trigger sees.
    server.sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let store = Halves::of(create(&server.settings(&name)).await.unwrap());
    let spy = "CREATE TABLE public.seen (setting text);
        CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END';
        CREATE TRIGGER spy BEFORE INSERT ON keyward.keyrings FOR EACH ROW EXECUTE FUNCTION public.spy()";
    server.sql(&name, spy);
    store.commit(vec![head("default/a", 1)]).await;
    assert_eq!(server.sql(&name, "SELECT setting FROM public.seen"), "on");
}

#[tokio::test]
async fn the_role_that_serves_cannot_delete_edit_the_chain_or_change_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let settings = of_another_owner(dir.path());
    let store = Halves::of(create(&settings).await.unwrap());
    store.commit(vec![head("default/a", 1), key(1, "default/a", 1, b""), partition("a", 1, 1, 1), change(1)]).await;
    let denied = [
        "DELETE FROM keyward.keys",
        "DELETE FROM keyward.partitions",
        "DELETE FROM keyward.keyrings",
        "TRUNCATE keyward.changes",
        "UPDATE keyward.changes SET body = ''",
        "UPDATE keyward.needs SET schema = 2",
        "ALTER TABLE keyward.keys DISABLE TRIGGER ALL",
        "DROP SCHEMA keyward CASCADE",
        "CREATE TABLE keyward.more (one integer)",
    ];
    let (server, name) = (Postgres::shared(), &settings.dbname);
    for statement in denied {
        let as_role = format!(
            "SET ROLE {ROLE}; DO $do$ BEGIN {statement}; RAISE 'it was allowed';
             EXCEPTION WHEN insufficient_privilege THEN NULL; END $do$"
        );
        server.sql(name, &as_role);
    }
    // And not even the owner by mistake.
    for statement in ["DELETE FROM keyward.keys", "TRUNCATE keyward.changes", "UPDATE keyward.changes SET body = ''"] {
        let as_owner = format!(
            "DO $do$ BEGIN {statement}; RAISE 'it was allowed';
             EXCEPTION WHEN integrity_constraint_violation THEN NULL; END $do$"
        );
        server.sql(name, &as_owner);
    }
}

#[tokio::test]
async fn a_role_that_may_not_make_the_schema_is_told_who_can() {
    let server = Postgres::shared();
    let name = server.database();
    server.role(ROLE);
    let settings = Settings { user: ROLE.to_owned(), ..server.settings(&name) };
    match create(&settings).await.err() {
        Some(StoreError::Unsuitable(why)) => assert!(why.contains("keyward store schema"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test writes an authority that vouched for nobody")]
async fn tls_is_believed_only_for_the_name_and_the_authority_that_were_configured() {
    let server = Postgres::shared();
    let name = server.database();
    let dir = tempfile::tempdir().unwrap();
    let with = |host: &str, ca_file: &Path| {
        server.over_tcp(&name, host, Tls::VerifyFull { ca_file: ca_file.to_owned() }, dir.path())
    };
    create(&with("localhost", &server.ca_file())).await.unwrap();
    unavailable(create(&with("127.0.0.1", &server.ca_file())).await.err(), "certificate");
    let other = Postgres::new();
    unavailable(create(&with("localhost", &other.ca_file())).await.err(), "certificate");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    unavailable(create(&with("localhost", &empty)).await.err(), "holds no certificate");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let server = Postgres::new();
    let dir = tempfile::tempdir().unwrap();
    let settings = server.over_tcp("postgres", "localhost", Tls::VerifyFull { ca_file: server.ca_file() }, dir.path());
    server.stop();
    server.start_without_tls();
    unavailable(create(&settings).await.err(), "TLS");
    create(&server.over_tcp("postgres", "127.0.0.1", Tls::Off, dir.path())).await.unwrap();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test opens the password to others on purpose")]
async fn a_password_is_read_from_a_file_of_its_owner_at_each_login() {
    use std::os::unix::fs::PermissionsExt;
    let server = Postgres::shared();
    let dir = tempfile::tempdir().unwrap();
    let settings = server.over_tcp(&server.database(), "127.0.0.1", Tls::Off, dir.path());
    let file = settings.password_file.clone().unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    unavailable(create(&settings).await.err(), "chmod 600");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    create(&settings).await.unwrap();
    std::fs::write(&file, "another").unwrap();
    unavailable(open(&settings).await.err(), "refuses the login");
    std::fs::remove_file(&file).unwrap();
    unavailable(open(&settings).await.err(), "password");
}

#[tokio::test]
async fn somebody_elses_change_is_told_and_a_lost_listener_tells_when_it_is_back() {
    let (name, settings, store) = fresh().await;
    let other = Halves::of(open(&settings).await.unwrap());
    // The listener tells once when it begins: it cannot know what it missed.
    store.writer.hint().await;
    other.writer.hint().await;
    other.commit(vec![change(1)]).await;
    store.writer.hint().await;
    let ended = Postgres::shared().sql(
        &name,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND query = 'LISTEN keyward'",
    );
    assert_eq!(ended, "2");
    store.writer.hint().await;
    other.commit(vec![change(2)]).await;
    store.writer.hint().await;
}

#[tokio::test]
async fn connections_that_died_while_idle_are_nobodys_error() {
    let (name, _settings, store) = fresh().await;
    store.commit(vec![head("default/a", 1), change(1)]).await;
    for seq in 2..6 {
        cut(&name);
        assert_eq!(store.writer.last_change().await.unwrap().unwrap().seq, seq - 1);
        cut(&name);
        store.commit(vec![head("default/a", seq), change(seq)]).await;
    }
}

/// Ends every connection to a database, as an operator or a proxy would.
fn cut(name: &str) {
    let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    Postgres::shared().sql(name, all);
}

#[tokio::test]
async fn a_read_only_database_is_read_and_refuses_changes_in_words() {
    let (name, settings, store) = fresh().await;
    store.commit(vec![head("default/a", 1)]).await;
    drop(store);
    let server = Postgres::shared();
    server.sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let store = Halves::of(open(&settings).await.unwrap());
    assert_eq!(store.image().await.unwrap().keyrings.len(), 1);
    unavailable(store.writer.commit(vec![head("default/a", 2)]).await.err(), "read-only");
    server.sql("postgres", &format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
    cut(&name);
    store.commit(vec![head("default/a", 2)]).await;
}

#[tokio::test]
async fn a_standby_is_not_read_from_and_serves_once_it_is_promoted() {
    let primary = Postgres::new();
    let dbname = primary.database();
    drop(create(&primary.settings(&dbname)).await.unwrap());
    let standby = primary.standby();
    let settings = standby.settings(&dbname);
    unavailable(open(&settings).await.err(), "this server is a standby");
    let attached = Halves::of(attach(&settings).await.unwrap());
    unavailable(attached.writer.last_change().await.err(), "this server is a standby");
    unavailable(attached.reader.counts().await.err(), "this server is a standby");
    standby.sql("postgres", "SELECT pg_promote()");
    let store = Halves::of(open(&settings).await.unwrap());
    store.commit(vec![genesis(1)]).await;
    assert_eq!(store.reader.counts().await.unwrap().genesis, 1);
}

/// An older sidecar of a fleet, after a newer one has migrated; and one whose address leads to another server now.
#[tokio::test]
async fn each_new_connection_looks_whether_schema_and_server_are_still_fit() {
    let (name, settings, store) = fresh().await;
    store.commit(vec![genesis(1)]).await;
    let again = || async {
        cut(&name);
        store.writer.last_change().await.err()
    };
    assert_eq!(again().await, None);
    let server = Postgres::shared();
    server.sql(&name, "UPDATE keyward.needs SET schema = 99, keyward = '9.9.9'");
    let refused = again().await;
    assert!(
        matches!(&refused, Some(StoreError::NewerSchema { found: 99, needs, .. }) if needs == "9.9.9"),
        "{refused:?}"
    );
    server.sql(&name, "UPDATE keyward.needs SET schema = 0");
    let refused = again().await.unwrap().to_string();
    assert!(refused.contains("was an older database put back"), "{refused}");
    server.sql(&name, "UPDATE keyward.needs SET schema = 1");
    assert_eq!(again().await, None, "{settings}");
    server.sql(&name, &format!("ALTER DATABASE {name} SET synchronous_commit = 'local'"));
    assert_eq!(again().await, None, "keyward sets it for its own sessions");
}

#[tokio::test]
async fn a_slow_database_is_an_error_in_time_and_nothing_stays() {
    let (name, settings, store) = fresh().await;
    drop(store);
    let hurried = Settings { statement_timeout: Duration::from_millis(200), ..settings };
    let store = Halves::of(open(&hurried).await.unwrap());
    let server = Postgres::shared();
    let mut blocker = server.session(&name, "BEGIN; LOCK TABLE keyward.keyrings IN ACCESS EXCLUSIVE MODE");
    unavailable(store.writer.commit(vec![head("default/a", 1), change(1)]).await.err(), "too slow");
    unavailable(store.reader.keyrings(None, 10).await.err(), "too slow");
    blocker.end();
    assert_eq!(store.writer.last_change().await.unwrap(), None);
    store.commit(vec![head("default/a", 1), change(1)]).await;
}

#[tokio::test]
async fn a_keyring_of_five_hundred_keys_is_written_in_one_batch_and_read_whole() {
    let (_name, _settings, store) = fresh().await;
    let keys = (0..500_u16).map(|n| {
        let Write::Key(mut sealed) = key(0, "default/a", 1, b"w") else { panic!("it is a key") };
        sealed.row.id.0[..2].copy_from_slice(&n.to_be_bytes());
        Write::Key(sealed)
    });
    store.commit(std::iter::once(head("default/a", 1)).chain(keys).collect()).await;
    let ring = store.writer.ring("default/a".to_owned()).await.unwrap().unwrap();
    assert_eq!(ring.keys.len(), 500);
    assert!(ring.keys.is_sorted_by_key(|key| key.row.id));
}

/// Every block of SQL of the page for operators is run as it stands, and the schema is made in between.
#[tokio::test]
async fn the_page_for_operators_says_what_suffices() {
    let page = include_str!("../../../docs/postgresql.md");
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [roles, rights] = blocks[..] else { panic!("roles, then rights: {blocks:?}") };
    let server = Postgres::new();
    for statement in roles.split_inclusive(";\n") {
        server.sql("postgres", statement);
    }
    let whole = script(0, "keyward").unwrap();
    assert!(whole.ends_with(&format!("{rights}COMMIT;\n")), "{whole}");
    server.sql("keyward", &format!("SET ROLE keyward_owner; {whole}"));
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::VerifyFull { ca_file: server.ca_file() };
    server.sql("postgres", "ALTER ROLE keyward PASSWORD 'another'");
    let settings = Settings { user: "keyward".to_owned(), ..server.over_tcp("keyward", "localhost", tls, dir.path()) };
    unavailable(create(&settings).await.err(), "refuses the login");
    let password = crate::postgres::quoted(crate::postgres::PASSWORD);
    server.sql("postgres", &format!("ALTER ROLE keyward PASSWORD {password}"));
    let store = Halves::of(create(&settings).await.unwrap());
    store.commit(vec![genesis(1), head("default/a", 1), change(1)]).await;
    drop(store);
    assert_eq!(open(&settings).await.unwrap().reader().counts().await.unwrap().keyrings, 1);
}
