//! `keyward keyring ...` as an operator reads it: exact tables, exact refusals.

use crate::run;
use crate::support::Setup;

/// Ids and times differ in each run: each hexadecimal id becomes sixteen `v`, each date and time a fixed one.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let id = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let date = rest.get(..10).is_some_and(|date| {
            date.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
        });
        if date {
            let time = rest.get(10..27).filter(|time| time.starts_with('T') && time.ends_with('Z'));
            out.push_str("2026-01-31");
            out.push_str(time.map_or("", |_| "T00:00:00.000000Z"));
            rest = &rest[10 + time.map_or(0, str::len)..];
        } else if id == 16 {
            out.push_str("vvvvvvvvvvvvvvvv");
            rest = &rest[16..];
        } else {
            let skip = if id > 0 { id } else { first.len_utf8() };
            out.push_str(&rest[..skip]);
            rest = &rest[skip..];
        }
    }
    out
}

fn version(shown: &str, state: &str) -> String {
    let line = shown.lines().rfind(|line| line.contains(&format!("┆ {state} "))).unwrap_or_else(|| panic!("{shown}"));
    line.split(['│', '┆']).map(str::trim).find(|cell| cell.len() == 16).unwrap().to_owned()
}

const ROTATED: &str = "\
┌──────────────────┬────────────────────────┬──────────┬──────────────────┬────────────┬──────────────┬──────────────────┬──────────┬────────┐
│ keyring          ┆ suite                  ┆ versions ┆ active           ┆ next run   ┆ rotation due ┆ required context ┆ subject  ┆ escrow │
╞══════════════════╪════════════════════════╪══════════╪══════════════════╪════════════╪══════════════╪══════════════════╪══════════╪════════╡
│ default/patients ┆ xaes-256-gcm-committed ┆ 2        ┆ vvvvvvvvvvvvvvvv ┆ 2026-01-31 ┆ 2026-01-31   ┆ path, resource   ┆ resource ┆ yes    │
└──────────────────┴────────────────────────┴──────────┴──────────────────┴────────────┴──────────────┴──────────────────┴──────────┴────────┘
┌──────────────────┬─────────────┬────────────┬───────────┬──────────┬────────────────────────┬────────────┬─────────────────────────────┐
│ version          ┆ state       ┆ since      ┆ why       ┆ by       ┆ suite                  ┆ wrapped by ┆ created                     │
╞══════════════════╪═════════════╪════════════╪═══════════╪══════════╪════════════════════════╪════════════╪═════════════════════════════╡
│ vvvvvvvvvvvvvvvv ┆ deactivated ┆ 2026-01-31 ┆ personnel ┆ operator ┆ xaes-256-gcm-committed ┆ primary v1 ┆ 2026-01-31T00:00:00.000000Z │
│ vvvvvvvvvvvvvvvv ┆ active      ┆ 2026-01-31 ┆ personnel ┆ operator ┆ xaes-256-gcm-committed ┆ primary v1 ┆ 2026-01-31T00:00:00.000000Z │
└──────────────────┴─────────────┴────────────┴───────────┴──────────┴────────────────────────┴────────────┴─────────────────────────────┘
";

const INVENTORY: &str = "\
┌──────────────────┬──────────────────┬────────────────────────┬─────────────────────────────────────────┬────────────┬──────┬────────────┬──────────┬────────┐
│ keyring          ┆ version          ┆ suite or look-up       ┆ state                                   ┆ created    ┆ left ┆ wrapped by ┆ messages ┆ opened │
╞══════════════════╪══════════════════╪════════════════════════╪═════════════════════════════════════════╪════════════╪══════╪════════════╪══════════╪════════╡
│ default/patients ┆ vvvvvvvvvvvvvvvv ┆ xaes-256-gcm-committed ┆ deactivated, to be destroyed 2026-01-31 ┆ 2026-01-31 ┆ -    ┆ primary v1 ┆ 0        ┆ -      │
│ default/patients ┆ vvvvvvvvvvvvvvvv ┆ xaes-256-gcm-committed ┆ active                                  ┆ 2026-01-31 ┆ 89 d ┆ primary v1 ┆ 0        ┆ -      │
└──────────────────┴──────────────────┴────────────────────────┴─────────────────────────────────────────┴────────────┴──────┴────────────┴──────────┴────────┘
┌────────────────────┬─────────┬─────────────┬────────────────────────────────┐
│ key-encryption key ┆ version ┆ wraps since ┆ cryptoperiod                   │
╞════════════════════╪═════════╪═════════════╪════════════════════════════════╡
│ primary            ┆ 1       ┆ 2026-01-31  ┆ 364 d of its cryptoperiod left │
└────────────────────┴─────────┴─────────────┴────────────────────────────────┘
";

#[test]
fn the_verbs_of_a_key_version_show_what_became_of_it_and_refusals_say_what_is_needed() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let config = setup.config();
    let keyring = |arguments: &[&str]| run(&[&["keyring"], arguments, &["--config", &config]].concat());
    let (code, shown, said) = keyring(&["rotate", "patients", "--trigger", "personnel"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(masked(&shown), ROTATED, "\n{shown}");
    let (old, active) = (version(&shown, "deactivated"), version(&shown, "active"));
    let statement = ["--reason", "retired", "--after", "30d", "--statement", "no value is left that needs it"];
    let (code, shown, said) = keyring(&[&["destroy", "patients", &active], &statement[..]].concat());
    assert_eq!((code, shown.as_str()), (Some(65), ""));
    assert_eq!(
        said,
        "error: the state of the key version does not allow this (key_state): the version is active; to schedule the \
         destruction of it, it must be pre-active, deactivated or compromised: rotate the keyring or deactivate the \
         version first\nhint: the detail says in which state the key is; to seal or open, ask whoever keeps the keys\n"
    );
    let (code, _, said) = keyring(&[&["destroy", "patients", &old], &statement[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, shown, said) = keyring(&["inventory"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(masked(&shown), INVENTORY, "\n{shown}");
    for wrong in [
        &["rotate", "patients"][..],
        &["rotate", "patients", "--trigger", "whim"],
        &["suspend", "patients", &active],
        &["suspend", "patients", &active, "--reason", "because"],
        &["destroy", "patients", &old, "--reason", "retired", "--after", "soon", "--statement", "x"],
        &["inventory", "--json", "--csv"],
    ] {
        assert_eq!(keyring(wrong).0, Some(64), "{wrong:?}");
    }
}
