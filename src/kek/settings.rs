//! Which key-encryption key does the configuration ask for, and may it start? Settings in, a running KEK out.
//! This module never weakens a setting: what is wrong stops the start, what is merely away does not.

use std::sync::Arc;

use crate::clock::SharedClock;
use crate::durable::Disk;
use crate::names::KekName;

use super::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use super::profile::ProfileError;
use super::software::{DevelopmentOnly, SoftwareKek, SoftwareSettings};
use super::transit::{TransitKek, TransitSettings};
use super::{EventSink, Kek, KekError, KekEvent, PrivateFileError};

/// Where the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// A KEK in a file is possible.
    Development,
    /// Hardware or a KMS only.
    Production,
}

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// A file, for development.
    Software(SoftwareSettings),
    /// A token.
    Pkcs11(Box<Pkcs11Settings>),
    /// A transit engine of Vault or OpenBao.
    Transit(Box<TransitSettings>),
}

impl Settings {
    /// The same, for the one run that makes the store key itself and so need not know it by its check value.
    #[must_use]
    pub fn founding(self) -> Self {
        match self {
            Self::Pkcs11(settings) => Self::Pkcs11(Box::new(Pkcs11Settings { store_key_pinned: true, ..*settings })),
            other @ (Self::Software(_) | Self::Transit(_)) => other,
        }
    }

    /// The name in the configuration.
    pub const fn name(&self) -> &KekName {
        match self {
            Self::Software(settings) => &settings.name,
            Self::Pkcs11(settings) => &settings.name,
            Self::Transit(settings) => &settings.name,
        }
    }

    /// Whether both lead to one key, under whatever names: then they are no two wraps.
    pub fn same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Software(one), Self::Software(two)) => one.file == two.file,
            (Self::Transit(one), Self::Transit(two)) => {
                let place = |server: &TransitSettings| {
                    (server.address.clone(), server.namespace.clone(), server.mount.clone(), server.key.clone())
                };
                place(one) == place(two)
            }
            (Self::Pkcs11(one), Self::Pkcs11(two)) => {
                let place = |token: &Pkcs11Settings| {
                    let Pkcs11Settings { profile, module, token_label, token_serial, key_label, env, .. } =
                        token.clone();
                    (profile, module, token_label, token_serial, key_label, env)
                };
                place(one) == place(two)
            }
            _ => false,
        }
    }
}

/// Why a key-encryption key does not start. An absent token is no reason: it starts unreachable and recovers by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A software KEK where none may be.
    #[error("the software key-encryption key {kek} is for development only, and {reason}")]
    SoftwareForbidden {
        /// Which KEK.
        kek: KekName,
        /// What forbids it.
        reason: &'static str,
    },
    /// The file of a software KEK is not as it must be.
    #[error("the software key-encryption key cannot be used: {0}")]
    KeyFile(PrivateFileError),
    /// The profile is unknown or wrong.
    #[error("the key-encryption key {kek} cannot start: {problem}")]
    Profile {
        /// Which KEK.
        kek: KekName,
        /// What is wrong with it.
        problem: ProfileError,
    },
    /// A setting is wrong.
    #[error("the key-encryption key {kek} cannot start: {problem}")]
    Setting {
        /// Which KEK.
        kek: KekName,
        /// What to change.
        problem: String,
    },
    /// The PIN cannot be read, or others could read it.
    #[error("the PIN of the key-encryption key {kek} cannot be used: {problem}")]
    Pin {
        /// Which KEK.
        kek: KekName,
        /// What to change.
        problem: String,
    },
    /// The token answered, and what it holds must not be used.
    #[error("the key-encryption key {kek} is not fit for use: {problem}")]
    Unfit {
        /// Which KEK.
        kek: KekName,
        /// What is wrong with it.
        problem: String,
    },
    /// The token or KMS could not be reached or refused.
    #[error("{0}")]
    Kek(#[from] KekError),
}

/// Starts the KEK that the settings ask for. Must run within a tokio runtime, which keeps the KEK's task.
pub async fn start(
    settings: Settings,
    deployment: Deployment,
    clock: SharedClock,
    disk: Disk,
    events: EventSink,
) -> Result<Arc<dyn Kek>, StartError> {
    match settings {
        Settings::Pkcs11(settings) => Ok(Pkcs11Kek::start(*settings, deployment, clock, disk, events).await?),
        Settings::Transit(settings) => Ok(TransitKek::start(*settings, deployment, clock, events).await?),
        Settings::Software(settings) => {
            let allowed = DevelopmentOnly::confirm(deployment, &settings)?;
            let kek = SoftwareKek::open(&settings, allowed)?;
            events.emit(KekEvent::Admitted {
                kek: settings.name,
                version: kek.current_version().unwrap_or(1),
                facts: Box::new(kek.facts()),
                attributes: Vec::new(),
            });
            Ok(Arc::new(kek))
        }
    }
}
