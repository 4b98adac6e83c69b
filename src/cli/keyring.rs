//! `keyward keyring create|list|show`: over the control socket.

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::connect::{Listener, Target, block_on};
use super::failure::Failure;

/// Make, list and show keyrings.
#[derive(Debug, Subcommand)]
pub(super) enum Keyring {
    /// Make a keyring with its first key version
    Create(Create),
    /// List the keyrings
    List(List),
    /// Show one keyring with its versions
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// tenant/name, or a name in the tenant default
    name: String,
    /// A context key that every value must carry (may be repeated)
    #[arg(long = "require", value_name = "KEY")]
    required: Vec<String>,
    /// The required context key that names the patient, for the log's pseudonyms
    #[arg(long, value_name = "KEY")]
    subject: Option<String>,
    /// The required context key whose values get keys of their own, to be shredded one by one
    #[arg(long, value_name = "KEY")]
    partition: Option<String>,
    /// How values are sealed
    #[arg(long, default_value = "xaes-256-gcm-committed", value_parser = ["xaes-256-gcm-committed", "xaes-256-gcm"])]
    suite: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// tenant/name, or a name in the tenant default
    name: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Keyring {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let (output, method, path, body) = match self {
                Self::Create(create) => {
                    let mut body =
                        json!({ "name": create.name, "required_context": create.required, "suite": create.suite });
                    if let Some(subject) = create.subject {
                        body["subject_key"] = json!(subject);
                    }
                    if let Some(partition) = create.partition {
                        body["partition_key"] = json!(partition);
                    }
                    (create.output, "POST", "/v1/keyrings".to_owned(), Some(body))
                }
                Self::List(list) => (list.output, "GET", "/v1/keyrings".to_owned(), None),
                Self::Show(show) => (show.output, "GET", format!("/v1/keyrings/{}", show.name), None),
            };
            let mut sidecar = output.target.connect(Listener::Control).await?;
            let answer = sidecar.ask(method, &path, body.as_ref()).await?;
            print(&answer, output.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn print(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    match answer.get("keyrings").and_then(Value::as_array) {
        Some(keyrings) if keyrings.is_empty() => {
            println!("no keyrings yet: make one with `keyward keyring create NAME`")
        }
        Some(keyrings) => println!("{}", table(keyrings)),
        None => println!("{}\n{}", table(std::slice::from_ref(answer)), versions(answer)),
    }
}

fn table(keyrings: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["keyring", "suite", "versions", "active", "required context", "subject", "created"]);
    for keyring in keyrings {
        let versions = keyring["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let active =
            versions.iter().find(|version| version["state"] == "active").map_or("-", |version| text(version, "id"));
        table.add_row([
            text(keyring, "name").to_owned(),
            text(keyring, "suite").to_owned(),
            versions.len().to_string(),
            active.to_owned(),
            list(&keyring["required_context"]),
            text(keyring, "subject_key").to_owned(),
            text(keyring, "created").to_owned(),
        ]);
    }
    table
}

fn versions(keyring: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["version", "state", "suite", "wrapped by", "created"]);
    for version in keyring["versions"].as_array().into_iter().flatten() {
        table.add_row([
            text(version, "id").to_owned(),
            text(version, "state").to_owned(),
            text(version, "suite").to_owned(),
            list(&version["keks"]),
            text(version, "created").to_owned(),
        ]);
    }
    table
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn list(value: &Value) -> String {
    let texts: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(", ")
}
