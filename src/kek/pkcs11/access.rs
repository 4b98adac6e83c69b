//! How does one get at the token? A worker with the library loaded, the token found and the user logged in.
//! This module never tries a PIN that the latch forbids.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::durable::Disk;
use crate::kek::profile::{ErrorClass, Profile};
use crate::kek::{KekError, StartError};
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::Pkcs11Settings;
use super::link::{Answer, Link, Trouble};
use super::login::{Blocked, Login};
use super::message::{Fault, Request, TokenFacts};

/// Everything needed to open the token, checked.
pub(super) struct Access {
    pub(super) settings: Pkcs11Settings,
    pub(super) profile: Profile,
    pub(super) clock: SharedClock,
    module: String,
    login: Arc<Login>,
}

/// Why the token cannot be used now, by who must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setback {
    /// It is away: wait.
    Away(String),
    /// It said no: an operator.
    Denied(String),
    /// It holds something that must not be used: an operator, and at start a refusal.
    Unfit(String),
    /// The library does not load: at start a refusal; later it is as good as away, since an upgrade may be running.
    Library(String),
}

impl Setback {
    /// What a caller hears at run time.
    pub(super) fn as_kek_error(&self, kek: &KekName) -> KekError {
        let kek = kek.clone();
        match self {
            Self::Away(detail) | Self::Library(detail) => KekError::Unreachable { kek, detail: detail.clone() },
            Self::Denied(detail) | Self::Unfit(detail) => KekError::Denied { kek, detail: detail.clone() },
        }
    }

    /// In words.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Away(detail) | Self::Denied(detail) | Self::Unfit(detail) | Self::Library(detail) => detail,
        }
    }

    /// What stops a start.
    pub(super) fn as_start_error(&self, kek: &KekName) -> StartError {
        match self {
            Self::Away(_) | Self::Denied(_) => StartError::Kek(self.as_kek_error(kek)),
            Self::Unfit(problem) | Self::Library(problem) => {
                StartError::Unfit { kek: kek.clone(), problem: problem.clone() }
            }
        }
    }
}

impl Access {
    /// Checks the settings, loads the profile and reads the PIN. Touches no token.
    pub(super) fn prepare(settings: Pkcs11Settings, clock: SharedClock, disk: Disk) -> Result<Self, StartError> {
        let kek = settings.name.clone();
        let wrong = |problem: String| StartError::Setting { kek: kek.clone(), problem };
        let profile =
            Profile::load(&settings.profile).map_err(|problem| StartError::Profile { kek: kek.clone(), problem })?;
        settings.check(&profile).map_err(wrong)?;
        let module = module_path(&settings, &profile).map_err(wrong)?;
        let login = Login::read(&kek, &settings.pin, &settings.state_dir, disk)?;
        Ok(Self { settings, profile, clock, module, login: Arc::new(login) })
    }

    /// A fresh worker, logged in.
    pub(super) async fn open(&self) -> Result<(Link, TokenFacts), Setback> {
        let limit = self.profile.calls.start_after();
        let opened = Link::open(&self.settings.worker, &self.settings.env, self.clock.clone(), limit).await;
        let mut link = opened.map_err(|trouble| self.setback(trouble))?;
        let load = Request::Load {
            module: &self.module,
            reserved: &self.profile.module.reserved,
            os_locking: self.profile.module.os_locking,
            read_write: self.profile.session.read_write,
            label: &self.settings.token_label,
        };
        let facts = match link.call(&load, limit).await.map_err(|trouble| self.setback(trouble))? {
            Answer::Token(facts) => facts,
            _ => return Err(Setback::Away("the worker's answer makes no sense".into())),
        };
        self.log_in(&mut link, &facts.serial, limit).await?;
        Ok((link, facts))
    }

    /// What trouble outside of a wrap or an unwrap means.
    pub(super) fn setback(&self, trouble: Trouble) -> Setback {
        let fault = match trouble {
            Trouble::Lost(detail) => return Setback::Away(detail),
            Trouble::Fault(fault) => fault,
        };
        let told = fault.to_string();
        match fault {
            Fault::Code { code, .. } => match self.profile.errors.class(code) {
                ErrorClass::PinStop | ErrorClass::Denied => Setback::Denied(told),
                _ => Setback::Away(told),
            },
            Fault::Module(_) => Setback::Library(told),
            Fault::NoToken | Fault::LoggedOut | Fault::Protocol(_) => Setback::Away(told),
            Fault::NoKey => Setback::Unfit(format!("{told}: make one with `keyward kek create`")),
            Fault::ManyTokens | Fault::ManyKeys | Fault::KeyExists => Setback::Unfit(told),
        }
    }

    async fn log_in(&self, link: &mut Link, serial: &str, limit: Duration) -> Result<(), Setback> {
        let pin = self.begin(serial).await?;
        let tried = link.call(&Request::Login { pin: pin.expose() }, limit).await;
        drop(pin);
        match tried {
            Ok(_) => self.settle(serial).await,
            Err(Trouble::Fault(Fault::Code { code, .. })) if code == ALREADY_LOGGED_IN => self.settle(serial).await,
            // Before C_Login was reached nothing was counted.
            Err(Trouble::Fault(Fault::Code { call, code })) if call != "C_Login" => {
                self.settle(serial).await?;
                Err(self.setback(Trouble::Fault(Fault::Code { call, code })))
            }
            Err(Trouble::Fault(fault @ Fault::Code { .. })) => self.refused(serial, fault).await,
            // The latch stays pending: whether the token has counted a failure is not known.
            Err(trouble) => Err(self.setback(trouble)),
        }
    }

    /// C_Login answered with an error. Only a code that certainly does not concern the PIN lets it be tried again.
    async fn refused(&self, serial: &str, fault: Fault) -> Result<(), Setback> {
        let Fault::Code { code, .. } = fault else { return Err(self.setback(Trouble::Fault(fault))) };
        match self.profile.errors.class(code) {
            ErrorClass::Session | ErrorClass::Reinit | ErrorClass::Gone | ErrorClass::Busy => {
                self.settle(serial).await?;
                Err(self.setback(Trouble::Fault(fault)))
            }
            ErrorClass::PinStop | ErrorClass::Denied | ErrorClass::Ambiguous | ErrorClass::BadInput => {
                let (login, token) = (self.login.clone(), serial.to_owned());
                blocking(move || login.refuse(&token)).await?;
                Err(Setback::Denied(format!("{fault}: {}", Blocked::Latched(super::login::Latch::Refused))))
            }
        }
    }

    async fn begin(&self, serial: &str) -> Result<Arc<SecretBytes>, Setback> {
        let (login, serial) = (self.login.clone(), serial.to_owned());
        blocking(move || login.begin(&serial)).await?.map_err(|blocked| match blocked {
            Blocked::Latched(_) => Setback::Denied(blocked.to_string()),
            Blocked::Disk(_) => Setback::Away(blocked.to_string()),
        })
    }

    async fn settle(&self, serial: &str) -> Result<(), Setback> {
        let (login, serial) = (self.login.clone(), serial.to_owned());
        let settled = blocking(move || login.settle(&serial)).await?;
        // The session is good; but with the latch on disk the next restart would be blocked, so say so now.
        settled
            .map_err(|problem| Setback::Away(format!("the login worked, but its latch cannot be removed: {problem}")))
    }
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Setback> {
    tokio::task::spawn_blocking(run).await.map_err(|_| Setback::Away("the sidecar is shutting down".into()))
}

fn module_path(settings: &Pkcs11Settings, profile: &Profile) -> Result<String, String> {
    let path = match &settings.module {
        Some(path) => path.clone(),
        None => profile.module.paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            let tried: Vec<_> = profile.module.paths.iter().map(|path| path.display().to_string()).collect();
            format!("the library of {} is at none of {}: install it or set `module`", profile.product, tried.join(", "))
        })?,
    };
    check_module(&path)?;
    let text = path.into_os_string().into_string();
    text.map_err(|path| format!("the path of the library {} is not UTF-8", path.display()))
}

fn check_module(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err(format!("the path of the library {} must be absolute", path.display()));
    }
    if !path.is_file() {
        return Err(format!("the library {} does not exist", path.display()));
    }
    Ok(())
}

/// CKR_USER_ALREADY_LOGGED_IN: the token remembers us, which is what was wanted.
const ALREADY_LOGGED_IN: u64 = 0x100;
