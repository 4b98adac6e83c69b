//! What happens without a request? One task each, started and ended by `app`: admission of the keyrings while the KEK
//! is away, sweeping of expired keys. Jobs never open data.

pub mod partitions;
pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::keyring::{ApplyError, Genesis, Keyrings};

pub use schedule::Settings;

/// The first wait after a failed admission; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A token that comes back is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// What a crash loses of the counted time: it makes a wait of a week that much longer.
const REPORT: Duration = Duration::from_secs(600);
/// However many keys are suspended or shredded: one row of a sidecar a second at most.
const SAY: Duration = Duration::from_secs(1);
/// Expired keys leave the memory within this time even if nobody asks for any key.
const SWEEP: Duration = Duration::from_secs(5);

/// Tries until the keyrings are open; ends early only if the store itself is wrong, which waiting does not mend.
pub async fn admit(keyrings: Arc<Keyrings>, clock: SharedClock) -> Result<Genesis, ApplyError> {
    let mut wait = FIRST_WAIT;
    loop {
        match keyrings.admit().await {
            Err(ApplyError::Unavailable(why)) => {
                tracing::warn!(%why, wait_ms = wait.as_millis(), "the keyrings are not open yet");
            }
            ended => return ended,
        }
        clock.sleep_until(clock.mono().plus(wait)).await;
        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
    }
}

/// Learns what other sidecars changed, for ever: at each hint of the store, and at least so often.
pub async fn follow(keyrings: Arc<Keyrings>, clock: SharedClock, poll: Duration) {
    let mut said = clock.mono();
    loop {
        tokio::select! {
            () = clock.sleep_until(clock.mono().plus(poll)) => {}
            () = keyrings.hint() => {}
        }
        match keyrings.catch_up().await {
            // Before the admission there is nothing to follow; readiness says why.
            Ok(()) if clock.mono().since(said) >= SAY => {
                said = clock.mono();
                acknowledge(&keyrings).await;
            }
            Ok(()) | Err(ApplyError::Unavailable(_)) => {}
            Err(error) => {
                tracing::error!(%error, "the store is refused");
                keyrings.shut(&error.to_string());
            }
        }
    }
}

/// Whoever revoked a key waits to hear that this sidecar has followed.
async fn acknowledge(keyrings: &Keyrings) {
    if let Err(error) = keyrings.acknowledge().await {
        tracing::warn!(%error, "the fleet could not be told how far this sidecar has followed");
    }
}

/// Tells the fleet how much time this sidecar has counted, for ever: a wait goes on only while somebody counts.
pub async fn report_in(keyrings: Arc<Keyrings>, clock: SharedClock) {
    loop {
        clock.sleep_until(clock.mono().plus(REPORT)).await;
        if let Err(error) = keyrings.report_in().await {
            tracing::warn!(%error, "the count of time could not be written; waits go on when it can");
        }
    }
}

/// Drops expired keys from the memory, for ever.
pub async fn sweep(keyrings: Arc<Keyrings>, clock: SharedClock) {
    loop {
        clock.sleep_until(clock.mono().plus(SWEEP)).await;
        keyrings.sweep();
    }
}
