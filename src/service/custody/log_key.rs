//! How do several people change the key that signs the log? The decision is spent in the store first, then the log changes its
//! key: if we stop between, nothing has changed and another ceremony does it. `log.key_approved` is the intent and its outcome;
//! the log itself records `log.key_rotated`.

use std::sync::PoisonError;
use std::time::Duration;

use crate::audit::{Event, Outcome, Record, RotateError};
use crate::clock::Deadline;
use crate::keyring::documents::Leave;

use super::super::account::{Account, source_of};
use super::super::change::change_refused;
use super::super::{Asker, Code, Refusal, Service};

/// Long enough for everybody who keeps the old key to be given the new one.
const OVERLAP: Duration = Duration::from_secs(30 * 86_400);
/// The record, its checkpoint and the key's files.
const PATIENCE: Duration = Duration::from_secs(10);

impl Service {
    /// Whether it is this sidecar's log.
    pub(super) fn is_our_log(&self, origin: &str) -> Result<(), Refusal> {
        let ours = self.log.verifier_key().origin().as_str();
        if origin == ours {
            return Ok(());
        }
        let why = format!("the log of this sidecar is {ours}: carry it out where {origin} is written");
        Err(Refusal::because(Code::MalformedRequest, why))
    }

    pub(super) async fn rotate_log_key(&self, asker: &Asker<'_>, account: &mut Account) -> Result<(), Refusal> {
        let sworn = asker.sworn.lock().unwrap_or_else(PoisonError::into_inner).take();
        let authority = sworn.ok_or(Code::Internal)?;
        let intent = asker.intent().ok_or(Code::Internal)?;
        account.facts.push(("authority", authority.code().to_owned()));
        let spent =
            self.keyrings.write(Vec::new(), Leave::Authority(&authority), intent).await.map_err(change_refused)?;
        account.facts.push(("store_head", spent.head.to_string()));
        let record = Record {
            event: Event::LogKeyRotated,
            outcome: Outcome::Done,
            reason: None,
            actor: account.actor(),
            source: source_of(account.surface),
            request: Some(asker.request.clone()),
            purpose: None,
            groups: Vec::new(),
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: account.policy,
            intent: None,
            facts: account.facts.clone(),
        };
        let by = asker.deadline.max(Deadline(self.clock.mono().plus(PATIENCE)));
        match self.log.rotate_key(record, OVERLAP, by).await {
            Ok(rotated) => {
                tracing::warn!(key = rotated.key.to_text(), "the log has a new key: give it to everybody who verifies");
                Ok(())
            }
            Err(RotateError::Append(error)) => {
                // It may be there after all: `log.key_rotated` tells, and the next start looks.
                Err(Refusal::because(Code::Unavailable, format!("the log's key may have changed or not: {error}")))
            }
            Err(error) => Err(Refusal::because(Code::Unavailable, format!("{error}; propose it again"))),
        }
    }
}
