//! The cryptoperiod of a version of a key-encryption key begins with the first key of the store that it wraps.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn seen(keyrings: &Keyrings) -> Vec<(u32, bool, Wall, Period)> {
    keyrings.kek_uses().into_iter().map(|one| (one.version, one.wraps, one.since, one.period)).collect()
}

#[tokio::test]
async fn the_first_key_that_a_version_wraps_begins_its_cryptoperiod_for_the_whole_fleet() {
    let (world, one) = World::ready().await;
    let two = world.admitted().await;
    assert_eq!(seen(&one), [(1, true, NOON, Period::Within)], "keyward's own keys are the first");
    world.clock.advance(DAY * 10);
    let tenth = world.clock.wall();
    assert_eq!(world.rotate("kek"), 2);
    assert_eq!(seen(&one), [(1, false, NOON, Period::Within)], "a version that wraps nothing has no age");
    world.create(&one, "patients", 10).await.unwrap();
    world.clock.advance(DAY);
    world.create(&one, "notes", 11).await.unwrap();
    let both = [(1, false, NOON, Period::Within), (2, true, tenth, Period::Within)];
    assert_eq!(seen(&one), both, "the second key changes nothing");
    two.catch_up().await.unwrap();
    let restarted = world.admitted().await;
    assert_eq!((seen(&two), seen(&restarted)), (both.to_vec(), both.to_vec()));
    let settled = one.settle(&name("patients"), 10).await.unwrap().unwrap();
    assert_eq!(settled.name, name("patients"), "the change is still that of its keyring");
}

#[tokio::test]
async fn a_rewrapping_begins_the_period_of_the_new_version_and_a_retirement_ends_the_old_one() {
    let (world, keyrings) = World::ready().await;
    world.create(&keyrings, "patients", 10).await.unwrap();
    world.clock.advance(DAY * 300);
    assert_eq!(world.rotate("kek"), 2);
    let far = world.clock.mono().plus(DAY);
    let step = rewrap::step(Arc::clone(&keyrings.inner), 50, None, far).await.unwrap();
    assert_eq!((step.stopped, step.report.rewrapped), (None, 3));
    assert_eq!(keyrings.kek_uses()[1].since, world.clock.wall());
    retire::retire(&keyrings.inner, 51, ("primary".parse().unwrap(), Some(1)), None).await.unwrap();
    assert_eq!(seen(&keyrings), [(2, true, world.clock.wall(), Period::Within)]);
}

#[tokio::test]
async fn it_comes_due_a_month_before_its_end_and_a_clock_that_jumped_says_nothing() {
    let (world, keyrings) = World::ready().await;
    let period = || keyrings.kek_uses()[0].period;
    world.clock.advance(DAY * 335 - Duration::from_secs(1));
    assert_eq!(period(), Period::Within);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(period(), Period::Due);
    world.clock.advance(DAY * 30);
    assert_eq!(period(), Period::Over);
    let (world, keyrings) = World::ready().await;
    world.clock.step_wall(Wall(NOON.0 + 400 * 86_400_000_000));
    assert_eq!(keyrings.kek_uses()[0].period, Period::Doubted);
}
