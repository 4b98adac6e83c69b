//! How fast does the rotation of a key-encryption key go, beside what its token could do? Every key of a store in SQLite
//! moves to the next version of a key in a SoftHSM token; before and after that, the same token unwraps, wraps and unwraps
//! as many keys at once without any store. The target: 0.9 of the token's own rate or better.
//!
//! SoftHSM works on the processor that the rotation needs too. A token in a device does not: the second rotation has the
//! same token a millisecond away.
//!
//! `cargo bench --bench rotation`, with KEYWARD_BENCH_KEYS=100000 for the number that the target names (10,000 if not
//! given; making them takes longer than moving them).
#![allow(clippy::unwrap_used, reason = "what fails here is a failed benchmark")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]

#[path = "../tests/support/softhsm.rs"]
mod softhsm;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::audit::Log;
use keyward::clock::{BoxFuture, Clock, Deadline, SharedClock, SystemClock, Wall};
use keyward::crypto::DataKey;
use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::{
    Deployment, EventSink, Kek, KekError, KekFacts, KekHealth, KekStatus, Settings as KekSettings, Wrap, WrapBinding,
    WrapRole,
};
use keyward::keyring::Environment;
use keyward::names::{KekName, KeyVersionId, StoreId};
use keyward::policy::Action;
use softhsm::{KEY_LABEL, Softhsm};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use world::{World, memory, processor};

fn main() {
    let keys: usize = std::env::var("KEYWARD_BENCH_KEYS").map_or(10_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bench(keys));
}

async fn bench(keys: usize) {
    let token = Softhsm::new();
    let settings = Pkcs11Settings { key_label: format!("{KEY_LABEL}-{{version}}"), ..token.settings() };
    Pkcs11Kek::create_key(settings.clone(), Deployment::Production, clock(), Disk::real()).await.unwrap();
    let world = World::new(Environment::Production, 64, world::file);
    let kek: Arc<dyn Kek> = start(&settings).await;
    let (keyrings, log) = world.found(&kek).await;
    let began = Instant::now();
    for number in 0..keys {
        world.apply(&keyrings, &log, &world::creation(&format!("bench/k{number}"), None)).await;
    }
    println!("{keys} keyrings made in {:.0} s", began.elapsed().as_secs_f64());
    drop((keyrings, kek));
    println!("SoftHSM on this processor");
    move_all(&world, &log, &settings, keys.min(20_000), None).await;
    println!("the same token, {} ms away", AWAY.as_millis());
    move_all(&world, &log, &settings, keys.min(2_000), Some(AWAY)).await;
}

/// A call to a device on the same network.
const AWAY: Duration = Duration::from_millis(1);

/// Rotates the key-encryption key and moves every key to its new version; so many are moved by the token alone.
async fn move_all(world: &World, log: &Log, settings: &Pkcs11Settings, sample: usize, away: Option<Duration>) {
    let all = KekSettings::Pkcs11(Box::new(settings.clone()));
    keyward::kek::rotate(all, None, Deployment::Production, clock(), Disk::real()).await.unwrap();
    let pkcs11 = start(settings).await;
    let both = [std::process::id(), pkcs11.worker().unwrap()];
    let at_once = usize::try_from(pkcs11.status().most_calls).unwrap().max(1);
    let kek: Arc<dyn Kek> = match away {
        Some(by) => Arc::new(Away { kek: pkcs11, by }),
        None => pkcs11,
    };
    let keyrings = world.admitted(&kek).await;
    let used = processor(&both);
    let before = token_alone(&kek, sample, at_once).await;
    let by_token = (processor(&both) - used) / sample as f64;
    let intent = world.intent(log).await;
    let standing = world.policy.standing(Action::KeysRewrap, None, world.soon()).unwrap();
    // At a distance a part of them shows the rate.
    let until = SystemClock.mono().plus(away.map_or(Duration::from_secs(86_400), |_| Duration::from_secs(20)));
    let (small, used, began) = (memory("VmRSS"), processor(&both), Instant::now());
    let report = keyrings.rewrap(&standing, intent, None, until).await.unwrap().report;
    let (took, large) = (began.elapsed().as_secs_f64(), memory("VmRSS"));
    let by_job = (processor(&both) - used) / report.rewrapped as f64;
    assert!(away.is_some() || keyrings.wraps().await.unwrap().behind == 0, "{report:?}");
    let after = token_alone(&kek, sample, at_once).await;
    let (job, token) = (report.rewrapped as f64 / took, f64::midpoint(before, after));
    println!("  the token alone, {at_once} at once: {before:.0} and {after:.0} keys/s");
    println!("  the whole rotation: {} keys in {took:.1} s, {job:.0} keys/s", report.rewrapped);
    println!("  processor a key: the token alone {:.0} us, the rotation {:.0} us", by_token * 1e6, by_job * 1e6);
    println!("  memory before and after it: {small} and {large} kB");
    println!("  rotation / token = {:.2}", job / token);
}

/// A key-encryption key at a distance.
struct Away {
    kek: Arc<Pkcs11Kek>,
    by: Duration,
}

impl Kek for Away {
    fn name(&self) -> &KekName {
        self.kek.name()
    }

    fn facts(&self) -> KekFacts {
        self.kek.facts()
    }

    fn current_version(&self) -> Option<u32> {
        self.kek.current_version()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(async move {
            tokio::time::sleep(self.by).await;
            self.kek.wrap(key, binding, deadline).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(async move {
            tokio::time::sleep(self.by).await;
            self.kek.unwrap(wrap, binding, deadline).await
        })
    }

    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>> {
        self.kek.random(deadline)
    }

    fn health(&self) -> KekHealth {
        self.kek.health()
    }

    fn status(&self) -> KekStatus {
        self.kek.status()
    }
}

/// Unwrap, wrap and unwrap of one key after another, so many at once.
async fn token_alone(kek: &Arc<dyn Kek>, keys: usize, at_once: usize) -> f64 {
    let binding = Arc::new(WrapBinding {
        store: StoreId([1; 16]),
        owner: "default/bench".to_owned(),
        key: KeyVersionId([2; 8]),
        kek: kek.name().clone(),
        role: WrapRole::Primary,
        created: Wall(0),
    });
    let wrap = kek.wrap(&DataKey::generate(&[]).unwrap(), &binding, world::soon()).await.unwrap();
    let (wrap, places) = (Arc::new(wrap), Arc::new(Semaphore::new(at_once)));
    let (mut work, began) = (JoinSet::new(), Instant::now());
    for _ in 0..keys {
        let (kek, wrap, binding, places) = (kek.clone(), wrap.clone(), binding.clone(), places.clone());
        work.spawn(async move {
            let _place = places.acquire().await;
            let key = kek.unwrap(&wrap, &binding, world::soon()).await.unwrap();
            let newer = kek.wrap(&key, &binding, world::soon()).await.unwrap();
            kek.unwrap(&newer, &binding, world::soon()).await.unwrap();
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    keys as f64 / began.elapsed().as_secs_f64()
}

async fn start(settings: &Pkcs11Settings) -> Arc<Pkcs11Kek> {
    let sink = EventSink::new(mpsc::channel(16).0);
    Pkcs11Kek::start(settings.clone(), Deployment::Production, clock(), Disk::real(), sink).await.unwrap()
}

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}
