//! Does an answer leave before its record is on the disk? The system calls of the real binary, in their order.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Caller, KEYWARD, Setup};

const CLIENTS: usize = 3;
const SEALS: usize = 15;
const CALLS: &str = "trace=execve,pwrite64,fdatasync,write,writev,sendto,sendmsg";

#[test]
fn every_answer_is_sent_after_a_sync_that_follows_the_write_of_its_record() {
    let late = early_answers(&traced("synced"));
    assert!(late.is_empty(), "answered before the record was synced: {late:?}");
}

/// The same eyes see it when the log does not wait for the disk.
#[test]
fn without_waiting_for_the_disk_answers_are_seen_to_leave_early() {
    assert!(!early_answers(&traced("written")).is_empty());
}

/// Seals from several clients at once under strace, and gives the trace.
fn traced(durability: &str) -> String {
    let setup = Setup::new();
    setup.edit_config(|text| format!("{text}\n[audit]\ndurability = \"{durability}\"\n"));
    let trace = setup.dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "20000", "-e", CALLS, "-o"]).arg(&trace).arg(KEYWARD);
    let version = Command::new("strace").arg("--version").output();
    assert!(
        version.is_ok(),
        "strace cannot be run: install the Debian package strace, or run tests/run.sh, which does"
    );
    let serving = setup.serve_with(strace);
    let sidecar = Sidecar(&trace, AtomicBool::new(false));
    setup.keyring();
    let data = setup.data();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let data = &data;
            scope.spawn(move || {
                let mut caller = Caller::connect(data).unwrap();
                for number in 0..SEALS {
                    let body = json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string();
                    let name = name(client, number);
                    let (status, answer) = caller.ask("POST", "/v1/keyrings/patients/seal", &name, &body).unwrap();
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
    sidecar.signal("TERM");
    // strace ends with the program that it runs, and as it did.
    let mut serving = serving;
    let ended = serving.child.wait().unwrap();
    sidecar.1.store(true, Ordering::Relaxed);
    assert_eq!(ended.code(), Some(0));
    std::fs::read_to_string(&trace).unwrap()
}

fn name(client: usize, number: usize) -> String {
    format!("order-{client}-{number}.")
}

/// The process under strace, which would outlive a strace that is killed.
struct Sidecar<'a>(&'a Path, AtomicBool);

impl Sidecar<'_> {
    fn signal(&self, signal: &str) {
        let trace = std::fs::read_to_string(self.0).unwrap();
        let process = trace.split_whitespace().next().unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), process]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Sidecar<'_> {
    fn drop(&mut self) {
        if !self.1.load(Ordering::Relaxed) {
            self.signal("KILL");
        }
    }
}

/// A system call: the lines at which it began and ended.
struct Called<'a> {
    text: &'a str,
    began: usize,
    ended: usize,
}

/// The calls of a trace; one that others interrupted stands on two lines.
fn calls(trace: &str) -> Vec<Called<'_>> {
    let mut calls: Vec<(&str, Called<'_>)> = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if text.starts_with("<... ") {
            let call = calls.iter_mut().rev().find(|(of, call)| *of == thread && call.ended == usize::MAX);
            if let Some((_, call)) = call {
                call.ended = at;
            }
        } else {
            let ended = if text.ends_with("<unfinished ...>") { usize::MAX } else { at };
            calls.push((thread, Called { text, began: at, ended }));
        }
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

/// The requests whose answer was begun before a sync of the log ended that had begun after the record was written.
fn early_answers(trace: &str) -> Vec<String> {
    let calls = calls(trace);
    let on_log = |call: &&Called<'_>, name: &str| call.text.starts_with(name) && call.text.contains("/wal/");
    let names = (0..CLIENTS).flat_map(|client| (0..SEALS).map(move |number| name(client, number)));
    let early = names.filter(|name| {
        let written = calls.iter().find(|call| on_log(call, "pwrite64(") && call.text.contains(name.as_str()));
        let written = written.unwrap_or_else(|| panic!("{name} was not written to the log:\n{trace}"));
        let answers = calls.iter().find(|call| call.text.contains("HTTP/1.1 200") && call.text.contains(name.as_str()));
        let answer = answers.unwrap_or_else(|| panic!("{name} was not answered:\n{trace}"));
        let mut syncs = calls.iter().filter(|call| on_log(call, "fdatasync(") && call.began > written.ended);
        !syncs.any(|sync| sync.ended < answer.began)
    });
    early.collect()
}
