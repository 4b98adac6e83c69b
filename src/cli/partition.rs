//! `keyward partition shred|rewrap`: over the control socket. The value that names a partition (a patient, say) comes from
//! a file or from standard input, never from the command line, which every user of the machine can read.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::connect::{Listener, Target, block_on};
use super::failure::{Context, Exit, Failure};
use super::progress::Steps;

/// Shred the key of one patient, and move such keys to a keyring's active version.
#[derive(Debug, Subcommand)]
pub(super) enum Partition {
    /// Destroy the key of one partition for good and print the certificate
    Shred(Shred),
    /// Wrap every partition of a keyring under its active version; goes on where an earlier run stopped
    Rewrap(Rewrap),
}

#[derive(Debug, clap::Args)]
pub(super) struct Shred {
    /// tenant/name, or a name in the tenant default
    keyring: String,
    /// The file with the value that names the partition; - is standard input. One line end at its end is taken off
    #[arg(long, value_name = "FILE", default_value = "-")]
    value_file: PathBuf,
    /// Why: policy, retired, mistake, disclosure, suspicion, personnel, architecture, incident, ...
    #[arg(long)]
    reason: String,
    /// For how long backups of the store are kept, as in 35d: the certificate then says when the last one is gone
    #[arg(long, value_name = "DAYS")]
    backup_retention: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rewrap {
    /// tenant/name, or a name in the tenant default
    keyring: String,
    /// Why it is done
    #[arg(long, value_parser = super::keyring::TRIGGERS)]
    trigger: String,
    #[command(flatten)]
    target: Target,
}

/// Longer than any context value may be.
const MOST: u64 = 8 * 1024;

impl Partition {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Shred(shred) => shred.run(),
            Self::Rewrap(rewrap) => rewrap.run(),
        }
    }
}

impl Shred {
    fn run(self) -> Result<ExitCode, Failure> {
        let mut body = json!({ "value": value(&self.value_file)?, "reason": self.reason });
        if let Some(days) = &self.backup_retention {
            body["backup_retention"] = json!(days);
        }
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let path = format!("/v1/keyrings/{}/partitions/shred", self.keyring);
            let certificate = sidecar.ask("POST", &path, Some(&body)).await?;
            if self.json {
                println!("{certificate:#}");
            } else {
                print!("{}", words(&certificate));
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Rewrap {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let path = format!("/v1/keyrings/{}/partitions/rewrap", self.keyring);
            let (mut done, steps) = (0, Steps::new());
            loop {
                let answer = sidecar.ask("POST", &path, Some(&json!({ "trigger": self.trigger }))).await?;
                let count = |key: &str| answer[key].as_u64().unwrap_or_default();
                done += count("rewrapped");
                steps.tell("wrapping partitions anew", done, done + count("remaining"));
                if count("remaining") == 0 {
                    break;
                }
                if count("rewrapped") == 0 && count("damaged") > 0 {
                    drop(steps);
                    println!("{done} partitions were wrapped under the active version");
                    return Err(stuck(count("remaining")));
                }
                if count("rewrapped") == 0 {
                    let left = count("remaining");
                    return Err(Failure::new(
                        Exit::Unavailable,
                        format!("{left} partitions remain and none was moved"),
                    )
                    .hint("run it again: it goes on where it stopped"));
                }
            }
            drop(steps);
            println!("{done} partitions were wrapped under the active version; none remains under an older one");
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The others have been moved.
fn stuck(partitions: u64) -> Failure {
    let what = "remain under an older version: their rows were edited in the store";
    Failure::new(Exit::Finding, format!("{partitions} partitions {what}"))
        .hint("readiness and the sidecar's own output name them; restore the store from a backup")
}

fn value(file: &std::path::Path) -> Result<String, Failure> {
    let mut text = String::new();
    let what = || format!("cannot read the value from {}", file.display());
    if file == std::path::Path::new("-") {
        std::io::stdin().take(MOST).read_to_string(&mut text).doing(Exit::Data, what())?;
    } else {
        let file = std::fs::File::open(file).doing(Exit::Data, what())?;
        file.take(MOST).read_to_string(&mut text).doing(Exit::Data, what())?;
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(Failure::new(Exit::Usage, "the value that names the partition is empty")
            .hint("write the patient's id into a file and give it as --value-file, or on standard input"));
    }
    Ok(value.to_owned())
}

/// The certificate for a person.
fn words(certificate: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let before = if certificate["shredded_before"] == true { " (it had been shredded before)" } else { "" };
    let backups = match certificate["backups"]["gone_by"].as_str() {
        Some(date) => format!("hold the wrapped key until the last of them is gone, by {date}"),
        None => "hold the wrapped key for as long as they are kept (--backup-retention puts the date here)".to_owned(),
    };
    let mut lines = vec![
        format!("Certificate of destruction{before}"),
        format!("  keyring         {}", text(&certificate["keyring"])),
        format!("  partition       {}", text(&certificate["partition"])),
        format!("  store           {}", text(&certificate["store"])),
        format!("  destroyed       {}", text(&certificate["shredded"])),
        format!("  by              {}", text(&certificate["by"])),
        format!("  reason          {}", text(&certificate["reason"])),
        format!("  recorded        intent {} of {}", certificate["intent_record"], text(&certificate["log"])),
        "Other sidecars may hold the key".to_owned(),
        format!(
            "  if they reach the store   until {}",
            text(&certificate["other_sidecars"]["that_reach_the_store_until"])
        ),
        format!("  if they do not            until {}", text(&certificate["other_sidecars"]["that_do_not_until"])),
        super::keyring::followed::words(&certificate["other_sidecars"])
            .map_or_else(|| "  which of them followed is not known".to_owned(), |told| format!("  {told}")),
        format!("Backups made before {}", text(&certificate["backups"]["made_before"])),
        format!("  {backups}"),
        "What survives the key".to_owned(),
    ];
    lines.extend(certificate["survives"].as_array().into_iter().flatten().map(|what| format!("  - {}", text(what))));
    lines.join("\n") + "\n"
}
