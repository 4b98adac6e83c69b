//! An older store was put back, and is all there is: it serves once the operator has declared it, and not before.

use std::path::Path;

use serde_json::{Value, json};

use super::{at, eventually, open, refused, settle, start, state, stopped};
use crate::requests::records;
use crate::support::keyward_ok;

#[test]
fn an_older_file_that_was_put_back_serves_only_once_the_number_of_lost_changes_is_accepted() {
    let (setup, value) = stopped();
    let (store, older, newer) = (state(&setup).join("store.db"), at(&setup, "older.db"), at(&setup, "newer.db"));
    settle(&store);
    std::fs::copy(&store, &older).unwrap();
    let serving = setup.serve();
    let config = setup.config();
    keyward_ok(&["keyring", "create", "staff", "--require", "path", "--config", &config]);
    keyward_ok(&["keyring", "create", "more", "--require", "path", "--config", &config]);
    let declare = ["restore", "--store-only", "--in-place", "--config", &config];
    assert!(refused(&declare).contains("stop the sidecar first"));
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&declare).contains("nothing had to be declared"));
    settle(&store);
    std::fs::copy(&store, &newer).unwrap();
    let put_back = |from: &Path| {
        for end in ["-wal", "-shm"] {
            let _gone = std::fs::remove_file(state(&setup).join(format!("store.db{end}")));
        }
        std::fs::copy(from, &store).unwrap();
    };
    put_back(&older);
    {
        let _serving = start(&setup);
        let said = eventually(&setup);
        assert!(said.contains("older than the audit log") && said.contains("--store-only --in-place"), "{said}");
    }
    let said = refused(&declare);
    assert!(said.contains("gives up 2 changes") && said.contains("--accept-lost-changes 2"), "{said}");
    for wrong in ["1", "3"] {
        assert!(refused(&[&declare[..], &["--accept-lost-changes", wrong]].concat()).contains("gives up 2 changes"));
    }
    let done = keyward_ok(&[&declare[..], &["--accept-lost-changes", "2"]].concat());
    assert!(done.contains("2 changes were given up"), "{done}");
    let serving = setup.serve();
    assert_eq!(open(&setup, &value), (200, json!({ "text": "Ada" })));
    let rebased: Vec<Value> = records(&setup).into_iter().filter(|one| one["event"] == "store.rebased").collect();
    assert_eq!(rebased.len(), 1);
    assert_eq!(rebased[0]["facts"]["generation"], "3..4");
    assert!(rebased[0]["facts"]["abandoned_head"].as_str().unwrap().starts_with("3:"));
    assert!(rebased[0]["facts"]["store_head"].as_str().unwrap().starts_with("2:"));
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
    // What was given up is not declared a second time.
    put_back(&newer);
    let said = refused(&[&declare[..], &["--accept-lost-changes", "2"]].concat());
    assert!(said.contains("abandoned"), "{said}");
}
