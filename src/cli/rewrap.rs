//! `keyward kek rewrap|retire`: every key moves to the current versions, with progress and a completeness report.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::names::KekName;

use super::connect::{Listener, Sidecar, Target, block_on};
use super::failure::{Exit, Failure, exit};
use super::keyring::{REASONS, TRIGGERS};
use super::progress::Steps;

#[derive(Debug, clap::Args)]
pub(super) struct Rewrap {
    /// Why it is done
    #[arg(long, required_unless_present = "dry_run", value_parser = TRIGGERS)]
    trigger: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Retire {
    /// The NAME of its [kek.NAME]
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    /// The version; all of them without it
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    key_version: Option<u32>,
    /// Why
    #[arg(long, value_parser = REASONS)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What the parts of a rewrapping did together.
#[derive(Default)]
struct Done {
    rewrapped: u64,
    mended: u64,
    failed: u64,
    failures: Vec<Value>,
}

impl Rewrap {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let before = sidecar.ask("GET", "/v1/keys/wraps", None).await?;
            if self.dry_run {
                told(&before, None, self.json);
                return Ok(ExitCode::SUCCESS);
            }
            let done = work(&mut sidecar, self.trigger.as_deref(), count(&before, "behind")).await?;
            let after = sidecar.ask("GET", "/v1/keys/wraps", None).await?;
            told(&after, Some(&done), self.json);
            let complete = after["complete"] == true && done.failed == 0;
            Ok(if complete { ExitCode::SUCCESS } else { exit(Exit::Finding) })
        })
    }
}

impl Retire {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let mut body = json!({ "reason": self.reason });
            if let Some(version) = self.key_version {
                body["version"] = json!(version);
            }
            let path = format!("/v1/keks/{}/retire", self.kek);
            let report = sidecar.ask("POST", &path, Some(&body)).await?;
            if self.json {
                println!("{report:#}");
                return Ok(ExitCode::SUCCESS);
            }
            let which = self.key_version.map_or_else(String::new, |version| format!(" version {version}"));
            println!("no key is wrapped by {}{which}; the log says so", self.kek);
            println!("keep it in its token until the last backup of the store that needs it has aged out");
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Part after part, until none is left. Stopped anywhere, the next run goes on with what is left.
async fn work(sidecar: &mut Sidecar, trigger: Option<&str>, behind: u64) -> Result<Done, Failure> {
    let steps = Steps::new();
    let (mut done, mut next) = (Done::default(), None::<String>);
    loop {
        let mut body = json!({ "trigger": trigger });
        if let Some(next) = &next {
            body["after"] = json!(next);
        }
        steps.tell("wrapping keys anew", done.rewrapped, behind);
        let part = sidecar.ask("POST", "/v1/keys/rewrap", Some(&body)).await;
        let part = part.map_err(|failure| failure.hint("what was done is kept: run it again for the rest"))?;
        done.rewrapped += count(&part, "rewrapped");
        done.mended += count(&part, "mended");
        done.failed += count(&part, "failed");
        done.failures.extend(part["failures"].as_array().into_iter().flatten().cloned());
        match part.get("next").and_then(Value::as_str) {
            Some(after) => next = Some(after.to_owned()),
            None => break,
        }
    }
    Ok(done)
}

fn told(report: &Value, done: Option<&Done>, json: bool) {
    if json {
        let mut report = report.clone();
        if let Some(Done { rewrapped, mended, failed, failures }) = done {
            report["rewrapped"] = json!(rewrapped);
            report["mended"] = json!(mended);
            report["failed"] = json!(failed);
            report["failures"] = json!(failures);
        }
        println!("{report:#}");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["wrapped by", "version", "keys"]);
    for wraps in report["wraps"].as_array().into_iter().flatten() {
        let (version, keys) = (count(wraps, "version"), count(wraps, "keys"));
        table.add_row([wraps["kek"].as_str().unwrap_or("-").to_owned(), version.to_string(), keys.to_string()]);
    }
    println!("{table}");
    for keyring in report["damaged"].as_array().into_iter().flatten() {
        let name = keyring.as_str().unwrap_or("-");
        eprintln!("warning: the keyring {name} was edited in the store: none of its keys was looked at");
    }
    let (keys, behind) = (count(report, "keys"), count(report, "behind"));
    match done {
        None => println!("{keys} keys, {behind} of them would be wrapped anew"),
        Some(Done { rewrapped, mended, failed, failures }) => {
            println!("{keys} keys, {rewrapped} wrapped anew, {behind} still behind");
            if *mended > 0 {
                println!("{mended} of them had a wrap that did not open beside one that did: find out why");
            }
            if *failed > 0 {
                eprintln!("warning: {failed} keys were not wrapped anew; the first of them:");
            }
            for failure in failures {
                eprintln!("  {}: {}", failure["key"].as_str().unwrap_or("-"), failure["why"].as_str().unwrap_or("-"));
            }
        }
    }
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}
