//! Who outside has seen the log, and how do they stand (LOG-35)? Each change is in the log, in readiness and in metrics. What the
//! log's own key signed and this log does not hold ends the serving of keys, whenever a witness shows it (LOG-36).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Event, Log};
use crate::clock::{SharedClock, Wall};
use crate::config::{Config, StateDir};
use crate::durable::Disk;
use crate::keyring::Keyrings;
use crate::server::health::{Board, Part, State};
use crate::service::{Service, Witnessing};
use crate::telemetry::Metrics;
use crate::witness::{Conflict, Covered, PolicyProblem, Standing, Witnesses};

use super::events::fact;
use super::upkeep::Upkeep;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// A witness that comes and goes fills the log with no more than a record in this time.
const CALM: Duration = Duration::from_secs(10);
/// The log says something about itself each minute; what is not cosigned for longer than two is late.
const LATE: u64 = 150_000_000;

/// What is wrong with the witness policy of a configuration. Reads, never connects.
pub fn witness_problems(config: &Config) -> Option<PolicyProblem> {
    config.witness.as_ref().and_then(|settings| settings.read().err())
}

/// The witnesses of a configuration, before they are asked.
pub(super) fn prepare(config: &Config, log: &Log, clock: &SharedClock) -> Result<Option<Prepared>, PolicyProblem> {
    let Some(settings) = &config.witness else { return Ok(None) };
    let known = settings.read()?;
    let ours = log.keys().unwrap_or_else(|_| crate::audit::Keys::founding_only(log.verifier_key().clone()));
    let listed = known.policy.logs();
    if !listed.is_empty() && !listed.iter().any(|key| ours.position(key).is_some()) {
        let path = settings.policy.clone();
        return Err(PolicyProblem::OtherLog { path, origin: log.verifier_key().origin().as_str().to_owned() });
    }
    let (required, patience) = (settings.required_at_start, settings.within * 2);
    let tier3 = settings.required_for_tier3;
    let witnesses = Witnesses::new(settings.clone(), known, log.clone(), clock.clone(), Disk::real());
    Ok(Some(Prepared { witnesses, required, tier3, patience, asked: clock.clone() }))
}

/// Witnesses that are about to be asked.
pub(super) struct Prepared {
    witnesses: Witnesses,
    required: bool,
    tier3: bool,
    patience: Duration,
    asked: SharedClock,
}

/// What a start waits for.
pub(super) struct FirstWord {
    standings: Vec<watch::Receiver<Standing>>,
    covered: watch::Receiver<Covered>,
    required: bool,
    patience: Duration,
    clock: SharedClock,
}

impl Prepared {
    /// For the service: what ceremonies wait for.
    pub(super) fn witnessing(&self) -> Witnessing {
        Witnessing { cosigned: self.witnesses.cosigned(), required: self.tier3 }
    }

    fn first_word(&self) -> FirstWord {
        FirstWord {
            standings: self.witnesses.standings().into_iter().map(|(_, standing)| standing).collect(),
            covered: self.witnesses.covered(),
            required: self.required,
            patience: self.patience,
            clock: self.asked.clone(),
        }
    }

    /// Begins to ask, and to look after those who are asked.
    pub(super) fn begin(self, about: About, jobs: &mut JoinSet<()>) -> FirstWord {
        let first_word = self.first_word();
        let (standings, covered) = (self.witnesses.standings(), self.witnesses.covered());
        let about = Arc::new(about);
        for (name, standing) in standings {
            jobs.spawn(Keeper { name, standing, about: about.clone() }.keep());
        }
        jobs.spawn(show_quorum(covered, about));
        self.witnesses.begin(jobs);
        first_word
    }
}

impl FirstWord {
    /// Waits until each witness has said something, or had the time to; where a quorum is required, for that. False where
    /// the log is not what a witness saw.
    pub(super) async fn come(mut self) -> bool {
        let until = self.clock.mono().plus(self.patience);
        for standing in &mut self.standings {
            tokio::select! {
                _ = standing.wait_for(|standing| standing.asked) => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
        if self.required && !self.conflict() {
            let mut covered = self.covered.clone();
            loop {
                tokio::select! {
                    seen = covered.wait_for(|covered| covered.size > 0) => {
                        if seen.is_err() {
                            return false;
                        }
                        break;
                    }
                    () = self.clock.sleep_until(self.clock.mono().plus(EVERY)) => if self.conflict() { break },
                }
            }
        }
        !self.conflict()
    }

    fn conflict(&self) -> bool {
        self.standings.iter().any(|standing| conflict(&standing.borrow()).is_some())
    }
}

fn conflict(standing: &Standing) -> Option<&Conflict> {
    standing.trouble.as_ref().and_then(|trouble| trouble.conflict.as_ref())
}

/// What the keepers tell.
pub(super) struct About {
    log: Log,
    service: Arc<Service>,
    keyrings: Arc<Keyrings>,
    clock: SharedClock,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    state: StateDir,
}

impl About {
    pub(super) fn of(upkeep: &Upkeep<'_>, service: &Arc<Service>, keyrings: &Arc<Keyrings>) -> Self {
        let Upkeep { config, log, clock, metrics, board } = *upkeep;
        let (log, service, keyrings, clock) = (log.clone(), service.clone(), keyrings.clone(), clock.clone());
        let (board, metrics, state) = (board.clone(), metrics.clone(), config.state.clone());
        Self { log, service, keyrings, clock, board, metrics, state }
    }
}

/// Who looks after one of them.
struct Keeper {
    name: String,
    standing: watch::Receiver<Standing>,
    about: Arc<About>,
}

impl Keeper {
    async fn keep(mut self) {
        let (mut failing, mut calm_until, mut shut) = (false, self.about.clock.mono(), false);
        loop {
            let standing = self.standing.borrow_and_update().clone();
            self.show(&standing);
            if let Some(conflict) = conflict(&standing).filter(|_| !shut) {
                self.shut(conflict).await;
                shut = true;
            }
            let news = standing.trouble.is_some() != failing && self.about.clock.mono() >= calm_until;
            if news && self.say(&standing).await {
                failing = !failing;
                calm_until = self.about.clock.mono().plus(CALM);
            }
            self.about.clock.sleep_until(self.about.clock.mono().plus(EVERY)).await;
        }
    }

    fn show(&self, standing: &Standing) {
        self.about.metrics.witnesses.show(&self.name, standing.trouble.is_none() && standing.asked, standing.size);
        let (state, text) = match &standing.trouble {
            Some(trouble) if trouble.conflict.is_some() => (State::Failing, trouble.detail.clone()),
            Some(trouble) => (State::Degraded, format!("{}: {trouble}", trouble.code)),
            None if !standing.asked => (State::Ok, "not asked yet".to_owned()),
            None => (State::Ok, format!("cosigned {} records", standing.size)),
        };
        self.about.board.post(&Part { name: format!("witness {}", self.name), state, text });
    }

    /// The log is not the one that its key signed for: nothing that it would allow is believed any more.
    async fn shut(&self, conflict: &Conflict) {
        let About { service, keyrings, log, state, .. } = &*self.about;
        let why = if conflict.rolled_back { "log_rolled_back" } else { "log_forked" };
        keyrings.shut(why);
        self.keep_evidence(&state.conflict(&file_name(&self.name)), &conflict.note);
        tracing::error!(witness = self.name, why, size = conflict.checkpoint.size, "the log is not what a witness saw");
        let facts = vec![
            ("witness", self.name.clone()),
            ("witness_error", why.to_owned()),
            ("witness_size", conflict.checkpoint.size.to_string()),
            ("records", log.health().records.to_string()),
        ];
        super::note(service, Event::WitnessConflict, facts).await;
        super::note(service, Event::SidecarRefused, vec![("error", why.to_owned())]).await;
    }

    fn keep_evidence(&self, path: &Path, note: &str) {
        if let Err(error) = Disk::real().write_atomic(path, note.as_bytes(), 0o600) {
            tracing::error!(%error, "the checkpoint of the witness was not kept as evidence");
        }
    }

    /// Whether the log took it.
    async fn say(&self, standing: &Standing) -> bool {
        let mut facts = vec![fact("witness", self.name.clone()), ("witness_size", standing.size.to_string())];
        let event = match &standing.trouble {
            Some(trouble) => {
                tracing::warn!(witness = self.name, code = trouble.code, %trouble, "a witness does not cosign");
                facts.push(("witness_error", trouble.code.to_owned()));
                Event::WitnessFailed
            }
            None => {
                tracing::info!(witness = self.name, "a witness cosigns again");
                Event::WitnessRecovered
            }
        };
        match self.about.service.note(event, facts).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, event = event.name(), "the audit log did not take a record");
                false
            }
        }
    }
}

/// A name of a policy may hold anything; a file's may not.
fn file_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect()
}

async fn show_quorum(covered: watch::Receiver<Covered>, about: Arc<About>) {
    let began = about.clock.wall();
    loop {
        let seen = *covered.borrow();
        let now = about.clock.wall();
        let (records, metrics) = (about.log.health().records, &about.metrics.witnesses);
        metrics.covered.set(i64::try_from(seen.size).unwrap_or(i64::MAX));
        metrics.covered_at.set(i64::try_from(seen.at.map_or(0, |at| at.0 / 1_000_000)).unwrap_or(i64::MAX));
        about.board.post(&quorum(seen, records, now, began));
        about.clock.sleep_until(about.clock.mono().plus(EVERY)).await;
    }
}

fn quorum(seen: Covered, records: u64, now: Wall, began: Wall) -> Part {
    let since = |at: Wall| now.0.saturating_sub(at.0);
    let (state, text) = match seen.at {
        Some(at) if since(at) < LATE || seen.size >= records => {
            (State::Ok, format!("a quorum has cosigned {} of {records} records", seen.size))
        }
        Some(at) => {
            let text = format!("unwitnessed for {} s: {} of {records} records", since(at) / 1_000_000, seen.size);
            (State::Degraded, text)
        }
        None if since(began) < LATE => (State::Ok, "no quorum has cosigned yet".to_owned()),
        None => (State::Degraded, "unwitnessed since the start".to_owned()),
    };
    Part { name: "witnesses".to_owned(), state, text }
}
