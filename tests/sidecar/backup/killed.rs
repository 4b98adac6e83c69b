//! Backups and restores that end by SIGKILL, later and later.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{at, backup, open, refused, state, stopped, text};
use crate::support::{KEYWARD, Setup, keyward_ok};

#[test]
fn a_backup_that_was_killed_at_any_moment_is_none_or_whole() {
    let (setup, _) = stopped();
    let config = setup.config();
    let (mut cut, mut turn) = (0, 0);
    loop {
        let to = text(&at(&setup, &format!("killed-{turn}")));
        let running = killed(&["backup", "--to", &to, "--config", &config], STEP * turn);
        if !running {
            break;
        }
        if Path::new(&to).join("manifest.json").exists() {
            // Whole, though perhaps not recorded: then the drill is not, either.
            keyward_ok(&[
                "drill",
                "restore",
                "--kek",
                "primary",
                "--signed-off-by",
                "a",
                "--from",
                &to,
                "--report",
                &format!("{to}.report"),
                "--config",
                &config,
            ]);
        } else if Path::new(&to).exists() {
            cut += 1;
            let said = refused(&["restore", "--from", &to, "--config", &config]);
            assert!(said.contains("it is no backup, or one that was cut short"), "{said}");
        }
        turn += 1;
    }
    println!("{turn} backups were killed, {cut} of them after they had begun");
    assert!(cut > 0);
}

#[test]
fn a_restore_that_was_killed_at_any_moment_is_finished_by_the_same_command_and_nothing_starts_before() {
    let (setup, value) = stopped();
    let from = backup(&setup, "backup");
    let whole = at(&setup, "whole");
    assert!(Command::new("cp").arg("-a").args([state(&setup), whole.clone()]).status().unwrap().success());
    for store_only in [false, true] {
        let lose = || {
            // One that was killed early has made none.
            if state(&setup).exists() {
                std::fs::remove_dir_all(state(&setup)).unwrap();
            }
            if store_only {
                assert!(Command::new("cp").arg("-a").args([whole.clone(), state(&setup)]).status().unwrap().success());
                std::fs::remove_file(state(&setup).join("store.db")).unwrap();
            }
        };
        let (turns, cut) = killed_restores(&setup, &from, store_only, lose, &value);
        println!("store only {store_only}: {turns} restores were killed, {cut} left something unfinished");
        assert!(cut > 0);
    }
}

/// Kills restores later and later until one is faster; how many, and how many of them left something unfinished.
fn killed_restores(setup: &Setup, from: &str, store_only: bool, lose: impl Fn(), value: &str) -> (u32, u32) {
    let config = setup.config();
    let mut restore = vec!["restore", "--from", from, "--config", &config];
    restore.extend(store_only.then_some("--store-only"));
    let (mut cut, mut turn) = (0, 0);
    loop {
        lose();
        let running = killed(&restore, STEP * turn);
        if !running {
            return (turn, cut);
        }
        turn += 1;
        if !state(setup).join("restoring").exists() {
            continue;
        }
        cut += 1;
        let said = refused(&["serve", "--config", &config]);
        assert!(
            said.contains("a restore was cut short") && said.contains("run the same `keyward restore` again"),
            "{said}"
        );
        let said = refused(&["backup", "--to", &text(&at(setup, "none")), "--config", &config]);
        assert!(said.contains("a restore was cut short"), "{said}");
        assert!(refused(&["init", "--config", &config]).contains("exists already"));
        let mut other = restore.clone();
        if store_only {
            other.retain(|word| *word != "--store-only")
        } else {
            other.push("--store-only")
        }
        let said = refused(&other);
        assert!(said.contains("another restore was cut short here"), "{said}");
        keyward_ok(&restore);
        assert!(!state(setup).join("restoring").exists() && !state(setup).join("restoring.sqlite").exists());
        let serving = setup.serve();
        assert_eq!(open(setup, value), (200, json!({ "text": "Ada" })));
        assert_eq!(serving.stop(), Some(0));
        keyward_ok(&["audit", "verify", &setup.log()]);
    }
}

/// How much later each kill comes than the one before.
const STEP: Duration = Duration::from_millis(9);

/// Kills a command after a while; whether it was still running.
fn killed(arguments: &[&str], delay: Duration) -> bool {
    let mut child = Command::new(KEYWARD).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let running = child.try_wait().unwrap().is_none();
    let _ended = child.kill();
    child.wait().unwrap();
    running
}
