//! Nothing secret reaches anything that is shown, written or sent, whatever is asked: each canary is looked for in every output
//! of a sidecar that says as much as it can.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{KEYWARD, Setup, http, keyward, keyward_ok, post};

/// What must never be seen again: a plaintext, a context's value, a token that is right, one that is wrong.
const PLAINTEXT: &str = "Canary-Plaintext-93f1c2d7";
const CONTEXT: &str = "Canary/Context-5b8e01aa";
const TOKEN: &str = "CanaryTokenThatIsRight00000000000000000000x";
const WRONG_TOKEN: &str = "CanaryTokenThatIsWrong00000000000000000000x";

/// In all ways in which it may be written: as it is, in base64 at each of three places, in hexadecimal, escaped.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
    for skip in 0..3.min(secret.len()) {
        let whole = &secret[skip..skip + (secret.len() - skip) / 3 * 3];
        all.push(STANDARD.encode(whole).into_bytes());
        all.push(STANDARD_NO_PAD.encode(whole).into_bytes());
        all.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    // As `Debug` prints bytes.
    let debug = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    all.push(debug.into_bytes());
    all
}

fn holds(place: &[u8], secret: &[u8]) -> bool {
    spellings(secret).iter().any(|spelling| place.windows(spelling.len()).any(|window| window == spelling))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else if entry.file_type().unwrap().is_file() {
            found.push(entry.path());
        }
    }
}

fn ask(port: u16, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.replace("PORT", &port.to_string()).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer);
    answer
}

fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn no_canary_is_found_in_anything_that_is_written_shown_or_sent() {
    let setup = Setup::new();
    let (health, tcp) = (free(), free());
    let out = setup.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    setup.edit_config(|text| {
        let text: Vec<&str> = text
            .lines()
            .filter(|line| {
                !["health", "tcp", "level"].iter().any(|word| line.trim_start_matches("# ").starts_with(word))
            })
            .collect();
        let listen = format!("[listen]\nhealth = \"127.0.0.1:{health}\"\ntcp = \"127.0.0.1:{tcp}\"");
        let mut text = text.join("\n").replacen("[listen]", &listen, 1);
        let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes()));
        text = text.replace("name = \"demo\"", &format!("name = \"demo\"\ntoken_sha256 = [\"{hash}\"]"));
        text = if text.contains("[log]") {
            text.replacen("[log]", "[log]\nlevel = \"trace\"", 1)
        } else {
            text + "\n[log]\nlevel = \"trace\"\n"
        };
        for format in ["native", "ocsf", "cef", "ecs", "fhir"] {
            let path = out.join(format!("{format}.log"));
            text += &format!(
                "\n[[sink]]\nname = \"{format}\"\ntype = \"file\"\nformat = \"{format}\"\npath = \"{}\"\n",
                path.display()
            );
        }
        text
    });
    let serving = setup.serve();
    setup.keyring();
    let mut answers: Vec<Vec<u8>> = Vec::new();
    let context = json!({ "resource": CONTEXT, "path": "name" });
    let seal = json!({ "context": context, "text": PLAINTEXT });
    let (status, sealed) = post(&setup.data(), "/v1/keyrings/patients/seal", &seal.to_string());
    assert_eq!(status, 200, "{sealed}");
    answers.push(sealed.to_string().into_bytes());
    let value = sealed["sealed"].as_str().unwrap();
    let open = |context: &Value, more: &Value| {
        let mut body = json!({ "context": context, "sealed": value, "purpose": "TREAT" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    // What is opened is the one answer that holds the plaintext: it shows that the search finds.
    let (status, opened) = post(&setup.data(), "/v1/open", &open(&context, &json!({})));
    assert_eq!(status, 200);
    assert!(holds(opened.to_string().as_bytes(), PLAINTEXT.as_bytes()));
    // Everything that can be wrong, with the canaries in it.
    let elsewhere = json!({ "resource": format!("{CONTEXT}x"), "path": "name" });
    let wrong = [
        ("/v1/open", open(&elsewhere, &json!({}))),
        ("/v1/open", open(&json!({ "resource": CONTEXT, CONTEXT: PLAINTEXT }), &json!({}))),
        ("/v1/open", open(&context, &json!({ "purpose": PLAINTEXT }))),
        ("/v1/open", open(&context, &json!({ PLAINTEXT: CONTEXT }))),
        ("/v1/open", open(&context, &json!({ "sealed": PLAINTEXT }))),
        ("/v1/open", open(&context, &json!({ "sealed": format!("{value}{PLAINTEXT}") }))),
        ("/v1/keyrings/patients/seal", seal.to_string().replace('}', "")),
        (
            "/v1/keyrings/patients/seal",
            json!({ "context": context, "text": PLAINTEXT, "bytes": PLAINTEXT }).to_string(),
        ),
        ("/v1/keyrings/patients/seal", json!({ "context": { "path": CONTEXT }, "text": PLAINTEXT }).to_string()),
        ("/v1/keyrings/others/seal", seal.to_string()),
        ("/v1/keyrings/patients/seal", PLAINTEXT.to_owned()),
        ("/v1/rewrap", json!({ "context": context, "sealed": PLAINTEXT, "to": PLAINTEXT }).to_string()),
    ];
    for (path, body) in &wrong {
        let (status, answer) = post(&setup.data(), path, body);
        assert!(status >= 400, "{path}: {answer}");
        answers.push(answer.to_string().into_bytes());
    }
    let (_, answer) = http(
        &setup.data(),
        format!("POST /v1/{PLAINTEXT}?{CONTEXT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    answers.push(answer);
    for (token, status) in [(WRONG_TOKEN, "401"), (TOKEN, "200")] {
        let body = seal.to_string();
        let answer = ask(
            tcp,
            &format!(
                "POST /v1/keyrings/patients/seal HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()));
        answers.push(answer);
    }
    for path in ["/metrics", "/readyz?verbose", "/livez"] {
        answers.push(ask(health, &format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n\r\n")));
    }
    // A command line that is given them by standard input, and prints what goes wrong.
    let mut child = std::process::Command::new(KEYWARD)
        .args([
            "open",
            "--context",
            "resource=x",
            "--context",
            "path=name",
            "--purpose",
            "TREAT",
            "--config",
            &setup.config(),
        ])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(PLAINTEXT.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(!said.status.success());
    answers.push([said.stdout, said.stderr].concat());
    answers.push(keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &setup.config()]).into_bytes());
    assert!(records(&setup).len() > wrong.len());
    assert_eq!(serving.stop(), Some(0));
    let at = |name: &str| setup.dir.path().join(name).display().to_string();
    keyward_ok(&["report", "all", &setup.log(), "--out", &at("package"), "--package"]);
    let backed_up = keyward(&["backup", &at("backup"), "--config", &setup.config()]);
    answers.push([backed_up.stdout, backed_up.stderr].concat());

    let kek = std::fs::read(kek_file(&setup)).unwrap();
    let secrets: [(&str, &[u8]); 5] = [
        ("the plaintext", PLAINTEXT.as_bytes()),
        ("a context's value", CONTEXT.as_bytes()),
        ("a token", TOKEN.as_bytes()),
        ("a wrong token", WRONG_TOKEN.as_bytes()),
        ("the key-encryption key", &kek),
    ];
    let mut places: Vec<(String, Vec<u8>)> =
        answers.into_iter().enumerate().map(|(at, bytes)| (format!("answer {at}"), bytes)).collect();
    let mut paths = Vec::new();
    files(setup.dir.path(), &mut paths);
    // Where the secrets themselves were put by the operator.
    let own = [kek_file(&setup)];
    places.extend(
        paths
            .into_iter()
            .filter(|path| !own.contains(path))
            .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())),
    );
    for name in
        ["stderr", "wal", "native.log", "ocsf.log", "cef.log", "ecs.log", "fhir.log", "access.pdf", "access.csv"]
    {
        assert!(
            places.iter().any(|(place, bytes)| place.contains(name) && !bytes.is_empty()),
            "{name} was not looked at"
        );
    }
    for (what, secret) in secrets.iter().filter(|(_, secret)| !secret.is_empty()) {
        for (place, bytes) in &places {
            assert!(!holds(bytes, secret), "{what} is in {place}");
        }
    }
}

/// The file of the development key-encryption key.
fn kek_file(setup: &Setup) -> PathBuf {
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("file = ")).unwrap();
    PathBuf::from(line.split('"').nth(1).unwrap())
}
