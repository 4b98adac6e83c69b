//! What a KEK says of itself without a call, before, during and after an outage.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its key-encryption key must fail")]

use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, SystemClock};
use keyward::kek::{BreakerState, Kek, KekHealth, KekStatus, Metered};
use keyward::telemetry::{Build, Metrics};

use crate::kek::{binding, clock, data_key, soon, start, token_with_key};

fn metered(kek: Arc<dyn Kek>) -> Metered {
    let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
    Metered::new(kek, clock(), metrics.kek("primary").unwrap())
}

#[tokio::test]
async fn the_status_of_a_token_follows_it_through_an_outage() {
    let token = token_with_key().await;
    let before = SystemClock.wall();
    let kek = metered(start(&token).await);
    let KekStatus { health, last_canary, breaker, sessions, recoveries, .. } = kek.status();
    assert_eq!((health, breaker), (KekHealth::Reachable, BreakerState::Closed));
    assert!(last_canary >= Some(before) && sessions >= 1, "{last_canary:?}, {sessions} sessions");
    assert_eq!((recoveries.logins, recoveries.workers), (0, 0), "a start is no recovery");

    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    token.pull();
    for _ in 0..3 {
        assert!(kek.unwrap(&wrap, &binding(), soon()).await.is_err());
    }
    let away = kek.status();
    assert_eq!((away.health, away.sessions), (KekHealth::Unreachable, 0));
    assert_ne!(away.breaker, BreakerState::Closed);
    let now = SystemClock.wall();
    assert!(away.last_canary < Some(now));

    token.plug_in();
    for _ in 0..600 {
        if kek.unwrap(&wrap, &binding(), soon()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let back = kek.status();
    assert_eq!((back.health, back.breaker), (KekHealth::Reachable, BreakerState::Closed));
    assert!(back.last_canary >= Some(now) && back.sessions >= 1);
    assert!(back.recoveries.workers >= 1, "{:?}", back.recoveries);
}
