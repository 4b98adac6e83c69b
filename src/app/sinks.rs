//! Who else gets the log's records, and how do they stand? Each change of that is in the log, in readiness and in metrics;
//! nothing waits for them but, a little, the end of the sidecar.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Event, Log};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::server::health::{Board, Part, State};
use crate::service::Service;
use crate::sinks::{Follower, Standing};
use crate::telemetry::Metrics;

use super::events::fact;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// A sink that comes and goes fills the log with no more than a record in this time.
const CALM: Duration = Duration::from_secs(10);
/// The last records of a sidecar that ends may take so long to reach the sinks; what does not is sent by the next start.
const FAREWELL: Duration = Duration::from_secs(3);

/// The followers.
pub(super) struct Sinks {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    clock: SharedClock,
}

/// Who looks after one of them.
struct Keeper {
    name: String,
    kind: &'static str,
    standing: watch::Receiver<Standing>,
    log: Log,
    service: Arc<Service>,
    clock: SharedClock,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

impl Sinks {
    /// Starts one for each `[[sink]]`.
    pub(super) fn begin(
        config: &Config,
        service: &Arc<Service>,
        log: &Log,
        clock: &SharedClock,
        board: &Arc<Board>,
        metrics: &Arc<Metrics>,
        jobs: &mut JoinSet<()>,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for settings in &config.sinks {
            let (name, kind) = (settings.name.to_string(), settings.target.kind());
            let dir = config.state.sinks();
            let follower = Follower::new(settings.clone(), log.clone(), clock.clone(), dir, stop.subscribe());
            let keeper = Keeper {
                name,
                kind,
                standing: follower.standing(),
                log: log.clone(),
                service: service.clone(),
                clock: clock.clone(),
                board: board.clone(),
                metrics: metrics.clone(),
            };
            jobs.spawn(keeper.keep());
            tasks.spawn(follower.follow());
        }
        Self { tasks, stop, clock: clock.clone() }
    }

    /// Sends the last records, for a moment.
    pub(super) async fn finish(mut self) {
        self.stop.send_replace(true);
        let until = self.clock.mono().plus(FAREWELL);
        tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            () = self.clock.sleep_until(until) => {
                tracing::warn!("a sink did not take the last records; the next start sends them");
            }
        }
        self.tasks.shutdown().await;
    }
}

impl Keeper {
    async fn keep(mut self) {
        let (mut failing, mut calm_until) = (false, self.clock.mono());
        loop {
            let standing = self.standing.borrow_and_update().clone();
            let lag = self.log.health().records.saturating_sub(standing.next);
            self.show(&standing, lag);
            let news = standing.problem.is_some() != failing && self.clock.mono() >= calm_until;
            if news && self.say(&standing, lag).await {
                failing = !failing;
                calm_until = self.clock.mono().plus(CALM);
            }
            self.clock.sleep_until(self.clock.mono().plus(EVERY)).await;
        }
    }

    fn show(&self, standing: &Standing, lag: u64) {
        let unconfirmed = self.log.health().records.saturating_sub(standing.confirmed);
        let up = standing.problem.is_none();
        self.metrics.sinks.show(&self.name, up, lag, unconfirmed, standing.sent);
        let (state, text) = match &standing.problem {
            // It fails nobody: the log itself has everything.
            Some(problem) => (State::Degraded, format!("{} records behind; {}: {problem}", lag, problem.code)),
            None => (State::Ok, format!("{}, {lag} records behind", self.kind)),
        };
        self.board.post(&Part { name: format!("sink {}", self.name), state, text });
    }

    /// Whether the log took it.
    async fn say(&self, standing: &Standing, lag: u64) -> bool {
        let mut facts = vec![("sink", self.name.clone())];
        let event = match &standing.problem {
            Some(problem) => {
                tracing::warn!(sink = self.name, %problem, lag, "a sink takes no records");
                facts.push(fact("sink_error", problem.code.to_owned()));
                Event::SinkFailed
            }
            None => {
                tracing::info!(sink = self.name, lag, "a sink takes records again");
                Event::SinkRecovered
            }
        };
        facts.push(("sink_lag", lag.to_string()));
        match self.service.note(event, facts).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, event = event.name(), "the audit log did not take a record");
                false
            }
        }
    }
}
