//! What do keyrings cost that nobody uses? The real sidecar, with none and then with many: the memory of its process, and
//! the processor time that it takes while nobody asks for anything. The target: at most 150 bytes a keyring, and no time.
//! What counts is the memory that the process wrote itself, whatever for: what it knows of the keyrings, SQLite's pages, and
//! what the allocator was given back and keeps. Pages of the program are shown beside it; they depend on what has run.
//!
//! `cargo bench --bench idle`, with KEYWARD_BENCH_KEYRINGS=100000 for the number that the target names (10,000 if not
//! given: making them takes most of the time).
#![allow(clippy::unwrap_used, reason = "what fails here is a failed benchmark")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Caller, Serving, Setup};

/// How long nobody asks for anything: it holds some rounds of every job that is not a heartbeat.
const WATCHED: Duration = Duration::from_secs(30);
/// Callers that make keyrings at the same time, so that they share the syncs of the log.
const CALLERS: usize = 8;

fn main() {
    let keyrings: usize = std::env::var("KEYWARD_BENCH_KEYRINGS").map_or(10_000, |text| text.parse().unwrap());
    let setup = Setup::new();
    let (none, idle) = watch(&setup);
    println!("without keyrings: {none}, {idle:.1} ms of processor time a second");
    let began = Instant::now();
    let serving = serve(&setup);
    make(&setup, keyrings);
    serving.stop();
    println!("{keyrings} keyrings made in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    serve(&setup).stop();
    println!("started and stopped with them in {:.1} s", began.elapsed().as_secs_f64());
    let (many, busy) = watch(&setup);
    println!("with {keyrings} keyrings: {many}, {busy:.1} ms of processor time a second");
    let each = |kilobytes: f64| kilobytes * 1024.0 / keyrings as f64;
    println!("{:.0} bytes a keyring", each(many.own as f64 - none.own as f64));
    println!("{:.0} bytes a keyring while starting, at the most", each(many.peak as f64 - none.peak as f64));
}

/// In kilobytes.
struct Memory {
    own: u64,
    program: u64,
    peak: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { own, program, peak } = self;
        write!(f, "{own} kB of its own and {program} kB of the program, {peak} kB at the most")
    }
}

/// The memory, and milliseconds of processor time a second, of a sidecar that has just been started.
fn watch(setup: &Setup) -> (Memory, f64) {
    let serving = serve(setup);
    std::thread::sleep(Duration::from_secs(2));
    let before = ticks(&serving);
    std::thread::sleep(WATCHED);
    // A tick of the kernel's accounts is ten milliseconds.
    let used = (ticks(&serving) - before) as f64 * 10.0 / WATCHED.as_secs_f64();
    let memory = memory(&serving);
    serving.stop();
    (memory, used)
}

/// Starts the sidecar and waits until it lists one keyring: a listing of all of them would leave its memory behind.
fn serve(setup: &Setup) -> Serving {
    let mut command = Command::new(support::KEYWARD);
    command.args(["serve", "--config", &setup.config()]).stdout(Stdio::null()).stderr(Stdio::null());
    let serving = Serving { child: command.spawn().unwrap() };
    let listed = || Caller::connect(&setup.control())?.ask("GET", "/v1/keyrings?limit=1", "ready", "");
    while !listed().is_ok_and(|(status, _)| status == 200) {
        std::thread::sleep(Duration::from_millis(20));
    }
    serving
}

fn make(setup: &Setup, keyrings: usize) {
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                let mut control = Caller::connect(&setup.control()).unwrap();
                for number in (caller..keyrings).step_by(CALLERS) {
                    let body = format!(r#"{{"name":"records-{number}"}}"#);
                    let request = format!("make-{number}");
                    let (status, answer) = control.ask("POST", "/v1/keyrings", &request, &body).unwrap();
                    assert!(status < 300, "{answer}");
                }
            });
        }
    });
}

fn memory(serving: &Serving) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let read = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    Memory { own: read("RssAnon:"), program: read("RssFile:"), peak: read("VmHWM:") }
}

/// User and system time of the process.
fn ticks(serving: &Serving) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", serving.child.id())).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let field = |at: usize| after.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
    field(11) + field(12)
}
