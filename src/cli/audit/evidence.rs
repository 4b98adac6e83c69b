//! `keyward audit export|prove|check-proof`: what somebody takes away from the log, and checks without it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::audit::VerifierKey;
use crate::audit::export::{ExportError, Exported, export};
use crate::audit::prove::{BadProof, ProofFile, ProveError, Shown, prove};
use crate::audit::verify::{Trusted, read_by};
use crate::cli::failure::{Context, Exit, Failure, chain};
use crate::durable::Disk;

use super::{founding_key, keys, not_verified, with_bar};

/// A proof is shown to others.
const PROOF_MODE: u32 = 0o644;
/// Bytes of a proof file at most: the largest record in base64, a path and a checkpoint.
const MAX_PROOF: u64 = 256 * 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Export {
    /// The log's directory, or a copy of it
    dir: PathBuf,
    /// Where to: a new or empty directory, or one that holds an export of this log, which is extended
    #[arg(long, value_name = "OUT")]
    to: PathBuf,
    /// The log's key as you keep it elsewhere; without it the key in the directory is believed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read the copy again when it is there and verify it: for an archive on a disk that you have no reason to believe
    #[arg(long)]
    read_back: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Prove {
    /// The index of the record
    index: u64,
    /// A directory that `audit export` made (quick), or the log's directory or a copy of it (read whole)
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to write the proof; without it, it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The log's key as you keep it elsewhere; without it the key in the directory is believed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CheckProof {
    /// The proof file
    file: PathBuf,
    /// The log's key, or all its keys one a line, as you keep them elsewhere
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Who must have cosigned its checkpoint (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    witness_policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let key = self.key.as_deref().map(founding_key).transpose()?;
        let told = with_bar("exporting", |progress| export(&self.dir, &self.to, key.as_ref(), &Disk::real(), progress));
        let told = told.map_err(|error| not_exported(error, &self.to))?;
        let read_back = if self.read_back { Some(read_back(&self.to, &told, key.as_ref())?) } else { None };
        if self.json {
            println!("{:#}", as_json(&told, read_back));
        } else {
            print(&told, &self.to);
            if let Some(bytes) = read_back {
                println!("   read back from the disk: {bytes} bytes, the same root");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(told: &Exported, to: &Path) {
    let Exported { origin, checkpoint, before, written, kept } = told;
    println!("   the log {} verifies, and is in {}", origin.as_str(), to.display());
    println!("   {} records, root {}", checkpoint.size, hex::encode(checkpoint.root));
    if let Some(before) = before {
        println!("   {before} of them were there before, and are the same");
    }
    println!("   {written} tiles written, {kept} kept");
}

/// Verifies the copy by its own bytes, and that it is of the same records; gives the bytes that were read.
fn read_back(to: &Path, told: &Exported, key: Option<&VerifierKey>) -> Result<u64, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Finding, format!("the copy in {} is not what was written: {why}", to.display()))
    };
    forget(to).map_err(|error| failed(error.to_string()))?;
    let trusted = Trusted { key, ..Trusted::default() };
    let read = with_bar("reading back", |progress| read_by(to, trusted, progress, &mut |_, _| {}));
    let read = read.map_err(|error| failed(chain(&error)))?;
    if read.root != told.checkpoint.root || read.records != told.checkpoint.size {
        return Err(failed(format!("it has {} records, root {}", read.records, hex::encode(read.root))));
    }
    Ok(read.bytes)
}

/// Asks the system to forget what it holds of the files in memory, so that the disk is read. It may not; the bytes are compared
/// in any case.
fn forget(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = std::fs::File::open(entry.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn as_json(told: &Exported, read_back: Option<u64>) -> serde_json::Value {
    serde_json::json!({
        "origin": told.origin.as_str(),
        "records": told.checkpoint.size,
        "root": hex::encode(told.checkpoint.root),
        "before": told.before,
        "written": told.written,
        "kept": told.kept,
        "read_back_bytes": read_back,
    })
}

pub(in crate::cli) fn not_exported(error: ExportError, to: &Path) -> Failure {
    let says = chain(&error);
    match error {
        ExportError::Log(error) => not_verified(error),
        ExportError::Conflict(_) => Failure::new(Exit::Finding, says)
            .hint("keep both as they are, and verify each with --key and a checkpoint kept elsewhere"),
        ExportError::NotAnExport { .. } => Failure::new(Exit::Usage, says).hint("name a new or an empty directory"),
        ExportError::Unsigned => Failure::new(Exit::Unavailable, says).hint("start the sidecar once"),
        ExportError::Busy { .. } => Failure::new(Exit::Unavailable, says).hint("wait for it"),
        ExportError::Read { .. } | ExportError::Disk(_) => Failure::new(Exit::Unavailable, says)
            .hint(format!("mend {} and run the same again: it goes on where it stopped", to.display())),
    }
}

impl Prove {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let key = self.key.as_deref().map(founding_key).transpose()?;
        let proof = with_bar("reading", |progress| prove(&self.dir, self.index, key.as_ref(), progress));
        let text = proof.map_err(not_proven)?.to_text();
        match &self.out {
            None => print!("{text}"),
            Some(path) => {
                let doing = format!("cannot write {}", path.display());
                Disk::real().write_new(path, text.as_bytes(), PROOF_MODE).doing(Exit::Unavailable, doing)?;
                println!("   record {} is proven by {}", self.index, path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn not_proven(error: ProveError) -> Failure {
    match error {
        ProveError::Log(error) => not_verified(error),
        ProveError::NotCovered { .. } => Failure::new(Exit::Usage, error.to_string())
            .hint("a checkpoint is made each second while the log grows; an export must be extended"),
    }
}

impl CheckProof {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let keys = keys(&self.key)?;
        let text = read(&self.file)?;
        let proof = ProofFile::parse(&text).map_err(not_shown)?;
        let Shown { origin, checkpoint } = proof.check(&keys).map_err(not_shown)?;
        if let Some(policy) = self.witness_policy.as_deref().map(super::policy).transpose()?
            && !policy.cosigned(&proof.note).1
        {
            let why = "LOG-35: the proof shows nothing: the witnesses who cosigned its checkpoint are not enough";
            return Err(Failure::new(Exit::Finding, why).hint("ask for it again when they have: see `audit prove`"));
        }
        let record = String::from_utf8_lossy(&proof.record).into_owned();
        if self.json {
            let shown = serde_json::json!({
                "origin": origin.as_str(),
                "index": proof.index,
                "size": checkpoint.size,
                "root": hex::encode(checkpoint.root),
                "record": record,
            });
            println!("{shown:#}");
        } else {
            println!("   record {} of {} is in the tree of {} records", proof.index, origin.as_str(), checkpoint.size);
            println!("{record}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let doing = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).doing(Exit::Usage, doing())?.len();
    if length > MAX_PROOF {
        return Err(Failure::new(Exit::Finding, format!("{} is too long to be a proof", path.display())));
    }
    std::fs::read_to_string(path).doing(Exit::Usage, doing())
}

fn not_shown(bad: BadProof) -> Failure {
    Failure::new(Exit::Finding, format!("the proof shows nothing: {bad}")).hint(
        "ask for it again; where keys were rotated, --key needs the one that signed; src/audit/FORMAT.md has the rule",
    )
}
