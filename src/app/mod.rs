//! Builds the parts in order, starts them, drains them. No decisions, no formats.

mod backup;
mod board;
mod custody;
mod cut_short;
mod events;
mod found;
mod guarded;
mod keks;
mod outage;
mod protect;
mod reported;
mod rotation;
mod sinks;
mod standing;
mod start;
mod store;
mod trust;
mod upkeep;
mod witnesses;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::audit::{Event, Log};
use crate::config::Config;
use crate::durable;
use crate::kek;
use crate::keyring::Environment;
use crate::server::health::{Board, Part, State};
use crate::server::{self, Server};
use crate::service::Service;

pub use crate::keyring::{ApplyError, StoreHead};
pub use backup::{
    BackupError, BackupOptions, Declared, DrillError, DrillOptions, DrillReport, InPlaceError, Made, Manifest,
    NotAllowed, RestoreError, RestoreOptions, Restored, back_up, declare, drill, record_drill, restore,
};
pub use cut_short::CutShort;
pub use found::{FoundError, Founded, found, join};
pub use guarded::{Proposed, ProposedError, proposed};
pub use keks::{
    KekError, KekReport, Rotated, Uptake, clear_kek_login, create_kek, create_software_kek, inspect_kek, kek_problems,
    kek_worker, rotate_kek,
};
pub use protect::{ProtectError, protect};
pub use reported::Reported;
pub use start::{StartError, policy_settings};
pub use store::{
    CopyError, Counts, MoveError, Moved, Old, Progress, described, migrate_store, schema_script, store_problems,
};
pub use upkeep::revocation;
pub use witnesses::witness_problems;

/// A running sidecar.
pub struct App {
    service: Arc<Service>,
    log: Log,
    server: Server,
    board: Arc<Board>,
    jobs: JoinSet<()>,
    sinks: sinks::Sinks,
    config: Config,
    opened: tokio::sync::watch::Receiver<bool>,
    // Held to the end: a second sidecar on this state directory is refused.
    _lock: durable::Lock,
}

impl App {
    /// Where the health listener is, if one was configured (its port may have been 0).
    pub fn health_address(&self) -> Option<std::net::SocketAddr> {
        self.server.health()
    }

    /// Where data and control are served over mutual TLS.
    pub fn tls_addresses(&self) -> (Option<std::net::SocketAddr>, Option<std::net::SocketAddr>) {
        (self.server.data_tls(), self.server.control_tls())
    }

    /// Where the TCP listener is.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        self.server.data_tcp()
    }

    /// Readiness as the health listener shows it.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Resolves when the keyrings are open (or never will be: then at once).
    pub async fn opened(&self) {
        // An error means that opening ended without success; the board and the log say why.
        let mut opened = self.opened.clone();
        let _ended = opened.wait_for(|open| *open).await;
    }

    /// What a signal may ask for while it serves.
    pub fn reload(&self) -> Reload {
        Reload { service: Arc::clone(&self.service) }
    }

    /// Serves until the future resolves, then drains.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> server::Drained {
        stop.await;
        self.drain().await
    }

    /// Stops accepting, answers what is in work, records the end and makes the last checkpoint.
    pub async fn drain(mut self) -> server::Drained {
        self.board.post(&Part { name: "sidecar".to_owned(), state: State::Failing, text: "draining".to_owned() });
        note(&self.service, Event::SidecarDraining, Vec::new()).await;
        let drained = self.server.drain(self.config.drain).await;
        self.jobs.shutdown().await;
        note(&self.service, Event::SidecarStopped, Vec::new()).await;
        if let Err(error) = self.log.drain().await {
            tracing::error!(%error, "the audit log did not end in order");
        }
        self.sinks.finish().await;
        drained
    }
}

/// What is read again without a restart.
pub struct Reload {
    service: Arc<Service>,
}

impl Reload {
    /// Puts the policy files in force; with a problem the set before stays.
    pub async fn policies(&self) {
        if let Err(refusal) = self.service.reload_policy_on_signal().await {
            let (code, detail) = (refusal.code.as_str(), refusal.detail.as_deref().unwrap_or_default());
            tracing::error!(code, detail, "the policy files are not in force, the set before is");
        }
    }
}

/// A record of the sidecar's own life. If the log cannot take it there is nobody to answer, so it is traced.
async fn note(service: &Service, event: Event, facts: Vec<(&'static str, String)>) {
    if let Err(error) = service.note(event, facts).await {
        tracing::error!(%error, event = event.name(), "the audit log did not take a record");
    }
}

/// Whether software keys are thinkable at all.
const fn deployment(environment: Environment) -> kek::Deployment {
    match environment {
        Environment::Development => kek::Deployment::Development,
        Environment::Production => kek::Deployment::Production,
    }
}
