//! `keyward rehearsal advance`: waits of days, gone through in an afternoon. Only where the configuration has a clock that is
//! moved by hand, which no production store has.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::connect::{Listener, Target, block_on};
use super::failure::Failure;
use super::moment::{Span, shown};

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
            let answer = sidecar.ask("POST", "/v1/rehearsal/advance", Some(&body)).await?;
            match answer["now"].as_u64() {
                Some(now) => println!("the sidecar's clock shows {}", shown(now)),
                None => println!("the sidecar's clock was moved forward by {} s", by.0.as_secs()),
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}
