//! How are keyrings shown to a person? Tables; and the sidecar's own words as JSON.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::clock::{Clock, SystemClock};

pub(super) fn keyrings(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    match answer.get("keyrings").and_then(Value::as_array) {
        Some(keyrings) if keyrings.is_empty() => {
            println!("no keyrings yet: make one with `keyward keyring create NAME`")
        }
        Some(keyrings) => {
            println!("{}", table(keyrings));
            if keyrings.len() >= MOST {
                eprintln!("these are the first {MOST} by name; `keyward keyring inventory` lists all");
            }
        }
        None => println!("{}\n{}", table(std::slice::from_ref(answer)), versions(answer)),
    }
}

/// A listing has no more; see `service`.
const MOST: usize = 1_000;

fn table(keyrings: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["keyring", "suite", "versions", "active", "rotation due", "required context", "subject"]);
    for keyring in keyrings {
        let versions = keyring["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let active =
            versions.iter().find(|version| version["state"] == "active").map_or("-", |version| text(version, "id"));
        table.add_row([
            text(keyring, "name").to_owned(),
            text(keyring, "suite").to_owned(),
            versions.len().to_string(),
            active.to_owned(),
            due(keyring),
            list(&keyring["required_context"]),
            text(keyring, "subject_key").to_owned(),
        ]);
    }
    table
}

/// The day, and whether it is over by this machine's clock.
fn due(keyring: &Value) -> String {
    let day = date(keyring, "rotation_due");
    let overdue = keyring["rotation_due"].as_str().is_some_and(|due| *due < *SystemClock.wall().rfc3339_micros());
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
