//! Does the table of HSM profiles say what the profiles say?

use std::fs;

use crate::assert_none;
use crate::source::root;

#[test]
fn the_table_of_profiles_lists_exactly_the_shipped_ones_as_they_are() {
    let text = fs::read_to_string(root().join("hsm-profiles/README.md")).unwrap();
    let rows: Vec<String> = text.lines().filter(|line| line.starts_with("| `")).map(facts).collect();
    let rows: Vec<&String> = rows.iter().filter(|row| row.split(" | ").count() == CELLS).collect();
    let profiles: Vec<String> = fs::read_dir(root().join("hsm-profiles"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| row(&fs::read_to_string(path).unwrap()))
        .collect();
    let missing = profiles.iter().filter(|row| !rows.contains(row)).map(|row| format!("not in the table: {row}"));
    let foreign = rows.iter().filter(|row| !profiles.contains(row)).map(|row| format!("not a profile: {row}"));
    assert_none("the table of profiles", &missing.chain(foreign).collect::<Vec<_>>());
    assert!(rows.is_sorted_by_key(|row| row.split('`').nth(1)), "the table is not sorted by id");
}

/// The cells of a row that the profile decides: all but the notes.
fn facts(line: &str) -> String {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    cells[..CELLS.min(cells.len())].join(" | ")
}

/// The row that a profile asks for.
fn row(profile: &str) -> String {
    let profile: toml::Table = toml::from_str(profile).unwrap();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let method = |wrap: &toml::Value| match wrap.get("iv").or_else(|| wrap.get("hash")) {
        Some(variant) => format!("{} ({})", text(&wrap["method"]), text(variant)),
        None => text(&wrap["method"]),
    };
    let methods: Vec<String> = profile["wrap"].as_array().unwrap().iter().map(method).collect();
    let login = &profile["login"];
    let login = if text(&login["user"]) == "none" { "none".to_owned() } else { text(&login["pin_shape"]) };
    let id = format!("`{}`", text(&profile["id"]));
    [id, text(&profile["product"]), text(&profile["verified"]), methods.join(", "), login].join(" | ")
}

/// id, product, verified, methods, login.
const CELLS: usize = 5;

#[test]
fn a_row_is_made_from_the_profile_and_the_notes_are_free() {
    let profile = "id = \"a\"\nproduct = \"A 1\"\nverified = \"docs\"\n[login]\nuser = \"user\"\npin_shape = \"free\"\n\
                   [[wrap]]\nmethod = \"aes-gcm\"\niv = \"caller\"\n[[wrap]]\nmethod = \"aes-kwp\"\n";
    let expected = "`a` | A 1 | docs | aes-gcm (caller), aes-kwp | free";
    assert_eq!(row(profile), expected);
    assert_eq!(facts(&format!("| {expected} | whatever |")), expected);
    assert_ne!(facts("| `a` | A 1 | live | aes-gcm (caller), aes-kwp | free | x |"), expected);
}
