//! What does one witness say? It is offered a checkpoint with the proof that the tree grew out of the one that it knows. What
//! it holds against the log counts only if the log's own key signed it: a witness that lies delays, and stops nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::audit::{Checkpoint, CosignerKey, Hash, Keys, Log, MAX_NOTE, ReadError, Tree};
use crate::client::{FetchError, FetchUrl, Post, Trust, fetch, post};
use crate::crypto::sha256;

/// Sizes that a witness may name, one after another, in one offer.
const ATTEMPTS: u32 = 3;

/// A checkpoint that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) note: String,
    pub(super) checkpoint: Checkpoint,
}

/// Why a witness has not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Trouble {
    /// One of a few words.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// What the log's own key signed, and this log does not hold.
    pub conflict: Option<Conflict>,
}

/// A checkpoint by the log's key that is not one of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The evidence, as the log signed it.
    pub note: String,
    /// Whether this log is shorter; otherwise it tells another story.
    pub rolled_back: bool,
}

/// One witness, and what is known of what it knows.
pub(super) struct Asker {
    key: CosignerKey,
    prefix: FetchUrl,
    trust: Trust,
    within: Duration,
    log: Log,
    tree: Tree,
}

impl Trouble {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), conflict: None }
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        let code = match &error {
            FetchError::Status { status, .. } if status.as_u16() == 404 => "unknown_log",
            FetchError::Status { status, .. } if status.as_u16() == 403 => "unknown_key",
            other => other.code(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::new("log", error.to_string())
    }
}

impl Asker {
    pub(super) fn new(key: CosignerKey, prefix: FetchUrl, trust: Trust, within: Duration, log: Log) -> Self {
        Self { key, prefix, trust, within, log, tree: Tree::default() }
    }

    /// Offers a checkpoint, and gives the witness's line.
    pub(super) async fn offer(&mut self, round: &Round) -> Result<String, Trouble> {
        for _ in 0..ATTEMPTS {
            let (grown, proof) = self.grown(round.checkpoint.size).await?;
            if grown.size() != round.checkpoint.size || grown.root() != round.checkpoint.root {
                return Err(Trouble::new("log", "the records do not make the checkpoint: verify the log"));
            }
            let known = self.tree.size();
            match self.post(known, &proof, &round.note).await {
                Ok(lines) => {
                    let line = self.key.pick(&round.note, &lines);
                    let nothing = || Trouble::new("answer", "the witness did not answer with its cosignature");
                    self.tree = grown;
                    return line.ok_or_else(nothing);
                }
                Err(FetchError::Status { status, said, .. }) if status.as_u16() == 409 => {
                    let Ok(has) = said.trim().parse::<u64>() else {
                        return Err(Trouble::new("answer", "the witness did not say what it has"));
                    };
                    if has == known || has > round.checkpoint.size {
                        return Err(self.evidence(Some(has)).await);
                    }
                    self.learn(has).await?;
                }
                Err(FetchError::Status { status, .. }) if status.as_u16() == 422 => {
                    return Err(self.evidence(None).await);
                }
                Err(other) => return Err(other.into()),
            }
        }
        Err(Trouble::new("answer", "the witness names another size each time"))
    }

    async fn post(&self, known: u64, proof: &[Hash], note: &str) -> Result<String, FetchError> {
        let hashes: String = proof.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
        let url = self.beneath("/add-checkpoint")?;
        let post_it = Post {
            url: &url,
            trust: &self.trust,
            scheme: "Bearer",
            content: "text/plain",
            extra: None,
            body: format!("old {known}\n{hashes}\n{note}").into_bytes(),
        };
        Ok(String::from_utf8_lossy(&post(post_it, self.within, MAX_NOTE).await?).into_owned())
    }

    /// What the witness has against the log: only what the log signed counts (LOG-36).
    async fn evidence(&self, says: Option<u64>) -> Trouble {
        let claim = match says {
            Some(size) => format!("the witness says that it has seen {size} records"),
            None => "the witness says that the log tells another story".to_owned(),
        };
        let unproven = |why: String| Trouble::new("unproven", format!("{claim}, and shows no proof of it: {why}"));
        let note = match self.seen().await {
            Ok(note) => note,
            Err(error) => return unproven(error.to_string()),
        };
        let keys: Keys = match self.log.keys() {
            Ok(keys) => keys,
            Err(why) => return Trouble::new("log", why),
        };
        let checkpoint = match keys.open(&note) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return unproven(format!("its checkpoint: {error}")),
        };
        let records = self.log.health().records;
        let rolled_back = checkpoint.size > records;
        let forked = match self.tree(checkpoint.size.min(records)).await {
            Ok(tree) => tree.root() != checkpoint.root,
            Err(trouble) => return trouble,
        };
        if !rolled_back && !forked {
            return unproven("its checkpoint is one of this log".to_owned());
        }
        let detail = if rolled_back {
            format!(
                "the log's key signed {} records, and there are {records}: the log was rolled back",
                checkpoint.size
            )
        } else {
            format!("the log's key signed other first {} records: the log was forked", checkpoint.size)
        };
        Trouble { code: "conflict", detail, conflict: Some(Conflict { checkpoint, note, rolled_back }) }
    }

    /// The newest checkpoint that the witness cosigned, by its monitoring interface.
    async fn seen(&self) -> Result<String, FetchError> {
        let origin = hex::encode(sha256(&[self.log.verifier_key().origin().as_str().as_bytes()]));
        let url = self.beneath(&format!("/{origin}/checkpoint"))?;
        Ok(String::from_utf8_lossy(&fetch(&url, &self.trust, self.within, MAX_NOTE).await?).into_owned())
    }

    fn beneath(&self, path: &str) -> Result<FetchUrl, FetchError> {
        let url = self.prefix.as_str().trim_end_matches('/').to_owned() + path;
        url.parse().map_err(|why| FetchError::Unreachable { url, problem: format!("it {why}") })
    }

    /// Takes the witness's word for what it knows: a wrong one only costs a refused offer.
    async fn learn(&mut self, size: u64) -> Result<(), Trouble> {
        self.tree = self.tree(size).await?;
        Ok(())
    }

    async fn tree(&self, size: u64) -> Result<Tree, Trouble> {
        let from = if self.tree.size() <= size { self.tree.clone() } else { Tree::default() };
        let log = self.log.clone();
        Ok(blocking(move || log.tree_at(from, size)).await??)
    }

    async fn grown(&self, size: u64) -> Result<(Tree, Vec<Hash>), Trouble> {
        let (from, log) = (self.tree.clone(), self.log.clone());
        Ok(blocking(move || log.grown(&from, size)).await??)
    }
}

/// Reads files where that is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Trouble::new("log", error.to_string()))
}
