//! How fast does a token unwrap, and what does the way to the worker add? Both in turn, in the same minute on the same key.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::SharedClock;
use crate::kek::pkcs11::{Lane, Trouble, Workbench};

use super::report::Rate;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// With one session and with several.
    Full,
    /// With one session, a moment.
    Glance,
    /// Nothing.
    None,
}

/// Several sessions at one key, and a wrap by it.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    clock: SharedClock,
    blob: Vec<u8>,
    aad: Vec<u8>,
}

/// Unwraps again and again, in the worker and through it.
pub(super) async fn measure(bench: &Workbench, blob: &[u8], aad: &[u8], pace: Pace) -> Result<Vec<Rate>, Trouble> {
    let most = bench.profile().session.pool.min(SESSIONS);
    let (counts, rounds) = match pace {
        Pace::Full if most > 1 => (vec![1, most], ROUNDS),
        Pace::Full => (vec![1], ROUNDS),
        Pace::Glance => (vec![1], 1),
        Pace::None => (Vec::new(), 0),
    };
    let mut rates = Vec::new();
    for sessions in counts {
        let mut lanes = Lanes::open(bench, blob, aad, sessions).await?;
        rates.push(lanes.rate(rounds).await?);
    }
    Ok(rates)
}

impl Lanes {
    /// Opens so many sessions, in which the key is found.
    pub(super) async fn open(bench: &Workbench, blob: &[u8], aad: &[u8], sessions: u32) -> Result<Self, Trouble> {
        let mut lanes = Vec::new();
        for _ in 0..sessions {
            let mut lane = bench.lane().await?;
            lane.unwrap(blob, aad).await?;
            lanes.push(lane);
        }
        Ok(Self { lanes, clock: bench.clock(), blob: blob.into(), aad: aad.into() })
    }

    async fn rate(&mut self, rounds: usize) -> Result<Rate, Trouble> {
        let one = self.run(1, true).await?;
        let times = u16::try_from(SLICE.as_nanos() / one.as_nanos().max(1)).unwrap_or(MOST).clamp(1, MOST);
        let (mut raw, mut through) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            raw.push(self.run(times, true).await?.as_secs_f64());
            through.push(self.run(times, false).await?.as_secs_f64());
        }
        let sessions = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let all = f64::from(sessions) * f64::from(times);
        let (raw, through) = (median(raw).max(f64::EPSILON), median(through).max(f64::EPSILON));
        Ok(Rate {
            sessions,
            raw_per_second: all / raw,
            worker_per_second: all / through,
            ratio: raw / through,
            added_us: (through - raw) / all * 1e6,
        })
    }

    /// So many unwraps in each session, all sessions at once, in the worker alone or through it: until the last is done.
    pub(super) async fn run(&mut self, times: u16, raw: bool) -> Result<Duration, Trouble> {
        let mut working = JoinSet::new();
        for mut lane in self.lanes.drain(..) {
            let run = Run {
                blob: self.blob.clone(),
                aad: self.aad.clone(),
                times,
                clock: (!raw).then(|| self.clock.clone()),
            };
            working.spawn(async move {
                let took = lane.work(&run).await;
                (lane, took)
            });
        }
        let mut slowest = Duration::ZERO;
        while let Some(done) = working.join_next().await {
            let (lane, took) = done.map_err(|error| Trouble::Lost(error.to_string()))?;
            slowest = slowest.max(took?);
            self.lanes.push(lane);
        }
        Ok(slowest)
    }
}

/// What each lane does.
struct Run {
    blob: Vec<u8>,
    aad: Vec<u8>,
    times: u16,
    /// Asks from outside and looks at this clock; None: the worker repeats and measures.
    clock: Option<SharedClock>,
}

impl Lane {
    async fn work(&mut self, run: &Run) -> Result<Duration, Trouble> {
        let Some(clock) = &run.clock else { return self.repeat(&run.blob, &run.aad, run.times).await };
        let start = clock.mono();
        for _ in 0..run.times {
            self.unwrap(&run.blob, &run.aad).await?;
        }
        Ok(clock.mono().since(start))
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// As the targets of speed are stated.
const SESSIONS: u32 = 4;
/// The middle one counts: others use the machine too.
const ROUNDS: usize = 11;
/// Long enough for the clock and the scheduler not to show.
const SLICE: Duration = Duration::from_millis(50);
const MOST: u16 = 4000;
