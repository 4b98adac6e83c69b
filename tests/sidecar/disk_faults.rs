//! The real binary on a disk that fails: what was acknowledged is there afterwards, nothing is answered that was not recorded,
//! and nothing is tried again before a restart has looked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Caller, KEYWARD, Serving, Setup, keyward};

/// Seals one after another until one is refused; gives the ids of those that were acknowledged.
fn seal_until_refused(setup: &Setup) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut caller = Caller::connect(&setup.data()).unwrap();
    for number in 0..400 {
        let body = json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string();
        let id = format!("fault-{number:04}");
        match caller.ask("POST", "/v1/keyrings/patients/seal", &id, &body) {
            Ok((200, _)) => acknowledged.push(id),
            Ok((503, _)) => return acknowledged,
            other => panic!("{number}: {other:?}"),
        }
    }
    panic!("nothing failed");
}

fn status(setup: &Setup) -> u16 {
    let body = json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string();
    crate::support::post(&setup.data(), "/v1/keyrings/patients/seal", &body).0
}

fn segment(setup: &Setup) -> PathBuf {
    Path::new(&setup.log()).join("wal/00000000000000000000.wal")
}

/// Ends what strace runs, and strace with it.
fn end(serving: Serving, setup: &Setup) {
    let socket = setup.control();
    let holders = Command::new("pgrep").args(["-f", &format!("serve --config {}", setup.config())]).output().unwrap();
    for process in String::from_utf8(holders.stdout).unwrap().split_whitespace() {
        let _ended = Command::new("kill").args(["-KILL", process]).status();
    }
    drop(serving);
    let until = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every acknowledged request stands once in a log that verifies; every other one at most once.
fn all_there(setup: &Setup, acknowledged: &[String]) {
    let serving = setup.serve();
    assert_eq!(status(setup), 200, "a restart serves again");
    assert_eq!(serving.stop(), Some(0));
    let verified = keyward(&["audit", "verify", &setup.log()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let log = setup.log_bytes();
    let text = String::from_utf8_lossy(&log);
    for id in acknowledged {
        assert_eq!(text.matches(&format!("\"request\":\"{id}\"")).count(), 1, "{id}");
    }
}

/// LOG-18
#[test]
fn a_disk_that_fails_under_the_real_binary_loses_nothing_that_was_acknowledged() {
    for (fault, why) in [
        ("fdatasync:error=EIO:when=40+", "Input/output error"),
        // Once is enough: what failed is not tried again, though it would succeed.
        ("fdatasync:error=EIO:when=40", "Input/output error"),
        ("pwrite64:error=ENOSPC:when=40+", "No space left on device"),
        ("pwrite64:error=EROFS:when=40+", "Read-only file system"),
        ("pwrite64:error=EDQUOT:when=40", "quota"),
    ] {
        let setup = Setup::new();
        let serving = setup.serve();
        setup.keyring();
        assert_eq!(serving.stop(), Some(0));
        let mut strace = Command::new("strace");
        // Calls on the segment alone: the store's files are written as ever.
        strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(segment(&setup));
        strace.args(["-e", "trace=fdatasync,pwrite64", "-e", &format!("inject={fault}")]).arg(KEYWARD);
        let serving = setup.serve_with(strace);
        let acknowledged = seal_until_refused(&setup);
        assert!(!acknowledged.is_empty(), "{fault}");
        for _ in 0..20 {
            assert_eq!(status(&setup), 503, "{fault}: nothing is answered any more");
        }
        let said = std::fs::read_to_string(setup.dir.path().join("stderr")).unwrap();
        assert!(said.contains(why) || said.contains("audit"), "{fault}: {said}");
        end(serving, &setup);
        all_there(&setup, &acknowledged);
    }
}

/// LOG-18
#[test]
fn a_segment_that_is_unlinked_under_the_real_binary_is_noticed_and_a_start_without_it_is_refused() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(status(&setup), 200);
    let kept = setup.dir.path().join("kept");
    std::fs::copy(segment(&setup), &kept).unwrap();
    std::fs::remove_file(segment(&setup)).unwrap();
    assert!(seal_until_refused(&setup).is_empty(), "nothing is acknowledged into a file that nobody can find");
    assert_eq!(status(&setup), 503);
    serving.kill();
    let refused = keyward(&["serve", "--config", &setup.config()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(74) && said.contains("LOG-"), "{said}");
    std::fs::copy(&kept, segment(&setup)).unwrap();
    all_there(&setup, &[]);
}
