//! `keyward audit ...`: `tail` asks the running sidecar; everything else reads directories and files, offline.

mod evidence;
mod lookup;
mod tail;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::audit::verify::{Progress, Trusted, Verified, VerifyError, Witnessed, read_by};
use crate::audit::{Keys, VerifierKey, WitnessPolicy};

use super::connect::block_on;
use super::failure::{Context, Exit, Failure};
pub(super) use evidence::not_exported;

/// Verify, export, prove and follow the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check a log directory or an export, offline: every record, every hash, every checkpoint
    Verify(Verify),
    /// Write the log as tiles (C2SP tlog-tiles) that tools of others read; verifies it meanwhile
    Export(evidence::Export),
    /// Prove that one record is in the log: a file (C2SP tlog-proof) for somebody who has only the key
    Prove(evidence::Prove),
    /// Check such a file and print its record
    CheckProof(evidence::CheckProof),
    /// Print the newest records of the running sidecar
    Tail(tail::Tail),
    /// Ask the running sidecar what the log has about a subject; the question is recorded
    Lookup(lookup::Lookup),
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The log's directory or a copy of it, or a directory that `audit export` made
    dir: PathBuf,
    /// The log's key as you keep it elsewhere; without it the key in the directory is believed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A checkpoint that you kept: proves that nothing up to it was cut or changed
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Who must have cosigned (C2SP tlog-policy); the key of the log may stand in it
    #[arg(long, value_name = "FILE")]
    witness_policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Verify(verify) => verify.run(),
            Self::Export(export) => export.run(),
            Self::Prove(prove) => prove.run(),
            Self::CheckProof(check) => check.run(),
            Self::Tail(tail) => block_on(tail.run()),
            Self::Lookup(lookup) => block_on(lookup.run()),
        }
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode, Failure> {
        let key = self.key.as_deref().map(founding_key).transpose()?;
        let since = self.since.as_ref().map(std::fs::read_to_string).transpose();
        let since = since.doing(Exit::Usage, "cannot read the checkpoint of --since")?;
        let witnesses = self.witness_policy.as_deref().map(policy).transpose()?;
        let trusted = Trusted { key: key.as_ref(), since: since.as_deref(), witnesses: witnesses.as_ref() };
        let verified = check(&self.dir, trusted)?;
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
    print(&check(dir, Trusted::default())?);
    Ok(())
}

fn check(dir: &Path, trusted: Trusted<'_>) -> Result<Verified, Failure> {
    with_bar("verifying", |progress| read_by(dir, trusted, progress, &mut |_, _| {})).map_err(not_verified)
}

/// Reads a witness policy.
fn policy(path: &Path) -> Result<WitnessPolicy, Failure> {
    let text = std::fs::read_to_string(path).doing(Exit::Usage, format!("cannot read {}", path.display()))?;
    WitnessPolicy::parse(&text).map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
}

/// Shows how far a reader of the log is.
pub(super) fn with_bar<T>(what: &str, run: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let style =
        ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {prefix} records {eta}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    let (mut told, mut calls) = (0, 0_u32);
    let done = run(&mut |progress: Progress| {
        calls = calls.wrapping_add(1);
        // A frame may hold one record: drawing for each would cost more than verifying it.
        if progress.bytes >= told + BAR_BYTES || progress.bytes == progress.of || calls == 1 {
            told = progress.bytes;
            bar.set_length(progress.of);
            bar.set_prefix(progress.records.to_string());
            bar.set_position(progress.bytes);
        }
    });
    bar.finish_and_clear();
    done
}

/// Bytes between two steps of a bar.
const BAR_BYTES: u64 = 1024 * 1024;

pub(super) fn not_verified(error: VerifyError) -> Failure {
    match error {
        VerifyError::Broken(finding) => Failure::new(Exit::Finding, format!("the log does not verify: {finding}"))
            .hint(
                "keep the directory as it is; records before that one are unharmed; src/audit/FORMAT.md has the rule",
            ),
        VerifyError::Read { .. } => Failure::new(Exit::Unavailable, super::failure::chain(&error)).hint(
            "name the directory of a log, log/ in the sidecar's state directory, a copy of all of it, or an export",
        ),
    }
}

/// Reads a file of verifier keys, the oldest first.
fn keys(path: &Path) -> Result<Keys, Failure> {
    let text = std::fs::read_to_string(path).doing(Exit::Usage, format!("cannot read {}", path.display()))?;
    Keys::parse(&text).ok_or_else(|| Failure::new(Exit::Usage, format!("{} is not a log key", path.display())))
}

/// The key that an auditor trusts: the oldest of the file, from which the others must follow.
pub(super) fn founding_key(path: &Path) -> Result<VerifierKey, Failure> {
    Ok(keys(path)?.founding().clone())
}

fn print(verified: &Verified) {
    let proven = verified.checkpoint.map_or(0, |checkpoint| checkpoint.size);
    let what = if verified.exported { "exported log" } else { "log" };
    println!("   the {what} {} verifies", verified.origin.as_str());
    println!("   {} records, root {}", verified.records, hex::encode(verified.root));
    println!("   complete up to checkpoint {proven}; {} checkpoints compared with the tree", verified.checkpoints);
    if verified.unproven_tail > 0 {
        println!(
            "   {} records behind it are whole, but nobody could tell if more had followed",
            verified.unproven_tail
        );
    }
    if let [_, .., newest] = verified.keys.as_slice() {
        println!(
            "   {} keys signed one after the other; the newest is {}",
            verified.keys.len(),
            hex::encode(newest.id())
        );
    }
    if !verified.open_intents.is_empty() {
        println!("   intents without an outcome: {:?} (the next start settles them)", verified.open_intents);
    }
    if let Some(Witnessed { checkpoint, by }) = &verified.witnessed {
        let by: Vec<String> = by.iter().map(|(name, time)| format!("{name} {}", super::moment::shown(*time))).collect();
        println!("   cosigned up to {} records: {}", checkpoint.size, by.join(", "));
        println!("   {} records behind it were seen by no quorum of witnesses", verified.records - checkpoint.size);
    } else if !verified.since_given {
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
        "exported": verified.exported,
        "keys": verified.keys.iter().map(VerifierKey::to_text).collect::<Vec<_>>(),
        "records": verified.records,
        "root": hex::encode(verified.root),
        "complete_up_to": verified.checkpoint.map_or(0, |checkpoint| checkpoint.size),
        "checkpoints": verified.checkpoints,
        "unproven_tail": verified.unproven_tail,
        "open_intents": verified.open_intents,
        "key_given": verified.key_given,
        "since_given": verified.since_given,
        "store_head": verified.store_head,
        "witnessed": verified.witnessed.as_ref().map(|seen| serde_json::json!({
            "records": seen.checkpoint.size,
            "by": seen.by.iter().map(|(name, time)| serde_json::json!({ "witness": name, "time": time })).collect::<Vec<_>>(),
        })),
        "store_key_check": verified.store_key_check,
    })
}
