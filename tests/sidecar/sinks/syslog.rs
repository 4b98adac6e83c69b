//! A real rsyslog behind TLS: each message whole, none lost over its end, and nothing for one that nobody vouches for.

use serde_json::Value;

use super::{complete, recorded, seal, until, with_sink};
use crate::authority::Authority;
use crate::rsyslog::Rsyslog;

fn sink(authority: &Authority, port: u16, more: &str) -> String {
    let ca = authority.certificate().display().to_string();
    format!("type = \"syslog\"\naddress = \"localhost:{port}\"\nca_file = \"{ca}\"\n{more}")
}

/// The records of the messages, in the order of arrival.
fn arrived(messages: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for message in messages.lines().filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = message.splitn(8, ' ').collect();
        let [pri, time, host, app, process, id, structured, text] = parts[..] else { panic!("{message}") };
        // Facility 13 (log audit), version 1.
        assert!(["<107>1", "<108>1", "<110>1"].contains(&pri), "{message}");
        assert!(time.len() == 27 && time.ends_with('Z') && !host.is_empty(), "{message}");
        assert_eq!((app, process, structured), ("keyward", "-", "-"), "{message}");
        let line: Value = serde_json::from_str(text).unwrap();
        assert_eq!(line["record"]["event"], id);
        all.push(line);
    }
    all
}

#[test]
fn rsyslog_gets_every_record_also_over_an_end_of_its_own() {
    let authority = Authority::new();
    let mut rsyslog = Rsyslog::new(&authority, true);
    let ours = authority.workload("spiffe://example.org/keyward");
    let identity = format!("certificate = \"{}\"\nkey = \"{}\"", ours.certificate.display(), ours.key.display());
    let (setup, _) = with_sink(&sink(&authority, rsyslog.port, &identity));
    // It is away at the start.
    let _serving = setup.serve();
    setup.keyring();
    recorded(&setup, "sink.failed", Some("unreachable"));
    rsyslog.start();
    recorded(&setup, "sink.recovered", None);
    seal(&setup, 10);
    until("all records arrive", || complete(&setup, &arrived(&rsyslog.messages())));
    // What was on the way when it ended is sent again.
    rsyslog.kill();
    seal(&setup, 10);
    rsyslog.start();
    seal(&setup, 3);
    until("all records arrive again", || complete(&setup, &arrived(&rsyslog.messages())));
}

#[test]
fn a_collector_that_nobody_vouches_for_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut rsyslog = Rsyslog::new(&authority, false);
    rsyslog.start();
    let (setup, _) = with_sink(&sink(&other, rsyslog.port, ""));
    let serving = setup.serve();
    setup.keyring();
    seal(&setup, 3);
    recorded(&setup, "sink.failed", Some("certificate"));
    let before = crate::requests::records(&setup).len();
    drop(serving);
    // Nor one whose certificate has another name.
    setup.edit_config(|text| {
        let (wrong, right) = (other.certificate().display().to_string(), authority.certificate().display().to_string());
        text.replace(&wrong, &right).replace("localhost:", "127.0.0.1:")
    });
    let _serving = setup.serve();
    until("it is refused again", || {
        let all = crate::requests::records(&setup);
        let refused = all.iter().skip(before).any(|record| record["facts"]["sink_error"] == "certificate");
        if refused { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(rsyslog.messages(), "");
}
