//! How fast are partitions made, looked up, verified at a start, and moved to another data key? On SQLite, and on PostgreSQL
//! where a server is installed. `cargo bench --bench partitions`; `KEYWARD_BENCH_PARTITIONS=1000000` for a million.
//!
//! Every figure goes through the keyring and a synced log, as a sidecar does: an intent a transaction, real wraps, real rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run must stop")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]
#[path = "../tests/support/postgres.rs"]
mod postgres;
mod world;

use std::path::Path;
use std::time::Instant;

use keyward::audit::Log;
use keyward::keyring::{
    Change, Environment, Keyrings, Load, PARTITION_BATCH, PartitionChange, PartitionStep, Unlock, life::Trigger,
};
use keyward::policy::Action;
use keyward::store;
use world::World;

const COUNT: usize = 100_000;
/// Cold look-ups that are measured; the cache and the locked memory hold few of them.
const LOOKUPS: usize = 20_000;
const CACHED: usize = 500;
const ONE: Load = Load { messages: 1, bytes: 64 };
const KEYRING: &str = "charts";

fn main() {
    let count = std::env::var("KEYWARD_BENCH_PARTITIONS").map_or(COUNT, |count| count.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = World::new(Environment::Development, CACHED, world::file);
    runtime.block_on(measure("SQLite", count, &world));
    if Path::new("/usr/lib/postgresql").is_dir() {
        let server = postgres::Postgres::new();
        let settings = server.settings(&server.database());
        let world = World::new(Environment::Development, CACHED, |_| store::Settings::Postgresql(Box::new(settings)));
        runtime.block_on(measure("PostgreSQL", count, &world));
    } else {
        println!("PostgreSQL is not installed: SQLite alone was measured");
    }
}

async fn measure(which: &str, count: usize, world: &World) {
    println!("{which}, {count} partitions");
    let kek = world.software();
    let (keyrings, log) = world.found(&kek).await;
    world.apply(&keyrings, &log, &world::creation(KEYRING, Some("patient"))).await;
    let name = KEYRING.parse().unwrap();
    let values: Vec<String> = (0..count).map(|n| format!("Patient/{n:08}")).collect();
    let started = Instant::now();
    for batch in values.chunks(PARTITION_BATCH) {
        let names = batch.iter().map(|value| keyrings.partition_name(&name, value).unwrap()).collect();
        let made = partitions(world, &keyrings, &log, PartitionStep::Make(names)).await;
        assert_eq!(made.0, batch.len() as u64);
    }
    told("made", count, started);

    let permit = world.permit(Action::Seal, KEYRING);
    // A stride that is prime to the count visits them in an order that no page of the database has.
    let cold: Vec<&String> = (0..LOOKUPS.min(count)).map(|n| &values[n * 7_919 % count]).collect();
    let started = Instant::now();
    for value in &cold {
        assert!(matches!(keyrings.unlock_sealing_in(&permit, Some(value), ONE).await.unwrap(), Unlock::Ready(_)));
    }
    told("looked up in the store", cold.len(), started);
    let hot = cold.last().unwrap();
    let started = Instant::now();
    for _ in 0..LOOKUPS {
        assert!(matches!(keyrings.unlock_sealing_in(&permit, Some(hot), ONE).await.unwrap(), Unlock::Ready(_)));
    }
    told("looked up in the cache", LOOKUPS, started);

    let change = Change::Rotate { keyring: name, trigger: Trigger::Incident, expect: None };
    world.apply(&keyrings, &log, &change).await;
    let started = Instant::now();
    let mut moved = 0;
    loop {
        let (done, remaining) = partitions(world, &keyrings, &log, PartitionStep::Rewrap(PARTITION_BATCH)).await;
        moved += done;
        if remaining == 0 {
            break;
        }
    }
    assert_eq!(moved, count as u64);
    told("moved to another data key", count, started);

    let next = world.open(&kek).await;
    let started = Instant::now();
    next.admit().await.unwrap();
    told("verified at a start", count, started);
}

fn told(what: &str, count: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("  {what:28} {:>10.0} a second ({seconds:.2} s)", count as f64 / seconds);
}

/// How many rows a step wrote, and how many are left.
async fn partitions(world: &World, keyrings: &Keyrings, log: &Log, step: PartitionStep) -> (u64, u64) {
    let change = Change::Partitions(PartitionChange { keyring: KEYRING.parse().unwrap(), step });
    let done = world.apply(keyrings, log, &change).await.partitions.unwrap();
    (done.done, done.remaining)
}
