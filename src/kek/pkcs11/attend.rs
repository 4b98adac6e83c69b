//! Who notices that a token has come back, or has gone while nobody asked? A task that asks by a canary, beside the calls.
//! This module never asks more often than the breaker allows.

use std::sync::{Arc, Weak};

use crate::clock::{Deadline, SharedClock};

use super::keeper::{Keeper, Work};

/// Looks after the token until the keeper is gone.
pub(super) async fn attend(keeper: Weak<Keeper>, clock: SharedClock) {
    let next = |keeper: Arc<Keeper>| {
        let (look, newer) = (keeper.next_look(), keeper.next_version_look());
        (newer.map_or(look, |newer| look.min(newer)), keeper.failed.clone())
    };
    while let Some((point, failed)) = keeper.upgrade().map(next) {
        tokio::select! {
            () = clock.sleep_until(point) => {}
            // The look that was due while all was well may be far away.
            () = failed.notified() => {}
        }
        let Some(keeper) = keeper.upgrade() else { return };
        if keeper.next_version_look().is_some_and(|due| due <= clock.mono()) {
            keeper.look_for_newer().await;
        }
        if keeper.is_due() {
            let enough = keeper.access.start_after() + keeper.access.hang_after();
            // What comes of it stands on the board and in the events.
            let _seen = keeper.serve(&Work::Canary, Deadline(clock.mono().plus(enough))).await;
        }
    }
}
