//! `keyward audit tail`: the newest records of the running sidecar.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::clock::{Clock, SystemClock, Wall};

use crate::cli::connect::{Listener, Target};
use crate::cli::failure::Failure;

/// How often `tail --follow` asks again.
const POLL: Duration = Duration::from_secs(1);
/// Records a request.
const MOST: u32 = 1_000;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Tail {
    /// How many of the newest records
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
    /// Go on with new records as they come
    #[arg(long, short)]
    follow: bool,
    /// Print the records as they are stored: one canonical JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Tail {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let mut sidecar = self.target.connect(Listener::Control).await?;
        let mut path = format!("/v1/audit/records?limit={}", self.lines);
        loop {
            let answer = sidecar.ask("GET", &path, None).await?;
            for record in answer["records"].as_array().into_iter().flatten().map(|one| &one["record"]) {
                if self.json { println!("{record}") } else { println!("{}", line(record)) }
            }
            if !self.follow || crate::cli::out::gone() {
                return Ok(ExitCode::SUCCESS);
            }
            path = format!("/v1/audit/records?from={}&limit={MOST}", answer["next"]);
            SystemClock.sleep_until(SystemClock.mono().plus(POLL)).await;
        }
    }
}

/// One record for people.
pub(super) fn line(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let actor = record["actor"]["name"].as_str().or_else(|| record["actor"]["kind"].as_str()).unwrap_or("-");
    let groups = record["groups"].as_array().into_iter().flatten();
    let keyrings: Vec<String> =
        groups.map(|group| format!("{} ({} done)", group["keyring"].as_str().unwrap_or("-"), group["done"])).collect();
    let reason = match text("reason") {
        empty if empty.is_empty() => empty,
        reason => format!(" {reason}"),
    };
    let at = Wall(record["time"].as_u64().unwrap_or_default()).rfc3339_millis();
    format!(
        "{:>7}  {at}  {:<20} {:<8}{reason} {actor} {}",
        record["index"],
        text("event"),
        text("outcome"),
        keyrings.join(", ")
    )
}
