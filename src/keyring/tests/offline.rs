//! What serves while a key-encryption key is out of reach, for how long, and what ends it.

use super::*;
use crate::clock::Mono;

const MOMENT: Duration = Duration::from_nanos(1);

async fn unlock(world: &World, keyrings: &Keyrings) -> Result<(), UnlockError> {
    keyrings.unlock_to_seal(&world.permit(Action::Seal, "patients")).await.map(drop)
}

async fn unlocks(world: &World, keyrings: &Keyrings) -> bool {
    unlock(world, keyrings).await.is_ok()
}

impl World {
    /// One keyring whose key was unwrapped just now.
    async fn serving() -> (Self, Arc<Keyrings>, Mono) {
        let (world, keyrings) = Self::with_keyrings(&["patients"]).await;
        let asked = world.clock.mono();
        unlock(&world, &keyrings).await.unwrap();
        (world, keyrings, asked)
    }

    fn advance_to(&self, point: Mono) {
        self.clock.advance(point.since(self.clock.mono()));
    }

    /// A canary of the primary finds out how it is.
    fn becomes(&self, mood: Mood) {
        self.kek.become_(mood);
        self.kek.look();
    }
}

#[tokio::test]
async fn a_key_in_use_is_renewed_before_its_end_and_no_request_waits_for_it() {
    let (world, keyrings, asked) = World::serving().await;
    world.advance_to(asked.plus(TTL * 9 / 10));
    world.kek.held.send_replace(true);
    for _ in 0..20 {
        unlock(&world, &keyrings).await.unwrap();
    }
    settle_tasks().await;
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().renewals), (2, 1), "one flight, however many hits");
    world.kek.held.send_replace(false);
    settle_tasks().await;
    world.advance_to(asked.plus(TTL + TTL / 5));
    unlock(&world, &keyrings).await.unwrap();
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().misses), (2, 1), "the renewed key lives on");
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_after_a_pause_and_the_key_serves_meanwhile() {
    let (world, keyrings, asked) = World::serving().await;
    world.kek.become_(Mood::Unreachable);
    world.advance_to(asked.plus(TTL * 9 / 10));
    for _ in 0..3 {
        unlock(&world, &keyrings).await.unwrap();
        settle_tasks().await;
    }
    assert_eq!(world.kek.unwraps(), 2, "not again with every hit");
    world.clock.advance(TTL / 20);
    unlock(&world, &keyrings).await.unwrap();
    settle_tasks().await;
    assert_eq!(world.kek.unwraps(), 3);
}

/// The bound is tight: the last moment before it unlocks, and from it on nothing does, whenever the KEK went away.
#[tokio::test]
async fn a_key_whose_kek_is_out_of_reach_serves_to_the_bound_and_at_no_time_after_it() {
    for away_after in [Duration::ZERO, TTL / 2, TTL - MOMENT] {
        let (world, keyrings, asked) = World::serving().await;
        world.advance_to(asked.plus(away_after));
        // Disabled in this moment, and nobody here can hear it.
        world.becomes(Mood::Unreachable);
        let bound = RevocationBound::of(&world.settings, STORE_POLL, Duration::ZERO);
        assert_eq!(bound.unheard_refusal, TTL + OFFLINE);
        let end = asked.plus(bound.unheard_refusal);
        while world.clock.mono().plus(Duration::from_secs(7)) < end {
            assert!(unlocks(&world, &keyrings).await, "{:?} before the end", end.since(world.clock.mono()));
            keyrings.sweep();
            settle_tasks().await;
            world.clock.advance(Duration::from_secs(7));
        }
        world.advance_to(Mono(end.0 - 1));
        assert!(unlocks(&world, &keyrings).await, "the last moment");
        let left = keyrings.unlocking().unwrap().left(world.clock.mono());
        assert_eq!(left, Some(MOMENT), "and readiness knows it");
        world.clock.advance(MOMENT);
        for _ in 0..500 {
            assert!(!unlocks(&world, &keyrings).await, "the bound has passed");
            world.clock.advance(Duration::from_secs(3));
        }
        assert_eq!(keyrings.unlocking(), Some(Unlocking::Expired));
        keyrings.sweep();
        assert_eq!(keyrings.cache_stats().keys, 0, "and the memory is wiped");
    }
}

/// A key that is in use up to the outage was renewed late in its life; its lease counts from that renewal.
#[tokio::test]
async fn a_renewal_begins_a_new_lease_and_a_canary_does_not() {
    let (world, keyrings, asked) = World::serving().await;
    let renewed = asked.plus(TTL * 9 / 10);
    world.advance_to(renewed);
    unlock(&world, &keyrings).await.unwrap();
    settle_tasks().await;
    world.clock.advance(TTL / 4);
    world.kek.look();
    world.becomes(Mood::Unreachable);
    world.advance_to(Mono(renewed.plus(TTL + OFFLINE).0 - 1));
    assert!(unlocks(&world, &keyrings).await);
    world.clock.advance(MOMENT);
    assert!(!unlocks(&world, &keyrings).await);
}

#[tokio::test]
async fn the_wall_clock_lengthens_and_shortens_nothing() {
    let year = 365 * 86_400 * 1_000_000;
    for step in [NOON.0 - year, NOON.0 + year] {
        let (world, keyrings, asked) = World::serving().await;
        world.becomes(Mood::Unreachable);
        world.clock.step_wall(Wall(step));
        world.advance_to(Mono(asked.plus(TTL + OFFLINE).0 - 1));
        assert!(unlocks(&world, &keyrings).await);
        world.clock.step_wall(Wall(step));
        world.clock.advance(MOMENT);
        world.clock.step_wall(Wall(step));
        assert!(!unlocks(&world, &keyrings).await);
    }
}

#[tokio::test]
async fn in_the_grace_no_request_waits_for_the_kek_which_is_asked_beside_them_now_and_then() {
    let (world, keyrings, asked) = World::serving().await;
    world.becomes(Mood::Unreachable);
    world.advance_to(asked.plus(TTL));
    world.kek.held.send_replace(true);
    for _ in 0..5 {
        unlock(&world, &keyrings).await.unwrap();
    }
    settle_tasks().await;
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().offline), (2, 5));
}

#[tokio::test]
async fn a_kek_that_answers_again_ends_the_grace_by_a_renewal() {
    let (world, keyrings, asked) = World::serving().await;
    world.becomes(Mood::Unreachable);
    world.advance_to(asked.plus(TTL));
    unlock(&world, &keyrings).await.unwrap();
    settle_tasks().await;
    world.becomes(Mood::Good);
    let before = world.kek.unwraps();
    unlock(&world, &keyrings).await.unwrap();
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().offline), (before + 1, 1));
    assert_eq!(keyrings.unlocking(), Some(Unlocking::Healthy));
    world.becomes(Mood::Unreachable);
    world.clock.advance(TTL + OFFLINE - MOMENT);
    assert!(unlocks(&world, &keyrings).await, "the next outage is a new one");
}

#[tokio::test]
async fn a_key_that_outlived_its_time_is_dropped_when_its_kek_is_back_and_nobody_asks_for_it() {
    let (world, keyrings, asked) = World::serving().await;
    world.becomes(Mood::Unreachable);
    world.advance_to(asked.plus(TTL));
    keyrings.sweep();
    assert_eq!(keyrings.cache_stats().keys, 1);
    world.becomes(Mood::Good);
    keyrings.recovered(world.kek.name());
    assert_eq!((keyrings.cache_stats().keys, keyrings.cache_stats().expired), (0, 1));
    world.becomes(Mood::Unreachable);
    assert!(!unlocks(&world, &keyrings).await);
}

#[tokio::test]
async fn a_kek_that_answers_with_a_refusal_or_with_a_wrap_that_does_not_open_ends_the_grace() {
    for mood in [Mood::Denied, Mood::Corrupt] {
        let (world, keyrings, asked) = World::serving().await;
        world.becomes(Mood::Unreachable);
        world.advance_to(asked.plus(TTL));
        unlock(&world, &keyrings).await.unwrap();
        settle_tasks().await;
        world.becomes(mood);
        assert!(!unlocks(&world, &keyrings).await);
        assert_eq!(keyrings.cache_stats().keys, 0);
        world.becomes(Mood::Unreachable);
        assert!(!unlocks(&world, &keyrings).await, "and going away afterwards brings nothing back");
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_or_does_not_open_drops_a_key_that_still_had_time() {
    for mood in [Mood::Denied, Mood::Corrupt] {
        let (world, keyrings, asked) = World::serving().await;
        world.advance_to(asked.plus(TTL * 9 / 10));
        world.kek.become_(mood);
        unlock(&world, &keyrings).await.unwrap();
        settle_tasks().await;
        assert_eq!(keyrings.cache_stats().keys, 0);
        world.becomes(Mood::Unreachable);
        assert!(!unlocks(&world, &keyrings).await);
    }
}

#[tokio::test]
async fn a_primary_that_refused_before_it_went_away_gets_no_grace() {
    let (world, keyrings, asked) = World::serving().await;
    world.becomes(Mood::Denied);
    keyrings.evict(world.kek.name());
    assert_eq!(keyrings.unlocking(), Some(Unlocking::Refused));
    world.becomes(Mood::Unreachable);
    world.advance_to(asked.plus(TTL));
    assert!(!unlocks(&world, &keyrings).await);
    assert_eq!(keyrings.unlocking(), Some(Unlocking::Refused), "an outage after it changes nothing");
}

/// Late is not away: it may be about to refuse.
#[tokio::test]
async fn a_kek_that_is_merely_slow_gives_no_grace() {
    let (world, keyrings, asked) = World::serving().await;
    world.advance_to(asked.plus(TTL));
    world.kek.become_(Mood::Late);
    assert!(!unlocks(&world, &keyrings).await);
    assert_eq!(keyrings.cache_stats().offline, 0);
}

#[tokio::test]
async fn a_request_that_waits_for_a_kek_that_is_given_up_meanwhile_is_served_in_time() {
    let (world, keyrings, asked) = World::serving().await;
    world.advance_to(asked.plus(TTL));
    world.kek.held.send_replace(true);
    let permit = world.permit(Action::Seal, "patients");
    let waiting = Arc::clone(&keyrings);
    let task = tokio::spawn(async move { waiting.unlock_to_seal(&permit).await.map(drop) });
    settle_tasks().await;
    world.becomes(Mood::Unreachable);
    world.clock.advance(Duration::from_millis(2_500));
    task.await.unwrap().unwrap();
    assert_eq!(keyrings.cache_stats().offline, 1);
}

#[tokio::test]
async fn with_no_grace_configured_a_key_ends_with_its_time_to_live() {
    let (mut world, _) = World::with_keyrings(&["patients"]).await;
    world.settings.offline_max = Duration::ZERO;
    let keyrings = world.admitted().await;
    unlock(&world, &keyrings).await.unwrap();
    world.becomes(Mood::Unreachable);
    world.clock.advance(TTL - MOMENT);
    assert!(unlocks(&world, &keyrings).await);
    world.clock.advance(MOMENT);
    assert!(!unlocks(&world, &keyrings).await);
}

#[tokio::test]
async fn a_loss_of_news_drops_every_key() {
    let (world, keyrings, _) = World::serving().await;
    keyrings.evict_all();
    assert_eq!(keyrings.cache_stats().keys, 0);
    unlock(&world, &keyrings).await.unwrap();
}

mod with_an_escrow {
    use super::*;

    /// The primary is away and the escrow has given the key.
    async fn stood_in() -> (World, Arc<Keyrings>, Mono) {
        let world = World::with_escrow();
        world.found().await.unwrap();
        let keyrings = world.admitted().await;
        world.create(&keyrings, "patients", 10).await.unwrap();
        world.becomes(Mood::Unreachable);
        let asked = world.clock.mono();
        unlock(&world, &keyrings).await.unwrap();
        assert_eq!(keyrings.unlocking(), Some(Unlocking::Degraded(None)));
        (world, keyrings, asked)
    }

    fn backup_becomes(world: &World, mood: Mood) {
        world.escrow.as_ref().unwrap().become_(mood);
        world.escrow.as_ref().unwrap().look();
    }

    #[tokio::test]
    async fn a_key_that_the_escrow_gave_serves_while_both_are_away_and_counts_from_the_escrows_yes() {
        let (world, keyrings, asked) = stood_in().await;
        backup_becomes(&world, Mood::Unreachable);
        world.advance_to(Mono(asked.plus(TTL + OFFLINE).0 - 1));
        assert!(unlocks(&world, &keyrings).await);
        world.clock.advance(MOMENT);
        assert!(!unlocks(&world, &keyrings).await);
    }

    #[tokio::test]
    async fn a_primary_that_comes_back_with_a_refusal_ends_what_the_escrow_gave() {
        let (world, keyrings, asked) = stood_in().await;
        backup_becomes(&world, Mood::Unreachable);
        world.advance_to(asked.plus(TTL));
        unlock(&world, &keyrings).await.unwrap();
        settle_tasks().await;
        world.becomes(Mood::Denied);
        assert!(!unlocks(&world, &keyrings).await);
        world.becomes(Mood::Unreachable);
        assert!(!unlocks(&world, &keyrings).await);
        assert_eq!(keyrings.cache_stats().keys, 0);
    }

    #[tokio::test]
    async fn an_escrow_that_answers_renews_what_the_primary_gave_instead_of_a_grace() {
        let (world, keyrings, asked) = stood_in().await;
        world.becomes(Mood::Good);
        world.advance_to(asked.plus(TTL));
        unlock(&world, &keyrings).await.unwrap();
        world.becomes(Mood::Unreachable);
        world.clock.advance(TTL);
        unlock(&world, &keyrings).await.unwrap();
        assert_eq!((keyrings.cache_stats().offline, keyrings.failovers()), (0, 2));
    }

    /// The escrow's refusal is its own: what the primary gave is the primary's, and that one is out of reach.
    #[tokio::test]
    async fn an_escrow_that_refuses_ends_what_it_gave_and_not_what_the_primary_gave() {
        let (world, keyrings, asked) = stood_in().await;
        backup_becomes(&world, Mood::Denied);
        world.advance_to(asked.plus(TTL));
        assert!(!unlocks(&world, &keyrings).await, "given by the escrow");
        world.becomes(Mood::Good);
        unlock(&world, &keyrings).await.unwrap();
        world.becomes(Mood::Unreachable);
        world.clock.advance(TTL);
        assert!(unlocks(&world, &keyrings).await, "given by the primary");
    }
}

mod without_the_store {
    use super::*;

    async fn serving() -> (World, Arc<Keyrings>, Mono) {
        let (mut world, _) = World::with_keyrings(&["patients"]).await;
        world.settings.store_offline_max = TTL;
        let asked = world.clock.mono();
        let keyrings = world.admitted().await;
        (world, keyrings, asked)
    }

    /// The key-encryption key answers all the time; whether a peer suspended the key cannot be known.
    #[tokio::test]
    async fn a_key_serves_to_the_end_of_the_state_lease_and_at_no_time_after_it() {
        let (world, keyrings, asked) = serving().await;
        let end = asked.plus(RevocationBound::of(&world.settings, STORE_POLL, Duration::ZERO).unheard_state);
        while world.clock.mono().plus(Duration::from_secs(7)) < end {
            unlock(&world, &keyrings).await.unwrap();
            settle_tasks().await;
            world.clock.advance(Duration::from_secs(7));
        }
        world.clock.step_wall(Wall(0));
        world.advance_to(Mono(end.0 - 1));
        assert!(unlocks(&world, &keyrings).await, "the last moment");
        for _ in 0..100 {
            world.clock.advance(MOMENT);
            let refused = unlock(&world, &keyrings).await;
            assert!(matches!(&refused, Err(UnlockError::Unavailable(why)) if why.contains("has not been heard")));
            world.clock.advance(Duration::from_secs(20));
        }
        assert_eq!(keyrings.state_lease(), None);
    }

    #[tokio::test]
    async fn a_store_that_is_heard_again_ends_it_without_a_restart() {
        let (world, keyrings, asked) = serving().await;
        world.advance_to(asked.plus(TTL));
        assert!(!unlocks(&world, &keyrings).await);
        keyrings.catch_up().await.unwrap();
        assert_eq!(keyrings.state_lease(), Some(TTL));
        assert!(unlocks(&world, &keyrings).await);
    }

    /// Each answer begins the lease anew, from before the question.
    #[tokio::test]
    async fn a_store_that_answers_keeps_the_lease() {
        let (world, keyrings, _) = serving().await;
        for _ in 0..1_000 {
            world.clock.advance(STORE_POLL);
            keyrings.catch_up().await.unwrap();
            unlock(&world, &keyrings).await.unwrap();
        }
    }
}

/// A keyring may ask for less than the configuration gives, and not for more.
#[tokio::test]
async fn a_keyrings_own_limit_shortens_the_grace_and_cannot_lengthen_it() {
    let minute = Duration::from_secs(60);
    for (own, bites) in [(minute, TTL + minute), (OFFLINE * 2, TTL + OFFLINE)] {
        let (world, keyrings) = World::ready().await;
        let Change::Create { name, required_context, subject_key, suite, partition_key, .. } = create("patients")
        else {
            panic!("a creation");
        };
        let limits = KeyLimits { offline_max: Some(own), ..KeyLimits::default() };
        let change = Change::Create { name, required_context, subject_key, suite, partition_key, limits };
        world.change(&keyrings, change, 10).await.unwrap();
        let asked = world.clock.mono();
        unlock(&world, &keyrings).await.unwrap();
        world.becomes(Mood::Unreachable);
        world.advance_to(Mono(asked.plus(bites).0 - 1));
        assert!(unlocks(&world, &keyrings).await);
        world.clock.advance(MOMENT);
        assert!(!unlocks(&world, &keyrings).await);
    }
}
