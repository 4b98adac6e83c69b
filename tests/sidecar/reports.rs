//! What auditors ask, answered from the log of a real sidecar: the same cells in every format, from the log and from an
//! export; nothing from a log that does not verify.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Setup, keyward, keyward_ok, post};

const NAMES: [&str; 12] = [
    "access",
    "break-glass",
    "ceremonies",
    "cryptoperiods",
    "exposure",
    "integrity",
    "kek",
    "key-inventory",
    "key-lifecycle",
    "modules",
    "rotation",
    "separation",
];

/// A log with a rotation, two principals' worth of use and a refusal.
fn lived() -> Setup {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let context = |number: u32| json!({ "resource": format!("Patient/{number}"), "path": "name" });
    let seal = |number: u32| {
        let body = json!({ "context": context(number), "text": "Ada" }).to_string();
        post(&setup.data(), "/v1/keyrings/patients/seal", &body).1["sealed"].clone()
    };
    let open = |sealed: &Value, number: u32| {
        let body = json!({ "sealed": sealed, "context": context(number), "purpose": "TREAT" }).to_string();
        post(&setup.data(), "/v1/open", &body).0
    };
    let first = seal(1);
    let config = setup.config();
    let version_in = |state: &str| {
        let shown = keyward_ok(&["keyring", "show", "patients", "--json", "--config", &config]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let versions = shown["versions"].as_array().unwrap();
        versions.iter().find(|version| version["state"] == state).unwrap()["id"].as_str().unwrap().to_owned()
    };
    keyward_ok(&["keyring", "rotate", "patients", "--trigger", "incident", "--config", &config]);
    let unused = version_in("active");
    keyward_ok(&["keyring", "rotate", "patients", "--trigger", "schedule", "--config", &config]);
    let second = seal(2);
    assert_eq!((open(&first, 1), open(&second, 2), open(&second, 1)), (200, 200, 422));
    // What is taken back leaves the version as it was, and not as the verb's name sounds.
    let destroy = ["--reason", "retired", "--after", "7", "--statement", "none is left"];
    for (verb, more) in [
        ("compromise", &["--reason", "disclosure"][..]),
        ("destroy", &destroy[..]),
        ("cancel-destroy", &["--reason", "mistake"][..]),
    ] {
        keyward_ok(&[&["keyring", verb, "patients", &unused, "--config", &config], more].concat());
    }
    assert_eq!(serving.stop(), Some(0));
    setup
}

fn report(arguments: &[&str]) -> (Option<i32>, String) {
    let done = keyward(&[&["report"], arguments].concat());
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

fn table(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap()
}

/// The cells of a page's table of rows, by a reader that knows nothing of ours.
fn cells_by_python(path: &Path) -> Vec<Vec<String>> {
    const SCRIPT: &str = "
import csv, html.parser, json, sys
path = sys.argv[1]
if path.endswith('.csv'):
    rows = list(csv.reader(open(path, newline='')))
    # What would be a formula has an apostrophe before it.
    rows = [[c[1:] if c[:1] == \"'\" and c[1:2] in '=+-@\\t\\r' else c for c in r] for r in rows]
else:
    class P(html.parser.HTMLParser):
        rows, cell, inside = [], None, False
        def handle_starttag(self, tag, attrs):
            assert tag != 'script' and not any(k in ('src', 'href') or k.startswith('on') for k, _ in attrs)
            if tag == 'table': self.inside = ('class', 'rows') in attrs
            if self.inside and tag == 'tr': self.rows.append([])
            if self.inside and tag in ('td', 'th'): self.cell = ''
        def handle_data(self, data):
            if self.cell is not None: self.cell += data
        def handle_endtag(self, tag):
            if self.inside and tag in ('td', 'th'): self.rows[-1].append(self.cell); self.cell = None
    p = P(); p.feed(open(path).read()); rows = p.rows
print(json.dumps(rows))
";
    let done = std::process::Command::new("python3").args(["-c", SCRIPT]).arg(path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The letters of a PDF as another program reads them, in the order of its pages; line ends and spaces say how cells were
/// broken, and are left out.
fn letters_by_poppler(path: &Path) -> String {
    let done = std::process::Command::new("pdftotext").args(["-raw"]).arg(path).arg("-").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// All cells stand in a PDF, in their order, with nothing between those of a row.
fn printed(path: &Path, rows: &[Vec<String>]) {
    let text = letters_by_poppler(path);
    let mut rest = text.as_str();
    for row in rows {
        let cells: String = row.concat().chars().filter(|letter| !letter.is_whitespace()).collect();
        let place = rest.find(&cells).unwrap_or_else(|| panic!("{}: {cells} is not in {rest}", path.display()));
        rest = &rest[place + cells.len()..];
    }
}

#[test]
fn every_report_has_the_same_cells_in_every_format_from_the_log_and_from_an_export() {
    let setup = lived();
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name).display().to_string();
    let key = format!("{}/log.key", out.path().display());
    std::fs::copy(format!("{}/checkpoint.pub", setup.log()), &key).unwrap();
    keyward_ok(&["audit", "export", &setup.log(), "--to", &at("tiles")]);
    for (dir, to) in [(setup.log(), at("log")), (at("tiles"), at("exported"))] {
        let (code, said) = report(&["all", &dir, "--key", &key, "--out", &to]);
        assert_eq!(code, Some(0), "{said}");
    }
    let (log, exported) = (out.path().join("log"), out.path().join("exported"));
    for name in NAMES {
        let (of_log, of_export) = (table(&log, name), table(&exported, name));
        if name != "integrity" {
            assert_eq!(of_log["rows"], of_export["rows"], "{name}");
        }
        let columns: Vec<String> =
            of_log["columns"].as_array().unwrap().iter().map(|column| column.as_str().unwrap().to_owned()).collect();
        let mut expected = vec![columns.clone()];
        for row in of_log["rows"].as_array().unwrap() {
            expected.push(columns.iter().map(|column| row[column].as_str().unwrap().to_owned()).collect());
        }
        for format in ["csv", "html"] {
            assert_eq!(cells_by_python(&log.join(format!("{name}.{format}"))), expected, "{name}.{format}");
        }
        if expected.len() > 1 {
            printed(&log.join(format!("{name}.pdf")), &expected);
        }
    }
    let rows = |name: &str| table(&log, name)["rows"].as_array().unwrap().clone();
    let states: Vec<Value> = rows("key-inventory").iter().map(|row| row["state"].clone()).collect();
    let mut sorted: Vec<&str> = states.iter().map(|state| state.as_str().unwrap()).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, ["active", "compromised", "deactivated"]);
    let uses: BTreeMap<(String, String), String> = rows("access")
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            ((text("event"), text("reason")), text("requests"))
        })
        .collect();
    let key = |event: &str, reason: &str| (event.to_owned(), reason.to_owned());
    assert_eq!(uses[&key("data.sealed", "")], "2");
    assert_eq!(uses[&key("data.opened", "")], "2");
    assert_eq!(uses[&key("data.opened", "cannot_open")], "1");
    // Two versions opened something for somebody.
    assert_eq!(
        rows("exposure").iter().filter(|row| row["event"] == "data.opened" && row["outcome"] == "done").count(),
        2
    );
    assert!(rows("rotation").iter().any(|row| row["trigger"] == "incident" && row["outcome"] == "done"));
    assert!(rows("cryptoperiods").iter().any(|row| row["compliance"] == "within its period"));
    let facts = table(&log, "exposure")["facts"].to_string();
    assert!(facts.contains("the key was given from outside the log") && facts.contains("what it does not show"));
}

#[test]
fn a_package_is_checked_by_tools_of_others_and_its_digest_stands_in_the_log() {
    let setup = lived();
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    let key = format!("{}/checkpoint.pub", setup.log());
    let ssh = |words: &[&str]| {
        std::process::Command::new("ssh-keygen").args(words).current_dir(home.path()).output().unwrap()
    };
    assert!(ssh(&["-q", "-t", "ed25519", "-N", "", "-C", "auditor", "-f", "id"]).status.success());
    let config = setup.config();
    let (out, id) = (at("package"), at("id"));
    let words = ["all", &setup.log(), "--key", &key, "--out", &out, "--package", "--sign", &id, "--record", &config];
    let (code, said) = report(&words);
    assert_eq!(code, Some(0), "{said}");
    let dir = home.path().join("package");
    let run = |program: &str, words: &[&str]| {
        std::process::Command::new(program).args(words).current_dir(&dir).output().unwrap()
    };
    // Everything is listed, and as it was written.
    let listed = std::fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    for name in ["README.txt", "log.keys", "verify.py", "log/checkpoint", "reports/access.pdf", "reports/kek.csv"] {
        assert!(listed.lines().any(|line| line.ends_with(&format!("  {name}"))), "{name}: {listed}");
    }
    assert!(run("sha256sum", &["--strict", "-c", "SHA256SUMS"]).status.success());
    let verified = run("python3", &["verify.py", "log", "--key", "log.keys"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let public = std::fs::read_to_string(home.path().join("id.pub")).unwrap();
    std::fs::write(home.path().join("allowed"), format!("auditor {public}")).unwrap();
    let (sums, signature) = (dir.join("SHA256SUMS"), at("package/SHA256SUMS.sig"));
    let signed = |sums: &Path| {
        let input = std::fs::File::open(sums).unwrap();
        let words = ["-Y", "verify", "-f", "allowed", "-I", "auditor", "-n", "keyward-report", "-s", &signature];
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(words).current_dir(home.path()).stdin(input).output().unwrap().status.success()
    };
    assert!(signed(&sums));
    // A changed file, and changed digests, are noticed.
    let file = dir.join("reports/access.csv");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "more\r\n").unwrap();
    assert!(!run("sha256sum", &["--status", "-c", "SHA256SUMS"]).status.success());
    let changed = home.path().join("changed");
    std::fs::write(&changed, listed.replace("access.csv", "excess.csv")).unwrap();
    assert!(!signed(&changed));
    // What is there is not packed over.
    let (code, said) = report(&words);
    assert!(code == Some(64), "{said}");
    // The next start records it, once.
    let serving = setup.serve();
    let digest = {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(listed.as_bytes()))
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let found = || {
        let all = crate::requests::records(&setup);
        all.into_iter().filter(|one| one["event"] == "report.exported").collect::<Vec<_>>()
    };
    while found().is_empty() {
        assert!(std::time::Instant::now() < end, "no record");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(found().len(), 1);
    assert_eq!(found()[0]["facts"]["report_digest"], digest.as_str());
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_log_that_does_not_verify_gives_no_report_and_a_window_must_make_sense() {
    let setup = lived();
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name).display().to_string();
    let log = setup.log();
    for (window, problem) in [
        (["--to", "2099-01-01T00:00:00Z"], "the window ends in the future"),
        (["--from", "2099-01-01T00:00:00Z"], "the window ends before it begins"),
        (["--from", "yesterday"], "yesterday is not a time"),
        (["--format", "xlsx"], "xlsx is no format"),
    ] {
        let (code, said) = report(&[&["access", &log, "--out", &at("no")][..], &window[..]].concat());
        assert!(code == Some(64) && said.contains(problem), "{said}");
    }
    let (code, said) = report(&["gossip", &log, "--out", &at("no")]);
    assert!(code == Some(64) && said.contains("there is no report gossip"), "{said}");
    // A window without a record is an answer.
    let (code, said) = report(&[
        "access",
        &log,
        "--from",
        "1999-01-01T00:00:00Z",
        "--to",
        "2000-01-01T00:00:00Z",
        "--out",
        &at("old"),
    ]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(table(&out.path().join("old"), "access")["rows"], json!([]));
    let page = std::fs::read_to_string(out.path().join("old/access.html")).unwrap();
    assert!(page.contains("The log has nothing of this kind in this time."));
    // What is there is not replaced.
    let (code, said) = report(&["access", &log, "--out", &at("old")]);
    assert!(code == Some(64) && said.contains("cannot write"), "{said}");
    let wal = std::path::PathBuf::from(&log).join("wal/00000000000000000000.wal");
    let bytes = std::fs::read(&wal).unwrap();
    let place = bytes.windows(11).position(|window| window == b"data.opened").unwrap();
    let mut edited = bytes.clone();
    edited[place + 5..place + 11].copy_from_slice(b"sealed");
    std::fs::write(&wal, edited).unwrap();
    let (code, said) = report(&["access", &log, "--out", &at("edited")]);
    assert!(code != Some(0) && said.contains("does not verify"), "{said}");
    assert!(!out.path().join("edited/access.csv").exists());
}
