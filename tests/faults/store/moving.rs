//! A store that a fleet shares is moved while a member goes on: nothing that was acknowledged is left behind, and nobody
//! serves the old one.

#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes configurations")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fleet::{another, check, head, join};
use super::postgresql::{opens, seal, set_up};
use super::set_back::{create, declare, refuses_to_start, says};
use crate::postgres::Postgres;
use crate::support::{Setup, keyward, keyward_ok};

/// Makes keyrings for ever; those that were acknowledged.
fn create_on(setup: &Setup, made: &Mutex<BTreeSet<String>>, end: &AtomicBool) {
    for number in (0..).take_while(|_| !end.load(Ordering::Relaxed)) {
        let name = format!("made-{number}");
        if create(setup, &name) {
            made.lock().unwrap().insert(name);
        }
    }
}

/// A copy of a configuration that names another database of the same server.
fn other_database(setup: &Setup, old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let text = text.replace(&format!("dbname = \"{old}\""), &format!("dbname = \"{new}\""));
    let path = setup.root().join(format!("{new}.toml"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_store_that_is_moved_under_a_running_fleet_loses_no_change_and_the_old_one_shuts_everybody() {
    let server = Postgres::shared();
    let (old, new) = (server.database(), server.database());
    let one = set_up(server, &old);
    let first = one.serve();
    one.keyring();
    let (sealed, context) = seal(&one);
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    let second = two.serve();
    assert_eq!(first.stop(), Some(0));
    let (made, end) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    let to = other_database(&one, &old, &new);
    std::thread::scope(|threads| {
        threads.spawn(|| create_on(&two, &made, &end));
        while made.lock().unwrap().len() < 3 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let moved = keyward(&["store", "migrate", "--config", &one.config(), "--to", &to]);
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        let said = says(&two, "this store was moved to");
        assert!(said.contains(&new), "{said}");
        end.store(true, Ordering::Relaxed);
    });
    let made = made.into_inner().unwrap();
    assert!(!create(&two, "too-late"));
    second.stop();
    for setup in [&one, &two] {
        refuses_to_start(setup, "this store was moved to");
    }
    // The new one has every keyring that anybody was told of, and to both logs it is the store that they know.
    for setup in [&one, &two] {
        let text = std::fs::read_to_string(other_database(setup, &old, &new)).unwrap();
        setup.edit_config(|_| text);
    }
    let serving = [one.serve(), two.serve()];
    for setup in [&one, &two] {
        opens(setup, &sealed, context);
        let listed = keyward_ok(&["keyring", "list", "--json", "--config", &setup.config()]);
        let missing: Vec<_> = made.iter().filter(|name| !listed.contains(&format!("default/{name}\""))).collect();
        assert!(missing.is_empty(), "{missing:?} of {} are not in the new store", made.len());
    }
    assert!(create(&two, "after-the-move"));
    let tail = keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &one.config()]);
    let moved = tail.lines().find(|line| line.contains("\"store.moved\"")).unwrap();
    assert!(moved.contains("\"moved_to\":\"postgresql://") && moved.contains(&new), "{moved}");
    for serving in serving {
        assert_eq!(serving.stop(), Some(0));
    }
}

#[test]
fn a_store_that_was_moved_is_taken_back_only_by_whoever_says_that_the_new_one_is_lost() {
    let server = Postgres::shared();
    let (old, new) = (server.database(), server.database());
    let setup = set_up(server, &old);
    let serving = setup.serve();
    setup.keyring();
    let (sealed, context) = seal(&setup);
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["store", "migrate", "--config", &setup.config(), "--to", &other_database(&setup, &old, &new)]);
    let again =
        keyward(&["store", "migrate", "--config", &setup.config(), "--to", &other_database(&setup, &old, &new)]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("this store was moved to"), "{said}");
    let (done, said) = declare(&setup, None);
    assert!(!done && said.contains("was moved to") && said.contains("--accept-lost-changes 0"), "{said}");
    let (done, said) = declare(&setup, Some(1));
    assert!(!done, "{said}");
    let (done, said) = declare(&setup, Some(0));
    assert!(done && said.contains("in service again"), "{said}");
    let serving = setup.serve();
    opens(&setup, &sealed, context);
    assert!(create(&setup, "goes-on"));
    assert_eq!(serving.stop(), Some(0));
    let (done, said) = declare(&setup, None);
    assert!(done && said.contains("nothing had to be declared"), "{said}");
}
