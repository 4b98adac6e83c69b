//! How long may a key live, cached and in service? `[cache]` and `[rotation]` become settings.

use std::time::Duration;

use crate::jobs;
use crate::keyring::{self, Environment, UsageLimits};
use crate::store::Settings;

use super::problems::Found;
use super::raw::{RawCache, RawRotation};
use super::sections::{count, time};
use super::units;

/// `[cache]`. Its durations add up to the time that a revocation may take to bite, so none of them is without a limit.
pub(super) fn cache(
    raw: &RawCache,
    environment: Option<Environment>,
    rotation: Option<&jobs::Settings>,
    found: &mut Found,
) -> Option<keyring::Settings> {
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
        data_key_period: rotation?.data_key,
        hard_limit: rotation?.hard_limit,
        kek_period: rotation?.kek,
        usage_limits: UsageLimits { messages: rotation?.messages, bytes: rotation?.bytes },
    })
}

/// `[rotation]`. No period is longer than the hard limit, which itself has one: a key of unlimited age is what auditors
/// look for first.
pub(super) fn rotation(raw: &RawRotation, found: &mut Found) -> Option<jobs::Settings> {
    let hard = within("rotation.hard_limit", raw.hard_limit.as_deref(), HARD_LIMIT, (A_DAY, HARD_LIMIT), found);
    let most = hard.unwrap_or(HARD_LIMIT);
    let data = within("rotation.data_key", raw.data_key.as_deref(), DATA_KEY.min(most), (AN_HOUR, most), found);
    let kek = within("rotation.kek", raw.kek.as_deref(), KEK.min(most), (A_DAY, most), found);
    let check = within("rotation.check", raw.check.as_deref(), CHECK, (A_SECOND, AN_HOUR), found);
    let messages = count("rotation.messages", raw.messages, MESSAGES, found);
    let bytes = raw.bytes.as_deref().map_or(Ok(BYTES), units::bytes);
    let bytes = found.check("rotation.bytes", bytes, "write a size, as in \"64TiB\"");
    if bytes == Some(0) {
        found.add("rotation.bytes", "is 0", "write a size, as in \"64TiB\"");
    }
    Some(jobs::Settings {
        data_key: data?,
        kek: kek?,
        hard_limit: hard?,
        messages: messages?,
        bytes: bytes?,
        check: check?,
        enabled: raw.enabled.unwrap_or(true),
    })
}

const A_DAY: Duration = Duration::from_secs(86_400);
const DATA_KEY: Duration = Duration::from_secs(90 * 86_400);
const KEK: Duration = Duration::from_secs(365 * 86_400);
const HARD_LIMIT: Duration = Duration::from_secs(730 * 86_400);
const CHECK: Duration = Duration::from_secs(60);
/// What SP 800-38D allows a key with random nonces of 96 bits; those of the suites here are twice as long.
const MESSAGES: u64 = 1 << 32;
/// 2^42 blocks, far from the 2^64 at which blocks of one AES key begin to repeat; and each value has a subkey of its own.
const BYTES: u64 = 1 << 46;

/// A lease that ends between two looks at the store would end for nothing.
pub(super) fn heard_in_time(keyring: Option<&keyring::Settings>, store: Option<&Settings>, found: &mut Found) {
    let (Some(keyring), Some(Settings::Postgresql(store))) = (keyring, store) else { return };
    if keyring.store_offline_max < store.poll.saturating_mul(LOOKS) {
        let message = format!("is less than {LOOKS} times store.poll");
        found.add("cache.store_offline_max", message, "make it longer, or look at the store more often");
    }
}

const LOOKS: u32 = 5;
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
    found.add(path, message, "write a duration within these limits");
    None
}

fn words(duration: Duration) -> String {
    match duration.as_secs() {
        days if days > 0 && days % 86_400 == 0 => format!("{}d", days / 86_400),
        hours if hours > 0 && hours % 3_600 == 0 => format!("{}h", hours / 3_600),
        seconds => format!("{seconds}s"),
    }
}
