//! Backups that are not as they were: each file damaged and missing, the manifest edited, a row edited with care.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{backup, files, manifest, refused, settle, state, stopped, text};
use crate::support::keyward_ok;

#[test]
fn every_damaged_or_missing_file_of_a_backup_is_refused_and_named_and_nothing_is_written() {
    let (setup, _) = stopped();
    let from = backup(&setup, "backup");
    std::fs::remove_dir_all(state(&setup)).unwrap();
    let config = setup.config();
    let restore = ["restore", "--from", &from, "--config", &config];
    let drill = [
        "drill",
        "restore",
        "--kek",
        "primary",
        "--signed-off-by",
        "a",
        "--report",
        "/nowhere",
        "--from",
        &from,
        "--config",
        &config,
    ];
    for file in files(&from) {
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        if let Some(byte) = flipped.last_mut() {
            *byte ^= 1;
        } else {
            flipped.push(0);
        }
        std::fs::write(&file, &flipped).unwrap();
        for command in [&restore[..], &drill] {
            let said = refused(command);
            assert!(said.contains(&text(&file)) && said.contains("is damaged"), "{said}");
        }
        std::fs::remove_file(&file).unwrap();
        let said = refused(&restore);
        assert!(said.contains(&text(&file)) && said.contains("it is missing"), "{said}");
        std::fs::write(&file, &whole).unwrap();
    }
    let path = Path::new(&from).join("manifest.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    for (edit, says) in [
        (whole.replace("\"schema\": 1", "\"schema\": 2"), "has schema 2, this keyward knows 1"),
        (whole.replace("store.sqlite", "../store.sqlite"), "leads out of the backup"),
        (
            whole.replace("\"production\"", "\"staging\"").replace("\"development\"", "\"production\""),
            "the backup is of a production store",
        ),
        (whole[..whole.len() / 2].to_owned(), "manifest.json is damaged"),
    ] {
        std::fs::write(&path, edit).unwrap();
        let said = refused(&restore);
        assert!(said.contains(says), "{says}: {said}");
    }
    std::fs::remove_file(&path).unwrap();
    let said = refused(&restore);
    assert!(said.contains("no backup, or one that was cut short"), "{said}");
    assert!(!state(&setup).exists(), "nothing was written");
    std::fs::write(&path, &whole).unwrap();
    let said = refused(&[&restore[..], &["--digest", &"0".repeat(64)]].concat());
    assert!(said.contains("another backup, or a changed one"), "{said}");
    keyward_ok(&restore);
}

#[test]
fn a_row_that_was_edited_in_a_backup_with_a_new_manifest_is_refused() {
    let (setup, _) = stopped();
    let from = backup(&setup, "backup");
    std::fs::remove_dir_all(state(&setup)).unwrap();
    let store = Path::new(&from).join("store.sqlite");
    let database = rusqlite::Connection::open(&store).unwrap();
    database.execute("UPDATE keys SET state = 'destroyed' WHERE purpose = 'data'", []).unwrap();
    drop(database);
    settle(&store);
    let sums = Command::new("sha256sum").arg(&store).output().unwrap().stdout;
    let mut edited = manifest(&from);
    for file in edited["files"].as_array_mut().unwrap() {
        if file["path"] == "store.sqlite" {
            file["sha256"] = json!(String::from_utf8(sums[..64].to_vec()).unwrap());
            file["bytes"] = json!(std::fs::metadata(&store).unwrap().len());
        }
    }
    std::fs::write(Path::new(&from).join("manifest.json"), edited.to_string()).unwrap();
    let said = refused(&["restore", "--from", &from, "--config", &setup.config()]);
    assert!(
        said.contains("the store in the backup is not admitted") && said.contains("its seal does not verify"),
        "{said}"
    );
    for left in ["store.db", "restoring", "restoring.sqlite", "log"] {
        assert!(!state(&setup).join(left).exists(), "{left} was left behind: another backup can be tried");
    }
}
