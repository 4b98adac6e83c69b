//! `keyward keyring inventory`: every key version there is, as a table, JSON or CSV. Reads page by page.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::print::{date, each_lookup, list, state, text};
use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::failure::Failure;

/// Keyrings of one request.
const PAGE: usize = 500;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Inventory {
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV (RFC 4180)
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    target: Target,
}

impl Inventory {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let mut keyrings: Vec<Value> = Vec::new();
            let mut path = format!("/v1/inventory?limit={PAGE}");
            loop {
                let mut page = sidecar.ask("GET", &path, None).await?;
                if let Some(Value::Array(more)) = page.get_mut("keyrings").map(Value::take) {
                    keyrings.extend(more);
                }
                if page.get("next").is_none() {
                    super::print::damaged(&page);
                }
                match page.get("next").and_then(Value::as_str) {
                    Some(after) => path = format!("/v1/inventory?after={after}&limit={PAGE}"),
                    None => break,
                }
            }
            let keks = sidecar.ask("GET", "/v1/keks", None).await?;
            self.print(&keyrings, &keks["keks"]);
            Ok(ExitCode::SUCCESS)
        })
    }

    fn print(&self, keyrings: &[Value], keks: &Value) {
        if self.json {
            println!("{:#}", json!({ "keyrings": keyrings, "keks": keks }));
        } else if self.csv {
            println!("{}", COLUMNS.map(|(name, _)| name).join(","));
            for cells in rows(keyrings) {
                println!("{}", cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
            }
        } else {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_header([
                "keyring",
                "version",
                "suite or look-up",
                "state",
                "created",
                "left",
                "wrapped by",
                "messages",
                "opened",
            ]);
            for Line { keyring, lookup, version } in each(keyrings) {
                table.add_row([
                    text(keyring, "name").to_owned(),
                    text(version, "id").to_owned(),
                    lookup.map_or_else(|| text(version, "suite").to_owned(), |lookup| numbered(lookup, version)),
                    state(version),
                    date(version, "created"),
                    number(version, "days_left").map_or_else(|| "-".to_owned(), |days| format!("{days} d")),
                    list(&version["keks"]),
                    number(version, "messages").unwrap_or_else(|| "-".to_owned()),
                    date(version, "last_opened"),
                ]);
            }
            println!("{table}");
            println!("{}", of_keks(keks));
        }
    }
}

/// The versions of key-encryption keys below the keys.
fn of_keks(keks: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["key-encryption key", "version", "wraps since", "cryptoperiod"]);
    for one in keks.as_array().into_iter().flatten() {
        table.add_row([
            text(one, "kek").to_owned(),
            number(one, "version").unwrap_or_else(|| "-".to_owned()),
            date(one, "since"),
            crate::cli::kek::left(one),
        ]);
    }
    table
}

/// A version, whose it is, and of which look-up key.
struct Line<'a> {
    keyring: &'a Value,
    lookup: Option<&'a Value>,
    version: &'a Value,
}

/// A column's name, and its cell.
type Column = (&'static str, fn(&Line<'_>) -> String);

const COLUMNS: [Column; 21] = [
    ("keyring", |line| plain(line.keyring, "name")),
    ("version", |line| plain(line.version, "id")),
    ("suite", |line| plain(line.version, "suite")),
    ("state", |line| plain(line.version, "state")),
    ("created", |line| plain(line.version, "created")),
    ("activated", |line| plain(line.version, "activated")),
    ("since", |line| plain(line.version, "since")),
    ("reason", |line| plain(line.version, "reason")),
    ("by", |line| plain(line.version, "by")),
    ("expires", |line| plain(line.version, "expires")),
    ("days_left", |line| number(line.version, "days_left").unwrap_or_default()),
    ("destroy_at", |line| plain(line.version, "destroy_at")),
    ("keks", |line| list(&line.version["keks"])),
    ("wraps", |line| line.version["keks"].as_array().map_or(0, Vec::len).to_string()),
    ("escrow", |line| plain(line.keyring, "escrow")),
    ("lookup", |line| line.lookup.map(|lookup| numbered(lookup, line.version)).unwrap_or_default()),
    ("role", |line| plain(line.version, "role")),
    ("messages", |line| number(line.version, "messages").unwrap_or_default()),
    ("bytes", |line| number(line.version, "bytes").unwrap_or_default()),
    ("last_opened", |line| plain(line.version, "last_opened")),
    ("required_context", |line| list(&line.keyring["required_context"])),
];

fn rows(keyrings: &[Value]) -> impl Iterator<Item = [String; COLUMNS.len()]> {
    each(keyrings).map(|line| COLUMNS.map(|(_, cell)| cell(&line)))
}

fn each(keyrings: &[Value]) -> impl Iterator<Item = Line<'_>> {
    keyrings.iter().flat_map(|keyring| {
        let own = keyring["versions"].as_array().into_iter().flatten();
        let own = own.map(move |version| Line { keyring, lookup: None, version });
        let of_lookup = |(lookup, version)| Line { keyring, lookup: Some(lookup), version };
        own.chain(each_lookup(keyring).map(of_lookup))
    })
}

/// `USE/NAME vN`.
fn numbered(lookup: &Value, version: &Value) -> String {
    format!("{} v{}", text(lookup, "name"), version["number"])
}

/// Empty where there is nothing, which a table shows as a dash.
fn plain(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_i64).map(|number| number.to_string())
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
