//! What does a witness sign? That a log only grew: the checks of C2SP tlog-witness, in its order, and the new checkpoint on
//! the disk before the cosignature leaves. This module never sees a record, and signs no two stories of one log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::audit::{Checkpoint, CosignerKey, Hash, MAX_NOTE, Origin, Tree, VerifierKey, consistent, heading};
use crate::clock::SharedClock;
use crate::crypto::{SigningKey, sha256};
use crate::durable::{Disk, DurableError, Lock};
use crate::secret::SecretBytes;

/// The private key, Ed25519 in PKCS#8.
const KEY: &str = "witness.key";
/// The public key, as others put it into their policies.
const PUBLIC: &str = "witness.pub";
/// The keys of the logs that are witnessed, one a line.
const LOGS: &str = "logs";
/// One file a log: the newest checkpoint that was cosigned.
const SEEN: &str = "seen";
const LOCK: &str = "lock";
/// Lines of a proof at most, as the protocol says.
const MAX_PROOF: usize = 63;
/// Bytes of a request at most: a proof and a note.
pub(super) const MAX_BODY: usize = MAX_NOTE + 64 * 48;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The type of the body.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

/// Why a witness cannot work.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what the witness wrote.
    #[error("{}: {why}", path.display())]
    Bad {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be written, or another process holds the directory.
    #[error(transparent)]
    Disk(#[from] DurableError),
    /// There is no randomness, or no memory for keys.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::CryptoError),
}

/// A witness at work.
pub struct Desk {
    dir: PathBuf,
    disk: Disk,
    clock: SharedClock,
    key: SigningKey,
    public: CosignerKey,
    logs: RwLock<BTreeMap<String, Arc<Kept>>>,
    _lock: Lock,
}

/// One log.
struct Kept {
    keys: Vec<VerifierKey>,
    /// Looked at and replaced under one lock, so that no two requests see the same old size.
    latest: Arc<Mutex<Latest>>,
}

/// The newest checkpoint that was cosigned, as it is kept.
type Latest = Option<(Checkpoint, String)>;

impl Desk {
    /// Makes the directory of a new witness, with its key.
    pub fn found(disk: &Disk, dir: &Path, name: Origin) -> Result<CosignerKey, DeskError> {
        let pkcs8 = SigningKey::generate_pkcs8()?;
        let public = CosignerKey::new(name, SigningKey::from_pkcs8(&pkcs8)?.public());
        disk.create_dir(dir, 0o700)?;
        disk.create_dir(&dir.join(SEEN), 0o700)?;
        disk.write_new(&dir.join(LOGS), b"", 0o600)?;
        disk.write_new(&dir.join(KEY), pkcs8.expose(), 0o600)?;
        // If we stop here there is no witness yet: a directory without the public key is refused.
        disk.write_new(&dir.join(PUBLIC), format!("{}\n", public.to_text()).as_bytes(), 0o644)?;
        Ok(public)
    }

    /// Adds the key of a log; false if it is known. A running witness reads the file again when it is told to.
    pub fn add_log(disk: &Disk, dir: &Path, key: &VerifierKey) -> Result<bool, DeskError> {
        public(dir)?;
        let mut keys = log_keys(dir)?;
        if keys.contains(key) {
            return Ok(false);
        }
        keys.push(key.clone());
        let text: String = keys.iter().map(|key| key.to_text() + "\n").collect();
        disk.write_atomic(&dir.join(LOGS), text.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// Opens the directory, which nobody else may hold.
    pub fn open(disk: &Disk, dir: &Path, clock: SharedClock) -> Result<Self, DeskError> {
        let public = public(dir)?;
        let lock = disk.lock_exclusive(&dir.join(LOCK))?;
        let path = dir.join(KEY);
        let pkcs8 = std::fs::read(&path).map_err(|source| DeskError::Read { path: path.clone(), source })?;
        let key = SigningKey::from_pkcs8(&SecretBytes::new(pkcs8));
        let key = key.map_err(|_| DeskError::Bad { path: path.clone(), why: "it is no Ed25519 key".to_owned() })?;
        if key.public() != *public.public() {
            return Err(DeskError::Bad { path, why: format!("it is not the key of {PUBLIC}") });
        }
        let (dir, disk, logs) = (dir.to_path_buf(), disk.clone(), RwLock::default());
        let desk = Self { dir, disk, clock, key, public, logs, _lock: lock };
        desk.reload()?;
        Ok(desk)
    }

    /// The witness's key.
    pub const fn public(&self) -> &CosignerKey {
        &self.public
    }

    /// Reads the keys of the logs again; what was seen of a log stays seen. Gives how many logs there are.
    pub fn reload(&self) -> Result<usize, DeskError> {
        let mut keys: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for key in log_keys(&self.dir)? {
            keys.entry(key.origin().as_str().to_owned()).or_default().push(key);
        }
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeMap::new();
        for (origin, keys) in keys {
            let latest = match logs.get(&origin) {
                Some(known) => Arc::clone(&known.latest),
                None => Arc::new(Mutex::new(self.load(&origin, &keys)?)),
            };
            all.insert(origin, Arc::new(Kept { keys, latest }));
        }
        *logs = all;
        Ok(logs.len())
    }

    /// Each log with what was seen of it.
    pub fn logs(&self) -> Vec<(String, u64)> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.iter().map(|(origin, kept)| (origin.clone(), size(&lock(&kept.latest)))).collect()
    }

    /// `POST /add-checkpoint`.
    pub fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let Some(asked) = std::str::from_utf8(body).ok().and_then(Asked::parse) else {
            return Reply::text(400, "this is no old size, proof and checkpoint");
        };
        let Some(log) = self.log(asked.origin) else { return Reply::text(404, "this log is not known here") };
        let signed: Vec<&VerifierKey> = log.keys.iter().filter(|key| key.signed(asked.note).is_ok()).collect();
        let forged = log.keys.iter().any(|key| key.signed(asked.note) == Err(crate::audit::NoteError::Signature));
        if signed.is_empty() || forged {
            return Reply::text(403, "no key that is known of this log has signed the checkpoint");
        }
        if asked.old > asked.checkpoint.size {
            return Reply::text(400, "the old size is larger than that of the checkpoint");
        }
        let mut latest = lock(&log.latest);
        if asked.old != size(&latest) {
            return Reply { status: 409, kind: "text/x.tlog.size", body: format!("{}\n", size(&latest)) };
        }
        let none = Checkpoint { size: 0, root: Tree::default().root() };
        let old = latest.as_ref().map_or(none, |(checkpoint, _)| *checkpoint);
        let empty = asked.checkpoint.size > 0 || asked.checkpoint.root == none.root;
        let grew = if asked.old == asked.checkpoint.size && asked.old > 0 {
            asked.proof.is_empty() && old == asked.checkpoint
        } else {
            consistent(&old, &asked.checkpoint, &asked.proof)
        };
        if !empty || !grew {
            return Reply::text(422, "the tree did not grow out of the one that was seen");
        }
        let time = self.clock.wall().0 / 1_000_000;
        let Some(line) = self.public.cosign(&self.key, asked.note, time) else {
            return Reply::text(400, "this is no checkpoint");
        };
        let kept = kept_note(asked.note, &signed, &line);
        // The checkpoint is durable before anybody can show the cosignature (tlog-witness, add-checkpoint).
        if let Err(error) = self.disk.write_atomic(&self.seen(asked.origin), kept.as_bytes(), 0o600) {
            tracing::error!(%error, "a checkpoint was not kept, and is not cosigned");
            return Reply::text(500, "the checkpoint could not be kept");
        }
        *latest = Some((asked.checkpoint, kept));
        drop(latest);
        Reply { status: 200, kind: "text/plain; charset=utf-8", body: line }
    }

    /// `GET /<hash of the origin>/checkpoint`.
    pub fn checkpoint(&self, hash: &str) -> Reply {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let found = logs.iter().find(|(origin, _)| name(origin) == hash);
        let note = found.and_then(|(_, kept)| lock(&kept.latest).as_ref().map(|(_, note)| note.clone()));
        match note {
            Some(body) => Reply { status: 200, kind: "text/plain; charset=utf-8", body },
            None => Reply::text(404, "no checkpoint of this log was cosigned here"),
        }
    }

    fn log(&self, origin: &str) -> Option<Arc<Kept>> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    fn seen(&self, origin: &str) -> PathBuf {
        self.dir.join(SEEN).join(name(origin))
    }

    /// What was seen of a log before this start: signed by it and by us, or nothing is witnessed at all.
    fn load(&self, origin: &str, keys: &[VerifierKey]) -> Result<Latest, DeskError> {
        let path = self.seen(origin);
        let note = match std::fs::read_to_string(&path) {
            Ok(note) => note,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DeskError::Read { path, source }),
        };
        let ours = self.public.cosigned(&note).is_some() && keys.iter().any(|key| key.signed(&note).is_ok());
        let read =
            note.split_once("\n\n").and_then(|(text, _)| heading(text)).filter(|(found, ..)| ours && *found == origin);
        match read {
            Some((_, checkpoint, _)) => Ok(Some((checkpoint, note))),
            None => Err(DeskError::Bad {
                path,
                why:
                    "it is no checkpoint of that log which this witness cosigned; put the true one back, or retire the \
                      witness: one that forgets would sign a second story"
                        .to_owned(),
            }),
        }
    }
}

impl Reply {
    pub(super) fn text(status: u16, why: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{why}\n") }
    }
}

/// A request of `add-checkpoint`.
struct Asked<'a> {
    old: u64,
    proof: Vec<Hash>,
    note: &'a str,
    origin: &'a str,
    checkpoint: Checkpoint,
}

impl<'a> Asked<'a> {
    fn parse(body: &'a str) -> Option<Self> {
        let (head, note) = body.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?;
        let size: u64 = old.parse().ok()?;
        let hash = |line: &str| STANDARD.decode(line).ok()?.try_into().ok();
        let proof: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
        let (text, _) = note.split_once("\n\n")?;
        let (origin, checkpoint, _) = heading(text)?;
        let fine = size.to_string() == old && proof.len() <= MAX_PROOF && note.len() <= MAX_NOTE;
        fine.then_some(Self { old: size, proof, note, origin, checkpoint })
    }
}

/// The text with the signatures of the log that were verified, and ours; lines of others are not handed on.
fn kept_note(note: &str, signed: &[&VerifierKey], line: &str) -> String {
    let lines: String = signed
        .iter()
        .filter_map(|key| key.alone(note))
        .filter_map(|alone| Some(alone.split_once("\n\n")?.1.to_owned()))
        .collect();
    let text = note.split_once("\n\n").map_or("", |(text, _)| text);
    format!("{text}\n\n{lines}{line}")
}

fn lock(latest: &Mutex<Latest>) -> std::sync::MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(latest: &Latest) -> u64 {
    latest.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size)
}

/// The hash of an origin, in hexadecimal.
fn name(origin: &str) -> String {
    hex::encode(sha256(&[origin.as_bytes()]))
}

fn public(dir: &Path) -> Result<CosignerKey, DeskError> {
    let path = dir.join(PUBLIC);
    let text = std::fs::read_to_string(&path).map_err(|source| DeskError::Read { path: path.clone(), source })?;
    CosignerKey::parse(&text).ok_or(DeskError::Bad { path, why: "it is no key of a witness".to_owned() })
}

fn log_keys(dir: &Path) -> Result<Vec<VerifierKey>, DeskError> {
    let path = dir.join(LOGS);
    let text = std::fs::read_to_string(&path).map_err(|source| DeskError::Read { path: path.clone(), source })?;
    let read = |line: &str| {
        VerifierKey::parse(line).ok_or(DeskError::Bad { path: path.clone(), why: format!("{line} is no log key") })
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
}
