//! `keyward drill`: proves that a backup and the escrow alone bring the keys back, and files the proof.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use comfy_table::{Table, presets};

use crate::app::{self, DrillError, DrillOptions, DrillReport};
use crate::clock::SystemClock;
use crate::names::{KekName, PrincipalName};

use super::backup::uid;
use super::failure::{Exit, Failure, chain};
use super::progress::Steps;

/// Why a drill is held; the first is the usual one.
const TRIGGERS: [&str; 4] = ["schedule", "personnel", "architecture", "incident"];

/// Prove that a backup and the escrow alone bring the keys back.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Drill {
    /// Rebuild the store of a backup in a temporary directory (below TMPDIR, which needs room for all of it), by the escrow
    /// alone, and record the result
    Restore(Restore),
    /// Record a drill that was held while the sidecar ran or on another machine
    Record(Record),
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    #[command(flatten)]
    config: super::ConfigPath,
    /// The backup's directory
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The digest that the backup's manifest must have
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// The key-encryption key that must suffice, instead of the escrow
    #[arg(long, value_name = "NAME")]
    kek: Option<KekName>,
    /// Unwrap one key of this many, instead of each
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// Why it is held
    #[arg(long, value_name = "CODE", default_value = TRIGGERS[0], value_parser = TRIGGERS)]
    reason: String,
    /// Who answers for the result
    #[arg(long, value_name = "NAME")]
    signed_off_by: PrincipalName,
    /// Write the report into this new file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Record {
    #[command(flatten)]
    config: super::ConfigPath,
    /// The report
    #[arg(value_name = "FILE")]
    report: PathBuf,
}

impl Drill {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Restore(restore) => restore.run(),
            Self::Record(record) => record.run(),
        }
    }
}

impl Restore {
    fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        super::serve::protect(&config)?;
        let trigger = TRIGGERS.into_iter().find(|code| **code == self.reason).unwrap_or(TRIGGERS[0]);
        let Self { from, digest, kek, sample, signed_off_by, report, .. } = self;
        let options = DrillOptions { from, digest, kek, every: sample, trigger, signed_off_by, uid: uid(), report };
        let report = super::serve::runtime()?.block_on(async {
            let bar = Steps::new();
            app::drill(&config, &options, Arc::new(SystemClock), &mut |what, done, of| bar.tell(what, done, of)).await
        });
        let report = report.map_err(|error| failed(&error))?;
        if self.json {
            println!("{:#}", serde_json::json!(report));
        } else {
            print(&report);
            if let Some(path) = options.report.as_ref().filter(|_| !report.recorded) {
                println!(
                    "not recorded yet: with the sidecar that made the backup stopped, keyward drill record {}",
                    path.display()
                );
            }
        }
        ended(&report)
    }
}

impl Record {
    fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        let recorded = super::serve::runtime()?
            .block_on(async { app::record_drill(&config, &self.report, Arc::new(SystemClock)).await });
        let report = recorded.map_err(|error| failed(&error))?;
        print(&report);
        ended(&report)
    }
}

/// A drill that did not pass is recorded too, and is a finding.
fn ended(report: &DrillReport) -> Result<ExitCode, Failure> {
    if report.passed {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::Finding, "the drill FAILED: not everything came back by this key-encryption key alone")
        .hint("wrap what is missing by the escrow (`keyward kek rewrap --trigger architecture`), back up anew, and hold the drill again"))
}

fn failed(error: &DrillError) -> Failure {
    let exit = match error {
        DrillError::Bad(_) | DrillError::NotAdmitted(..) | DrillError::UnknownBackup(_) => Exit::Finding,
        DrillError::NoEscrow | DrillError::NoKek(_) | DrillError::Unfit(_) => Exit::Config,
        DrillError::CannotRecord(_) | DrillError::NoReport { .. } => Exit::Usage,
        DrillError::Log(_) | DrillError::Append(_) => Exit::AuditLog,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, chain(error)).hint(error.hint())
}

fn print(report: &DrillReport) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let row = |table: &mut Table, what: &str, says: String| {
        table.add_row([what.to_owned(), says]);
    };
    let all = &mut table;
    row(all, "drill", if report.passed { "PASSED".to_owned() } else { "FAILED".to_owned() });
    row(all, "held", report.done.clone());
    row(all, "backup", format!("{} of {}", report.backup, report.made));
    row(all, "head", report.head.clone());
    row(all, "by", format!("{} alone", report.kek));
    row(all, "keys", format!("{} of {} opened, of {} in the backup", report.opened, report.asked, report.keys));
    row(all, "canaries", format!("{} of {} opened", report.canaries_opened, report.canaries));
    row(all, "took", format!("{} ms", report.duration_ms));
    row(all, "reason", report.trigger.clone());
    row(all, "signed off", format!("{}, run by user {}", report.signed_off_by, report.os_user));
    row(all, "recorded", if report.recorded { "in the production log".to_owned() } else { "no".to_owned() });
    println!("{table}");
    if report.unescrowed > 0 {
        println!("{}", unescrowed(report));
    }
    for failure in &report.failures {
        println!("  {failure}");
    }
}

/// What the escrow does not hold, in so many words: a drill that passed must not be read as if everything came back.
fn unescrowed(report: &DrillReport) -> String {
    format!(
        "WOULD BE LOST WITH THE PRIMARY: {} keys of keyrings that do without an escrow: {}{}",
        report.unescrowed,
        report.without_escrow.join(", "),
        if report.without_escrow.len() < 20 { "" } else { ", ..." }
    )
}
