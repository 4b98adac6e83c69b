//! `keyward keyring followed`: who may still go on by what was suspended, compromised, destroyed or shredded.

use std::process::ExitCode;

use serde_json::Value;

use super::print::text;
use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::failure::{Exit, Failure, exit};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Followed {
    /// The change, as the answer to it named it; the newest without it
    #[arg(long, value_name = "CHANGE")]
    change: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Followed {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let path =
                self.change.map_or_else(|| "/v1/sidecars".to_owned(), |change| format!("/v1/sidecars?change={change}"));
            let answer = sidecar.ask("GET", &path, None).await?;
            if self.json {
                println!("{answer:#}");
            } else {
                tell(&answer);
            }
            let all = answer["not_followed"].as_array().is_some_and(Vec::is_empty);
            Ok(if all { ExitCode::SUCCESS } else { exit(Exit::Finding) })
        })
    }
}

/// Nothing where the answer says nothing of it.
pub(in crate::cli) fn tell(answer: &Value) {
    if let Some(told) = words(answer) {
        println!("{told}");
    }
}

/// A line of what is known, and one for each sidecar that has not followed.
pub(in crate::cli) fn words(answer: &Value) -> Option<String> {
    let (change, others) = (answer["change"].as_u64()?, answer["other_sidecars"].as_u64()?);
    let behind = answer["not_followed"].as_array()?;
    if behind.is_empty() {
        return Some(match others {
            0 => format!("change {change}: there is no other sidecar"),
            others => format!("change {change}: none of {others} other sidecars goes on without it"),
        });
    }
    let mut lines =
        vec![format!("change {change}: {} of {others} other sidecars have not followed it yet", behind.len())];
    lines.extend(behind.iter().map(|one| {
        let (name, until, heard) = (text(one, "sidecar"), text(one, "until"), text(one, "heard"));
        format!("  sidecar {name} may go on until {until} if it cannot reach the store; last heard {heard}")
    }));
    lines.push(format!("ask again: keyward keyring followed --change {change}"));
    Some(lines.join("\n"))
}
