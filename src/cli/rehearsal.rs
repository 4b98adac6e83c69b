//! `keyward rehearsal advance`: waits of days, gone through in an afternoon. Only where the configuration has a clock that is
//! moved by hand, which no production store has.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use crate::clock::{Clock, SystemClock};

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
            let mut sidecar = target.connect(Listener::Control).await?;
            let body = json!({ "seconds": by.0.as_secs() });
            sidecar.ask("POST", "/v1/rehearsal/advance", Some(&body)).await?;
            // The clock moves after the answer: what is asked next is to find it moved.
            SystemClock.sleep_until(SystemClock.mono().plus(SETTLED)).await;
            println!("the sidecar's clock was moved forward by {}", words(by.0));
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn words(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    format!("{days} d {hours} h {minutes} min")
}

/// Three times what the sidecar waits.
const SETTLED: Duration = Duration::from_millis(750);
