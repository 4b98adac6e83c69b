//! `keyward bench`: how fast does a running sidecar seal and open? Real requests over its socket, each with its record.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::clock::{Clock, Mono, SystemClock};

use super::connect::{Listener, Sidecar, Target, block_on};
use super::failure::Failure;

/// Seal and open made-up values for a while, and print rates and latencies.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// The keyring to use; values are made up and nothing is kept
    #[arg(long, short)]
    keyring: String,
    #[command(flatten)]
    load: Load,
    /// A context pair KEY=VALUE that the keyring requires (may be repeated)
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = super::value::pair)]
    context: Vec<(String, String)>,
    /// Purpose of use for opening
    #[arg(long, default_value = "TREAT")]
    purpose: String,
    /// Also measure rewrapping into another context; needs the right to rewrap
    #[arg(long)]
    rewrap: bool,
    #[command(flatten)]
    target: Target,
}

/// How much load, for how long.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Load {
    /// Connections at once
    #[arg(long, default_value_t = 8)]
    pub(super) connections: usize,
    /// Values a request
    #[arg(long, default_value_t = 1)]
    pub(super) batch: usize,
    /// Bytes a value
    #[arg(long, default_value_t = 64)]
    pub(super) size: usize,
    /// Milliseconds for sealing, and again for opening
    #[arg(long, default_value_t = 5_000)]
    pub(super) millis: u64,
}

/// What one kind of request achieved.
pub(super) struct Rate {
    pub(super) requests: usize,
    pub(super) values: usize,
    pub(super) took: Duration,
    latencies: Vec<Duration>,
}

impl Rate {
    pub(super) fn a_second(&self, count: usize) -> f64 {
        count as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let at = self.latencies.len().saturating_mul(percent) / 100;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let (socket, _) = self.target.socket(Listener::Data)?;
            let context = super::value::object(self.context);
            let seal = seal_request(&self.load, &context);
            let seal_path = format!("/v1/keyrings/{}/seal", self.keyring);
            let answer = Sidecar::connect(&socket).await?.ask("POST", &seal_path, Some(&seal)).await?;
            let open = open_request(&answer, &context, &self.purpose);
            let sealing = drive(&socket, &self.load, &seal_path, &seal).await?;
            let opening = drive(&socket, &self.load, "/v1/open", &open).await?;
            let mut rates = vec![("seal", &sealing), ("open", &opening)];
            let rewrapping = if self.rewrap {
                Some(drive(&socket, &self.load, "/v1/rewrap", &rewrap_request(&answer, &context)).await?)
            } else {
                None
            };
            rates.extend(rewrapping.as_ref().map(|rate| ("rewrap", rate)));
            println!("{}", table(&self.load, &rates));
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// A batch of made-up values.
pub(super) fn seal_request(load: &Load, context: &Value) -> Value {
    let items: Vec<Value> =
        (0..load.batch).map(|n| json!({ "text": format!("{n:0width$}", width = load.size) })).collect();
    json!({ "context": context, "items": items })
}

/// The request that opens what a batch answered.
pub(super) fn open_request(sealed: &Value, context: &Value, purpose: &str) -> Value {
    let items: Vec<Value> =
        sealed["items"].as_array().into_iter().flatten().map(|item| json!({ "sealed": item["sealed"] })).collect();
    json!({ "context": context, "purpose": purpose, "items": items })
}

/// The request that takes what a batch answered into another context: in their place there would be nothing to do.
fn rewrap_request(sealed: &Value, context: &Value) -> Value {
    let items: Vec<Value> =
        sealed["items"].as_array().into_iter().flatten().map(|item| json!({ "sealed": item["sealed"] })).collect();
    let mut new_context = context.clone();
    new_context["keyward-bench"] = json!("moved");
    json!({ "context": context, "new_context": new_context, "items": items })
}

/// Sends one request again and again over several connections for the time of the load.
pub(super) async fn drive(socket: &Path, load: &Load, path: &str, body: &Value) -> Result<Rate, Failure> {
    let start = SystemClock.mono();
    let end = start.plus(Duration::from_millis(load.millis));
    let mut workers = Vec::new();
    for _ in 0..load.connections.max(1) {
        let sidecar = Sidecar::connect(socket).await?;
        workers.push(tokio::spawn(repeat(sidecar, path.to_owned(), body.clone(), end)));
    }
    let mut latencies = Vec::new();
    for worker in workers {
        let done = worker.await.map_err(|error| Failure::new(super::failure::Exit::Software, error))?;
        latencies.extend(done?);
    }
    latencies.sort_unstable();
    let took = SystemClock.mono().since(start);
    Ok(Rate { requests: latencies.len(), values: latencies.len().saturating_mul(load.batch), took, latencies })
}

async fn repeat(mut sidecar: Sidecar, path: String, body: Value, end: Mono) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    while SystemClock.mono() < end {
        let start = SystemClock.mono();
        sidecar.ask("POST", &path, Some(&body)).await?;
        latencies.push(SystemClock.mono().since(start));
    }
    Ok(latencies)
}

pub(super) fn table(load: &Load, rates: &[(&str, &Rate)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["verb", "requests/s", "values/s", "MB/s", "p50", "p99"]);
    for (verb, rate) in rates {
        table.add_row([
            (*verb).to_owned(),
            format!("{:.0}", rate.a_second(rate.requests)),
            format!("{:.0}", rate.a_second(rate.values)),
            format!("{:.1}", rate.a_second(rate.values.saturating_mul(load.size)) / 1e6),
            format!("{:.2?}", rate.percentile(50)),
            format!("{:.2?}", rate.percentile(99)),
        ]);
    }
    table
}
