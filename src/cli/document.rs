//! `keyward document seal|open|rewrap|explain`: a whole FHIR document, its PHI sealed field by field through the sidecar.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::durable::Disk;
use crate::fields::{self, FHIR_R4, FieldMap, Plan, Selected, Span, lines};

use super::connect::{Listener, Sidecar, Target, block_on, problem};
use super::failure::{Context, Exit, Failure};

/// Values a request; the sidecar's limit is 1,000.
const BATCH_ITEMS: usize = 500;
/// Bytes of values a request; the sidecar's limit for a body is 8 MiB and JSON escapes can double them.
const BATCH_BYTES: usize = 2 << 20;

/// Seal, open, rewrap and explain FHIR documents.
#[derive(Debug, Subcommand)]
pub(super) enum Document {
    /// Seal the PHI of a document
    Seal(Seal),
    /// Open a sealed document
    Open(Open),
    /// Bring the values of a sealed document under the active key version
    Rewrap(Rewrap),
    /// Show what a profile would seal and what it does not cover; needs no sidecar
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
pub(super) struct Seal {
    /// The keyring to seal under
    #[arg(long, short)]
    keyring: String,
    #[command(flatten)]
    job: Job,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Open {
    /// Purpose of use: TREAT, HPAYMT, HOPERAT, PATRQT, ...
    #[arg(long, short)]
    purpose: String,
    #[command(flatten)]
    job: Job,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rewrap {
    #[command(flatten)]
    job: Job,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    input: Input,
}

#[derive(Debug, clap::Args)]
struct Job {
    #[command(flatten)]
    input: Input,
    /// Where to write the result; standard output if not given. An existing file is never overwritten
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Input {
    /// A FHIR R4 resource or Bundle in JSON, or newline-delimited JSON (*.ndjson)
    file: PathBuf,
    /// Which fields: direct-identifiers or safe-harbor, or a profile of --map
    #[arg(long, default_value = "direct-identifiers")]
    profile: String,
    /// A field map of your own
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Stands for the id of a resource that has none
    #[arg(long, value_name = "ID")]
    resource_id: Option<String>,
}

impl Document {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Seal(seal) => {
                let (document, plan) = seal.job.input.read()?;
                let sealed = block_on(async {
                    let mut sidecar = seal.target.connect(Listener::Data).await?;
                    seal_document(&mut sidecar, &seal.keyring, &document, &plan, seal.job.input.is_lines()).await
                })?;
                seal.job.write(&sealed)
            }
            Self::Open(open) => {
                let (document, plan) = open.job.input.read()?;
                let opened = block_on(async {
                    let mut sidecar = open.target.connect(Listener::Data).await?;
                    open_document(&mut sidecar, &open.purpose, &document, &plan, open.job.input.is_lines()).await
                })?;
                open.job.write(&opened)
            }
            Self::Rewrap(rewrap) => {
                let (document, plan) = rewrap.job.input.read()?;
                let newer = block_on(async {
                    let mut sidecar = rewrap.target.connect(Listener::Data).await?;
                    rewrap_document(&mut sidecar, &document, &plan, rewrap.job.input.is_lines()).await
                })?;
                rewrap.job.write(&newer)
            }
            Self::Explain(explain) => explain.run(),
        }
    }
}

impl Input {
    fn read(&self) -> Result<(Vec<u8>, Plan), Failure> {
        let name = self.file.display();
        let document = std::fs::read(&self.file).doing(Exit::Data, format!("cannot read {name}"))?;
        let own =
            self.map.as_ref().map(std::fs::read_to_string).transpose().doing(Exit::Data, "cannot read the map")?;
        let map = FieldMap::parse(own.as_deref().unwrap_or(FHIR_R4)).doing(Exit::Data, "the field map")?;
        let mut plan = map.plan(&self.profile).doing(Exit::Usage, "--profile")?;
        if let Some(id) = &self.resource_id {
            plan = plan.with_resource_id(id);
        }
        Ok((document, plan))
    }

    fn is_lines(&self) -> bool {
        self.file.extension().is_some_and(|end| end == "ndjson")
    }
}

impl Job {
    fn write(&self, document: &[u8]) -> Result<ExitCode, Failure> {
        match &self.output {
            Some(path) => Disk::real()
                .write_new(path, document, 0o600)
                .doing(Exit::CannotCreate, format!("cannot write {}", path.display()))?,
            None => super::out::bytes(document),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Explain {
    fn run(&self) -> Result<ExitCode, Failure> {
        let (document, plan) = self.input.read()?;
        let found = if self.input.is_lines() {
            lines::sealed_spans(&document, &plan)
        } else {
            fields::sealed_spans(&document, &plan)
        };
        let found = found.doing(Exit::Data, self.input.file.display())?;
        let explained = fields::explain(&found, &plan);
        if self.json {
            let rows: Vec<Value> = explained
                .rows
                .iter()
                .map(|row| {
                    json!({ "resource": row.resource, "path": row.path,
                "mode": row.mode, "hipaa": row.hipaa, "rule": row.rule, "coverage": row.coverage.to_string() })
                })
                .collect();
            println!("{:#}", json!({ "rows": rows, "strays": explained.strays }));
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["resource", "path", "mode", "HIPAA", "state"]);
        for row in &explained.rows {
            table.add_row([&row.resource, &row.path, &row.mode, &row.hipaa, &row.coverage.to_string()]);
        }
        println!("{table}");
        let uncovered: usize = found.uncovered.len();
        println!(
            "{} selected, {uncovered} not covered, {} sealed where nothing is selected",
            found.sealed.len() + found.plain.len(),
            explained.strays
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Seals every selected string of a document.
pub(super) async fn seal_document(
    sidecar: &mut Sidecar,
    keyring: &str,
    document: &[u8],
    plan: &Plan,
    is_lines: bool,
) -> Result<Vec<u8>, Failure> {
    let selection = if is_lines { lines::select(document, plan) } else { fields::select(document, plan) };
    let selection = selection.doing(Exit::Data, "the document")?;
    let path = format!("/v1/keyrings/{keyring}/seal");
    let mut replacements: Vec<(Span, String)> = Vec::with_capacity(selection.values.len());
    let progress = progress(selection.values.len(), "sealing");
    for batch in batches(&selection.values) {
        let items: Vec<Value> =
            batch.iter().map(|value| json!({ "context": pairs(value), "text": value.raw() })).collect();
        let answer = sidecar.ask("POST", &path, Some(&json!({ "items": items }))).await?;
        collect(&answer, "sealed", batch, &mut replacements)?;
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    fields::splice(document, &replacements).doing(Exit::Software, "the sealed values do not fit the document")
}

/// Opens every sealed string that the profile selects.
pub(super) async fn open_document(
    sidecar: &mut Sidecar,
    purpose: &str,
    document: &[u8],
    plan: &Plan,
    is_lines: bool,
) -> Result<Vec<u8>, Failure> {
    let verb = Verb { path: "/v1/open", shared: json!({ "purpose": purpose }), answers: "text", doing: "opening" };
    let replacements = replace(sidecar, &verb, document, plan, is_lines).await?;
    fields::splice(document, &replacements)
        .doing(Exit::Data, "an opened value is not a JSON string: was it sealed as a document?")
}

/// Brings every sealed string that the profile selects under the active key version.
async fn rewrap_document(
    sidecar: &mut Sidecar,
    document: &[u8],
    plan: &Plan,
    is_lines: bool,
) -> Result<Vec<u8>, Failure> {
    let verb = Verb { path: "/v1/rewrap", shared: json!({}), answers: "sealed", doing: "rewrapping" };
    let replacements = replace(sidecar, &verb, document, plan, is_lines).await?;
    fields::splice(document, &replacements).doing(Exit::Software, "the sealed values do not fit the document")
}

/// What is asked of each sealed string of a document.
struct Verb {
    path: &'static str,
    /// Beside the items.
    shared: Value,
    /// The field of an item's answer.
    answers: &'static str,
    doing: &'static str,
}

/// What takes the place of every sealed string that the profile selects.
async fn replace(
    sidecar: &mut Sidecar,
    verb: &Verb,
    document: &[u8],
    plan: &Plan,
    is_lines: bool,
) -> Result<Vec<(Span, String)>, Failure> {
    let found = if is_lines { lines::sealed_spans(document, plan) } else { fields::sealed_spans(document, plan) };
    let found = found.doing(Exit::Data, "the document")?;
    if !found.strays.is_empty() {
        eprintln!(
            "warning: {} sealed values stand where this profile selects nothing; they stay as they are",
            found.strays.len()
        );
    }
    let mut replacements: Vec<(Span, String)> = Vec::with_capacity(found.sealed.len());
    let progress = progress(found.sealed.len(), verb.doing);
    for batch in batches(&found.sealed) {
        let items: Vec<Value> =
            batch.iter().map(|value| json!({ "context": pairs(value), "sealed": value.raw() })).collect();
        let mut body = verb.shared.clone();
        body["items"] = Value::Array(items);
        let answer = sidecar.ask("POST", verb.path, Some(&body)).await?;
        collect(&answer, verb.answers, batch, &mut replacements)?;
        progress.inc(batch.len() as u64);
    }
    progress.finish_and_clear();
    Ok(replacements)
}

/// The context of a value: its place. The tenant is the keyring's, bound by keyward itself.
pub(super) fn pairs(value: &Selected<'_>) -> Value {
    super::value::object(value.context_pairs().map(|(key, value)| (key.to_owned(), value.to_owned())))
}

/// Runs of values that fit into one request.
fn batches<'a, 'd>(values: &'a [Selected<'d>]) -> impl Iterator<Item = &'a [Selected<'d>]> {
    let mut bytes = 0;
    let mut count = 0;
    values.chunk_by(move |value, next| {
        bytes += value.raw().len() + value.path.len() + value.resource.len();
        count += 1;
        let fits = count < BATCH_ITEMS && bytes + next.raw().len() < BATCH_BYTES;
        if !fits {
            (bytes, count) = (0, 0);
        }
        fits
    })
}

/// The answers of a batch, each to its place; the first that failed ends the work, and no document is written.
fn collect(answer: &Value, key: &str, batch: &[Selected<'_>], into: &mut Vec<(Span, String)>) -> Result<(), Failure> {
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    if items.len() != batch.len() {
        return Err(Failure::new(Exit::Software, "the sidecar answered another number of items"));
    }
    for (item, value) in items.iter().zip(batch) {
        match item[key].as_str() {
            Some(text) => into.push((value.span, text.to_owned())),
            None => return Err(problem(&item["error"]).at(&format!("{} {}", value.resource, value.path))),
        }
    }
    Ok(())
}

/// Only on a terminal, and only if there is something to wait for.
fn progress(count: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {per_sec} {eta}");
    let bar = if count > BATCH_ITEMS { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}
