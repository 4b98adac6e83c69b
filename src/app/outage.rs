//! When did unlocking become degraded, when did it end, and when was it healthy again? Since when is the store silent?
//! Each change becomes a record.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::Event;
use crate::clock::SharedClock;
use crate::keyring::{Keyrings, Unlocking};
use crate::service::Service;

/// A change is recorded within this time; one that is over sooner leaves the KEK's own records only.
const EVERY: Duration = Duration::from_secs(1);

/// Looks for ever. What the log does not take is said again.
pub(super) async fn record(service: Arc<Service>, keyrings: Arc<Keyrings>, clock: SharedClock) {
    let mut said = Event::CacheHealthy;
    let mut store_said = Event::StoreRecovered;
    let mut mirrored = Event::StoreRecovered;
    loop {
        clock.sleep_until(clock.mono().plus(EVERY)).await;
        let Some(state) = keyrings.unlocking() else { continue };
        if let Some(event) = news(said, state) {
            note(&service, event, state.left(clock.mono()), &mut said).await;
        }
        let left = keyrings.state_lease();
        let event = if keyrings.store_is_silent() { Event::StoreUnreachable } else { Event::StoreRecovered };
        if event != store_said {
            let left = left.filter(|_| event == Event::StoreUnreachable);
            note(&service, event, left, &mut store_said).await;
        }
        let serves = keyrings.mirror().is_some_and(|mirror| mirror.serves);
        if store_said != Event::StoreUnreachable {
            mirrored = Event::StoreRecovered;
        } else if serves && mirrored != Event::StoreMirrored {
            // Once in each outage.
            note(&service, Event::StoreMirrored, keyrings.state_lease(), &mut mirrored).await;
        }
    }
}

async fn note(service: &Service, event: Event, left: Option<Duration>, said: &mut Event) {
    tell(event, left);
    let facts = left.map(|left| ("offline_seconds", left.as_secs().to_string()));
    match service.note(event, facts.into_iter().collect()).await {
        Ok(()) => *said = event,
        Err(error) => tracing::error!(%error, event = event.name(), "the audit log did not take a record"),
    }
}

/// What is to be recorded of a state, if anything. A refusal has records of its own.
fn news(said: Event, state: Unlocking) -> Option<Event> {
    let event = match state {
        Unlocking::Healthy => Event::CacheHealthy,
        Unlocking::Degraded(_) => Event::CacheDegraded,
        Unlocking::Expired => Event::CacheExpired,
        Unlocking::Refused => return None,
    };
    (event != said).then_some(event)
}

fn tell(event: Event, left: Option<Duration>) {
    let seconds = left.map(|left| left.as_secs());
    match event {
        Event::CacheHealthy => tracing::info!("keys can be unwrapped again"),
        Event::CacheDegraded => {
            tracing::warn!(?seconds, "the primary key-encryption key is out of reach; others serve")
        }
        Event::CacheExpired => {
            tracing::error!("the key-encryption key is out of reach and no cached key serves any more");
        }
        Event::StoreRecovered => tracing::info!("the store is heard again"),
        Event::StoreMirrored => tracing::warn!(?seconds, "keyrings come from the local mirror"),
        _ => tracing::warn!(?seconds, "the store is out of reach: nothing unlocks once its last word is too old"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;

    #[test]
    fn each_change_is_news_once_and_a_refusal_is_none() {
        let degraded = Unlocking::Degraded(Some(Mono(9)));
        assert_eq!(news(Event::CacheHealthy, Unlocking::Healthy), None);
        assert_eq!(news(Event::CacheHealthy, degraded), Some(Event::CacheDegraded));
        assert_eq!(news(Event::CacheDegraded, Unlocking::Degraded(None)), None);
        assert_eq!(news(Event::CacheDegraded, Unlocking::Refused), None);
        assert_eq!(news(Event::CacheDegraded, Unlocking::Expired), Some(Event::CacheExpired));
        assert_eq!(news(Event::CacheExpired, Unlocking::Healthy), Some(Event::CacheHealthy));
    }
}
