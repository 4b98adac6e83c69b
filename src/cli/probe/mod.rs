//! `keyward hsm probe`: does a profile hold on a token, or what would one say?

mod print;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::durable::{Disk, TemporaryDir};
use crate::kek::probe::{self, ProbeError, Report, Target, TokenTarget};
use crate::kek::profile::ProfileChoice;

use super::connect::block_on;
use super::failure::{Context, Exit, Failure};

/// Try what a token does, with random bytes and temporary keys.
///
/// With --profile: does the profile hold? Each of its methods is tried, and its return codes, attributes and session limit are
/// compared; exit code 1 if anything contradicts it. Without: everything is tried and a profile is drafted. Without
/// --token-label: only the library, its slots and mechanisms are listed, without a login.
///
/// A refused PIN is not tried again, but the token counts it like any other; with --state-dir the next probe knows of it too.
/// Nothing stays in the token, and keys that are there are not touched, except one named by --key-label.
#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    /// A shipped profile's id, or the path of a file (with a slash in it)
    #[arg(long, value_name = "ID|PATH")]
    profile: Option<String>,
    /// The vendor's library; by default the first of the profile's paths that exists
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    /// The label of the token to try
    #[arg(long, value_name = "LABEL")]
    token_label: Option<String>,
    /// Its serial number, where several tokens have the label
    #[arg(long, value_name = "SERIAL", requires = "token_label")]
    token_serial: Option<String>,
    /// The file with the PIN, mode 0600
    #[arg(long, value_name = "FILE", requires = "token_label")]
    pin_file: Option<PathBuf>,
    /// Use this key-encryption key of the token, in the profile's own way only, instead of temporary keys
    #[arg(long, value_name = "LABEL", requires = "token_label")]
    key_label: Option<String>,
    /// Try only this method of the profile (aes-gcm, or aes-gcm/caller)
    #[arg(long, value_name = "METHOD", requires_all = ["profile", "token_label"])]
    method: Option<String>,
    /// Do not measure how fast the methods of the profile are
    #[arg(long, requires = "profile")]
    no_rates: bool,
    /// A variable for the library; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The string for C_Initialize's pReserved, instead of the profile's
    #[arg(long, value_name = "TEXT")]
    reserved: Option<String>,
    /// Write the drafted profile here, instead of printing it
    #[arg(long, value_name = "FILE", conflicts_with = "profile", requires = "token_label")]
    draft: Option<PathBuf>,
    /// Where to remember a refused PIN (an existing directory); by default nowhere
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print JSON; hsm-profiles/README.md describes it
    #[arg(long)]
    json: bool,
}

impl Probe {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let temporary = match &self.state_dir {
            Some(_) => None,
            None => Some(
                TemporaryDir::make("keyward-probe").doing(Exit::CannotCreate, "cannot make a temporary directory")?,
            ),
        };
        let state_dir = match (&self.state_dir, &temporary) {
            (Some(given), _) => given.clone(),
            (None, Some(made)) => made.path().to_path_buf(),
            (None, None) => return Err(Failure::new(Exit::Software, "no state directory")),
        };
        let target = self.target(state_dir)?;
        let report = block_on(async {
            let probed = probe::probe(target, Arc::new(SystemClock), Disk::real(), &|what| eprintln!("{what} ..."));
            probed.await.map_err(|error| failed(&error))
        })?;
        self.show(&report)
    }

    fn target(&self, state_dir: PathBuf) -> Result<Target, Failure> {
        let choice = |text: &String| match text.contains('/') {
            true => ProfileChoice::File(PathBuf::from(text)),
            false => ProfileChoice::Shipped(text.clone()),
        };
        let token = self.token_label.clone().map(|label| TokenTarget {
            label,
            serial: self.token_serial.clone(),
            pin_file: self.pin_file.clone(),
            key_label: self.key_label.clone(),
            method: self.method.clone(),
            rates: !self.no_rates,
        });
        Ok(Target {
            profile: self.profile.as_ref().map(choice),
            module: self.module.clone(),
            reserved: self.reserved.clone(),
            env: self.env.clone(),
            token,
            worker: super::check::this_program()?,
            state_dir,
        })
    }

    fn show(&self, report: &Report) -> Result<ExitCode, Failure> {
        let draft = report.token.as_ref().and_then(|token| token.draft.as_deref());
        if let (Some(path), Some(draft)) = (&self.draft, draft) {
            let written = Disk::real().write_new(path, draft.as_bytes(), 0o644);
            written.doing(Exit::CannotCreate, format!("cannot write {}", path.display()))?;
        }
        if self.json {
            let text = serde_json::to_string_pretty(report).doing(Exit::Software, "cannot encode the report")?;
            println!("{text}");
        } else if let (None, Some(draft)) = (&self.draft, draft) {
            // The draft is what is wanted on standard output: it can go straight into a file.
            eprint!("{}", print::text(report));
            print!("{draft}");
        } else {
            print!("{}", print::text(report));
        }
        verdict(report, self.profile.is_some())
    }
}

/// The exit code, and a word on why where it is not success.
fn verdict(report: &Report, held: bool) -> Result<ExitCode, Failure> {
    let Some(token) = &report.token else { return Ok(ExitCode::SUCCESS) };
    match (held, token.holds) {
        (true, Some(true)) => Ok(ExitCode::SUCCESS),
        (true, Some(false)) => Ok(super::failure::exit(Exit::Finding)),
        (true, None) => Err(Failure::new(Exit::Unavailable, "no method of the profile could be tried")
            .hint("make a key-encryption key as `keyward hsm show` says and name it by --key-label")),
        (false, _) if token.draft.is_some() => Ok(ExitCode::SUCCESS),
        (false, _) => Err(Failure::new(Exit::Finding, "no method works, so there is no draft")
            .hint("if the token makes no temporary keys, name a key-encryption key by --key-label")),
    }
}

fn failed(error: &ProbeError) -> Failure {
    let code = match error {
        ProbeError::Asked(_) => Exit::Usage,
        ProbeError::Away(_) => Exit::Unavailable,
        ProbeError::Refused(_) => Exit::Denied,
    };
    Failure::new(code, error)
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it must be NAME=VALUE".into()),
    }
}
