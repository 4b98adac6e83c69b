//! `keyward kek create|show|login`: the key-encryption key in its token.

use std::process::ExitCode;

use clap::Subcommand;

use crate::app;
use crate::config::Config;

use super::connect::block_on;
use super::failure::{Exit, Failure, chain};

/// Make and show the key-encryption key.
#[derive(Debug, Subcommand)]
pub(super) enum KekCommand {
    /// Generate the key-encryption key inside the token, never extractable
    Create(Create),
    /// Show what the token says of the key-encryption key
    Show(Show),
    /// Allow logins again after the token refused a PIN and the cause was removed
    Login(Login),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    config: super::ConfigPath,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    config: super::ConfigPath,
}

#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// Forget the refused PIN; the next start tries once more
    #[arg(long, required = true)]
    clear: bool,
    #[command(flatten)]
    config: super::ConfigPath,
}

impl KekCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(create) => {
                let config = super::check::load(&create.config.config)?;
                super::serve::protect(&config)?;
                let made = block_on(async { app::create_kek(&config).await.map_err(|error| failed(&error)) })?;
                print(&made);
                println!("next: keyward init --config {}", create.config.config.display());
                Ok(ExitCode::SUCCESS)
            }
            Self::Show(show) => {
                let config = super::check::load(&show.config.config)?;
                super::serve::protect(&config)?;
                let found = block_on(async { app::inspect_kek(&config).await.map_err(|error| failed(&error)) })?;
                print(&found);
                Ok(if found.objection.is_none() { ExitCode::SUCCESS } else { super::failure::exit(Exit::Finding) })
            }
            Self::Login(login) => {
                let config = super::check::load(&login.config.config)?;
                let lifted = app::clear_kek_login(&config).map_err(|error| failed(&error))?;
                println!("{lifted} refused logins forgotten; the next start tries the PIN once");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Makes the key in the token of a configuration, unless it is there.
pub(super) async fn ensure(config: &Config) -> Result<(), Failure> {
    if app::inspect_kek(config).await.is_err() {
        app::create_kek(config).await.map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn failed(error: &app::KekError) -> Failure {
    let failure = Failure::new(Exit::Unavailable, chain(error));
    match error {
        app::KekError::NoToken => failure.hint("set type = \"pkcs11\" in [kek.primary]"),
        app::KekError::Token(_) | app::KekError::Files(_) => failure,
    }
}

fn print(key: &app::TokenKey) {
    let app::TokenKey { facts, attributes, objection } = key;
    println!("token       {} {} serial {} ({})", facts.manufacturer, facts.model, facts.serial, facts.version);
    for line in attributes.lines() {
        println!("            {line}");
    }
    match objection {
        Some(objection) => eprintln!("warning: this key must not be used: {objection}"),
        None => println!("fit for use as a key-encryption key"),
    }
}
