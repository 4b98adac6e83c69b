//! `keyward kek create|show|rotate|rewrap|retire|login`: the key-encryption key in its token, server or file.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::app;
use crate::config::Config;
use crate::names::KekName;

use super::connect::{Sidecar, block_on};
use super::failure::{Exit, Failure, chain};

/// Make and show the key-encryption key.
#[derive(Debug, Subcommand)]
pub(super) enum KekCommand {
    /// Generate the key-encryption key inside the token, never extractable
    Create(Create),
    /// Show what the token or server says of the key-encryption key and its versions
    Show(Show),
    /// Make the next version of the key-encryption key; the older ones still open what they wrapped
    Rotate(Rotate),
    /// Wrap every key by the current versions: after a rotation, a change of product, or for an escrow that is new
    Rewrap(super::rewrap::Rewrap),
    /// Record that a version wraps nothing any more; refused while it does
    Retire(super::rewrap::Retire),
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
pub(super) struct Rotate {
    /// The version to make: run again, it finds what is there and makes nothing twice; without it the one after the current
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
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
                let name = kek.as_ref().unwrap_or_else(|| config.keks.primary.name());
                periods(&config, name);
                Ok(if found.objection.is_none() { ExitCode::SUCCESS } else { super::failure::exit(Exit::Finding) })
            }
            Self::Rotate(rotate) => rotate.run(),
            Self::Rewrap(rewrap) => rewrap.run(),
            Self::Retire(retire) => retire.run(),
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

impl Rotate {
    fn run(self) -> Result<ExitCode, Failure> {
        let Which { kek, config: path } = self.which;
        let config = super::check::load(&path.config)?;
        super::serve::protect(&config)?;
        let rotated = app::rotate_kek(&config, kek.as_ref(), self.to);
        let app::Rotated { report, version, made, uptake } =
            block_on(async { rotated.await.map_err(|error| failed(&error)) })?;
        print(&report);
        match made.as_slice() {
            [] => println!("version {version} was there: nothing was made"),
            made => made.iter().for_each(|made| println!("made        {made}")),
        }
        let name = kek.as_ref().unwrap_or_else(|| config.keks.primary.name());
        next(name, version, uptake).iter().enumerate().for_each(|(at, step)| println!("next: {}. {step}", at + 1));
        Ok(ExitCode::SUCCESS)
    }
}

/// What the operator does now, in this order.
fn next(kek: &KekName, version: u32, uptake: app::Uptake) -> Vec<String> {
    let backup = "back up the token, and wait until every HSM of its cluster has the new key".to_owned();
    let restart = format!("set key_version = {version} in [kek.{kek}] and restart each sidecar, one after the other");
    let looking = "nothing in the configuration: each sidecar takes the new version up within a minute, or with its next \
         start where the library shows new keys to new processes only";
    let at_once = "nothing in the configuration: each sidecar wraps by the new version from its next wrap on";
    let mut steps = match uptake {
        app::Uptake::Configured => vec![backup, restart],
        app::Uptake::Looking => vec![backup, looking.to_owned()],
        app::Uptake::AtOnce => vec![at_once.to_owned()],
    };
    steps.push(
        "keyward kek rewrap --trigger schedule (or why it is done): every key is wrapped by the new version, each proven \
         before its old wrap goes"
            .into(),
    );
    steps.push(format!(
        "keep the older versions until nothing is wrapped by them: backups of {kek} may need them longer"
    ));
    steps
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
            "only keys in tokens are made and unlocked here; [kek.{kek}] is proven by `keyward init` and at each start"
        )),
        app::KekError::NoKek(_) => failure.hint("name one that [keyring] uses; without --kek it is the primary"),
        app::KekError::Token(_) | app::KekError::Files(_) => failure,
    }
}

/// Since when its versions wrap keys of the store: only a running sidecar knows, and only who may read the inventory.
fn periods(config: &Config, kek: &KekName) {
    let asked: Result<Value, Failure> =
        block_on(async { Sidecar::connect(&config.server.control_socket).await?.ask("GET", "/v1/keks", None).await });
    let Ok(answer) = asked else {
        println!("cryptoperiod of its versions: the running sidecar says it to whoever may read the inventory");
        return;
    };
    for one in answer["keks"].as_array().into_iter().flatten().filter(|one| one["kek"] == kek.as_str()) {
        println!("version     {} wraps keys of the store since {}, {}", one["version"], day(one, "since"), left(one));
    }
}

/// What is left of a cryptoperiod, in words.
pub(super) fn left(one: &Value) -> String {
    match (one["wraps"].as_bool(), one["days_left"].as_i64()) {
        (Some(false), _) => "and no new ones: rewrap and retire it".to_owned(),
        (_, Some(days)) if days < 0 => format!("its cryptoperiod is over since {}: rotate it", day(one, "expires")),
        (_, Some(days)) => format!("{days} d of its cryptoperiod left"),
        (_, None) => "-".to_owned(),
    }
}

fn day(one: &Value, key: &str) -> String {
    one[key].as_str().unwrap_or("-").chars().take(10).collect()
}

fn print(key: &app::KekReport) {
    let app::KekReport { facts, version, attributes, objection, versions } = key;
    match facts.kind {
        "software" => println!("file        {}, for development only", facts.key),
        "transit" => println!("key         {} of {} ({})", facts.serial, facts.manufacturer, facts.version),
        _ => println!("token       {} {} serial {} ({})", facts.manufacturer, facts.model, facts.serial, facts.version),
    }
    for line in attributes {
        println!("            {line}");
    }
    for known in versions {
        let about = if known.about.is_empty() { String::new() } else { format!(" {}:", known.about) };
        let does = if known.number == *version { "wraps and opens" } else { "opens" };
        match &known.objection {
            None => println!("version     {}{about} {does}", known.number),
            Some(objection) => println!("version     {}{about} is not used: {objection}", known.number),
        }
    }
    match objection {
        Some(objection) => eprintln!("warning: this key must not be used: {objection}"),
        None => println!("fit for use as a key-encryption key"),
    }
}
