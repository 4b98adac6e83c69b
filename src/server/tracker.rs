//! How many are still at work? A count that can be waited for, held up by guards.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts guards that are alive.
#[derive(Debug, Clone)]
pub(super) struct Tracker(Arc<watch::Sender<usize>>);

/// One at work, until it is dropped.
#[derive(Debug)]
pub(super) struct AtWork(Arc<watch::Sender<usize>>);

impl Tracker {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn begin(&self) -> AtWork {
        self.0.send_modify(|count| *count += 1);
        AtWork(Arc::clone(&self.0))
    }

    pub(super) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves when nobody is at work.
    pub(super) async fn idle(&self) {
        // The sender is `self`, so the wait cannot end for the want of one.
        let mut count = self.0.subscribe();
        let _gone = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
