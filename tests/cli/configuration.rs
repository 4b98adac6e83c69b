//! `check` and `policy check`: everything that is wrong at once, and nothing touched.

use std::path::Path;

use std::os::unix::fs::PermissionsExt;

use crate::support::Setup;
use crate::{ours, run, text};

/// Every file under a directory with its length and the time of its last change.
fn listing(dir: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let about = entry.metadata().unwrap();
        found.push((text(&entry.path()), about.len(), about.modified().unwrap()));
        if about.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn check_says_what_holds_and_touches_nothing() {
    let setup = Setup::new();
    let before = listing(setup.dir.path());
    let (code, shown, said) = run(&["check", "--config", &setup.config()]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], format!("configuration  {} is good", setup.config()));
    assert_eq!(lines[1], "environment    development");
    assert_eq!(lines[2], format!("state          {}", text(&setup.root().join("state"))));
    assert!(lines[3].starts_with("policy set     ") && lines[3].ends_with(" (1 files)"), "{shown}");
    assert_eq!(
        lines[4..],
        [
            "revocation     bites within 310 s of a refusal, 1210 s if the refusal cannot be heard; 310 s of a change of state"
        ]
    );
    assert_eq!(listing(setup.dir.path()), before);

    std::fs::rename(setup.root().join("state"), setup.root().join("elsewhere")).unwrap();
    let before = listing(setup.dir.path());
    let (code, shown, _) = run(&["check", "--config", &setup.config()]);
    assert!(code == Some(0) && shown.contains("(not made yet: run keyward init)"), "{shown}");
    assert_eq!(listing(setup.dir.path()), before);
}

#[test]
fn the_shipped_example_is_good_with_the_shipped_policies() {
    let dir = tempfile::tempdir().unwrap();
    let policies = policies(dir.path());
    let shipped = std::fs::read_to_string(ours("examples/keyward.toml")).unwrap();
    let text_of = shipped.replace("/etc/keyward/policies", &policies);
    let text_of = text_of.replace("/etc/keyward", &text(dir.path()));
    for pin in ["pin", "backup-pin"] {
        let path = dir.path().join(pin);
        std::fs::write(&path, "12345678\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = dir.path().join("keyward.toml");
    std::fs::write(&config, &text_of).unwrap();
    let (code, shown, said) = run(&["check", "--config", &text(&config)]);
    assert_eq!(code, Some(0), "{said}");
    let refusal = |from: &str, to: &str| {
        assert!(text_of.contains(from), "{from}");
        std::fs::write(&config, text_of.replacen(from, to, 1)).unwrap();
        let (code, _, said) = run(&["check", "--config", &text(&config)]);
        assert_ne!(code, Some(0), "{to}");
        said
    };
    // What is wrong with a token's settings is found without the token.
    assert!(refusal("profile = \"softhsm2\"", "profile = \"softhsm3\"").contains("keyward ships no profile softhsm3"));
    assert!(refusal("# method = \"aes-gcm\"", "method = \"aes-gmc\"").contains("has no method aes-gmc"));
    assert!(refusal("keyward-kek-{version}\"", "kek\"\nkey_version = 2").contains("needs {version} in key_label"));
    assert!(refusal("token_label = \"keyward\"", "token_label = \"keyward\"\nmodule = \"/no.so\"").contains("/no.so"));
    std::fs::set_permissions(dir.path().join("pin"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal("schema = 1", "schema = 1").contains("has mode 0644"));
    assert!(shown.contains("environment    production"), "{shown}");

    // The example as it is, on a machine where nobody has written policies yet.
    let (code, _, said) = run(&["check", "--config", &ours("examples/keyward.toml")]);
    let no_policies = "error: cannot read the policies: cannot read /etc/keyward/policies";
    assert!(code == Some(0) || (said.starts_with(no_policies) && said.contains("\nhint: ")), "{said}");
}

#[test]
fn a_configuration_with_many_problems_hears_them_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("keyward.toml");
    let wrong = "schema = 1\nenvironment = \"staging\"\nstate_dir = \"relative\"\nsurprise = 1\n\
                 [listen]\ndata = \"x\"\ncontrol = \"/run/c\"\n[kek.primary]\ntype = \"magic\"\n[cache]\nttl = \"soon\"\n";
    std::fs::write(&config, wrong).unwrap();
    let (code, shown, said) = run(&["check", "--config", &text(&config)]);
    assert_eq!((code, shown.as_str()), (Some(78), ""));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("error: {}: the configuration has 8 problems", text(&config)));
    let named: Vec<&str> = lines[1..].iter().step_by(2).map(|line| line.trim().split_once(": ").unwrap().0).collect();
    let expected = [
        "surprise",
        "environment",
        "state_dir",
        "listen.data",
        "policy.dir",
        "principal",
        "cache.ttl",
        "kek.primary.type",
    ];
    assert_eq!(named, expected);
    assert!(lines[2..].iter().step_by(2).all(|line| line.starts_with("    hint: ")), "{said}");
    assert_eq!(lines.len(), 1 + 2 * expected.len());

    // Every command that needs it says the same.
    for command in ["serve", "init"] {
        let (code, shown, same) = run(&[command, "--config", &text(&config)]);
        assert_eq!((code, shown.as_str(), same), (Some(78), "", said.clone()));
    }
    assert_eq!(listing(dir.path()).len(), 1, "nothing was made");
    let (code, _, said) = run(&["check", "--config", &text(&dir.path().join("absent.toml"))]);
    assert!(code == Some(78) && said.contains("\nhint: name one with --config"), "{said}");
}

/// A directory with the least-privilege set and its table.
fn policies(dir: &Path) -> String {
    let policies = dir.join("policies");
    std::fs::create_dir_all(policies.join("tests")).unwrap();
    for file in ["least-privilege.cedar", "tests/least-privilege.toml"] {
        std::fs::copy(ours("policies/") + file, policies.join(file)).unwrap();
    }
    text(&policies)
}

#[test]
fn policy_check_lists_who_may_do_what_and_runs_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let policy = format!("{}/least-privilege.cedar", policies(dir.path()));
    let (code, shown, said) = run(&["policy", "check", &policy]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (granted, digest) = shown.split_once("policy set ").unwrap();
    let expected = "\
least-privilege.cedar: 10 permit, 1 forbid
seal             portal, ingest
open             portal
openSuspended    -
openCompromised  -
rewrap           portal
keyringCreate    operator
keyringRotate    operator
keyringConfigure operator
lookupRotate     operator
keySuspend       operator
keyResume        custodian
keyDeactivate    operator
keyCompromise    operator
keyDestroy       custodian
keysRewrap       operator
partitionShred   custodian
inventoryRead    auditor, operator
keyringList      auditor, operator
keyringShow      custodian, operator
auditRead        auditor
auditLookup      -
ceremonyPropose  custodian
ceremonyDecide   custodian
ceremonyExecute  custodian, operator
ceremonyRead     custodian, auditor, operator
custodyFound     custodian
custodianRevoke  custodian
grantEnd         custodian
lockEngage       custodian, operator
lockRelease      custodian
policyReload     operator
table tests: 147 cases, 0 failed
";
    assert_eq!(granted, expected);
    assert_eq!(digest.trim().len(), 64, "{digest}");

    let table = dir.path().join("policies/tests/least-privilege.toml");
    let cases = std::fs::read_to_string(&table).unwrap();
    let denied = cases.replacen("expect = \"permit\"", "expect = \"deny\"\nreason = \"no_permit\"", 1);
    std::fs::write(&table, denied).unwrap();
    let (code, shown, said) = run(&["policy", "check", &policy]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("FAILED ") && said.contains("the portal seals patients"), "{said}");
    assert!(shown.contains("table tests: 147 cases, 1 failed"), "{shown}");
}

#[test]
fn policy_check_refuses_what_is_no_policy_and_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.cedar");
    std::fs::write(&wrong, "permit (\n  principal\n  action\n);\n").unwrap();
    let (code, shown, said) = run(&["policy", "check", &text(&wrong)]);
    assert_eq!((code, shown.as_str()), (Some(78), ""));
    assert!(
        said.starts_with("error: the policy set is refused:\n  wrong.cedar:") && said.contains("\nhint: "),
        "{said}"
    );
    let (code, _, said) = run(&["policy", "check", "/nowhere/at/all.cedar"]);
    assert!(code == Some(65) && said.contains("/nowhere/at/all.cedar"), "{said}");
}
