//! A file of lines: whole after kills, rotated, moved away by others, in a folder that is not there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{complete, get, recorded, seal, until, with_sink};
use crate::support::Setup;

/// The lines of all files of the sink, oldest first.
fn lines(dir: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect();
    // The file that grows has the shortest name and the newest lines.
    files.sort_by_key(|path| (path.file_name().unwrap() == "events.jsonl", path.clone()));
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn into(dir: &Path, more: &str) -> (Setup, u16) {
    with_sink(&format!("type = \"file\"\npath = \"{}\"\n{more}", dir.join("events.jsonl").display()))
}

#[test]
fn a_file_gets_every_record_in_order_across_kills_and_a_stop() {
    let out = tempfile::tempdir().unwrap();
    let (setup, port) = into(out.path(), "rotate = \"8KiB\"");
    let serving = setup.serve();
    setup.keyring();
    for _ in 0..3 {
        seal(&setup, 20);
    }
    serving.kill();
    for _ in 0..3 {
        let serving = setup.serve();
        seal(&setup, 7);
        serving.kill();
    }
    // A line that a crash tore is none: its record comes again.
    let file = out.path().join("events.jsonl");
    let torn = std::fs::read(&file).map(|bytes| [bytes.as_slice(), b"{\"id\":\"torn"].concat());
    if let Ok(torn) = torn {
        std::fs::write(&file, torn).unwrap();
    }
    let serving = setup.serve();
    seal(&setup, 1);
    until("all records are in the file", || complete(&setup, &lines(out.path())));
    assert!(get(port, "/metrics").contains("keyward_sink_up{sink=\"watch\"} 1"));
    until("readiness says so", || {
        let ready = get(port, "/readyz?verbose");
        if ready.contains("[ok] sink watch: file, 0 records behind") { Ok(()) } else { Err(ready) }
    });
    assert_eq!(serving.stop(), Some(0));
    // The last words of a sidecar that ends in order are there too.
    let last = lines(out.path());
    let ends: Vec<&Value> = last.iter().rev().take(2).map(|line| &line["record"]["event"]).collect();
    assert_eq!(ends, ["sidecar.stopped", "sidecar.draining"]);
    let rotated = std::fs::read_dir(out.path()).unwrap().count();
    assert!(rotated > 2, "{rotated} files");
}

#[test]
fn who_moves_the_file_away_gets_a_new_one_and_old_ones_are_kept_as_told() {
    let out = tempfile::tempdir().unwrap();
    let (setup, _) = into(out.path(), "rotate = \"6KiB\"\nkeep = 2");
    let file = out.path().join("events.jsonl");
    let serving = setup.serve();
    setup.keyring();
    until("the file is there", || if file.exists() { Ok(()) } else { Err(String::new()) });
    std::fs::rename(&file, out.path().join("events.jsonl.away")).unwrap();
    seal(&setup, 60);
    until("it is there again", || {
        let there = lines(out.path()).last().map(|line| line["record"]["index"].clone());
        let last = crate::requests::records(&setup).last().map(|record| record["index"].clone());
        if there == last { Ok(()) } else { Err(format!("{there:?} {last:?}")) }
    });
    drop(serving);
    let mut names: Vec<String> = std::fs::read_dir(out.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name != "events.jsonl");
    // Two of ours; what others named is theirs.
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"events.jsonl.away".to_owned()));
}

#[test]
fn a_folder_that_is_not_there_delays_nobody_and_is_told_everywhere() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("later");
    let (setup, port) = into(&dir, "");
    let _serving = setup.serve();
    setup.keyring();
    seal(&setup, 5);
    recorded(&setup, "sink.failed", Some("disk"));
    let ready = get(port, "/readyz?verbose");
    assert!(ready.contains("200 OK") && ready.contains("[degraded] sink watch:"), "{ready}");
    assert!(get(port, "/metrics").contains("keyward_sink_up{sink=\"watch\"} 0"));
    std::fs::create_dir(&dir).unwrap();
    recorded(&setup, "sink.recovered", None);
    until("all records are in the file", || complete(&setup, &lines(&dir)));
}

#[test]
fn a_log_that_was_put_back_is_noticed_by_its_sink() {
    let out = tempfile::tempdir().unwrap();
    let (setup, port) = into(out.path(), "");
    let serving = setup.serve();
    setup.keyring();
    until("all records are in the file", || complete(&setup, &lines(out.path())));
    drop(serving);
    let position = setup.root().join("state/sinks/watch.position");
    let mut saved: Value = serde_json::from_slice(&std::fs::read(&position).unwrap()).unwrap();
    let before = std::fs::read(out.path().join("events.jsonl")).unwrap();
    saved["next"] = Value::from(1_000_000);
    std::fs::write(&position, saved.to_string()).unwrap();
    let serving = setup.serve();
    recorded(&setup, "sink.failed", Some("log_behind"));
    assert!(get(port, "/readyz?verbose").contains("record 999999 was sent"));
    assert_eq!(std::fs::read(out.path().join("events.jsonl")).unwrap(), before);
    drop(serving);
    // A position that cannot be read stops the sink too, and says how to go on.
    std::fs::write(&position, "{").unwrap();
    let _serving = setup.serve();
    recorded(&setup, "sink.failed", Some("position"));
    assert!(get(port, "/readyz?verbose").contains("remove it to send the whole log again"));
    std::fs::remove_file(&position).unwrap();
    until("the whole log is sent again", || complete(&setup, &lines(out.path())));
}
