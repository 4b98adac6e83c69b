//! A stream of a real nats-server: what it acknowledged is there, once and in order, also when the server dies in between.

use serde_json::Value;

use super::{complete, recorded, seal, until, with_sink};
use crate::authority::Authority;
use crate::nats::{Nats, TOKEN};
use crate::support::Setup;

const SUBJECT: &str = "keyward.audit";

/// Every record stands in the stream, once, in the log's order, under its name.
fn streamed(setup: &Setup, nats: &Nats) -> Result<(), String> {
    let all = nats.messages();
    let lines: Vec<Value> = all.iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect();
    for ((id, _), line) in all.iter().zip(&lines) {
        assert_eq!(line["id"], id.as_str());
    }
    complete(setup, &lines)?;
    let mut ids: Vec<&String> = all.iter().map(|(id, _)| id).collect();
    ids.dedup();
    if ids.len() == all.len() { Ok(()) } else { Err("a record stands there twice".to_owned()) }
}

#[test]
fn a_stream_gets_every_record_once_and_in_order_also_when_its_server_dies() {
    let authority = Authority::new();
    let mut nats = Nats::new(Some(&authority));
    nats.start();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), TOKEN).unwrap();
    let (setup, _) = with_sink(&format!(
        "type = \"nats\"\naddress = \"localhost:{}\"\nsubject = \"{SUBJECT}\"\nca_file = \"{}\"\ntoken_file = \"{}\"",
        nats.port,
        authority.certificate().display(),
        token.path().display()
    ));
    let serving = setup.serve();
    setup.keyring();
    recorded(&setup, "sink.failed", Some("no_stream"));
    nats.stream(SUBJECT);
    seal(&setup, 20);
    until("the stream has all", || streamed(&setup, &nats));
    recorded(&setup, "sink.recovered", None);
    nats.stop();
    seal(&setup, 30);
    until("its end is noticed", || {
        let all = crate::requests::records(&setup);
        let fails = all.iter().filter(|one| one["event"] == "sink.failed").count();
        if fails > 1 { Ok(()) } else { Err(format!("{fails} failures")) }
    });
    nats.start();
    until("the stream has the rest", || streamed(&setup, &nats));
    assert_eq!(serving.stop(), Some(0));
    until("the last records came", || {
        let serving = setup.serve();
        let told = streamed(&setup, &nats);
        assert_eq!(serving.stop(), Some(0));
        told
    });
}

#[test]
fn a_server_of_another_authority_or_one_that_refuses_the_token_gets_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut nats = Nats::new(Some(&theirs));
    nats.start();
    nats.stream(SUBJECT);
    for (authority, token, code) in [(&ours, TOKEN, "certificate"), (&theirs, "another", "refused")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), token).unwrap();
        let (setup, _) = with_sink(&format!(
            "type = \"nats\"\naddress = \"localhost:{}\"\nsubject = \"{SUBJECT}\"\nca_file = \"{}\"\ntoken_file = \"{}\"",
            nats.port,
            authority.certificate().display(),
            file.path().display()
        ));
        let serving = setup.serve();
        setup.keyring();
        recorded(&setup, "sink.failed", Some(code));
        seal(&setup, 1);
        assert_eq!(serving.stop(), Some(0));
    }
    assert!(nats.messages().is_empty());
}
