//! Every chart of the test data, sealed and opened by the command line through a running sidecar, with a software key
//! and with a key in a real token.

use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::fields::{self, FieldMap, Plan, SealedSelection, lines};

use crate::softhsm::{KEY_LABEL, MODULE, Softhsm, TOKEN_LABEL};
use crate::support::{KEYWARD, Serving, Setup, keyward_ok, post};

pub const PROFILES: [&str; 2] = ["direct-identifiers", "safe-harbor"];

/// The FHIR files of the test data.
pub fn charts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fhir");
    let mut charts = charts_in(&folder);
    charts.sort();
    assert!(charts.len() >= 9, "the committed charts are all there");
    charts
}

/// The FHIR files of a folder.
pub fn charts_in(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "json" || end == "ndjson")).collect()
}

pub fn plan(profile: &str) -> Plan {
    FieldMap::parse(fields::FHIR_R4).unwrap().plan(profile).unwrap()
}

pub fn is_lines(chart: &Path) -> bool {
    chart.extension().is_some_and(|end| end == "ndjson")
}

fn found<'d>(chart: &Path, bytes: &'d [u8], plan: &Plan) -> SealedSelection<'d> {
    let find = if is_lines(chart) { lines::sealed_spans } else { fields::sealed_spans };
    find(bytes, plan).unwrap()
}

/// Seals and opens one chart; says how many values were sealed.
fn round_trip(setup: &Setup, chart: &Path, profile: &str) -> usize {
    let name = chart.file_name().unwrap().to_str().unwrap();
    let at = |kind: &str| setup.dir.path().join(format!("{kind}-{profile}-{name}")).display().to_string();
    let (plain, sealed, opened) = (chart.display().to_string(), at("sealed"), at("opened"));
    let shared = ["--profile", profile, "--config", &setup.config()];
    let seal = ["document", "seal", "--keyring", "patients", &plain, "--output", &sealed];
    keyward_ok(&[&seal[..], &shared].concat());
    let open = ["document", "open", "--purpose", "TREAT", &sealed, "--output", &opened];
    keyward_ok(&[&open[..], &shared].concat());

    let (before, hidden) = (std::fs::read(chart).unwrap(), std::fs::read(sealed).unwrap());
    let plan = plan(profile);
    let selected = found(chart, &before, &plan).plain.len();
    let after = found(chart, &hidden, &plan);
    assert_eq!((after.plain.len(), after.sealed.len()), (0, selected), "{name} {profile}");
    assert!(after.sealed.iter().all(|value| value.raw().starts_with("kw1.")), "{name} {profile}");
    assert!(std::fs::read(opened).unwrap() == before, "{name} {profile}: the opened chart differs");
    selected
}

/// Every chart under both profiles.
fn round_trips(setup: &Setup) {
    let charts = charts();
    let all = charts.iter().flat_map(|chart| PROFILES.map(|profile| (chart, profile)));
    let sealed: usize = all.map(|(chart, profile)| round_trip(setup, chart, profile)).sum();
    assert!(sealed > 2_000, "{sealed} values in all charts");
}

#[test]
fn every_chart_is_sealed_at_every_selected_place_and_opens_to_identical_bytes() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    round_trips(&setup);
}

/// A set-up whose key-encryption key `keyward kek create` made in the token.
fn setup_with(token: &Softhsm) -> Setup {
    let setup = Setup::new();
    // What was founded with the software key is another sidecar's.
    std::fs::rename(setup.root().join("state"), setup.root().join("state-of-the-software-key")).unwrap();
    setup.edit_config(|text| {
        let (before, rest) = text.split_once("[kek.primary]").unwrap();
        let (_software, after) = rest.split_once("[policy]").unwrap();
        let (pin, conf) = (token.pin(), token.conf());
        format!(
            "{before}[kek.primary]\ntype = \"pkcs11\"\nprofile = \"softhsm2\"\nmodule = \"{MODULE}\"\ntoken_label = \"{TOKEN_LABEL}\"\n\
             key_label = \"{KEY_LABEL}\"\npin_file = \"{}\"\nenv = {{ SOFTHSM2_CONF = \"{}\" }}\n\n[policy]{after}",
            pin.display(),
            conf.display()
        )
    });
    let made = keyward_ok(&["kek", "create", "--config", &setup.config()]);
    assert!(made.contains("fit for use") && made.contains("next: keyward init"), "{made}");
    keyward_ok(&["init", "--config", &setup.config()]);
    setup
}

#[test]
fn with_a_key_in_a_token_every_chart_opens_to_identical_bytes() {
    let token = Softhsm::new();
    let setup = setup_with(&token);
    let serving = setup.serve();
    setup.keyring();
    round_trips(&setup);
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
    assert!(keyward_ok(&["kek", "show", "--config", &setup.config()]).contains("fit for use"));
}

#[test]
fn the_key_that_kek_create_makes_is_sensitive_and_was_never_extractable() {
    let token = Softhsm::new();
    let setup = setup_with(&token);
    // Somebody else's program asks the token.
    let listed = token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let access = listed.lines().find(|line| line.trim_start().starts_with("Access:")).unwrap_or_default();
    for attribute in ["sensitive", "always sensitive", "never extractable", "local"] {
        assert!(access.split([',', ':']).any(|word| word.trim() == attribute), "{attribute}: {listed}");
    }
    assert_eq!(listed.matches(KEY_LABEL).count(), 1, "one key: {listed}");
    let again = crate::support::keyward(&["kek", "create", "--config", &setup.config()]);
    assert!(!again.status.success(), "a second key of the same label would make the first ambiguous");
}

#[test]
fn the_demo_runs_with_a_key_in_a_token() {
    let token = Softhsm::new();
    let pin = token.pin().display().to_string();
    let done = Command::new(KEYWARD)
        .args(["demo", "--pkcs11-module", MODULE, "--token-label", TOKEN_LABEL, "--pin-file", &pin])
        .env("SOFTHSM2_CONF", token.conf())
        .output()
        .unwrap();
    let (told, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{told}{said}");
    for claim in ["SoftHSM", "are identical to the original", "refused: ", " verifies"] {
        assert!(told.contains(claim), "{claim}: {told}");
    }
    assert!(token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]).contains("never extractable"));
}

/// Before the keyrings are open policy knows none of them: `denied` would be believed.
#[test]
fn a_sidecar_that_starts_without_its_token_answers_unavailable_and_never_denied() {
    let token = Softhsm::new();
    let setup = setup_with(&token);
    let serving = setup.serve();
    keyward_ok(&["keyring", "create", "letters", "--config", &setup.config()]);
    let (status, sealed) =
        post(&setup.data(), "/v1/keyrings/letters/seal", r#"{"context":{},"items":[{"text":"Ada"}]}"#);
    assert_eq!(status, 200, "{sealed}");
    let sealed = &sealed["items"][0]["sealed"];
    let open = format!(r#"{{"context":{{}},"purpose":"TREAT","items":[{{"sealed":{sealed}}}]}}"#);
    assert_eq!(serving.stop(), Some(0));
    token.pull();
    let _serving =
        Serving { child: Command::new(KEYWARD).args(["serve", "--config", &setup.config()]).spawn().unwrap() };
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut heard = std::collections::BTreeSet::new();
    let mut plugged = false;
    loop {
        assert!(std::time::Instant::now() < patience, "{heard:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
        if std::os::unix::net::UnixStream::connect(setup.data()).is_err() {
            continue;
        }
        let (status, answer) = post(&setup.data(), "/v1/open", &open);
        heard.insert(status);
        match status {
            200 => break,
            _ => assert_eq!((status, answer["code"].as_str()), (503, Some("unavailable")), "{answer}"),
        }
        if !plugged {
            token.plug_in();
            plugged = true;
        }
    }
    assert_eq!(heard.into_iter().collect::<Vec<_>>(), [200, 503]);
}
