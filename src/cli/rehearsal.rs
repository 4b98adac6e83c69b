//! `keyward rehearsal advance`: waits of days, gone through in an afternoon. Only where the configuration has a clock that is
//! moved by hand, which no production store has.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::connect::{Listener, Target, block_on};
use super::failure::Failure;
use super::moment::Span;

/// Move the clock of a rehearsal.
#[derive(Debug, Subcommand)]
pub(super) enum Rehearsal {
    /// Move the sidecar's clock forward; `[custody] clock = "rehearsal"`, in development only
    Advance(Advance),
}

#[derive(Debug, clap::Args)]
pub(super) struct Advance {
    /// By how much: 90s, 15m, 25h or 7d
    by: Span,
    #[command(flatten)]
    target: Target,
}

impl Rehearsal {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Self::Advance(Advance { by, target }) = self;
        block_on(async {
            let before = ahead(&target, 0).await?;
            // The request that moves the clock can find its own deadline over: what counts is the clock.
            let moved = ahead(&target, by.0.as_secs()).await;
            let after = ahead(&target, 0).await?;
            if after < before.saturating_add(by.0) {
                moved?;
            }
            println!("the sidecar's clock is {} ahead of this machine's", words(after));
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Moves the clock by so many seconds, and says how far it is ahead.
async fn ahead(target: &Target, seconds: u64) -> Result<Duration, Failure> {
    let mut sidecar = target.connect(Listener::Control).await?;
    let answer = sidecar.ask("POST", "/v1/rehearsal/advance", Some(&json!({ "seconds": seconds }))).await?;
    Ok(Duration::from_secs(answer["ahead_seconds"].as_u64().unwrap_or_default()))
}

fn words(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    format!("{days} d {hours} h {minutes} min")
}
