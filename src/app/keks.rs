//! The key-encryption key apart from a running sidecar: made, looked at, unlocked again after a refused PIN.

use std::path::Path;
use std::process::ExitCode;

use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;
use crate::durable::{Disk, DurableError};
use crate::kek::pkcs11::{self, Pkcs11Kek};
use crate::kek::{self, Settings, SoftwareKek, StartError};
use crate::names::KekName;

pub use crate::kek::{KekReport, Rotated, Uptake};

/// Why a key-encryption key could not be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The configuration has another kind of key there.
    #[error("[kek.{0}] is no key in a token")]
    NoToken(KekName),
    /// The configuration has no such key.
    #[error("there is no [kek.{0}]")]
    NoKek(KekName),
    /// The token says no, or is away.
    #[error(transparent)]
    Token(#[from] StartError),
    /// The state directory cannot be made or changed.
    #[error("cannot use the state directory")]
    Files(#[from] DurableError),
}

/// The process that holds a token's library.
pub fn kek_worker() -> ExitCode {
    pkcs11::worker_main()
}

/// Writes a software key for development.
pub fn create_software_kek(disk: &Disk, path: &Path) -> Result<(), StartError> {
    SoftwareKek::create_file(disk, path)
}

/// Generates the key-encryption key in the token. The state directory is made if there is none yet, since a refused PIN
/// must be remembered there.
pub async fn create_kek(config: &Config, kek: Option<&KekName>) -> Result<KekReport, KekError> {
    let settings = token(config, kek)?;
    make_latches(config)?;
    let disk = Disk::real();
    Ok(Pkcs11Kek::create_key(settings, super::deployment(config.environment), clock(), disk).await?.into())
}

/// Every problem of the key-encryption keys that shows without a token.
pub fn kek_problems(config: &Config) -> Vec<StartError> {
    let deployment = super::deployment(config.environment);
    let of = |settings: &Settings| match settings {
        Settings::Pkcs11(settings) => Pkcs11Kek::problems(settings, deployment),
        Settings::Software(_) | Settings::Transit(_) => Vec::new(),
    };
    config.keks.iter().flat_map(of).collect()
}

/// What the token, server or file holds. The state directory is made if there is none yet, as for a new key.
pub async fn inspect_kek(config: &Config, kek: Option<&KekName>) -> Result<KekReport, KekError> {
    let settings = named(config, kek)?;
    make_latches(config)?;
    Ok(kek::inspect(settings.clone(), super::deployment(config.environment), clock(), Disk::real()).await?)
}

/// Makes the next version of a key-encryption key, or the one that is named, unless it is there.
pub async fn rotate_kek(config: &Config, kek: Option<&KekName>, to: Option<u32>) -> Result<Rotated, KekError> {
    let settings = named(config, kek)?;
    make_latches(config)?;
    Ok(kek::rotate(settings.clone(), to, super::deployment(config.environment), clock(), Disk::real()).await?)
}

fn make_latches(config: &Config) -> Result<(), DurableError> {
    let missing = [config.state.0.clone(), config.state.latches()].into_iter().filter(|dir| !dir.exists());
    missing.into_iter().try_for_each(|dir| Disk::real().create_dir(&dir, 0o700))
}

/// Forgets refused PINs; the number of latches that were lifted.
pub fn clear_kek_login(config: &Config, kek: Option<&KekName>) -> Result<usize, KekError> {
    let settings = token(config, kek)?;
    Ok(pkcs11::clear_login(&Disk::real(), &config.state.latches(), &settings.name)?)
}

/// The one with this name, or the primary.
fn named<'a>(config: &'a Config, kek: Option<&KekName>) -> Result<&'a Settings, KekError> {
    match kek {
        None => Ok(&config.keks.primary),
        Some(name) => config.keks.named(name).ok_or_else(|| KekError::NoKek(name.clone())),
    }
}

fn token(config: &Config, kek: Option<&KekName>) -> Result<pkcs11::Pkcs11Settings, KekError> {
    match named(config, kek)? {
        Settings::Pkcs11(settings) => Ok(settings.as_ref().clone()),
        other @ (Settings::Software(_) | Settings::Transit(_)) => Err(KekError::NoToken(other.name().clone())),
    }
}

fn clock() -> SharedClock {
    std::sync::Arc::new(SystemClock)
}
