//! What does a key cost that is not in the cache? Counted at the real store and the real key-encryption key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Values;
use super::place::{Place, Sidecar};

/// Reads of keyrings and partitions, and calls to the key-encryption key.
fn costs(sidecar: &Sidecar) -> (usize, u64) {
    (sidecar.faults.reads.load(Ordering::SeqCst), sidecar.keyrings.cache_stats().unwraps)
}

/// What one opening of a value costs.
async fn opening(sidecar: &Sidecar, patient: &str, value: &str) -> (usize, u64) {
    let before = costs(sidecar);
    assert_eq!(sidecar.open(patient, value).await.as_deref(), Ok(patient));
    let after = costs(sidecar);
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn a_miss_costs_one_read_of_the_store_and_one_call_to_the_key_and_a_hit_neither() {
    let place = Place::founded().await;
    let first = place.start().await;
    Values::sealed(&first).await;
    let (plain, of_patient) =
        (first.seal("patients", "ann").await.unwrap(), first.seal("charts", "ann").await.unwrap());
    first.stop();
    let sidecar = place.start().await;
    assert_eq!(opening(&sidecar, "ann", &plain).await, (1, 1), "neither the keyring nor its key were in use");
    assert_eq!(opening(&sidecar, "ann", &plain).await, (0, 0));
    assert_eq!(
        opening(&sidecar, "ann", &of_patient).await,
        (2, 1),
        "the keyring and the partition, which no KEK wraps"
    );
    assert_eq!(opening(&sidecar, "ann", &of_patient).await, (0, 0));
    place.clock.advance(Duration::from_secs(301));
    sidecar.keyrings.catch_up().await.unwrap();
    assert_eq!(opening(&sidecar, "ann", &plain).await, (0, 1), "the keyring is still in memory, its key is not");
    sidecar.stop();
}
