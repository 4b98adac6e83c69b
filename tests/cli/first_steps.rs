//! What somebody sees who has just built keyward.

use std::process::Command;

use serde_json::Value;

use crate::support::{KEYWARD, Setup};
use crate::{ours, run, told};

const SUBCOMMANDS: [&str; 27] = [
    "demo",
    "dev",
    "init",
    "serve",
    "check",
    "keyring",
    "partition",
    "kek",
    "store",
    "hsm",
    "seal",
    "open",
    "rewrap",
    "document",
    "custody",
    "ceremony",
    "grant",
    "lock",
    "rehearsal",
    "policy",
    "audit",
    "witness",
    "report",
    "backup",
    "restore",
    "drill",
    "bench",
];

#[test]
fn help_lists_every_subcommand_with_a_line_and_hides_the_worker() {
    let (code, help, said) = run(&["--help"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let rows = listed.lines().take_while(|line| !line.is_empty()).map(|line| line.trim().split_once("  ").unwrap());
    let names: Vec<&str> = rows
        .map(|(name, about)| (name, about.trim()))
        .filter(|(_, about)| !about.is_empty())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names[..27], SUBCOMMANDS);
    assert_eq!(names[27..], ["help"], "the worker is keyward's own business");
    for name in SUBCOMMANDS {
        let (code, help, _) = run(&[name, "--help"]);
        assert!(code == Some(0) && help.contains(&format!("Usage: keyward {name}")), "{help}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_64_and_says_how_it_should_look() {
    for wrong in [&["unseal"][..], &["seal"], &["open", "kw1.x"], &["init", "--development"], &[]] {
        let (code, shown, said) = run(wrong);
        assert_eq!((code, shown.as_str()), (Some(64), ""), "{wrong:?}: {said}");
        assert!(said.contains("--help"), "{said}");
    }
}

#[test]
fn the_demo_shows_six_steps_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let done = Command::new(KEYWARD).arg("demo").env("TMPDIR", temporary.path()).output().unwrap();
    let (code, shown, said) = told(&done);
    assert_eq!(code, Some(0), "{shown}{said}");
    let steps: Vec<&str> =
        shown.lines().filter(|line| line.starts_with(|digit: char| digit.is_ascii_digit())).collect();
    let starts = [
        "1. a new sidecar",
        "2. a FHIR bundle, sealed",
        "3. opened again",
        "4. a sealed value moved",
        "5. how fast",
        "6. the log",
    ];
    assert_eq!(steps.len(), starts.len(), "{shown}");
    assert!(steps.iter().zip(starts).all(|(step, start)| step.starts_with(start)), "{steps:?}");
    let bytes = std::fs::metadata(ours("examples/fhir-bundle.json")).unwrap().len();
    assert!(shown.contains(&format!("all {bytes} bytes are identical to the original")), "{shown}");
    let family = shown.lines().find(|line| line.trim_start().starts_with("name[0].family")).unwrap();
    let columns: Vec<&str> = family.split_whitespace().collect();
    assert!(columns.len() == 3 && columns[2].starts_with("kw1.") && !columns[1].starts_with("kw1."), "{family}");
    assert!(shown.contains("refused: the value does not open in this place (cannot_open)"), "{shown}");
    for verb in ["seal   1 a request", "open   1 a request", "seal 100 a request", "open 100 a request"] {
        assert!(shown.contains(verb), "{shown}");
    }
    assert!(shown.contains(" verifies\n") && shown.contains("keyward dev"), "{shown}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn an_init_never_overwrites_and_names_the_way_out() {
    let setup = Setup::new();
    let before = setup.log_bytes();
    for again in [["init", "--development", &setup.root().display().to_string()], ["init", "--config", &setup.config()]]
    {
        let (code, shown, said) = run(&again);
        assert_eq!((code, shown.as_str()), (Some(73), ""), "{said}");
        assert!(said.starts_with("error: ") && said.contains(" exists already\nhint: "), "{said}");
    }
    let (_, _, said) = run(&["init", "--config", &setup.config()]);
    assert!(said.contains("the only wraps of data keys") && said.contains("if an earlier init failed"), "{said}");
    let (_, _, said) = run(&["init", "--development", &setup.root().display().to_string()]);
    assert!(said.contains("name another directory") && said.contains("keyward serve --config"), "{said}");
    assert!(setup.log_bytes() == before, "the log was touched");
}

#[test]
fn a_command_without_a_sidecar_says_how_to_start_one() {
    let setup = Setup::new();
    let nowhere = setup.dir.path().join("nowhere.sock").display().to_string();
    let config = setup.config();
    let commands = [
        &["seal", "--keyring", "patients", "--socket", &nowhere][..],
        &["open", "--purpose", "TREAT", "kw1.x", "--socket", &nowhere],
        &["document", "seal", "--keyring", "patients", &ours("examples/fhir-bundle.json"), "--socket", &nowhere],
        &["keyring", "list", "--config", &config],
        &["audit", "tail", "--config", &config],
    ];
    for command in commands {
        let (code, shown, said) = run(command);
        assert_eq!((code, shown.as_str()), (Some(69), ""), "{command:?}: {said}");
        assert!(said.starts_with("error: cannot reach the sidecar at "), "{said}");
        assert!(said.contains("\nhint: start it with `keyward serve`"), "{said}");
    }
}

const EXPLAINED: &str = "\
┌─────────────────┬─────────────────────┬──────┬───────┬─────────┐
│ resource        ┆ path                ┆ mode ┆ HIPAA ┆ state   │
╞═════════════════╪═════════════════════╪══════╪═══════╪═════════╡
│ Patient/example ┆ identifier[0].value ┆ rand ┆ H     ┆ to seal │
│ Patient/example ┆ name[0].family      ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[0].given[0]    ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[0].given[1]    ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[1].family      ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[1].given[0]    ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[1].given[1]    ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ name[1].suffix[0]   ┆ rand ┆ A     ┆ to seal │
│ Patient/example ┆ telecom[0].value    ┆ rand ┆ D     ┆ to seal │
│ Patient/example ┆ telecom[1].value    ┆ rand ┆ F     ┆ to seal │
│ Patient/example ┆ address[0].line[0]  ┆ rand ┆ B     ┆ to seal │
│ Patient/example ┆ address[1].line[0]  ┆ rand ┆ B     ┆ to seal │
└─────────────────┴─────────────────────┴──────┴───────┴─────────┘
12 selected, 0 not covered, 0 sealed where nothing is selected
";

#[test]
fn explain_needs_no_sidecar_and_shows_places_without_values() {
    let patient = ours("tests/data/fhir/patient-example.json");
    assert_eq!(run(&["document", "explain", &patient]), (Some(0), EXPLAINED.to_owned(), String::new()));
    let (code, shown, _) = run(&["document", "explain", "--json", "--profile", "safe-harbor", &patient]);
    let explained: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, explained["rows"].as_array().unwrap().len()), (Some(0), 23));
    let (code, _, said) = run(&["document", "explain", "--profile", "everything", &patient]);
    assert_eq!(code, Some(64));
    assert!(said.contains("direct-identifiers") && said.contains("safe-harbor"), "the profiles there are: {said}");
}
