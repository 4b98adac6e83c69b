//! A sidecar that lies to whoever signs: what it says of a proposal is compared with the proposal itself, and nothing is signed.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use keyward::ceremony::{Action, Proposal};
use keyward::identity::sshsig::{SshKey, SshSignature};
use keyward::policy::approval::{Decision, Word};
use serde_json::{Value, json};

use crate::ceremonies::Stage;
use crate::{run, text};

/// Says the same to whatever it is asked, and keeps what it is sent.
struct Liar {
    dir: tempfile::TempDir,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Liar {
    fn saying(answer: &Value) -> Self {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let (answer, ears) = (answer.to_string(), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &answer, &ears);
            }
        });
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.path().join("key"));
        assert!(keygen.status().unwrap().success());
        Self { dir, heard }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a person hears who signs with a key at hand.
    fn asked(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let (socket, key) = (text(&self.path("control.sock")), text(&self.path("key")));
        run(&[&["ceremony"], arguments, &["--key", &key, "--yes", "--socket", &socket]].concat())
    }

    /// What was sent by POST to this path.
    fn sent(&self, path: &str) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(line, _)| *line == format!("POST {path}")).map(|(_, body)| body.clone()).collect()
    }

    fn signed_nothing(&self) {
        let heard = self.heard.lock().unwrap();
        assert!(!heard.is_empty() && heard.iter().all(|(_, body)| body.get("signature").is_none()), "{heard:?}");
    }
}

fn serve(stream: UnixStream, answer: &str, heard: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let line = first.split(' ').take(2).collect::<Vec<_>>().join(" ");
        heard.lock().unwrap().push((line, serde_json::from_slice(&body).unwrap_or(Value::Null)));
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        reader.get_mut().write_all(head.as_bytes()).unwrap();
    }
}

fn proposal(stage: &mut Stage) -> Proposal {
    stage.proposal(Action::KeyringRotate, &[("keyring", "patients"), ("trigger", "schedule")], "kim")
}

fn view(proposal: &Proposal) -> Value {
    json!({
        "id": proposal.ceremony.to_string(), "state": "proposed", "open": true, "effect": proposal.effect,
        "proposal": proposal.canonical(), "digest": hex::encode(proposal.digest()), "decisions": [], "missing": [],
    })
}

#[test]
fn an_honest_sidecar_gets_a_signature_over_the_digest_that_was_shown() {
    let proposal = proposal(&mut Stage::new());
    let (sidecar, id) = (Liar::saying(&view(&proposal)), proposal.ceremony.to_string());
    let (code, shown, said) = sidecar.asked(&["approve", &id, "--as", "bob", "--reason", "looked-at"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{shown}");
    assert!(shown.contains(&format!("effect      {}\n", proposal.effect)), "{shown}");
    let sent = sidecar.sent(&format!("/v1/ceremonies/{id}/decisions"));
    let [sent] = sent.as_slice() else { panic!("{sent:?}") };
    let decision = sent["decision"].as_str().unwrap();
    let expected = Decision {
        ceremony: id,
        digest: proposal.digest(),
        word: Word::Approve,
        person: "bob".parse().unwrap(),
        reason: "looked-at".to_owned(),
        expires_s: proposal.not_after,
    };
    assert_eq!(decision, expected.text());
    let signature = SshSignature::parse(sent["signature"].as_str().unwrap()).unwrap();
    let key = SshKey::parse(&std::fs::read_to_string(sidecar.path("key.pub")).unwrap()).unwrap();
    assert_eq!(*signature.key(), key);
    assert!(signature.verify("keyward-ceremony", decision.as_bytes()).is_ok());
}

#[test]
fn a_sidecar_that_tells_another_digest_effect_or_ceremony_gets_no_signature() {
    let mut stage = Stage::new();
    let proposal = proposal(&mut stage);
    let other = stage.proposal(Action::KeyringRotate, &[("keyring", "staff"), ("trigger", "schedule")], "kim");
    let (mut digest, mut effect) = (view(&proposal), view(&proposal));
    digest["digest"] = json!(hex::encode(other.digest()));
    effect["proposal"] =
        json!(proposal.canonical().replace("Give the keyring patients", "Look at the keyring patients"));
    let lies = [
        (
            digest,
            1,
            "error: the digest that the sidecar tells is not that of the proposal that it gives\nhint: sign nothing;",
        ),
        (effect, 65, "error: the proposal cannot be read, so do not sign it: "),
        (view(&other), 1, "error: the sidecar gives the proposal of another ceremony\nhint: sign nothing;"),
    ];
    for (lie, code, expected) in lies {
        for verb in ["approve", "deny", "withdraw"] {
            let sidecar = Liar::saying(&lie);
            let (found, _, said) = sidecar.asked(&[verb, proposal.ceremony.as_str(), "--as", "bob"]);
            assert_eq!(found, Some(code), "{said}");
            assert!(said.starts_with(expected), "{said}");
            sidecar.signed_nothing();
        }
    }
}

#[test]
fn a_sidecar_that_drafts_something_else_than_was_asked_for_gets_no_signature() {
    let mut stage = Stage::new();
    let proposal = proposal(&mut stage);
    let asked = ["propose", "keyring.rotate", "--initiator", "kim", "--set", "trigger=schedule"];
    let (reason, ticket) = (proposal.reason.as_str(), proposal.ticket.as_str());
    let differences: [&[&str]; 3] = [
        &["--set", "keyring=staff", "--reason", reason, "--ticket", ticket],
        &["--set", "keyring=patients", "--reason", "another", "--ticket", ticket],
        &["--set", "keyring=patients", "--reason", reason, "--ticket", "another"],
    ];
    for different in differences {
        let sidecar = Liar::saying(&view(&proposal));
        let (code, _, said) = sidecar.asked(&[&asked[..], different].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("error: the sidecar drafted something else than was asked for\n"), "{said}");
        sidecar.signed_nothing();
    }
}
