//! `keyward policy reload`: puts the policy files in force in the running sidecar, all of them or none.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::failure::Failure;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reload {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Reload {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let answer = sidecar.ask("POST", "/v1/policy/reload", Some(&json!({}))).await?;
            if self.json {
                println!("{answer:#}");
                return Ok(ExitCode::SUCCESS);
            }
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            let (before, now) = (text("before"), text("policy"));
            println!("policy set {now} ({} files)", answer["files"]);
            println!("{}", if before == now { "as before".to_owned() } else { format!("before     {before}") });
            Ok(ExitCode::SUCCESS)
        })
    }
}
