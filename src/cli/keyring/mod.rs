//! `keyward keyring ...`: keyrings and their key versions, over the control socket.

pub(super) mod followed;
mod inventory;
mod lookup;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::connect::{Listener, Target, block_on};
use super::failure::{Context, Exit, Failure};

/// Make keyrings, rotate them, and lead their key versions through their lives.
#[derive(Debug, Subcommand)]
pub(super) enum Keyring {
    /// Make a keyring with its first key version
    Create(Create),
    /// List the keyrings
    List(List),
    /// Show one keyring with its versions
    Show(Show),
    /// Give a keyring a new active version; the one before only opens from then on
    Rotate(Rotate),
    /// Change the limits of a keyring, all at once
    Configure(Configure),
    /// Stop a version from sealing and opening, for now
    Suspend(Step),
    /// Let a suspended version be used again
    Resume(Step),
    /// Let a version only open from now on
    Deactivate(Step),
    /// Mark a version as known to somebody else; it opens only where policy says so
    Compromise(Step),
    /// Schedule the destruction of a version; until then it is treated as suspended
    Destroy(Destroy),
    /// Do not destroy a version after all
    CancelDestroy(Step),
    /// Destroy a version whose wait is over: what it sealed is lost for good
    FinishDestroy(Finish),
    /// The keys of deterministic values, blind indexes and tokens
    #[command(subcommand)]
    Lookup(lookup::Lookup),
    /// Which sidecars have not followed a change of keys yet, and until when they may go on
    Followed(followed::Followed),
    /// List every key version: state, times, wraps, use
    Inventory(inventory::Inventory),
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
    /// Wrap its keys by the primary alone: with the primary they are lost for good
    #[arg(long)]
    no_escrow: bool,
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
pub(super) struct Rotate {
    /// tenant/name, or a name in the tenant default
    name: String,
    /// Why it is rotated
    #[arg(long, value_parser = TRIGGERS)]
    trigger: String,
    /// Only if this version is the active one, so that two people do not rotate twice
    #[arg(long, value_name = "VERSION")]
    expect: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Configure {
    /// tenant/name, or a name in the tenant default
    name: String,
    /// How long a version seals: 1d to 730d; the configuration's if not given
    #[arg(long, value_name = "DAYS", value_parser = days)]
    cryptoperiod: Option<u64>,
    /// How many values a version seals
    #[arg(long, value_name = "COUNT")]
    messages: Option<u64>,
    /// How many plaintext bytes a version seals
    #[arg(long, value_name = "COUNT")]
    bytes: Option<u64>,
    /// How many seconds a cached key serves on while its KEK is out of reach
    #[arg(long, value_name = "SECONDS")]
    offline_max: Option<u64>,
    /// Whether the escrow wraps its keys too, from the next `keyward kek rewrap` on; as it is if not given
    #[arg(long, value_parser = ["yes", "no"])]
    escrow: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Which version, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Step {
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Destroy {
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    why: Why,
    /// How long it waits, in which a forgotten user fails while nothing is lost: 7d to 30d
    #[arg(long, value_name = "DAYS", value_parser = days)]
    after: u64,
    /// The owner's statement that no value needs the version; the log keeps its digest. It shows in the list of processes
    #[arg(long, value_name = "TEXT", required_unless_present = "statement_file")]
    statement: Option<String>,
    /// A file with the statement instead; what ends its last line is left out
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    statement_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Finish {
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Version {
    /// tenant/name, or a name in the tenant default
    name: String,
    /// The version's id, as `keyward keyring show` lists it
    #[arg(value_name = "VERSION")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Why
    #[arg(long, value_parser = REASONS)]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why keys are rotated or wrapped anew.
pub(super) const TRIGGERS: [&str; 5] = ["schedule", "usage", "personnel", "architecture", "incident"];

/// Why a step is taken.
pub(super) const REASONS: [&str; 11] = [
    "schedule",
    "usage",
    "personnel",
    "architecture",
    "incident",
    "policy",
    "suspicion",
    "disclosure",
    "cleared",
    "mistake",
    "retired",
];

/// A request over the control socket, and how its answer is printed.
struct Request {
    output: Output,
    method: &'static str,
    path: String,
    body: Option<Value>,
}

impl Keyring {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if let Self::Inventory(inventory) = self {
            return inventory.run();
        }
        if let Self::Followed(followed) = self {
            return followed.run();
        }
        let print = if matches!(self, Self::Lookup(_)) { print::lookups } else { print::keyrings };
        let Some(Request { output, method, path, body }) = self.request()? else { return Ok(ExitCode::SUCCESS) };
        block_on(async {
            let mut sidecar = output.target.connect(Listener::Control).await?;
            let mut answer = sidecar.ask(method, &path, body.as_ref()).await?;
            while let Some(after) = answer.get("next").and_then(Value::as_str) {
                let page = sidecar.ask(method, &format!("{path}?after={after}"), None).await?;
                append(&mut answer, page);
            }
            print(&answer, output.json);
            Ok(ExitCode::SUCCESS)
        })
    }

    /// None for those that ask otherwise.
    fn request(self) -> Result<Option<Request>, Failure> {
        Ok(Some(match self {
            Self::Create(create) => create.request(),
            Self::List(List { output }) => {
                Request { output, method: "GET", path: "/v1/keyrings".to_owned(), body: None }
            }
            Self::Show(Show { name, output }) => {
                Request { output, method: "GET", path: format!("/v1/keyrings/{name}"), body: None }
            }
            Self::Rotate(Rotate { name, trigger, expect, output }) => {
                let body = given([("trigger", Some(json!(trigger))), ("expect", expect.map(Value::from))]);
                post(output, format!("/v1/keyrings/{name}/rotate"), body)
            }
            Self::Configure(configure) => configure.request(),
            Self::Suspend(step) => step.request("suspend"),
            Self::Resume(step) => step.request("resume"),
            Self::Deactivate(step) => step.request("deactivate"),
            Self::Compromise(step) => step.request("compromise"),
            Self::CancelDestroy(step) => step.request("cancel-destroy"),
            Self::Destroy(Destroy { version, why, after, statement, statement_file, output }) => {
                let statement = stated(statement, statement_file)?;
                let body = json!({ "reason": why.reason, "after_days": after, "statement": statement });
                post(output, version.path("destroy"), body)
            }
            Self::FinishDestroy(Finish { version, output }) => post(output, version.path("finish-destroy"), json!({})),
            Self::Lookup(lookup) => lookup.request(),
            Self::Inventory(_) | Self::Followed(_) => return Ok(None),
        }))
    }
}

/// The words of a statement, from the command line or a file.
fn stated(text: Option<String>, file: Option<PathBuf>) -> Result<String, Failure> {
    let Some(path) = file else { return Ok(text.unwrap_or_default()) };
    let text = std::fs::read_to_string(&path).doing(Exit::Data, format!("cannot read {}", path.display()))?;
    match text.trim_end() {
        "" => Err(Failure::new(Exit::Data, format!("{} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

impl Create {
    fn request(self) -> Request {
        let Self { name, required, subject, partition, suite, no_escrow, output } = self;
        let body = given([
            ("name", Some(json!(name))),
            ("required_context", Some(json!(required))),
            ("subject_key", subject.map(Value::from)),
            ("partition_key", partition.map(Value::from)),
            ("suite", Some(json!(suite))),
            ("escrow", no_escrow.then(|| json!("no"))),
        ]);
        post(output, "/v1/keyrings".to_owned(), body)
    }
}

impl Configure {
    fn request(self) -> Request {
        let Self { name, cryptoperiod, messages, bytes, offline_max, escrow, output } = self;
        let body = given([
            ("cryptoperiod_days", cryptoperiod.map(Value::from)),
            ("messages", messages.map(Value::from)),
            ("bytes", bytes.map(Value::from)),
            ("offline_max_seconds", offline_max.map(Value::from)),
            ("escrow", escrow.map(Value::from)),
        ]);
        post(output, format!("/v1/keyrings/{name}/configure"), body)
    }
}

impl Step {
    fn request(self, verb: &str) -> Request {
        let Self { version, why, output } = self;
        post(output, version.path(verb), json!({ "reason": why.reason }))
    }
}

impl Version {
    fn path(&self, verb: &str) -> String {
        format!("/v1/keyrings/{}/versions/{}/{verb}", self.name, self.id)
    }
}

const fn post(output: Output, path: String, body: Value) -> Request {
    Request { output, method: "POST", path, body: Some(body) }
}

/// Puts the next page of a listing behind the pages before it.
fn append(answer: &mut Value, mut page: Value) {
    let more = page.get_mut("keyrings").map(Value::take);
    if let (Some(all), Some(Value::Array(more))) = (answer.get_mut("keyrings").and_then(Value::as_array_mut), more) {
        all.extend(more);
    }
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("next");
        answer.extend(["next", "damaged"].into_iter().filter_map(|key| Some((key.to_owned(), page.get(key)?.clone()))));
    }
}

/// An object of what was given.
fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let some = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(some.collect::<Map<_, _>>())
}

/// `30d`, or `30`.
fn days(text: &str) -> Result<u64, String> {
    let digits = text.strip_suffix('d').unwrap_or(text);
    digits.parse().map_err(|_| "give whole days, such as 30d".to_owned())
}
