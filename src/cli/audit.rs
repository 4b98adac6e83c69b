//! `keyward audit verify|tail`: verify reads a directory, offline; tail asks the running sidecar.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::audit::VerifierKey;
use crate::audit::verify::{Verified, VerifyError, verify};
use crate::clock::{Clock, SystemClock, Wall};

use super::connect::{Listener, Target, block_on};
use super::failure::{Context, Exit, Failure};

/// How often `tail --follow` asks again.
const POLL: Duration = Duration::from_secs(1);
/// Records a request.
const MOST: u32 = 1_000;

/// Verify and follow the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check a log directory, offline: every frame, every record, every checkpoint
    Verify(Verify),
    /// Print the newest records of the running sidecar
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The log's directory, or a copy of it
    dir: PathBuf,
    /// The log's key as you keep it elsewhere; without it the key in the directory is believed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A checkpoint that you kept: proves that nothing up to it was cut or changed
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Tail {
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

impl Audit {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Verify(verify) => verify.run(),
            Self::Tail(tail) => block_on(tail.run()),
        }
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode, Failure> {
        let key = match &self.key {
            None => None,
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).doing(Exit::Usage, format!("cannot read {}", path.display()))?;
                let key = VerifierKey::parse(text.trim());
                Some(key.ok_or_else(|| Failure::new(Exit::Usage, format!("{} is not a log key", path.display())))?)
            }
        };
        let since = self.since.as_ref().map(std::fs::read_to_string).transpose();
        let since = since.doing(Exit::Usage, "cannot read the checkpoint of --since")?;
        let verified = check(&self.dir, key.as_ref(), since.as_deref())?;
        if self.json {
            println!("{:#}", as_json(&verified))
        } else {
            print(&verified)
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Verifies a log that this process has just written, and prints what was proven.
pub(super) fn print_verified(dir: &Path) -> Result<(), Failure> {
    print(&check(dir, None, None)?);
    Ok(())
}

fn check(dir: &Path, key: Option<&VerifierKey>, since: Option<&str>) -> Result<Verified, Failure> {
    let style = ProgressStyle::with_template("verifying {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let verified = verify(dir, key, since, &mut |progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.bytes);
    });
    bar.finish_and_clear();
    verified.map_err(|error| match error {
        VerifyError::Broken(finding) => Failure::new(Exit::Finding, format!("the log does not verify: {finding}"))
            .hint(
                "keep the directory as it is; records before that one are unharmed; src/audit/FORMAT.md has the rule",
            ),
        VerifyError::Read { .. } => Failure::new(Exit::Unavailable, super::failure::chain(&error))
            .hint("name the directory of a log, log/ in the sidecar's state directory, or a copy of all of it"),
    })
}

fn print(verified: &Verified) {
    let proven = verified.checkpoint.map_or(0, |checkpoint| checkpoint.size);
    println!("   the log {} verifies", verified.origin.as_str());
    println!("   {} records, root {}", verified.records, hex::encode(verified.root));
    println!("   complete up to checkpoint {proven}; {} checkpoints compared with the tree", verified.checkpoints);
    if verified.unproven_tail > 0 {
        println!(
            "   {} records behind it are whole, but nobody could tell if more had followed",
            verified.unproven_tail
        );
    }
    if !verified.open_intents.is_empty() {
        println!("   intents without an outcome: {:?} (the next start settles them)", verified.open_intents);
    }
    if !verified.since_given {
        println!(
            "   unproven: that nothing was cut behind an older checkpoint (give --since a checkpoint kept elsewhere)"
        );
    }
    if !verified.key_given {
        println!("   unproven: that the key is the right one (give --key the log key that init printed)");
    }
}

fn as_json(verified: &Verified) -> Value {
    serde_json::json!({
        "origin": verified.origin.as_str(),
        "records": verified.records,
        "root": hex::encode(verified.root),
        "complete_up_to": verified.checkpoint.map_or(0, |checkpoint| checkpoint.size),
        "checkpoints": verified.checkpoints,
        "unproven_tail": verified.unproven_tail,
        "open_intents": verified.open_intents,
        "key_given": verified.key_given,
        "since_given": verified.since_given,
        "store_head": verified.store_head,
        "store_key_check": verified.store_key_check,
    })
}

impl Tail {
    async fn run(self) -> Result<ExitCode, Failure> {
        let mut sidecar = self.target.connect(Listener::Control).await?;
        let mut path = format!("/v1/audit/records?limit={}", self.lines);
        loop {
            let answer = sidecar.ask("GET", &path, None).await?;
            for record in answer["records"].as_array().into_iter().flatten().map(|one| &one["record"]) {
                if self.json { println!("{record}") } else { println!("{}", line(record)) }
            }
            if !self.follow || super::out::gone() {
                return Ok(ExitCode::SUCCESS);
            }
            path = format!("/v1/audit/records?from={}&limit={MOST}", answer["next"]);
            SystemClock.sleep_until(SystemClock.mono().plus(POLL)).await;
        }
    }
}

/// One record for people.
fn line(record: &Value) -> String {
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
