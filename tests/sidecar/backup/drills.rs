//! What of a drill is evidence.

use std::path::Path;

use serde_json::{Value, json};

use super::{at, backup, events, refused, stopped, text};
use crate::support::keyward_ok;

#[test]
fn a_log_takes_no_passed_drill_of_a_backup_that_it_does_not_know() {
    let (setup, _) = stopped();
    let (from, config, report) = (backup(&setup, "backup"), setup.config(), text(&at(&setup, "report.json")));
    let drill = ["drill", "restore", "--kek", "primary", "--signed-off-by", "a", "--from", &from, "--config", &config];
    // The same bytes in another manifest: nothing is damaged, but nobody made this backup.
    let manifest = Path::new(&from).join("manifest.json");
    let made = std::fs::read(&manifest).unwrap();
    let exchanged: Value = serde_json::from_slice(&made).unwrap();
    std::fs::write(&manifest, exchanged.to_string()).unwrap();
    assert!(refused(&drill).contains("no record of the backup"));
    let shown = keyward_ok(&[&drill[..], &["--report", &report]].concat());
    assert!(shown.contains("PASSED") && shown.contains("not recorded yet"), "{shown}");
    assert!(refused(&["drill", "record", &report, "--config", &config]).contains("no record of the backup"));
    assert!(events(&setup, "drill.done").is_empty());
    // A report that names the backup which was made is taken; who writes such a file by hand signs for it.
    std::fs::write(&manifest, &made).unwrap();
    let shown = keyward_ok(&drill);
    assert!(shown.contains("in the production log"), "{shown}");
    // No drill makes a backup known.
    let mut forged: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    forged["backup"] = json!("ab".repeat(32));
    std::fs::write(&report, forged.to_string()).unwrap();
    assert!(refused(&["drill", "record", &report, "--config", &config]).contains("no record of the backup"));
    assert_eq!(events(&setup, "drill.done").len(), 1);
}
