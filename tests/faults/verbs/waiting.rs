//! A commit that outlives its process: what it will have done is not said before it is over.

use std::time::Duration;

use serde_json::Value;

use super::place::{Place, Sidecar};
use super::writer::Kind;
use super::{Values, Verb, ask};
use crate::postgres::Postgres;

/// How long the restart waits for the lock that it cannot have.
const SHORT: Duration = Duration::from_secs(2);

/// The outcome that names an intent.
fn outcome(sidecar: &Sidecar, intent: u64) -> Option<Value> {
    let records = sidecar.records();
    let of = records.into_iter().find(|(_, record)| record["intent"] == intent);
    of.map(|(_, record)| record["outcome"].clone())
}

#[tokio::test]
async fn an_intent_stays_open_while_a_commit_waits_in_the_database_and_is_closed_truthfully_after_it() {
    for (kind, truth) in [(Kind::Kept, "done"), (Kind::Lost, "failed")] {
        let place = Place::founded_in_postgresql(SHORT).await;
        let sidecar = place.start().await;
        Values::sealed(&sidecar).await;
        sidecar.faults.arm(kind, 1);
        assert!(ask(&sidecar, Verb::Rotate).await.is_err());
        sidecar.stop();
        // As a server that waits for its standby holds it for a process that is gone.
        let lock = "BEGIN; SELECT pg_advisory_xact_lock(1802990180, 1)";
        let mut waits = Postgres::shared().session(&place.database(), lock);
        let mut restarted = place.start().await;
        let intent = restarted.left.first().unwrap().index;
        assert_eq!((restarted.left.len(), outcome(&restarted, intent)), (1, None));
        assert_eq!(restarted.reconcile().await, 1);
        waits.end();
        assert_eq!(restarted.reconcile().await, 0);
        assert_eq!(outcome(&restarted, intent), Some(truth.into()), "{kind:?}");
        assert_eq!(Verb::Rotate.is_done(&restarted).await, truth == "done");
        restarted.stop();
    }
}
