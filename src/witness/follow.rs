//! How do witnesses keep up with the log? One task for each offers it the checkpoint of the round; one more publishes rounds
//! and collects the lines. A witness that is away holds up nobody but the quorum that cannot do without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::audit::{Cosigned, Log, WitnessPolicy};
use crate::clock::{Mono, SharedClock, Wall};
use crate::durable::Disk;

use super::ask::{Asker, Round, Trouble};
use super::{Known, Settings};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Lines that wait to be collected.
const LINES: usize = 64;

/// How one witness stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it has been asked since the start, with whatever outcome.
    pub asked: bool,
    /// Records of the newest checkpoint that it cosigned since the start.
    pub size: u64,
    /// Why it has not cosigned.
    pub trouble: Option<Trouble>,
}

/// What a quorum has cosigned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    /// Records.
    pub size: u64,
    /// When that was known here.
    pub at: Option<Wall>,
}

/// All that ask, before they begin.
pub struct Witnesses {
    settings: Settings,
    policy: WitnessPolicy,
    log: Log,
    clock: SharedClock,
    disk: Disk,
    workers: Vec<Worker>,
    standings: Vec<(String, watch::Receiver<Standing>)>,
    round: watch::Sender<Option<Arc<Round>>>,
    lines: mpsc::Receiver<(u64, usize, String)>,
    covered: watch::Sender<Covered>,
    size: watch::Sender<u64>,
    wanted: watch::Sender<u64>,
}

struct Worker {
    at: usize,
    asker: Asker,
    clock: SharedClock,
    round: watch::Receiver<Option<Arc<Round>>>,
    standing: watch::Sender<Standing>,
    lines: mpsc::Sender<(u64, usize, String)>,
}

impl Witnesses {
    /// Those of a policy.
    pub fn new(settings: Settings, known: Known, log: Log, clock: SharedClock, disk: Disk) -> Self {
        let round = watch::Sender::new(None);
        let (sender, lines) = mpsc::channel(LINES);
        let (mut workers, mut standings) = (Vec::new(), Vec::new());
        for (at, (witness, prefix)) in known.policy.witnesses().iter().zip(known.prefixes).enumerate() {
            let standing = watch::Sender::default();
            standings.push((witness.name.clone(), standing.subscribe()));
            let trust = settings.trust.clone();
            let asker = Asker::new(witness.key.clone(), prefix, trust, settings.within, log.clone());
            let (round, lines) = (round.subscribe(), sender.clone());
            workers.push(Worker { at, asker, clock: clock.clone(), round, standing, lines });
        }
        let (covered, size, wanted) = (watch::Sender::default(), watch::Sender::new(0), watch::Sender::new(0));
        let policy = known.policy;
        Self { settings, policy, log, clock, disk, workers, standings, round, lines, covered, size, wanted }
    }

    /// How each stands, under its name in the policy.
    pub fn standings(&self) -> Vec<(String, watch::Receiver<Standing>)> {
        self.standings.clone()
    }

    /// What a quorum has cosigned.
    pub fn covered(&self) -> watch::Receiver<Covered> {
        self.covered.subscribe()
    }

    /// For whoever has to wait for that.
    pub fn cosigned(&self) -> Cosigned {
        Cosigned { size: self.size.subscribe(), wanted: self.wanted.clone() }
    }

    /// Begins to ask.
    pub fn begin(mut self, tasks: &mut JoinSet<()>) {
        for worker in std::mem::take(&mut self.workers) {
            tasks.spawn(worker.ask());
        }
        tasks.spawn(self.collect());
    }

    async fn collect(mut self) {
        let (mut checkpointed, mut wanted) = (self.log.checkpointed(), self.wanted.subscribe());
        let mut next = self.clock.mono();
        let mut collected = Collected::default();
        loop {
            let now = self.clock.mono();
            let newest = *checkpointed.borrow_and_update();
            let wants = *wanted.borrow_and_update();
            let open = collected.until.is_some_and(|until| now < until) && !collected.enough;
            let waited_for = wants > collected.size() && newest >= wants;
            if newest > collected.size() && (now >= next || waited_for) && !open {
                collected = self.publish(newest);
                next = now.plus(self.settings.every);
                // A round that cannot come to its end makes place for the next.
                collected.until = Some(now.plus(self.settings.every + self.settings.within));
            }
            let look = if self.clock.mono() < next { next } else { self.clock.mono().plus(FIRST_WAIT) };
            tokio::select! {
                Some((size, at, line)) = self.lines.recv() => self.take(&mut collected, size, at, line),
                // The log has ended, or failed: nothing more comes to be cosigned.
                changed = checkpointed.changed() => if changed.is_err() { return },
                _ = wanted.changed() => {}
                () = self.clock.sleep_until(look) => {}
            }
        }
    }

    /// Makes the newest checkpoint the one that is offered.
    fn publish(&self, newest: u64) -> Collected {
        let note = self.log.newest_note().map_err(|error| error.to_string());
        let read = note.and_then(|note| {
            let checkpoint = self.log.keys()?.open(&note).map_err(|error| error.to_string())?;
            Ok(Arc::new(Round { note, checkpoint }))
        });
        match read {
            Ok(round) if round.checkpoint.size >= newest => {
                self.round.send_replace(Some(Arc::clone(&round)));
                Collected { round: Some(round), ..Collected::default() }
            }
            Ok(_) => Collected::default(),
            Err(why) => {
                tracing::error!(why, "the newest checkpoint cannot be offered to witnesses");
                Collected::default()
            }
        }
    }

    fn take(&self, collected: &mut Collected, size: u64, at: usize, line: String) {
        let Some(round) = collected.round.as_ref().filter(|round| round.checkpoint.size == size) else { return };
        collected.lines.push((at, line));
        let lines = &mut collected.lines;
        lines.sort();
        lines.dedup_by_key(|(at, _)| *at);
        if !self.policy.satisfied(&|wanted| lines.iter().any(|(at, _)| *at == wanted)) {
            return;
        }
        let lines: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let note = format!("{}{lines}", round.note);
        if let Err(error) = self.log.keep_witnessed(&self.disk, &note) {
            tracing::error!(%error, "a cosigned checkpoint was not kept");
            return;
        }
        // If we stop here the cosignatures are kept and nobody has been told: the next round tells.
        collected.enough = true;
        self.covered.send_replace(Covered { size, at: Some(self.clock.wall()) });
        self.size.send_replace(size);
    }
}

/// The lines of a round.
#[derive(Default)]
struct Collected {
    round: Option<Arc<Round>>,
    lines: Vec<(usize, String)>,
    enough: bool,
    until: Option<Mono>,
}

impl Collected {
    fn size(&self) -> u64 {
        self.round.as_ref().map_or(0, |round| round.checkpoint.size)
    }
}

impl Worker {
    async fn ask(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let round = self.round.borrow_and_update().clone();
            let Some(round) = round else {
                if self.round.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.asker.offer(&round).await {
                Ok(line) => {
                    wait = FIRST_WAIT;
                    let size = round.checkpoint.size;
                    self.standing.send_replace(Standing { asked: true, size, trouble: None });
                    // The collector ends only with the sidecar.
                    let _gone = self.lines.send((size, self.at, line)).await;
                    if self.round.changed().await.is_err() {
                        return;
                    }
                }
                Err(trouble) => {
                    self.standing.send_modify(|standing| {
                        (standing.asked, standing.trouble) = (true, Some(trouble));
                    });
                    self.clock.sleep_until(self.clock.mono().plus(wait)).await;
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                }
            }
        }
    }
}
