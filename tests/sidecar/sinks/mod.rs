//! Who else gets the log's records: real receivers, and ones that are away, full or lying. Nothing waits for them, and
//! nothing is lost.

mod file;
mod http;
mod nats;
mod syslog;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::requests::records;
use crate::support::{Setup, post};

/// A set-up with a health listener and this sink.
fn with_sink(sink: &str) -> (Setup, u16) {
    let setup = Setup::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    setup.edit_config(|text| {
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("health")).collect();
        let text = text.join("\n").replacen("[listen]", &format!("[listen]\nhealth = \"127.0.0.1:{port}\""), 1);
        format!("{text}\n[[sink]]\nname = \"watch\"\n{sink}\n")
    });
    (setup, port)
}

fn seal(setup: &Setup, count: usize) {
    for number in 0..count {
        let body = json!({ "context": { "resource": format!("Patient/{number}"), "path": "name" }, "text": "Ada" });
        let (status, answer) = post(&setup.data(), "/v1/keyrings/patients/seal", &body.to_string());
        assert_eq!(status, 200, "{answer}");
    }
}

fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _read = stream.read_to_string(&mut answer);
    answer
}

/// Waits until it is so; what it saw last is in the failure.
fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) => {
                assert!(Instant::now() < end, "{what}: {}", seen.chars().take(1500).collect::<String>());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Waits until the log holds an event whose facts hold these.
fn recorded(setup: &Setup, event: &str, error: Option<&str>) {
    until(event, || {
        let all = records(setup);
        let found = all.iter().any(|record| {
            record["event"] == event
                && record["facts"]["sink"] == "watch"
                && error.is_none_or(|error| record["facts"]["sink_error"] == error)
        });
        if found {
            Ok(())
        } else {
            Err(format!(
                "{:?}",
                all.iter().filter(|one| one["event"].as_str().unwrap().starts_with("sink")).collect::<Vec<_>>()
            ))
        }
    });
}

/// Every record of the log, in order, stands in the lines, each provable by its name and leaf; repeated ones may stand
/// again, but nothing comes before what it follows.
fn complete(setup: &Setup, lines: &[Value]) -> Result<(), String> {
    follows(&records(setup), lines)
}

fn follows(log: &[Value], lines: &[Value]) -> Result<(), String> {
    let mut next = 0;
    for line in lines {
        let (origin, index) = line["id"].as_str().unwrap().rsplit_once('#').unwrap();
        let index: usize = index.parse().unwrap();
        if index > next {
            return Err(format!("record {index} follows record {next}"));
        }
        next = next.max(index + 1);
        assert!(!origin.is_empty());
        let record = log.get(index).ok_or_else(|| format!("record {index} is not in the log"))?;
        assert_eq!(&line["record"], record);
        // RFC 6962, section 2.1: the log's records have sorted keys and no spaces, as serde_json writes them.
        let leaf = Sha256::new().chain_update([0]).chain_update(record.to_string()).finalize();
        assert_eq!(line["leaf"], hex::encode(leaf));
    }
    if next == log.len() { Ok(()) } else { Err(format!("{next} of {} records", log.len())) }
}
