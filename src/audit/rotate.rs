//! How does the key that signs the log change? By a record under the old key, then both keys, then the new one alone
//! (LOG-32, LOG-33). This module never decides who may change it.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Deadline;
use crate::crypto::SigningKey;
use crate::durable::DurableError;

use super::keeper::Keeper;
use super::log::Log;
use super::note::VerifierKey;
use super::render;
use super::signers::{Overlap, Rotation, SignersError};
use super::{AppendError, Durability, Event, Outcome, Record};

/// The new key of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The record that names it.
    pub index: u64,
    /// The key that auditors are given beside the ones before.
    pub key: VerifierKey,
    /// The one before it.
    pub old: VerifierKey,
}

/// Why the key was not changed. After [`RotateError::Append`] with a passed deadline it may be, later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Its record is not durable.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The last change has not come as far as a checkpoint that both keys signed: ask again in a second.
    #[error("the last change of the log's key is not complete yet")]
    UnderWay,
    /// The new key could not be made or stored; nothing was recorded.
    #[error("the log's new key could not be stored: {0}")]
    Unstored(String),
}

impl From<SignersError> for RotateError {
    fn from(error: SignersError) -> Self {
        Self::Unstored(error.to_string())
    }
}

/// Who asked, and what they are told.
pub(super) type Answering = (oneshot::Sender<Result<Rotated, RotateError>>, Rotated);

/// What the keeper is asked.
pub(super) struct Command {
    record: Record,
    overlap: Duration,
    answer: oneshot::Sender<Result<Rotated, RotateError>>,
}

/// A key whose record is written.
pub(super) struct Rotating {
    signing: SigningKey,
    rotated: Rotated,
    until: u64,
    answer: oneshot::Sender<Result<Rotated, RotateError>>,
}

impl Log {
    /// Changes the key that signs checkpoints. `record` says who did it, of which intent and ceremony it is the outcome, and
    /// facts of its own; event, outcome and the facts about keys are set here. Both keys sign for `overlap`, and the old
    /// one is gone after that; an overlap of the last change ends at once. Answers when the record is durable, the new key is
    /// among the public ones, and, unless the log answers from the page cache, a checkpoint carries both signatures.
    pub async fn rotate_key(
        &self,
        record: Record,
        overlap: Duration,
        deadline: Deadline,
    ) -> Result<Rotated, RotateError> {
        let (answer, answered) = oneshot::channel();
        let told = async {
            self.inner.rotate.send(Command { record, overlap, answer }).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())
        };
        self.before(deadline, told).await?
    }
}

fn closed() -> AppendError {
    AppendError::Closed("the keeper of the log is gone".to_owned())
}

impl Keeper {
    /// Does what is asked and tells whoever asked; an error here ends the log.
    pub(super) async fn rotate(&mut self, command: Command) -> Result<(), String> {
        let Command { record, overlap, answer } = command;
        match self.begin(record, overlap).await {
            Ok((signing, rotated, until)) => {
                self.rotating = Some(Rotating { signing, rotated, until, answer });
                if self.durability == Durability::Written {
                    self.queue.want_sync();
                }
                self.checkpoint()
            }
            Err(error) => {
                let _gone = answer.send(Err(error));
                Ok(())
            }
        }
    }

    /// Makes the new key durable, and then its record.
    async fn begin(&mut self, record: Record, overlap: Duration) -> Result<(SigningKey, Rotated, u64), RotateError> {
        if self.rotating.is_some() {
            return Err(RotateError::UnderWay);
        }
        match self.history.signers.overlap() {
            Overlap::None => {}
            Overlap::Begun => return Err(RotateError::UnderWay),
            Overlap::Until(_) => self.history.signers.settle().map_err(|error| self.ends(&error))?,
        }
        let old = self.history.signers.signs();
        let (signing, key) = self.history.signers.draft()?;
        let named = [
            ("log_key", key.to_text()),
            ("old_log_key", hex::encode(old.id())),
            ("overlap_seconds", overlap.as_secs().to_string()),
        ];
        let facts = record.facts.into_iter().chain(named).collect();
        let record = Record { event: Event::LogKeyRotated, outcome: Outcome::Done, facts, ..record };
        match self.write(&record).await {
            Ok(index) => {
                let until = self.clock.wall().0.saturating_add(overlap.as_secs().saturating_mul(1_000_000));
                Ok((signing, Rotated { index, key, old }, until))
            }
            // The record may be on the disk although its write failed: only a start can tell, and needs the key then.
            Err(error @ (AppendError::Closed(_) | AppendError::Deadline)) => Err(error.into()),
            Err(error) => {
                // Nothing names it: what cannot be removed now the next start removes.
                let _left = self.history.signers.forget_next();
                Err(error.into())
            }
        }
    }

    /// Two keys may have changed places or not: only a start can tell.
    fn ends(&self, error: &DurableError) -> RotateError {
        let why = format!("the log's keys did not change places: {error}");
        self.queue.fail(&why);
        AppendError::Closed(why).into()
    }

    async fn write(&self, record: &Record) -> Result<u64, AppendError> {
        let answer = self.queue.push(render::entry(record, &[])?).await?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Lets the new key sign once its record is on the disk.
    pub(super) fn take_over(&mut self) -> Result<(), DurableError> {
        let synced = self.board.synced().size;
        if let Some(rotating) = self.rotating.take_if(|rotating| rotating.rotated.index < synced) {
            let Rotating { signing, rotated, until, answer } = rotating;
            let rotation = Rotation { index: rotated.index, key: rotated.key.to_text(), until };
            self.history.signers.take_over(signing, rotated.key.clone(), &rotation)?;
            self.answering = Some((answer, rotated));
        }
        Ok(())
    }

    /// Ends the overlap when its time is over.
    pub(super) fn settle(&mut self) -> Result<(), DurableError> {
        match self.history.signers.overlap() {
            Overlap::Until(until) if self.clock.wall().0 >= until => self.history.signers.settle(),
            _ => Ok(()),
        }
    }

    /// Tells whoever asked, and everybody which key signs.
    pub(super) fn told(&mut self) {
        if let Some((answer, rotated)) = self.answering.take() {
            let _gone = answer.send(Ok(rotated));
        }
        let signs = self.history.signers.signs();
        self.signs.send_if_modified(|known| {
            let other = *known != signs;
            *known = signs;
            other
        });
    }
}
