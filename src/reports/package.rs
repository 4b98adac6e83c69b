//! What does somebody take away who wants to check a report for himself? A directory with the reports, the log as tiles that
//! prove them, the keys, a verifier, and the digests of all of it: `sha256sum -c SHA256SUMS` checks it, and its own digest is
//! what is signed and recorded.

use std::path::{Path, PathBuf};

use crate::audit::verify::Verified;
use crate::clock::Wall;
use crate::crypto::sha256;
use crate::durable::{Disk, DurableError};

use super::Window;

/// The digests of all other files, as coreutils write and read them.
pub const SUMS: &str = "SHA256SUMS";
/// The signature under it, where somebody signed (`ssh-keygen -Y`, in the namespace [`NAMESPACE`]).
pub const SIGNATURE: &str = "SHA256SUMS.sig";
/// What a signature under a package is for.
pub const NAMESPACE: &str = "keyward-report";
/// The folder of the reports.
pub const REPORTS: &str = "reports";
/// The folder of the log, exported (LOG-27).
pub const LOG: &str = "log";
/// A package is shown to others; the log in it is for its owner until he decides otherwise.
const MODE: u32 = 0o644;
/// A verifier that shares no code with keyward.
const VERIFIER: &str = include_str!("../../examples/verify.py");

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file of it cannot be read back.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Disk(#[from] DurableError),
}

/// Adds keys, verifier and explanation to the reports and the log in `out`, then the digests of everything; gives the text of
/// those digests. What is written before is complete when they are there.
pub fn close(disk: &Disk, out: &Path, verified: &Verified, window: Window, made: Wall) -> Result<String, PackageError> {
    let keys: String = verified.keys.iter().map(|key| key.to_text() + "\n").collect();
    for (name, text) in
        [("log.keys", keys.as_str()), ("verify.py", VERIFIER), ("README.txt", &readme(verified, window, made))]
    {
        disk.write_new(&out.join(name), text.as_bytes(), MODE)?;
    }
    let mut files = Vec::new();
    list(out, Path::new(""), &mut files)?;
    files.sort();
    let mut sums = String::new();
    for file in files {
        let path = out.join(&file);
        let bytes = std::fs::read(&path).map_err(|source| PackageError::Read { path, source })?;
        sums += &format!("{}  {}\n", hex::encode(sha256(&[&bytes])), file.display());
    }
    // If we stop before this there is no package: a directory without digests says of itself that it is none.
    disk.write_new(&out.join(SUMS), sums.as_bytes(), MODE)?;
    Ok(sums)
}

/// What a package is called in the log: SHA-256 of its digests, in hexadecimal.
pub fn digest(sums: &str) -> String {
    hex::encode(sha256(&[sums.as_bytes()]))
}

/// Relative paths of all files beneath, but for the lock of the export, which is nobody's evidence.
fn list(out: &Path, beneath: &Path, files: &mut Vec<PathBuf>) -> Result<(), PackageError> {
    let dir = out.join(beneath);
    let failed = |source| PackageError::Read { path: dir.clone(), source };
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = beneath.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            list(out, &path, files)?;
        } else if path != Path::new(LOG).join("lock") {
            files.push(path);
        }
    }
    Ok(())
}

fn readme(verified: &Verified, window: Window, made: Wall) -> String {
    let time = |micros: u64| Wall(micros).rfc3339_micros();
    let size = verified.checkpoint.map_or(0, |checkpoint| checkpoint.size);
    format!(
        "Reports of the log {origin}\n\
         from {from} to {to} (without), made {made}.\n\n\
         reports/    the answers; the same cells in each format\n\
         log/        the log itself up to its checkpoint of {size} records, as C2SP tlog-tiles: it holds who did what\n\
         log.keys    the keys that signed it, oldest first; compare the first with the one that you keep\n\
         verify.py   checks the log; Python's standard library, nothing of keyward\n\
         SHA256SUMS  the digests of all files; SHA256SUMS.sig, where it is there, is a signature under it\n\n\
         To check it:\n\n\
         sha256sum -c SHA256SUMS\n\
         head -1 log.keys > key; python3 verify.py log --key key\n\
         ssh-keygen -Y verify -f ALLOWED_SIGNERS -I WHO -n {NAMESPACE} -s SHA256SUMS.sig < SHA256SUMS\n\n\
         `keyward report all log --key key --from ... --to ... --out again` makes the same reports again.\n\
         The digest of SHA256SUMS stands in the log of the sidecar if it was asked to record it (event report.exported).\n",
        origin = verified.origin.as_str(),
        from = time(window.from),
        to = time(window.to),
        made = time(made.0),
    )
}
