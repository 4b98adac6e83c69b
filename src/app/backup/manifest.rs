//! What does a backup hold, and is it all there, byte for byte? The manifest is written last: without it there is no backup.
//!
//! The manifest says who it is by its digest, which stands in the production log: a backup that was exchanged as a whole is
//! found by whoever compares the two, damage by anybody.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::verify::{Verified, VerifyError, verify};
use crate::crypto;
use crate::keyring::StoreHead;

use super::files;

/// The schema that this version writes and reads.
pub const SCHEMA: u32 = 1;
/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";
/// The store's name.
pub const STORE: &str = "store.sqlite";
/// The folder of the log.
pub const LOG: &str = "audit";
/// The folder of the logs before it.
pub const OLDER_LOGS: &str = "audit-older";
/// The folder of the configuration and the policies.
pub const CONFIG: &str = "config";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The number of this format.
    pub schema: u32,
    /// The version that wrote it.
    pub keyward: String,
    /// When, as RFC 3339 in UTC.
    pub made: String,
    /// `development` or `production`.
    pub environment: String,
    /// The store's id.
    pub store: String,
    /// The check value of the store key.
    pub store_key_check: String,
    /// Where the chain of changes ends: `N:DIGEST`.
    pub head: String,
    /// Whether every row was verified under the store key before the manifest was written.
    pub verified: bool,
    /// How many rows there are.
    pub rows: Rows,
    /// The log.
    pub log: LogFacts,
    /// What the keys are wrapped by; one that wraps all of them suffices.
    pub keks: Vec<KekFacts>,
    /// Values of keyward's own that a drill opens.
    pub canaries: Vec<Canary>,
    /// Every other file.
    pub files: Vec<FileFacts>,
}

/// How many rows there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Heads.
    pub keyrings: u64,
    /// Keys.
    pub keys: u64,
    /// Partitions.
    pub partitions: u64,
    /// Changes.
    pub changes: u64,
}

/// The log as it was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFacts {
    /// Its name.
    pub origin: String,
    /// Its public key, as a vkey.
    pub key: String,
    /// How many records it has.
    pub records: u64,
    /// The root over them.
    pub root: String,
}

/// A key-encryption key at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KekFacts {
    /// `NAME vN`.
    pub kek: String,
    /// How many keys it wraps.
    pub keys: u64,
}

/// A sealed value of keyward's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The keyring.
    pub keyring: String,
    /// The key version that sealed it.
    pub version: String,
    /// `kw1.`...
    pub sealed: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Relative to the backup, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
}

/// Why a directory is no backup to rely on.
#[derive(Debug, thiserror::Error)]
pub enum BadBackup {
    /// There is no manifest: nothing was ever backed up there, or the backup was cut short.
    #[error("{} has no {MANIFEST}: it is no backup, or one that was cut short", .0.display())]
    Unfinished(PathBuf),
    /// The manifest cannot be read.
    #[error("{} is damaged: {what}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer keyward wrote it.
    #[error("the backup has schema {found}, this keyward knows {SCHEMA}: it was written by keyward {keyward}")]
    Newer {
        /// Its schema.
        found: u32,
        /// Who wrote it.
        keyward: String,
    },
    /// It is not the backup that was asked for.
    #[error("the manifest's digest is {found}, not {expected}: this is another backup, or a changed one")]
    Other {
        /// What it is.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// A file is missing, or not as it was.
    #[error("{} is damaged: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The log in it does not verify.
    #[error("the log in the backup does not verify")]
    Log(#[from] VerifyError),
}

impl BadBackup {
    /// What the operator should do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unfinished(_) => "take another backup; what a cut-short one left may be removed",
            Self::Newer { .. } => "restore with the keyward that wrote it, or a newer one",
            Self::Other { .. } => "`store.backed_up` in the log names the digest of each backup; take the right one",
            Self::Manifest { .. } | Self::File { .. } | Self::Log(_) => {
                "nothing was restored; take another copy of this backup, or an older backup"
            }
        }
    }
}

/// A backup whose manifest was read.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) dir: PathBuf,
    pub(super) manifest: Manifest,
    /// Of the manifest, in hexadecimal.
    pub(super) digest: String,
    pub(super) head: StoreHead,
}

impl Backup {
    /// Reads the manifest; with `expected`, only the one of this digest.
    pub(super) fn open(dir: &Path, expected: Option<&str>) -> Result<Self, BadBackup> {
        let path = dir.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => BadBackup::Unfinished(dir.to_owned()),
            _ => BadBackup::Manifest { path: path.clone(), what: error.to_string() },
        })?;
        let damaged = |what: String| BadBackup::Manifest { path: path.clone(), what };
        let digest = hex::encode(crypto::sha256(&[&bytes]));
        if let Some(expected) = expected.filter(|expected| !expected.eq_ignore_ascii_case(&digest)) {
            return Err(BadBackup::Other { found: digest, expected: expected.to_owned() });
        }
        let manifest = parse(&bytes, &damaged)?;
        let head = manifest.head.parse().map_err(|_| damaged("its head is none".to_owned()))?;
        Ok(Self { dir: dir.to_owned(), manifest, digest, head })
    }

    /// Reads every file and compares it with the manifest, then verifies the log. `tell` gets bytes read, of how many.
    pub(super) fn check(&self, tell: &mut dyn FnMut(u64, u64)) -> Result<Verified, BadBackup> {
        let all = self.manifest.files.iter().map(|file| file.bytes).sum();
        let mut read = 0;
        for facts in &self.manifest.files {
            let path = self.path(&facts.path)?;
            let wrong = |what: &str| BadBackup::File { path: path.clone(), what: what.to_owned() };
            let found = files::digest(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => wrong("it is missing"),
                _ => wrong(&error.to_string()),
            })?;
            if found.bytes != facts.bytes {
                return Err(wrong("its length is not the one in the manifest"));
            }
            if found.sha256 != facts.sha256 {
                return Err(wrong("its digest is not the one in the manifest"));
            }
            read += facts.bytes;
            tell(read, all);
        }
        self.check_log()
    }

    fn check_log(&self) -> Result<Verified, BadBackup> {
        let dir = self.dir.join(LOG);
        let verified = verify(&dir, None, None, &mut |_| {})?;
        let LogFacts { origin, records, root, .. } = &self.manifest.log;
        let wrong = |what: &str| Err(BadBackup::File { path: dir.clone(), what: what.to_owned() });
        if verified.origin.as_str() != origin || verified.records != *records || hex::encode(verified.root) != *root {
            return wrong("it is not the log that the manifest names");
        }
        if verified.store_key_check.as_ref() != Some(&self.manifest.store_key_check)
            || !origin.contains(&self.manifest.store)
        {
            return wrong("it is the log of another store than the manifest's");
        }
        Ok(verified)
    }

    /// The path of a listed file, which never leads out of the backup.
    pub(super) fn path(&self, listed: &str) -> Result<PathBuf, BadBackup> {
        let relative = Path::new(listed);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if inside && !listed.is_empty() {
            return Ok(self.dir.join(relative));
        }
        Err(BadBackup::Manifest { path: self.dir.join(MANIFEST), what: format!("{listed:?} leads out of the backup") })
    }

    /// The listed files of a folder: their path inside it, and their facts.
    pub(super) fn listed<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a FileFacts)> {
        let inside = move |file: &'a FileFacts| Some((file.path.strip_prefix(folder)?.strip_prefix('/')?, file));
        self.manifest.files.iter().filter_map(inside)
    }
}

fn parse(bytes: &[u8], damaged: &dyn Fn(String) -> BadBackup) -> Result<Manifest, BadBackup> {
    #[derive(Deserialize)]
    struct Numbered {
        schema: u32,
        keyward: String,
    }
    let Numbered { schema, keyward } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if schema > SCHEMA {
        return Err(BadBackup::Newer { found: schema, keyward });
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
}
