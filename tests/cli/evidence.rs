//! What an auditor does with a copied log, at the command line: exports, verifies, proves, and hears of damage.

use serde_json::Value;

use crate::support::{Setup, keyward_ok, post};
use crate::{run, text};

#[test]
fn an_auditor_exports_verifies_proves_and_is_told_of_damage() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let body = r#"{"context": {"resource": "Patient/1", "path": "x"}, "text": "x"}"#;
    assert_eq!(post(&setup.data(), "/v1/keyrings/patients/seal", body).0, 200);
    let log = setup.log();
    let at = |name: &str| text(&setup.dir.path().join(name));
    let (out, key, proof) = (at("evidence"), at("log.pub"), at("3.tlog-proof"));
    std::fs::copy(format!("{log}/checkpoint.pub"), &key).unwrap();

    // While the sidecar runs, and again when it has stopped.
    let first: Value = serde_json::from_str(&keyward_ok(&["audit", "export", &log, "--to", &out, "--json"])).unwrap();
    let kept = at("kept");
    std::fs::copy(format!("{out}/checkpoint"), &kept).unwrap();
    assert_eq!(serving.stop(), Some(0));
    let said = keyward_ok(&["audit", "export", &log, "--to", &out, "--key", &key]);
    assert!(said.contains(" of them were there before, and are the same"), "{said}");
    let said = keyward_ok(&["audit", "export", &log, "--to", &out, "--key", &key, "--read-back"]);
    assert!(said.contains("read back from the disk: ") && said.contains(" bytes, the same root"), "{said}");
    let verified = ["audit", "verify", &out, "--key", &key, "--since", &kept, "--json"];
    let verified: Value = serde_json::from_str(&keyward_ok(&verified)).unwrap();
    assert_eq!((&verified["exported"], &verified["unproven_tail"]), (&Value::from(true), &Value::from(0)));
    assert!(verified["records"].as_u64() > first["records"].as_u64(), "{verified}");
    assert!(keyward_ok(&["audit", "verify", &out]).contains("the exported log keyward/"));

    let printed = keyward_ok(&["audit", "prove", "3", "--dir", &log]);
    keyward_ok(&["audit", "prove", "3", "--dir", &out, "--out", &proof]);
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), printed, "log and export prove alike");
    let shown = keyward_ok(&["audit", "check-proof", &proof, "--key", &key]);
    assert!(shown.contains("record 3 of keyward/") && shown.contains("\"index\":3,"), "{shown}");
    std::fs::write(&proof, printed.replace("index 3", "index 4")).unwrap();
    let (code, _, said) = run(&["audit", "check-proof", &proof, "--key", &key]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("error: the proof shows nothing: LOG-34: the path does not lead from record 4"), "{said}");
    let (code, _, said) = run(&["audit", "prove", "100000", "--dir", &out]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("record 100000 is not among them"), "{said}");

    let bundle = std::fs::read_dir(format!("{out}/tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes.pop();
    std::fs::write(&bundle, bytes).unwrap();
    let (code, shown, said) = run(&["audit", "verify", &out, "--key", &key]);
    let last = verified["records"].as_u64().unwrap() - 1;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(said.starts_with(&format!("error: the log does not verify: record {last}: LOG-28 (")), "{said}");
    let (code, _, said) = run(&["audit", "export", &log, "--to", &out]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: the export tells another story than the log: "), "{said}");
    let (code, _, said) = run(&["audit", "export", &log, "--to", &text(setup.dir.path())]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("which no export has"), "{said}");
}
