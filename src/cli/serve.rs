//! `keyward serve`: runs the sidecar until SIGTERM or SIGINT; SIGHUP puts the policy files in force.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{self, App, Reload, StartError};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::telemetry;

use super::failure::{Context, Exit, Failure, chain};

/// Run the sidecar.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: super::ConfigPath,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        telemetry::start_logs(&config.tracing).doing(Exit::Config, "[log]")?;
        protect(&config)?;
        runtime()?.block_on(async {
            // From the first moment on: whoever hangs up too early must not end the process.
            let hang_up = signal(SignalKind::hangup()).doing(Exit::Software, "cannot listen for SIGHUP")?;
            let app = start(config).await?;
            let reload = app.reload();
            app.serve_until(reloading(reload, hang_up, stop_asked()?)).await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Reloads at each SIGHUP until the process is asked to end.
async fn reloading(reload: Reload, mut hang_up: Signal, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            _ = hang_up.recv() => reload.policies().await,
        }
    }
}

/// Hardens the process, locks memory for keys, and proves the primitives: before any key is touched.
pub(super) fn protect(config: &Config) -> Result<(), Failure> {
    app::protect(config).map_err(|error| Failure::new(Exit::Unavailable, chain(&error)).hint(error.hint()))
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(Exit::Software, "cannot start the runtime")
}

pub(super) async fn start(config: Config) -> Result<App, Failure> {
    App::start(config, Arc::new(SystemClock)).await.map_err(|error| failed(&error))
}

fn failed(error: &StartError) -> Failure {
    Failure::new(Exit::from(error), chain(error)).hint(error.hint())
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Policy(_) | StartError::Identity(_) | StartError::PolicyFiles(_) => Self::Config,
            StartError::Log(_) => Self::AuditLog,
            _ => Self::Unavailable,
        }
    }
}

/// Resolves when the process is asked to end.
pub(super) fn stop_asked() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).doing(Exit::Software, "cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing(Exit::Software, "cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
