//! The command line: one file a subcommand. Prints for people, `--json` for machines; errors are `error:` then `hint:`.

/// The standard library's panic when nobody reads; these stand in for them in every file of this folder.
macro_rules! println {
    () => { $crate::cli::out::out(format_args!(""), "\n") };
    ($($words:tt)*) => { $crate::cli::out::out(format_args!($($words)*), "\n") };
}
macro_rules! print {
    ($($words:tt)*) => { $crate::cli::out::out(format_args!($($words)*), "") };
}
macro_rules! eprintln {
    ($($words:tt)*) => { $crate::cli::out::err(format_args!($($words)*), "\n") };
}
macro_rules! eprint {
    ($($words:tt)*) => { $crate::cli::out::err(format_args!($($words)*), "") };
}

mod audit;
mod backup;
mod bench;
mod ceremony;
mod check;
mod connect;
mod consent;
mod custody;
mod demo;
mod dev;
mod document;
mod drill;
mod failure;
mod grant;
mod hsm;
mod init;
mod kek;
mod keyring;
mod lock;
mod moment;
mod out;
mod partition;
mod policy;
mod probe;
mod progress;
mod rehearsal;
mod report;
mod rewrap;
mod rewrap_values;
mod serve;
mod sign;
mod store;
mod value;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, report};

/// Seals and opens PHI fields with data keys that only an HSM or KMS can unwrap.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, max_term_width = 100, propagate_version = true, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole path on a real patient record, in a temporary directory
    Demo(demo::Demo),
    /// Run a development sidecar and print ready-to-paste requests
    Dev(dev::Dev),
    /// Make the state directory of a new sidecar: store, log, keys
    Init(init::Init),
    /// Run the sidecar
    Serve(serve::Serve),
    /// Check configuration and policies without touching anything
    Check(check::Check),
    /// Make, list and show keyrings
    #[command(subcommand)]
    Keyring(keyring::Keyring),
    /// Shred the key of one patient, and move such keys to a keyring's active version
    #[command(subcommand)]
    Partition(partition::Partition),
    /// Make and show the key-encryption key in a token
    #[command(subcommand)]
    Kek(kek::KekCommand),
    /// Move the store, and write out the schema of its database
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// What is known of each HSM product, and what a token shows of itself
    #[command(subcommand)]
    Hsm(hsm::Hsm),
    /// Seal one value
    Seal(value::Seal),
    /// Open one value
    Open(value::Open),
    Rewrap(rewrap_values::RewrapValues),
    /// Seal, open, rewrap and explain whole FHIR documents
    #[command(subcommand)]
    Document(document::Document),
    /// Who the custodians are: their genesis, the roster, and the end of a key
    #[command(subcommand)]
    Custody(Box<custody::Custody>),
    /// What several people decide together: propose, approve, carry out, verify
    #[command(subcommand)]
    Ceremony(Box<ceremony::Ceremony>),
    /// Time-bound exceptions: list, end and review them
    #[command(subcommand)]
    Grant(Box<grant::Grant>),
    /// Stop a principal, a keyring or the sidecar at once
    #[command(subcommand)]
    Lock(Box<lock::Lock>),
    /// Move the clock of a rehearsal
    #[command(subcommand)]
    Rehearsal(rehearsal::Rehearsal),
    /// Check and test policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Verify, export, prove and follow the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// Answer an auditor's question from the log, which is verified first; offline
    Report(report::Report),
    /// Copy store and log into a new directory, verified; the sidecar may run
    Backup(backup::Backup),
    /// Put store and log back from a backup
    Restore(backup::Restore),
    /// Prove that a backup and the escrow alone bring the keys back
    #[command(subcommand)]
    Drill(drill::Drill),
    /// Measure a running sidecar
    Bench(bench::Bench),
    /// The process that holds a token's library (started by keyward itself)
    #[command(hide = true)]
    KekWorker,
}

/// Below `--help`.
const AFTER: &str = "Exit codes are those of sysexits.h: 0 done, 1 a check found something, 64 wrong command line, 65 wrong \
    input, 69 something needed is not there, 70 a bug, 73 cannot write, 74 the audit log cannot be used, 77 denied, 78 wrong \
    configuration.";

/// Where the configuration is; shared by the subcommands that need one.
#[derive(Debug, Clone, clap::Args)]
struct ConfigPath {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/keyward/keyward.toml")]
    config: PathBuf,
}

/// Parses the command line, runs the subcommand and turns what happened into an exit code.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => return failure::usage(&asked),
    };
    match arguments.command.run() {
        Ok(code) => out::end(code),
        Err(failure) => report(&failure),
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::KekWorker => Ok(crate::app::kek_worker()),
            Self::Demo(demo) => demo.run(),
            Self::Dev(dev) => dev.run(),
            Self::Init(init) => init.run(),
            Self::Serve(serve) => serve.run(),
            Self::Check(check) => check.run(),
            Self::Keyring(keyring) => keyring.run(),
            Self::Partition(partition) => partition.run(),
            Self::Kek(kek) => kek.run(),
            Self::Store(store) => store.run(),
            Self::Hsm(hsm) => hsm.run(),
            Self::Seal(seal) => seal.run(),
            Self::Open(open) => open.run(),
            Self::Rewrap(rewrap) => rewrap.run(),
            Self::Document(document) => document.run(),
            Self::Custody(custody) => custody.run(),
            Self::Ceremony(ceremony) => ceremony.run(),
            Self::Grant(grant) => grant.run(),
            Self::Lock(lock) => lock.run(),
            Self::Rehearsal(rehearsal) => rehearsal.run(),
            Self::Policy(policy) => policy.run(),
            Self::Audit(audit) => audit.run(),
            Self::Witness(witness) => witness.run(),
            Self::Report(report) => report.run(),
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
            Self::Drill(drill) => drill.run(),
            Self::Bench(bench) => bench.run(),
        }
    }
}
