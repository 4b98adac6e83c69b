//! What does the way to the worker add to an unwrap? The token alone, through the worker, and the whole key-encryption key,
//! with one session and with four, in one run. The targets: at least 0.8 of the token's own rate where an unwrap takes it more
//! than 100 µs (here RSA-OAEP), at most 30 µs more where it takes less (here AES-GCM).
//!
//! Each time is that of one unwrap in one session: with four at once, four are done in it.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed benchmark")]

#[path = "../tests/support/softhsm.rs"]
mod softhsm;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyward::clock::{Clock, Deadline, SharedClock, SystemClock, Wall};
use keyward::crypto::DataKey;
use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::probe::{Gauge, Target, TokenTarget};
use keyward::kek::profile::ProfileChoice;
use keyward::kek::{Deployment, EventSink, Kek, Wrap, WrapBinding, WrapRole};
use softhsm::{KEY_LABEL, Softhsm, TOKEN_LABEL};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const METHODS: [&str; 2] = ["aes-gcm", "rsa-oaep"];
const SESSIONS: [u32; 2] = [1, 4];

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn target(token: &Softhsm, method: &str) -> Target {
    let settings = token.settings();
    let wanted = TokenTarget {
        label: TOKEN_LABEL.into(),
        serial: None,
        pin_file: Some(token.pin()),
        key_label: None,
        method: Some(method.into()),
        rates: false,
    };
    Target {
        profile: Some(ProfileChoice::Shipped("softhsm2".into())),
        module: None,
        reserved: None,
        env: settings.env,
        token: Some(wanted),
        worker: settings.worker,
        state_dir: settings.state_dir,
    }
}

async fn start(token: &Softhsm, method: &str) -> Arc<Pkcs11Kek> {
    let settings = Pkcs11Settings { method: Some(method.into()), key_label: KEY_LABEL.into(), ..token.settings() };
    let (deployment, disk) = (Deployment::Production, Disk::real());
    Pkcs11Kek::create_key(settings.clone(), deployment, clock(), disk.clone()).await.unwrap();
    Pkcs11Kek::start(settings, deployment, clock(), disk, EventSink::new(mpsc::channel(16).0)).await.unwrap()
}

fn binding() -> WrapBinding {
    WrapBinding {
        store: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        owner: "default/patients".into(),
        key: "0011223344556677".parse().unwrap(),
        kek: "primary".parse().unwrap(),
        role: WrapRole::Primary,
        created: Wall(0),
    }
}

fn soon() -> Deadline {
    Deadline(SystemClock.mono().plus(Duration::from_secs(60)))
}

/// So many unwraps in each of so many tasks at once.
async fn through_kek(kek: &Arc<Pkcs11Kek>, wrap: &Wrap, sessions: u32, times: u64) -> Duration {
    let start = SystemClock.mono();
    let mut tasks = JoinSet::new();
    for _ in 0..sessions {
        let (kek, wrap, binding) = (kek.clone(), wrap.clone(), binding());
        tasks.spawn(async move {
            for _ in 0..times {
                kek.unwrap(&wrap, &binding, soon()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    SystemClock.mono().since(start)
}

fn unwrap(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for method in METHODS {
        let token = Softhsm::new();
        let mut gauge = runtime.block_on(Gauge::open(&target(&token, method), clock(), Disk::real())).unwrap();
        let kek = runtime.block_on(start(&token, method));
        let key = DataKey::generate(&[]).unwrap();
        let wrap = runtime.block_on(kek.wrap(&key, &binding(), soon())).unwrap();
        let mut group = c.benchmark_group(format!("unwrap/{method}"));
        for sessions in SESSIONS {
            group.throughput(Throughput::Elements(u64::from(sessions)));
            group.bench_function(BenchmarkId::new("token", sessions), |b| {
                b.iter_custom(|times| runtime.block_on(gauge.raw(sessions, times)).unwrap());
            });
            group.bench_function(BenchmarkId::new("worker", sessions), |b| {
                b.iter_custom(|times| runtime.block_on(gauge.through(sessions, times)).unwrap());
            });
            group.bench_function(BenchmarkId::new("kek", sessions), |b| {
                b.iter_custom(|times| runtime.block_on(through_kek(&kek, &wrap, sessions, times)));
            });
        }
        group.finish();
        runtime.block_on(gauge.close()).unwrap();
    }
}

criterion_group!(benches, unwrap);
criterion_main!(benches);
