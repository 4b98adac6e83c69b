//! How are keyrings shown to a person? Tables; and the sidecar's own words as JSON.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::clock::{Clock, SystemClock};

pub(super) fn keyrings(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    damaged(answer);
    match answer.get("keyrings").and_then(Value::as_array) {
        Some(keyrings) if keyrings.is_empty() => {
            println!("no keyrings yet: make one with `keyward keyring create NAME`")
        }
        Some(keyrings) => println!("{}", table(keyrings)),
        None => {
            println!("{}\n{}", table(std::slice::from_ref(answer)), versions(answer));
            if answer.get("lookups").is_some() {
                println!("{}", of_lookups(answer));
            }
            super::followed::tell(answer);
        }
    }
}

/// What a listing may lack.
pub(super) fn damaged(answer: &Value) {
    if let Some(what) = answer.get("damaged").and_then(Value::as_str) {
        eprintln!("warning: the store was edited, and what was edited is not listed: {what}");
    }
}

/// The look-up keys of one keyring.
pub(super) fn lookups(answer: &Value, json: bool) {
    match answer.get("lookups") {
        _ if json => println!("{answer:#}"),
        Some(_) => println!("{}", of_lookups(answer)),
        None => println!("no look-up keys yet: make one with `keyward keyring lookup create NAME index/NAME`"),
    }
}

fn of_lookups(keyring: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["look-up key", "number", "for", "version", "state", "since", "why", "by", "wrapped by", "due"]);
    for (lookup, version) in each_lookup(keyring) {
        table.add_row([
            text(lookup, "name").to_owned(),
            version["number"].to_string(),
            text(version, "role").to_owned(),
            text(version, "id").to_owned(),
            state(version),
            date(version, "since"),
            text(version, "reason").to_owned(),
            text(version, "by").to_owned(),
            list(&version["keks"]),
            due(version, "expires"),
        ]);
    }
    table
}

/// Every version of every look-up key of a keyring.
pub(super) fn each_lookup(keyring: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let lookups = keyring["lookups"].as_array().into_iter().flatten();
    lookups.flat_map(|lookup| lookup["versions"].as_array().into_iter().flatten().map(move |version| (lookup, version)))
}

fn table(keyrings: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "keyring",
        "suite",
        "versions",
        "active",
        "next run",
        "rotation due",
        "required context",
        "subject",
        "escrow",
    ]);
    for keyring in keyrings {
        let versions = keyring["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let active =
            versions.iter().find(|version| version["state"] == "active").map_or("-", |version| text(version, "id"));
        table.add_row([
            text(keyring, "name").to_owned(),
            text(keyring, "suite").to_owned(),
            versions.len().to_string(),
            active.to_owned(),
            date(keyring, "next_rotation"),
            due(keyring, "rotation_due"),
            list(&keyring["required_context"]),
            text(keyring, "subject_key").to_owned(),
            text(keyring, "escrow").to_owned(),
        ]);
    }
    table
}

/// The day, and whether it is over by this machine's clock.
fn due(value: &Value, key: &str) -> String {
    let day = date(value, key);
    let overdue = value[key].as_str().is_some_and(|due| *due < *SystemClock.wall().rfc3339_micros());
    if overdue { format!("{day} OVERDUE") } else { day }
}

fn versions(keyring: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["version", "state", "since", "why", "by", "suite", "wrapped by", "created"]);
    for version in keyring["versions"].as_array().into_iter().flatten() {
        table.add_row([
            text(version, "id").to_owned(),
            state(version),
            date(version, "since"),
            text(version, "reason").to_owned(),
            text(version, "by").to_owned(),
            text(version, "suite").to_owned(),
            list(&version["keks"]),
            text(version, "created").to_owned(),
        ]);
    }
    table
}

/// The state, and what is to become of it.
pub(super) fn state(version: &Value) -> String {
    let state = text(version, "state");
    match version.get("destroy_at") {
        Some(_) => format!("{state}, to be destroyed {}", date(version, "destroy_at")),
        None => state.to_owned(),
    }
}

/// The day of a time.
pub(super) fn date(value: &Value, key: &str) -> String {
    text(value, key).chars().take(10).collect()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn list(value: &Value) -> String {
    let texts: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(", ")
}
