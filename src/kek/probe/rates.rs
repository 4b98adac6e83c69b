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
}

/// Unwraps again and again, in the worker and through it.
pub(super) async fn measure(bench: &Workbench, blob: &[u8], aad: &[u8], pace: Pace) -> Result<Vec<Rate>, Trouble> {
    let most = bench.profile().session.pool.min(SESSIONS);
    let (counts, rounds) = match pace {
        Pace::Full if most > 1 => (vec![1, most], ROUNDS),
        Pace::Full => (vec![1], ROUNDS),
        Pace::Glance => (vec![1], 1),
    };
    let mut rates = Vec::new();
    for sessions in counts {
        rates.push(with(bench, blob, aad, sessions, rounds).await?);
    }
    Ok(rates)
}

async fn with(bench: &Workbench, blob: &[u8], aad: &[u8], sessions: u32, rounds: usize) -> Result<Rate, Trouble> {
    let mut lanes = Vec::new();
    for _ in 0..sessions {
        let mut lane = bench.lane().await?;
        // The first call opens the session and finds the key.
        lane.unwrap(blob, aad).await?;
        lanes.push(lane);
    }
    let first = lanes.first_mut().ok_or_else(|| Trouble::Lost("no session".into()))?;
    let one = first.repeat(blob, aad, 1).await?;
    let times = u16::try_from(SLICE.as_nanos() / one.as_nanos().max(1)).unwrap_or(MOST).clamp(1, MOST);
    let (mut raw, mut through) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let inside = Run { blob: blob.into(), aad: aad.into(), times, clock: None };
        let outside = Run { clock: Some(bench.clock()), ..inside.clone() };
        raw.push(per_second(&mut lanes, &inside).await?);
        through.push(per_second(&mut lanes, &outside).await?);
    }
    let (raw, worker) = (median(raw), median(through));
    let each = f64::from(sessions) * 1e6;
    Ok(Rate {
        sessions,
        raw_per_second: raw,
        worker_per_second: worker,
        ratio: worker / raw,
        added_us: each / worker - each / raw,
    })
}

/// What each lane does.
#[derive(Clone)]
struct Run {
    blob: Vec<u8>,
    aad: Vec<u8>,
    times: u16,
    /// Asks from outside and looks at this clock; None: the worker repeats and measures.
    clock: Option<SharedClock>,
}

/// All lanes at once; unwraps a second of all together.
async fn per_second(lanes: &mut Vec<Lane>, run: &Run) -> Result<f64, Trouble> {
    let mut working = JoinSet::new();
    let count = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
    for mut lane in lanes.drain(..) {
        let run = run.clone();
        working.spawn(async move {
            let took = lane.work(&run).await;
            (lane, took)
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(done) = working.join_next().await {
        let (lane, took) = done.map_err(|error| Trouble::Lost(error.to_string()))?;
        slowest = slowest.max(took?);
        lanes.push(lane);
    }
    Ok(f64::from(count) * f64::from(run.times) / slowest.as_secs_f64().max(f64::EPSILON))
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

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// As the targets of speed are stated.
const SESSIONS: u32 = 4;
/// The middle one counts: others use the machine too.
const ROUNDS: usize = 5;
/// Long enough for the clock and the scheduler not to show.
const SLICE: Duration = Duration::from_millis(60);
const MOST: u16 = 4000;
