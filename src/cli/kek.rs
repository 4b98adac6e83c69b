//! `keyward kek create|show|login`: the key-encryption key in its token.

use std::process::ExitCode;

use clap::Subcommand;

use crate::app;
use crate::config::Config;
use crate::names::KekName;

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

/// Which of the configured ones.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The NAME of its [kek.NAME]; the primary if not given
    #[arg(long, value_name = "NAME")]
    kek: Option<KekName>,
    #[command(flatten)]
    config: super::ConfigPath,
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// Forget the refused PIN; the next start tries once more
    #[arg(long, required = true)]
    clear: bool,
    #[command(flatten)]
    which: Which,
}

impl KekCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(create) => {
                let Which { kek, config: path } = create.which;
                let config = super::check::load(&path.config)?;
                super::serve::protect(&config)?;
                let made = app::create_kek(&config, kek.as_ref());
                print(&block_on(async { made.await.map_err(|error| failed(&error)) })?);
                println!("next: keyward init --config {}", path.config.display());
                Ok(ExitCode::SUCCESS)
            }
            Self::Show(show) => {
                let Which { kek, config } = show.which;
                let config = super::check::load(&config.config)?;
                super::serve::protect(&config)?;
                let found = app::inspect_kek(&config, kek.as_ref());
                let found = block_on(async { found.await.map_err(|error| failed(&error)) })?;
                print(&found);
                Ok(if found.objection.is_none() { ExitCode::SUCCESS } else { super::failure::exit(Exit::Finding) })
            }
            Self::Login(login) => {
                let Which { kek, config } = login.which;
                let config = super::check::load(&config.config)?;
                let lifted = app::clear_kek_login(&config, kek.as_ref()).map_err(|error| failed(&error))?;
                println!("{lifted} refused logins forgotten; the next start tries the PIN once");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Makes the key in the token of a configuration, unless it is there.
pub(super) async fn ensure(config: &Config) -> Result<(), Failure> {
    if app::inspect_kek(config, None).await.is_err() {
        app::create_kek(config, None).await.map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn failed(error: &app::KekError) -> Failure {
    let failure = Failure::new(Exit::Unavailable, chain(error));
    match error {
        app::KekError::NoToken(kek) => failure.hint(format!(
            "only keys in tokens are made and shown here; [kek.{kek}] is proven by `keyward init` and at each start"
        )),
        app::KekError::NoKek(_) => failure.hint("name one that [keyring] uses; without --kek it is the primary"),
        app::KekError::Token(_) | app::KekError::Files(_) => failure,
    }
}

fn print(key: &app::TokenKey) {
    let app::TokenKey { facts, attributes, objection, .. } = key;
    println!("token       {} {} serial {} ({})", facts.manufacturer, facts.model, facts.serial, facts.version);
    for line in attributes.lines() {
        println!("            {line}");
    }
    match objection {
        Some(objection) => eprintln!("warning: this key must not be used: {objection}"),
        None => println!("fit for use as a key-encryption key"),
    }
}
