//! Did somebody else change something? A connection of its own listens; while it is away the poll of the caller finds out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::pool::{Pool, pause};
use crate::store::StoreError;

/// Where a committer says the number of its link.
pub(super) const TELL: &str = "SELECT pg_catalog.pg_notify('keyward', $1)";
const LISTEN: &str = "LISTEN keyward";

/// Hints that wait to be heard: one, however many there were.
#[derive(Default)]
pub(super) struct Hints {
    heard: Notify,
    own: AtomicU64,
}

impl Hints {
    /// Resolves when there is one.
    pub(super) async fn next(&self) {
        self.heard.notified().await;
    }

    /// Our own link: nobody needs to look for it.
    pub(super) fn made(&self, seq: u64) {
        self.own.fetch_max(seq, Ordering::Relaxed);
    }

    fn hear(&self, payload: &str) {
        // What is not a number is somebody's joke: looking costs one statement.
        if payload.parse().is_ok_and(|seq: u64| seq <= self.own.load(Ordering::Relaxed)) {
            return;
        }
        self.heard.notify_one();
    }
}

/// Listens until it is dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    pub(super) fn start(pool: Arc<Pool>, hints: Arc<Hints>) -> Self {
        Self(tokio::spawn(async move {
            let mut failures = 0_u32;
            loop {
                match listen(&pool, &hints).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        tracing::debug!(%error, "nobody tells of changes to the store: they are looked for");
                        failures = failures.saturating_add(1);
                    }
                }
                pause(failures).await;
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Until the connection ends.
async fn listen(pool: &Pool, hints: &Arc<Hints>) -> Result<(), StoreError> {
    let to = Arc::clone(hints);
    let (link, ended) = pool.dial(move |payload| to.hear(payload)).await?;
    link.run(LISTEN).await.map_err(super::fault::Fault::harmless)?;
    // What was told while nobody listened was not heard.
    hints.heard.notify_one();
    // A driver that panicked is an end, too.
    let _end = ended.await;
    Ok(())
}
