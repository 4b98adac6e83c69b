//! `keyward backup` and `keyward restore`: store and log into a directory, and back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{
    self, ApplyError, BackupError, BackupOptions, InPlaceError, Manifest, NotAllowed, RestoreError, RestoreOptions,
};
use crate::clock::SystemClock;
use crate::config::Config;

use super::failure::{Exit, Failure, chain};
use super::progress::Steps;

/// Copy the log and the store, verify both, and write the manifest. The sidecar may run: it goes on meanwhile, and so do the
/// others of a fleet.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    #[command(flatten)]
    config: super::ConfigPath,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Copy without verifying the rows and without canaries, when no key-encryption key can be reached
    #[arg(long)]
    without_kek: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// Check a backup, put its store and log into an empty state, compare every row, and begin a new log that names the old one.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    #[command(flatten)]
    config: super::ConfigPath,
    /// The backup's directory
    #[arg(long, value_name = "DIR", required_unless_present = "in_place")]
    from: Option<PathBuf>,
    /// The digest that `keyward backup` printed and the log recorded: any other backup is refused
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// Only the store was lost: keep the log that is there, which goes on
    #[arg(long)]
    store_only: bool,
    /// With --store-only: nothing is copied; the store that is there (a promoted standby, a dump that was put back) is
    /// verified and declared to be the one in force, in this sidecar's log; every sidecar of a fleet does the same
    #[arg(long, requires = "store_only", conflicts_with_all = ["from", "digest"])]
    in_place: bool,
    /// With --store-only: how many changes may be lost, as the refusal without it says
    #[arg(long, value_name = "NUMBER", requires = "store_only")]
    accept_lost_changes: Option<u64>,
}

impl Backup {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        super::serve::protect(&config)?;
        let options = BackupOptions { to: self.to.clone(), without_kek: self.without_kek, uid: uid() };
        let made = super::serve::runtime()?.block_on(async {
            let bar = Steps::new();
            app::back_up(&config, &options, Arc::new(SystemClock), &mut |what, done, of| bar.tell(what, done, of)).await
        });
        let made = made.map_err(|error| Failure::new(backup_exit(&error), chain(&error)).hint(error.hint()))?;
        if self.json {
            println!(
                "{:#}",
                serde_json::json!({ "digest": made.digest, "manifest": made.manifest, "recorded": made.recorded })
            );
            return Ok(ExitCode::SUCCESS);
        }
        println!("backed up to {}", self.to.display());
        print(&made.manifest);
        println!("digest      {}", made.digest);
        if !made.manifest.verified {
            println!(
                "NOT VERIFIED: no row was checked, and a drill finds no canaries; back up again when a KEK is back"
            );
        }
        if made.recorded {
            println!("keep the digest apart from the backup; it stands in the log as store.backed_up");
        } else {
            println!("keep the digest apart from the backup; it is not recorded yet");
            println!(
                "the sidecar of this state directory records it as soon as it runs: start it before a drill of this backup"
            );
        }
        println!("next: keyward drill restore --from {} --signed-off-by NAME", self.to.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        super::serve::protect(&config)?;
        let Self { from, digest, store_only, accept_lost_changes, .. } = self;
        let Some(from) = from else { return declare(&config, accept_lost_changes) };
        let options = RestoreOptions { from, digest, store_only, accept_lost_changes, uid: uid() };
        let restored = super::serve::runtime()?.block_on(async {
            let bar = Steps::new();
            app::restore(&config, &options, Arc::new(SystemClock), &mut |what, done, of| bar.tell(what, done, of)).await
        });
        let restored =
            restored.map_err(|error| Failure::new(restore_exit(&error), chain(&error)).hint(error.hint(&config)))?;
        println!("restored {} into {}", options.from.display(), restored.store);
        print(&restored.manifest);
        println!("digest      {}", restored.digest);
        println!("every row was read from the backup and from the store and is the same");
        match &restored.log_key {
            Some(key) => {
                println!("log key: {key}");
                println!(
                    "a new log began: keep its key where auditors can read it; the old one is below {}",
                    config.state.older_logs().display()
                );
            }
            None if restored.lost > 0 => println!("{} changes were given up, as the log records", restored.lost),
            None => println!("the log goes on, and nothing that it knows was lost"),
        }
        println!("next: keyward serve --config {}", self.config.config.display());
        if restored.held {
            told_held(&restored.digest);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn declare(config: &Config, accept: Option<u64>) -> Result<ExitCode, Failure> {
    let declared = super::serve::runtime()?.block_on(async {
        let bar = Steps::new();
        app::declare(config, accept, uid(), Arc::new(SystemClock), &mut |what, done, of| bar.tell(what, done, of)).await
    });
    let failed = |error: InPlaceError| {
        let exit = match error {
            InPlaceError::NotAdmitted(ApplyError::Unavailable(_)) => Exit::Unavailable,
            InPlaceError::Lost { .. } | InPlaceError::Moved { .. } | InPlaceError::NotAdmitted(_) => Exit::Finding,
            InPlaceError::Log(_) | InPlaceError::Unread(_) | InPlaceError::Append(_) => Exit::AuditLog,
            _ => Exit::Unavailable,
        };
        Failure::new(exit, chain(&error)).hint(error.hint(config))
    };
    let declared = declared.map_err(failed)?;
    println!("store       {}", declared.store);
    println!("head        {}", declared.head);
    if declared.reopened {
        println!("it is in service again: nothing may serve the place that it was moved to");
    } else if declared.lost == 0 {
        println!("it has every change that this log knows: nothing was given up, and nothing had to be declared");
    }
    if declared.lost > 0 {
        println!("{} changes were given up, as the log records", declared.lost);
        println!("every other sidecar of this store declares the same before it serves");
    }
    if declared.held {
        let head = declared.head.to_string();
        told_held(head.rsplit(':').next().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// What custodians have to do about a store that was put back.
fn told_held(digest: &str) {
    println!("this store has custodians: nothing is served, and only this is carried out, until they approve it:");
    println!("keyward ceremony propose store.restore --set backup={digest} --initiator NAME --reason CODE --key KEY");
}

fn print(manifest: &Manifest) {
    let app::Manifest { rows, log, keks, .. } = manifest;
    println!("store       {} of {}, made {}", manifest.store, manifest.environment, manifest.made);
    println!("head        {}", manifest.head);
    println!(
        "rows        {} keyrings, {} keys, {} partitions, {} changes",
        rows.keyrings, rows.keys, rows.partitions, rows.changes
    );
    println!("log         {}, {} records", log.origin, log.records);
    let keks: Vec<String> = keks.iter().map(|one| format!("{} ({} keys)", one.kek, one.keys)).collect();
    println!("opens by    {}", keks.join(", "));
    println!("canaries    {}", manifest.canaries.len());
}

/// Who sits at the terminal, as the operating system says.
pub(super) fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

const fn backup_exit(error: &BackupError) -> Exit {
    match error {
        BackupError::NotAllowed(NotAllowed::Never | NotAllowed::Over { .. }) => Exit::Denied,
        BackupError::Exists(_) | BackupError::Write(_) => Exit::CannotCreate,
        BackupError::Unverified(ApplyError::Unavailable(_)) => Exit::Unavailable,
        BackupError::Unverified(_) => Exit::Finding,
        BackupError::LogCopy(_) | BackupError::Unrecorded { .. } => Exit::AuditLog,
        _ => Exit::Unavailable,
    }
}

const fn restore_exit(error: &RestoreError) -> Exit {
    match error {
        RestoreError::NotAdmitted(ApplyError::Unavailable(_)) => Exit::Unavailable,
        RestoreError::NotAdmitted(_) => Exit::Finding,
        RestoreError::Bad(_) | RestoreError::OtherHistory(_) | RestoreError::Forked(_) | RestoreError::Lost { .. } => {
            Exit::Finding
        }
        RestoreError::Environment(..) | RestoreError::OtherStoreKey => Exit::Config,
        RestoreError::HasStore(_) | RestoreError::HasLog(_) | RestoreError::Write(_) => Exit::CannotCreate,
        RestoreError::Log(_) | RestoreError::Unread(_) | RestoreError::Append(_) => Exit::AuditLog,
        _ => Exit::Unavailable,
    }
}
