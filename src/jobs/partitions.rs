//! The partitions of a rotated keyring follow to its active version without a person, page by page and at a pace.
//!
//! Nothing is remembered: what is left is what the keyrings say, so a job that was cut off anywhere goes on by itself, here
//! or in another sidecar. Of a fleet one begins first, since each waits a time of its own; while the count goes down
//! somebody is at it, and the others wait anew. Two at once would only take each other's pages.

use std::collections::HashMap;
use std::time::Duration;

use super::schedule::{Settings, offset};
use crate::clock::{Mono, SharedClock};
use crate::keyring::life::Trigger;
use crate::names::KeyringName;

/// What a keyring has left, as of when it was first seen to be so.
struct Seen {
    left: u64,
    since: Mono,
}

/// Moves them for ever. `left` gives the keyrings that have partitions under older versions, with the reason of the
/// rotation and how many; `page` moves some of one keyring and says how many were moved and how many are left. `show` hears
/// how many are left altogether.
pub async fn run<L, P>(
    settings: Settings,
    clock: SharedClock,
    sidecar: u64,
    left: impl Fn() -> L,
    page: impl Fn(KeyringName, Trigger) -> P,
    show: impl Fn(u64),
) where
    L: Future<Output = Result<Vec<(KeyringName, Trigger, u64)>, String>>,
    P: Future<Output = Result<(u64, u64), String>>,
{
    let mut seen: HashMap<KeyringName, Seen> = HashMap::new();
    loop {
        clock.sleep_until(clock.mono().plus(settings.check)).await;
        let found = match left().await {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(why, "it is not known which partitions are to be moved");
                continue;
            }
        };
        show(found.iter().map(|(_, _, left)| left).sum());
        seen.retain(|name, _| found.iter().any(|(known, _, _)| known == name));
        if !settings.enabled {
            continue;
        }
        for (keyring, trigger, left) in &found {
            let now = clock.mono();
            let known = seen.entry(keyring.clone()).or_insert(Seen { left: *left, since: now });
            if known.left != *left {
                *known = Seen { left: *left, since: now };
            }
            if now.since(known.since) < offset(sidecar, &keyring.to_string(), settings.check) {
                continue;
            }
            let others: u64 = found.iter().filter(|(name, _, _)| name != keyring).map(|(_, _, left)| left).sum();
            match all(&clock, || page(keyring.clone(), *trigger), |left| show(others + left)).await {
                Ok(moved) => tracing::info!(%keyring, moved, "partitions were moved to the active version"),
                Err(why) => tracing::warn!(%keyring, why, "partitions were not all moved; it goes on later"),
            }
            seen.remove(keyring);
        }
    }
}

/// Page after page, until none is left or one moves nothing.
async fn all<P: Future<Output = Result<(u64, u64), String>>>(
    clock: &SharedClock,
    page: impl Fn() -> P,
    show: impl Fn(u64),
) -> Result<u64, String> {
    let mut moved: u64 = 0;
    loop {
        let (done, left) = page().await?;
        moved = moved.saturating_add(done);
        show(left);
        if left == 0 {
            return Ok(moved);
        }
        if done == 0 {
            return Err(format!("{left} are left and none was moved"));
        }
        clock.sleep_until(clock.mono().plus(PAUSE)).await;
    }
}

/// Between two pages of five hundred: what is sealed and opened meanwhile has the store and the token nearly to itself, and
/// a million take less than a day.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, Wall};

    fn settings(enabled: bool) -> Settings {
        let day = Duration::from_secs(86_400);
        let check = Duration::from_secs(60);
        Settings { data_key: day, kek: day, hard_limit: day, messages: 1, bytes: 1, check, enabled }
    }

    /// How many are left after so many seconds, which sidecars moved a page, and what was shown last.
    async fn live(sidecars: &[u64], enabled: bool, left: u64, seconds: u32) -> (u64, Vec<u64>, u64) {
        let clock = ManualClock::at(Wall(1_780_315_200_000_000));
        let (left, by, shown) = (RefCell::new(left), RefCell::new(Vec::new()), RefCell::new(0));
        let job = async |sidecar: u64| {
            let found = || {
                let rest = *left.borrow();
                let one = ("charts".parse().unwrap(), Trigger::Schedule, rest);
                std::future::ready(Ok(if rest > 0 { vec![one] } else { Vec::new() }))
            };
            let page = |_, _| {
                let done = (*left.borrow()).min(500);
                *left.borrow_mut() -= done;
                by.borrow_mut().push(sidecar);
                std::future::ready(Ok((done, *left.borrow())))
            };
            let shared = Arc::clone(&clock) as SharedClock;
            run(settings(enabled), shared, sidecar, found, page, |left| *shown.borrow_mut() = left).await;
        };
        let time = async {
            for _ in 0..seconds {
                clock.advance(Duration::from_secs(1));
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let (one, two) = (sidecars.first().copied().unwrap(), sidecars.last().copied().unwrap());
        tokio::select! {
            () = job(one) => {}
            () = async { if sidecars.len() > 1 { job(two).await } else { std::future::pending().await } } => {}
            () = time => {}
        }
        let (left, by, shown) = (*left.borrow(), by.take(), *shown.borrow());
        (left, by, shown)
    }

    #[tokio::test]
    async fn all_partitions_follow_at_a_pace_and_what_is_left_is_shown() {
        let (left, by, shown) = live(&[7], true, 2_600, 900).await;
        assert_eq!((left, by.len(), shown), (0, 6, 0));
        let (left, by, shown) = live(&[7], true, 1_000_000, 900).await;
        assert!(by.len() <= 900, "a page a second at most: {}", by.len());
        assert_eq!(left, shown);
    }

    #[tokio::test]
    async fn of_two_sidecars_one_does_the_work() {
        let (left, by, _) = live(&[7, 8], true, 20_000, 900).await;
        assert_eq!((left, by.len()), (0, 40));
        assert!(by.windows(2).all(|two| two[0] == two[1]), "{by:?}");
    }

    #[tokio::test]
    async fn a_sidecar_that_is_told_not_to_moves_nothing_and_shows_what_is_left() {
        assert_eq!(live(&[7], false, 2_600, 900).await, (2_600, Vec::new(), 2_600));
    }
}
