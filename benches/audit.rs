//! How many durable records a second, beside the least that any log must do: gather, write, sync; and how fast they are
//! verified, and read by a sink.
//! `cargo bench --bench audit`. The figures depend on the disk under the temporary directory (`TMPDIR`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run must stop")]

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keyward::audit::verify::verify;
use keyward::audit::{Actor, Durability, Event, Founding, Group, Limits, Log, Outcome, Record, Settings, Source};
use keyward::clock::{Clock, Deadline, SystemClock};
use keyward::durable::{Disk, File};
use keyward::identity::{PrincipalKind, Proof};
use keyward::names::{KeyVersionId, Purpose, StoreId};
use keyward::sinks::{self, FileSettings, Follower, Format, Target};
use tokio::sync::oneshot;

/// Records that one iteration appends.
fn batch(in_flight: usize) -> u64 {
    u64::try_from(in_flight * if in_flight == 1 { 8 } else { 32 }).unwrap()
}

fn record() -> Record {
    Record {
        event: Event::DataOpened,
        outcome: Outcome::Done,
        reason: None,
        actor: Actor::Principal {
            name: "portal-api".parse().unwrap(),
            kind: PrincipalKind::Service,
            proof: Proof::Peer { uid: 1000 },
        },
        source: Source::DataSocket,
        request: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
        purpose: Some(Purpose::Treatment),
        groups: vec![Group {
            keyring: "clinic/patients".parse().unwrap(),
            version: Some(KeyVersionId([7; 8])),
            done: 1,
            failed: vec![],
        }],
        orphans: vec![],
        subjects: vec![[1; 16]],
        items_digest: Some([2; 32]),
        policy: Some([3; 32]),
        intent: None,
        facts: vec![],
    }
}

fn log(dir: &Path, durability: Durability) -> Log {
    let settings = Settings {
        dir: dir.join("audit"),
        durability,
        disk_budget: 1 << 40,
        heartbeat: Duration::from_secs(60),
        refusals_per_second: 100,
    };
    let founding = Founding { store: StoreId([7; 16]), environment: "development", store_key_check: [1; 16] };
    Log::create(&settings, &founding, Arc::new(SystemClock), &Disk::real(), Limits::default()).unwrap()
}

async fn append_all(log: &Log, in_flight: usize, records: u64) {
    let each = records / u64::try_from(in_flight).unwrap();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    let deadline = Deadline(SystemClock.mono().plus(Duration::from_secs(10)));
                    log.append(record(), (), deadline).await.unwrap().into_outcome();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// The bare writer: bytes of the same size, gathered while the last batch syncs, written, synced, answered.
#[derive(Clone)]
struct Bare(Arc<(Mutex<Vec<Waiting>>, Condvar)>);

impl Bare {
    fn start(dir: &Path) -> Self {
        let file = Disk::real().create_new(&dir.join("bare"), 0o600).unwrap();
        let bare = Self(Arc::default());
        let writer = bare.clone();
        std::thread::spawn(move || writer.write(&file));
        bare
    }

    fn write(&self, file: &File) {
        let mut at = 0;
        loop {
            let (queue, filled) = &*self.0;
            let mut waiting = filled.wait_while(queue.lock().unwrap(), |queue| queue.is_empty()).unwrap();
            let batch = std::mem::take(&mut *waiting);
            drop(waiting);
            let bytes: Vec<u8> = batch.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
            file.pwrite_all(&bytes, at).unwrap();
            file.fdatasync().unwrap();
            at += u64::try_from(bytes.len()).unwrap();
            batch.into_iter().for_each(|(_, done)| done.send(()).unwrap());
        }
    }

    async fn append(&self, bytes: Vec<u8>) {
        let (done, told) = oneshot::channel();
        self.0.0.lock().unwrap().push((bytes, done));
        self.0.1.notify_one();
        told.await.unwrap();
    }
}

async fn bare_all(bare: &Bare, in_flight: usize, records: u64, size: usize) {
    let each = records / u64::try_from(in_flight).unwrap();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let bare = bare.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    bare.append(vec![b'x'; size]).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = dir.path().join(name);
        Disk::real().create_dir(&path, 0o700).unwrap();
        path
    };
    let synced = log(&folder("synced"), Durability::Synced);
    let written = log(&folder("written"), Durability::Written);
    runtime.block_on(append_all(&synced, 1, 1));
    let size = synced.read(2, 1).unwrap().remove(0).1.len() + 2;
    let bare = Bare::start(dir.path());
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    for in_flight in [1, 64, 1024] {
        let records = batch(in_flight);
        group.throughput(Throughput::Elements(records));
        group.bench_function(format!("bare/{in_flight}"), |b| {
            b.to_async(&runtime).iter(|| bare_all(&bare, in_flight, records, size));
        });
        group.bench_function(format!("log/{in_flight}"), |b| {
            b.to_async(&runtime).iter(|| append_all(&synced, in_flight, records));
        });
        group.bench_function(format!("written/{in_flight}"), |b| {
            b.to_async(&runtime).iter(|| append_all(&written, in_flight, records));
        });
    }
    group.finish();
}

/// Records of the log that is read back.
const READ: u64 = 200_000;

/// What reads a log back: verification on one core, and a sink that catches up with all of it in a file.
fn read_back(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), Durability::Written);
    runtime.block_on(append_all(&log, 1000, READ));
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(READ));
    group.bench_function("sink", |b| {
        b.iter(|| {
            let out = tempfile::tempdir().unwrap();
            let file = FileSettings { path: out.path().join("events"), rotate: 1 << 28, keep: 0 };
            let target = Target::File(file);
            let settings = sinks::Settings { name: "bench".parse().unwrap(), format: Format::Native, target };
            let (_stop, stopped) = tokio::sync::watch::channel(true);
            let clock = Arc::new(SystemClock);
            let follower = Follower::new(settings, log.clone(), clock, out.path().join("positions"), stopped);
            let standing = follower.standing();
            runtime.block_on(async { tokio::spawn(follower.follow()).await }).unwrap();
            assert!(standing.borrow().confirmed >= READ);
        });
    });
    runtime.block_on(log.drain()).unwrap();
    let dir = dir.path().join("audit");
    group.bench_function("verify", |b| b.iter(|| verify(&dir, None, None, &mut |_| {}).unwrap()));
    group.finish();
}

criterion_group!(benches, append, read_back);
criterion_main!(benches);
