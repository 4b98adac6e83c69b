//! `keyward init`: makes the state directory of a new sidecar; `--development DIR` writes everything one needs to try it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{self, StoreHead};
use crate::clock::SystemClock;
use crate::durable::Disk;

use super::connect::block_on;
use super::failure::{Context, Exit, Failure};

/// Make the store, the log and their keys for a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Write a complete development set-up into this new directory: configuration, policy, software KEK, state
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    development: Option<PathBuf>,
    /// Make one more sidecar for the store that [store] names, which ends at this head or later: the newest `store_head`
    /// in the log of a sidecar that runs
    #[arg(long, value_name = "HEAD", conflicts_with = "development", requires = "store_key_check")]
    join: Option<StoreHead>,
    /// The check value of the store's key, as the first init printed it
    #[arg(long, value_name = "HEX", requires = "join")]
    store_key_check: Option<Check>,
}

/// 32 hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check([u8; 16]);

impl std::str::FromStr for Check {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut check = Self([0; 16]);
        hex::decode_to_slice(text, &mut check.0).map_err(|_| "not 32 hexadecimal digits")?;
        Ok(check)
    }
}

/// The token of a development set-up; without one a software KEK in a file is used.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Token {
    /// Use a real token: the path of its PKCS#11 library
    #[arg(long, value_name = "FILE", requires_all = ["token_label", "pin_file"])]
    pub(super) pkcs11_module: Option<PathBuf>,
    /// The token's label
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pub(super) token_label: Option<String>,
    /// A file with the user PIN, readable by you alone
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pub(super) pin_file: Option<PathBuf>,
    /// The profile of the product
    #[arg(long, value_name = "PROFILE", default_value = "softhsm2", requires = "pkcs11_module")]
    pub(super) profile: String,
    /// The label of the key-encryption key in the token
    #[arg(long, value_name = "LABEL", default_value = "keyward-kek-{version}", requires = "pkcs11_module")]
    pub(super) key_label: String,
}

impl Init {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = match &self.development {
            Some(dir) => development(dir, &Token::default())?,
            None => self.config.config,
        };
        let founded = match (self.join, self.store_key_check) {
            (Some(head), Some(check)) => {
                let founded = block_on(join(&config, head, check))?;
                println!("joined store {} with a log of its own in {}", founded.store, founded.state.display());
                founded
            }
            _ => {
                let founded = block_on(found(&config))?;
                println!("made store {} and its log in {}", founded.store, founded.state.display());
                founded
            }
        };
        println!("log key: {}", founded.log_key);
        println!("store key check: {}", founded.store_key_check);
        println!("keep the log key where auditors can read it and this machine cannot change it");
        println!("next: keyward serve --config {}", config.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the state of a configuration.
pub(super) async fn found(config: &Path) -> Result<app::Founded, Failure> {
    let config = super::check::load(config)?;
    super::serve::protect(&config)?;
    found_with(&config).await
}

async fn join(config: &Path, head: StoreHead, check: Check) -> Result<app::Founded, Failure> {
    let config = super::check::load(config)?;
    super::serve::protect(&config)?;
    app::join(&config, head, check.0, Arc::new(SystemClock))
        .await
        .map_err(|error| Failure::new(Exit::CannotCreate, super::failure::chain(&error)).hint(error.hint()))
}

/// Makes the state; the process is protected already.
pub(super) async fn found_with(config: &crate::config::Config) -> Result<app::Founded, Failure> {
    app::found(config, Arc::new(SystemClock))
        .await
        .map_err(|error| Failure::new(Exit::CannotCreate, super::failure::chain(&error)).hint(error.hint()))
}

/// Writes a development set-up into a new directory and returns its configuration file.
pub(super) fn development(dir: &Path, token: &Token) -> Result<PathBuf, Failure> {
    let disk = Disk::real();
    let what = || format!("cannot make {}", dir.display());
    disk.create_dir(dir, 0o700).doing(Exit::CannotCreate, what()).map_err(|failure| failure.hint(way_out(dir)))?;
    let dir = dir.canonicalize().doing(Exit::CannotCreate, what())?;
    for inner in ["policies", "run"] {
        disk.create_dir(&dir.join(inner), 0o700).doing(Exit::CannotCreate, what())?;
    }
    let policy = dir.join("policies/development.cedar");
    disk.write_new(&policy, DEVELOPMENT_POLICY.as_bytes(), 0o600).doing(Exit::CannotCreate, what())?;
    let config = dir.join("keyward.toml");
    let text = development_config(&dir, token);
    disk.write_new(&config, text.as_bytes(), 0o600).doing(Exit::CannotCreate, what())?;
    if token.pkcs11_module.is_none() {
        app::create_software_kek(&disk, &dir.join("kek")).doing(Exit::CannotCreate, what())?;
    }
    Ok(config)
}

/// What to do about a directory that cannot be made.
fn way_out(dir: &Path) -> String {
    let config = dir.join("keyward.toml");
    if config.exists() {
        format!("name another directory, or start what is there: keyward serve --config {}", config.display())
    } else {
        "name a new directory whose parent exists and is yours".to_owned()
    }
}

const DEVELOPMENT_POLICY: &str = include_str!("../../policies/development.cedar");

fn development_config(dir: &Path, token: &Token) -> String {
    let uid = rustix::process::getuid().as_raw();
    let at = |name: &str| toml::Value::String(dir.join(name).display().to_string());
    format!(
        "# A development set-up: one user is application, operator and auditor, and the KEK may be a plain file.\n\
         schema = 1\nenvironment = \"development\"\nstate_dir = {state}\n\n\
         [listen]\ndata = {data}\ndata_mode = \"0600\"\ncontrol = {control}\nhealth = \"127.0.0.1:0\"\n\n\
         [kek.primary]\n{kek}\n\
         [policy]\ndir = {policies}\n\n\
         [memory]\non_lock_failure = \"warn\"\n\n\
         [[principal]]\nname = \"demo\"\nkind = \"service\"\nuids = [{uid}]\n\n\
         [[principal]]\nname = \"operator\"\nkind = \"operator\"\nuids = [{uid}]\n",
        state = at("state"),
        data = at("run/data.sock"),
        control = at("run/control.sock"),
        policies = at("policies"),
        kek = kek_section(dir, token),
    )
}

fn kek_section(dir: &Path, token: &Token) -> String {
    let text = |value: &Path| toml::Value::String(value.display().to_string());
    match (&token.pkcs11_module, &token.token_label, &token.pin_file) {
        (Some(module), Some(label), Some(pin)) => format!(
            "type = \"pkcs11\"\nprofile = {profile}\nmodule = {module}\ntoken_label = {label}\nkey_label = {key}\npin_file = {pin}\n{env}",
            profile = toml::Value::String(token.profile.clone()),
            module = text(module),
            label = toml::Value::String(label.clone()),
            key = toml::Value::String(token.key_label.clone()),
            pin = text(&pin.canonicalize().unwrap_or_else(|_| pin.clone())),
            env = softhsm_env(),
        ),
        _ => format!(
            "type = \"software\"\nfile = {}\ninsecure_software_kek_for_development = true\n",
            text(&dir.join("kek"))
        ),
    }
}

/// SoftHSM finds its tokens by this variable; it is passed on as the shell has it.
#[expect(clippy::disallowed_methods, reason = "the command line is one of the two doors to the environment")]
fn softhsm_env() -> String {
    std::env::var("SOFTHSM2_CONF")
        .map_or(String::new(), |path| format!("env = {{ SOFTHSM2_CONF = {} }}\n", toml::Value::String(path)))
}
