//! What is there of a KEK, and what makes its next version? For operators: apart from a running sidecar, and without a
//! wrap ever being opened.

use std::path::Path;

use crate::clock::SharedClock;
use crate::durable::Disk;

use super::pkcs11::{Made, Pkcs11Kek, TokenKey};
use super::software::{DevelopmentOnly, SoftwareKek};
use super::transit::TransitKek;
use super::{Deployment, Kek, KekFacts, Settings, StartError};

/// A KEK as its token, server or file shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekReport {
    /// Where it is.
    pub facts: KekFacts,
    /// The version of new wraps.
    pub version: u32,
    /// What the token or server says of that version, `NAME=value`; empty for a file.
    pub attributes: Vec<String>,
    /// Why it must not be used as a KEK; None if it may.
    pub objection: Option<String>,
    /// Every version that is there, ascending.
    pub versions: Vec<KekVersion>,
}

/// A version of a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekVersion {
    /// 1, 2, ...
    pub number: u32,
    /// How the token calls it, and what else is known of it; empty if nothing is.
    pub about: String,
    /// Why it neither wraps nor unwraps; None if it does.
    pub objection: Option<String>,
}

/// A version that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The KEK as it is now.
    pub report: KekReport,
    /// The newest version there is by this.
    pub version: u32,
    /// What was made; empty if all of it was there.
    pub made: Vec<String>,
    /// How sidecars come to use it.
    pub uptake: Uptake,
}

/// How sidecars come to wrap by a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uptake {
    /// `key_version` names another one: it must be changed, and each sidecar restarted.
    Configured,
    /// Each within a minute, where its library shows new keys to running processes; else with its next start.
    Looking,
    /// With its next wrap.
    AtOnce,
}

/// What is there of a KEK.
pub async fn inspect(
    settings: Settings,
    deployment: Deployment,
    clock: SharedClock,
    disk: Disk,
) -> Result<KekReport, StartError> {
    match settings {
        Settings::Pkcs11(settings) => Ok(Pkcs11Kek::inspect(*settings, deployment, clock, disk).await?.into()),
        Settings::Transit(settings) => TransitKek::inspect(*settings, deployment, clock).await,
        Settings::Software(settings) => {
            let kek = SoftwareKek::open(&settings, DevelopmentOnly::confirm(deployment, &settings)?)?;
            Ok(software(&kek, &settings.file))
        }
    }
}

/// Makes the version after the current one, or `to`; one that is there already is left as it is.
pub async fn rotate(
    settings: Settings,
    to: Option<u32>,
    deployment: Deployment,
    clock: SharedClock,
    disk: Disk,
) -> Result<Rotated, StartError> {
    match settings {
        Settings::Pkcs11(settings) => {
            let uptake = if settings.key_version.is_some() { Uptake::Configured } else { Uptake::Looking };
            let Made { key, labels } = Pkcs11Kek::rotate_key(*settings, to, deployment, clock, disk).await?;
            Ok(Rotated { version: key.version, report: key.into(), made: labels, uptake })
        }
        Settings::Transit(settings) => TransitKek::rotate(*settings, to, deployment, clock).await,
        Settings::Software(settings) => {
            let allowed = DevelopmentOnly::confirm(deployment, &settings)?;
            let (version, made) = SoftwareKek::rotate_file(&disk, &settings.file, to)?;
            let report = software(&SoftwareKek::open(&settings, allowed)?, &settings.file);
            let made =
                if made { vec![format!("version {version} in {}", settings.file.display())] } else { Vec::new() };
            Ok(Rotated { report, version, made, uptake: Uptake::AtOnce })
        }
    }
}

fn software(kek: &SoftwareKek, file: &Path) -> KekReport {
    let version = |number| KekVersion { number, about: String::new(), objection: None };
    KekReport {
        facts: KekFacts { key: file.display().to_string(), ..kek.facts() },
        version: kek.current_version().unwrap_or_default(),
        attributes: Vec::new(),
        objection: None,
        versions: kek.versions().into_iter().map(version).collect(),
    }
}

impl From<TokenKey> for KekReport {
    fn from(key: TokenKey) -> Self {
        let TokenKey { facts, version, attributes, objection, versions } = key;
        Self { facts, version, attributes: attributes.lines(), objection, versions }
    }
}
