//! `keyward custody ...`: who the custodians are: their genesis, the roster for auditors, and the end of a key. Whatever
//! people sign here is computed here, from the text, and not believed of the sidecar.

mod accept;
mod genesis;
mod print;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::durable::Disk;
use crate::names::PrincipalName;

use super::connect::{Listener, Target, block_on};
use super::failure::{Context, Exit, Failure};

pub(super) use genesis::public_key;
pub(super) use print::{digest, duties};

/// Who the custodians are: their genesis, the roster, and the end of a key.
#[derive(Debug, Subcommand)]
pub(super) enum Custody {
    /// Show the custodians and what is wrong with custody
    Show(Show),
    /// Draw up the first roster from people and their public keys; nothing is changed yet
    Draft(genesis::Draft),
    /// Sign the first roster, after reading its digest aloud with the others
    Sign(genesis::Sign),
    /// Put the first roster in force, signed by everybody on it; from then on one person changes no keys
    Found(genesis::Found),
    /// Write every roster there was into a file, for auditors: `keyward ceremony verify` needs it
    Roster(RosterFile),
    /// Show that a key is in your hands and accept the duties, before a ceremony enrols you with it
    Accept(accept::Accept),
    /// Print the guarded settings of a configuration with their digest; nothing is asked or changed
    Settings(settings::Settings),
    /// End a person's keys, or one of them, at once; it takes one person, and the way back a ceremony
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct RosterFile {
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// Whose
    #[arg(value_name = "NAME")]
    person: PrincipalName,
    /// Only this key; all of the person's without it
    #[arg(long, value_name = "SHA256:...")]
    fingerprint: Option<String>,
    /// Why
    #[arg(long, value_parser = ["lost-token", "leaving", "for-cause", "role-change", "suspicion"])]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Custody {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Show(show) => show.run(),
            Self::Draft(draft) => draft.run(),
            Self::Sign(sign) => sign.run(),
            Self::Found(found) => found.run(),
            Self::Roster(roster) => roster.run(),
            Self::Accept(accept) => accept.run(),
            Self::Settings(settings) => settings.run(),
            Self::Revoke(revoke) => revoke.run(),
        }
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let answer = self.target.connect(Listener::Control).await?.ask("GET", "/v1/custody", None).await?;
            print::custody(&answer, self.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl RosterFile {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let answer = self.target.connect(Listener::Control).await?.ask("GET", "/v1/roster", None).await?;
            new_file(&self.out, format!("{answer}\n").as_bytes())?;
            let generations = answer["rosters"].as_array().map_or(0, Vec::len);
            println!("wrote {generations} generations of the roster to {}", self.out.display());
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Revoke {
    fn run(self) -> Result<ExitCode, Failure> {
        let mut body = json!({ "reason": self.reason });
        if let Some(fingerprint) = &self.fingerprint {
            body["fingerprint"] = json!(fingerprint);
        }
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let path = format!("/v1/custodians/{}/revoke", self.person);
            let answer = sidecar.ask("POST", &path, Some(&body)).await?;
            if !self.json {
                let what = self.fingerprint.as_deref().unwrap_or("every key");
                println!(
                    "{what} of {} counts no more; what it signed and was not carried out yet is void",
                    self.person
                );
            }
            print::custody(&answer, self.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Writes what people hand on: readable by all, and never over something else.
pub(super) fn new_file(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = Disk::real().write_new(path, bytes, 0o644);
    written.doing(Exit::CannotCreate, "nothing was written").map_err(|failure| failure.hint("name a file that is new"))
}
