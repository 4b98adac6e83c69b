//! `keyward lock ...`: stop a principal, a keyring or the sidecar at once, and see what is stopped.

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::names::{KeyringName, PrincipalName};

use super::ceremony::Output;
use super::connect::{Listener, block_on};
use super::failure::{Exit, Failure, exit};

/// Stop a principal, a keyring or the sidecar at once; with custodians only a ceremony lifts it.
#[derive(Debug, Subcommand)]
pub(super) enum Lock {
    /// Lock at once; it takes one person
    Engage(Engage),
    /// List locks; ends with 1 while there is one in force
    List(List),
    /// Lift a lock while there are no custodians; with them: `keyward ceremony propose sidecar.unlock`
    Release(Release),
}

#[derive(Debug, clap::Args)]
struct What {
    /// Everything that this principal asks for; ceremonies go on
    #[arg(long, value_name = "NAME", conflicts_with = "keyring")]
    principal: Option<PrincipalName>,
    /// The values of this keyring; without it and --principal the whole sidecar
    #[arg(long, value_name = "NAME")]
    keyring: Option<KeyringName>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Engage {
    #[command(flatten)]
    what: What,
    /// Stop sealing too: without it only what opens and moves values stops, so that nothing that is written is lost. A
    /// principal is stopped whole in any case
    #[arg(long)]
    everything: bool,
    /// Why
    #[arg(long, value_parser = ["incident", "suspicion", "personnel", "mistake", "exercise"])]
    reason: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Release {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    output: Output,
}

impl Lock {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Engage(engage) => {
                let Engage { what, everything, reason, output } = engage;
                let whole = everything || what.principal.is_some();
                let level = if whole { "everything" } else { "opening" };
                let body = json!({ "lock": what.text(), "level": level, "reason": reason });
                ask(&output, "POST", "/v1/locks/engage", Some(&body)).map(|_| ExitCode::SUCCESS)
            }
            Self::Release(Release { what, output }) => {
                let body = json!({ "lock": what.text() });
                ask(&output, "POST", "/v1/locks/release", Some(&body)).map(|_| ExitCode::SUCCESS)
            }
            Self::List(List { output }) => {
                let any = ask(&output, "GET", "/v1/locks", None)?;
                Ok(if any { exit(Exit::Finding) } else { ExitCode::SUCCESS })
            }
        }
    }
}

impl What {
    fn text(&self) -> String {
        match (&self.principal, &self.keyring) {
            (Some(principal), _) => format!("principal/{principal}"),
            (None, Some(keyring)) => format!("keyring/{keyring}"),
            (None, None) => "sidecar".to_owned(),
        }
    }
}

/// Asks and shows; whether a lock is in force.
fn ask(output: &Output, method: &'static str, path: &str, body: Option<&Value>) -> Result<bool, Failure> {
    block_on(async {
        let answer = output.target.connect(Listener::Control).await?.ask(method, path, body).await?;
        show(&answer, output.json);
        let in_force = |one: &Value| one["released"].is_null();
        Ok(answer["locks"].as_array().is_some_and(|locks| locks.iter().any(in_force)))
    })
}

fn show(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["lock", "stops", "since", "by", "reason", "lifted"]);
    for one in answer["locks"].as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        let lifted = match (one["released"].as_str(), one["released_by"].as_str()) {
            (Some(at), Some(by)) => format!("{at} by {by}"),
            _ => "no".to_owned(),
        };
        table.add_row([text("lock"), text("level"), text("since"), text("by"), text("reason"), lifted]);
    }
    println!("{table}");
}
