//! What if only the store was lost? The log stays and goes on: it knows how many changes the backup lacks, and a
//! `store.rebased` record names them, so that the older store is in force and the abandoned one never again.

use crate::audit::verify::verify;
use crate::audit::{Event, Outcome, VerifierKey};

use super::super::start::pinned;
use super::in_place::Heads;
use super::manifest::LOG;
use super::restore::{RestoreError, Restored, Work, lost};
use super::{Tell, open_log, pinned_by, record};

/// Puts the store of a backup back beside the log that knows more than it.
pub(super) async fn rebase(work: &Work<'_>, unfinished: bool, tell: Tell<'_>) -> Result<Restored, RestoreError> {
    let (config, backup) = (work.config, work.backup);
    if !config.audit.dir.exists() {
        return Err(RestoreError::NoLog(config.audit.dir.clone()));
    }
    if unfinished {
        work.discard(false)?;
    } else {
        work.has_no_store().await?;
    }
    goes_on(work, tell)?;
    let (log, opened) = open_log(config, work.clock, work.disk)?;
    let known = pinned(&log, &opened)?;
    let Some(lost) = accepted(work, &known)? else {
        log.drain().await?;
        let known = known.head.map_or(0, |head| head.changes);
        return Err(RestoreError::Lost { backup: backup.head.changes, known });
    };
    // Older than the log knows it, which was accepted; the head that the manifest names is compared all the same.
    let custodians = work.admit(pinned_by(&backup.manifest, None), tell).await?;
    work.begin()?;
    work.store(tell).await?;
    let held = custodians.is_some();
    let mut facts = work.facts(custodians);
    let event = match known.head.filter(|_| lost > 0) {
        None => Event::StoreRestored,
        Some(head) => {
            // Not the newest: a copy of the lost store from in between would not pass through that one.
            let first = Heads::of(&log)?.first_after(backup.head.changes).unwrap_or(head);
            facts.push(("abandoned_head", first.to_string()));
            facts.push(("generation", format!("{}..{}", backup.head.changes.saturating_add(1), head.changes)));
            Event::StoreRebased
        }
    };
    // Crash state: the store is there and the log still knows a newer one; the marker keeps sidecars from starting, and
    // the same command begins again.
    record(&log, work.clock, (event, Outcome::Done), facts).await?;
    log.drain().await?;
    work.end()?;
    Ok(Restored { held, ..work.restored(None, lost) })
}

/// How many changes are lost; None if the operator has not said that they may be.
fn accepted(work: &Work<'_>, known: &crate::keyring::Pinned) -> Result<Option<u64>, RestoreError> {
    let manifest = &work.backup.manifest;
    if known.store != manifest.store || known.store_key_check != manifest.store_key_check {
        return Err(RestoreError::OtherLog(work.config.audit.dir.clone()));
    }
    let lost = lost(work.backup.head, known.head)?;
    Ok((lost == 0 || work.options.accept_lost_changes == Some(lost)).then_some(lost))
}

/// Whether the log that stayed begins with the one in the backup, where both have one name: the backup's newest checkpoint
/// proves it. A log of another name was begun by an earlier restore; it is compared by its store alone.
fn goes_on(work: &Work<'_>, tell: Tell<'_>) -> Result<(), RestoreError> {
    let Some(key) = VerifierKey::parse(&work.backup.manifest.log.key) else { return Ok(()) };
    let checkpoint = work.backup.dir.join(LOG).join("checkpoint");
    let read = |path: &std::path::Path| {
        let unread = |source| super::FileError::Read { path: path.to_owned(), source };
        std::fs::read_to_string(path).map_err(unread)
    };
    let own = read(&work.config.audit.dir.join("checkpoint.pub"))?;
    if own.trim() != key.to_text() {
        return Ok(());
    }
    let since = read(&checkpoint)?;
    let mut progress = |at: crate::audit::verify::Progress| tell("verifying the log", at.bytes, at.of);
    verify(&work.config.audit.dir, Some(&key), Some(&since), &mut progress).map_err(RestoreError::OtherHistory)?;
    Ok(())
}
