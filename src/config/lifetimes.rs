//! How long may a key live, cached and in service? `[cache]` and `[rotation]` become settings.

use std::time::Duration;

use crate::keyring::{self, Environment};

use super::problems::Found;
use super::raw::RawCache;
use super::sections::{count, time};

/// `[cache]`. Its durations add up to the time that a revocation may take to bite, so none of them is without a limit.
pub(super) fn cache(raw: &RawCache, environment: Option<Environment>, found: &mut Found) -> Option<keyring::Settings> {
    let ttl = within("cache.ttl", raw.ttl.as_deref(), TTL, (A_SECOND, AN_HOUR), found);
    let offline = within("cache.offline_max", raw.offline_max.as_deref(), OFFLINE, (Duration::ZERO, AN_HOUR), found);
    let store = raw.store_offline_max.as_deref();
    let store = within("cache.store_offline_max", store, STORE_OFFLINE, (SHORTEST_STORE, AN_HOUR), found);
    let keys = count("cache.keys", raw.keys, 1024, found);
    Some(keyring::Settings {
        environment: environment?,
        cache_ttl: ttl?,
        offline_max: offline?,
        store_offline_max: store?,
        cache_keys: keys?,
    })
}

const TTL: Duration = Duration::from_secs(300);
/// Long enough for a token's restart, a cluster's failover and most incidents of a cloud; a key that was disabled behind
/// a broken line works no longer than this and the time to live together.
const OFFLINE: Duration = Duration::from_secs(900);
const STORE_OFFLINE: Duration = Duration::from_secs(300);
/// Several looks at the store fit into it.
const SHORTEST_STORE: Duration = Duration::from_secs(15);
const A_SECOND: Duration = Duration::from_secs(1);
const AN_HOUR: Duration = Duration::from_secs(3_600);

fn within(
    path: &str,
    text: Option<&str>,
    default: Duration,
    (least, most): (Duration, Duration),
    found: &mut Found,
) -> Option<Duration> {
    let given = time(path, text, default, found)?;
    if (least..=most).contains(&given) {
        return Some(given);
    }
    let message = format!("is not between {} and {}", words(least), words(most));
    found.add(path, message, "a lifetime without a limit would keep a revocation from biting");
    None
}

fn words(duration: Duration) -> String {
    match duration.as_secs() {
        days if days > 0 && days % 86_400 == 0 => format!("{}d", days / 86_400),
        hours if hours > 0 && hours % 3_600 == 0 => format!("{}h", hours / 3_600),
        seconds => format!("{seconds}s"),
    }
}
