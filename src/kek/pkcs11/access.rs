//! How does one get at the token? A worker with the library loaded, the token found and the user logged in.
//! This module never tries a PIN that the latch forbids.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::crypto::{self, RsaPublicKey};
use crate::durable::Disk;
use crate::kek::profile::{ErrorClass, Profile, WrapMethod};
use crate::kek::{Deployment, KekError, KekFacts, Method, StartError};
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::fault::Fault;
use super::link::{Answer, Link, Process, Trouble};
use super::login::{Blocked, Latch, Login};
use super::message::{Request, TokenFacts};
use super::recipe::Recipe;
use super::{PinSource, Pkcs11Settings};

/// Everything needed to open the token, checked.
pub(super) struct Access {
    pub(super) settings: Pkcs11Settings,
    pub(super) profile: Profile,
    pub(super) clock: SharedClock,
    /// What new wraps are made by.
    pub(super) table: WrapMethod,
    pub(super) recipe: Recipe,
    pub(super) vendors: Library,
    login: Option<Arc<Login>>,
}

/// The vendor's library as it lies on the disk.
pub(super) struct Library {
    pub(super) path: String,
    pub(super) sha256: String,
}

/// Why the token cannot be used now, by who must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setback {
    /// It is away: wait.
    Away(String),
    /// It is away, and stays so until an operator acts: an attempt whose end is not known is not repeated.
    Stuck(String),
    /// It said no: an operator.
    Denied(String),
    /// It holds something that must not be used: an operator, and at start a refusal.
    Unfit(String),
    /// It does not hold the key: the same.
    Missing(String),
    /// The library does not load: at start a refusal; later it is as good as away, since an upgrade may be running.
    Library(String),
}

impl Library {
    /// The one that is named, else the first of the profile's that exists.
    pub(super) fn find(named: Option<&Path>, profile: &Profile, deployment: Deployment) -> Result<Self, String> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => profile.module.paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
                let tried: Vec<_> = profile.module.paths.iter().map(|path| path.display().to_string()).collect();
                format!(
                    "the library of {} is at none of {}: install it or set `module`",
                    profile.product,
                    tried.join(", ")
                )
            })?,
        };
        check_module(&path)?;
        let bytes = std::fs::read(&path).map_err(|error| format!("the library {}: {error}", path.display()))?;
        let spies = bytes.windows(SPY_MARK.len()).any(|window| window == SPY_MARK);
        if deployment == Deployment::Production && spies {
            return Err(format!(
                "the library {} is pkcs11-spy, which writes PINs and keys in clear: name the vendor's library itself",
                path.display()
            ));
        }
        let sha256 = hex::encode(crypto::sha256(&[&bytes]));
        let text = path.into_os_string().into_string();
        let path = text.map_err(|path| format!("the path of the library {} is not UTF-8", path.display()))?;
        Ok(Self { path, sha256 })
    }
}

impl Setback {
    /// What a caller hears at run time.
    pub(super) fn as_kek_error(&self, kek: &KekName) -> KekError {
        let kek = kek.clone();
        match self {
            Self::Away(detail) | Self::Stuck(detail) | Self::Library(detail) => {
                KekError::Unreachable { kek, detail: detail.clone() }
            }
            Self::Denied(detail) | Self::Unfit(detail) | Self::Missing(detail) => {
                KekError::Denied { kek, detail: detail.clone() }
            }
        }
    }

    /// In words.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Away(detail)
            | Self::Stuck(detail)
            | Self::Denied(detail)
            | Self::Unfit(detail)
            | Self::Missing(detail)
            | Self::Library(detail) => detail,
        }
    }

    /// What stops a start.
    pub(super) fn as_start_error(&self, kek: &KekName) -> StartError {
        match self {
            Self::Away(_) | Self::Stuck(_) | Self::Denied(_) => StartError::Kek(self.as_kek_error(kek)),
            Self::Unfit(problem) | Self::Library(problem) => {
                StartError::Unfit { kek: kek.clone(), problem: problem.clone() }
            }
            // Only somebody who sets up is told so: what is missing later is restored, never made anew.
            Self::Missing(problem) => {
                let problem = format!("{problem}: make one with `keyward kek create`");
                StartError::Unfit { kek: kek.clone(), problem }
            }
        }
    }
}

impl Access {
    /// Checks the settings, loads the profile and reads the PIN. Touches no token.
    pub(super) fn prepare(
        settings: Pkcs11Settings,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<Self, StartError> {
        let kek = settings.name.clone();
        let profile = Profile::load(&settings.profile).map_err(|problem| StartError::Profile { kek, problem })?;
        Self::with_profile(settings, profile, deployment, clock, disk)
    }

    /// [`Self::prepare`] with a profile that need not lie in a file.
    pub(super) fn with_profile(
        settings: Pkcs11Settings,
        profile: Profile,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<Self, StartError> {
        let kek = settings.name.clone();
        let wrong = |problem: String| StartError::Setting { kek: kek.clone(), problem };
        settings.check(&profile).map_err(wrong)?;
        let table = profile.chosen(settings.method.as_deref()).map_err(wrong)?.clone();
        let recipe = Recipe::of(&table);
        let library = Library::find(settings.module.as_deref(), &profile, deployment).map_err(wrong)?;
        let login = match &settings.pin {
            Some(pin) => Some(Arc::new(Login::read(&kek, pin, &profile.login, &settings.state_dir, disk)?)),
            None => None,
        };
        Ok(Self { settings, profile, clock, table, recipe, vendors: library, login })
    }

    /// Every problem that shows without a token: a setting, the profile, the library, the PIN's file.
    pub(super) fn problems(settings: &Pkcs11Settings, deployment: Deployment) -> Vec<StartError> {
        let kek = &settings.name;
        let profile = match Profile::load(&settings.profile) {
            Ok(profile) => profile,
            Err(problem) => return vec![StartError::Profile { kek: kek.clone(), problem }],
        };
        let wrong = |problem: String| StartError::Setting { kek: kek.clone(), problem };
        let mut problems: Vec<StartError> = [
            settings.check_without_state(&profile),
            profile.chosen(settings.method.as_deref()).map(|_| ()),
            Library::find(settings.module.as_deref(), &profile, deployment).map(|_| ()),
        ]
        .into_iter()
        .filter_map(|checked| checked.err().map(wrong))
        .collect();
        // A descriptor can be read once, and the one that reads it is the one that serves.
        if let Some(pin @ (PinSource::File(_) | PinSource::Credential(_))) = &settings.pin {
            problems.extend(Login::read(kek, pin, &profile.login, &settings.state_dir, Disk::real()).err());
        }
        problems
    }

    /// Anybody can encrypt to a public key: without a MAC key beside it, the store key must be known by other means.
    pub(super) fn trusted(&self) -> Result<(), StartError> {
        if matches!(self.recipe, Recipe::Oaep { mac: None, .. }) && !self.settings.store_key_pinned {
            return Err(StartError::Setting { kek: self.settings.name.clone(), problem: UNPINNED.into() });
        }
        Ok(())
    }

    /// The method of new wraps.
    pub(super) const fn method(&self) -> Method {
        self.table.method()
    }

    /// How a wrap opens: by the profile's numbers, else by the standard's.
    pub(super) fn recipe_of(&self, method: Method) -> Option<Recipe> {
        self.profile.table_of(method).map(Recipe::of).or_else(|| Recipe::standard(method))
    }

    /// The label of a version of the KEK.
    pub(super) fn label_of(&self, version: u32) -> String {
        self.settings.key_label.replace(super::VERSION_MARK, &version.to_string())
    }

    /// How many calls may run at once.
    pub(super) fn pool(&self) -> usize {
        let pool = self.settings.pool.map_or(self.profile.session.pool, |pool| pool.min(self.profile.session.pool));
        usize::try_from(pool.max(1)).unwrap_or(1)
    }

    /// How long a wrap or an unwrap may take.
    pub(super) fn hang_after(&self) -> Duration {
        self.profile.calls.hang_after()
    }

    /// How long loading the library and logging in may take.
    pub(super) fn start_after(&self) -> Duration {
        self.profile.calls.start_after()
    }

    /// How often somebody must ask, if nobody does: before the token drops what is idle.
    pub(super) fn canary_every(&self) -> Duration {
        match self.profile.session.idle_drop_s {
            0 => CANARY_EVERY,
            idle => CANARY_EVERY.min(Duration::from_secs(u64::from(idle)) / 2),
        }
    }

    /// What a return code means.
    pub(super) fn class(&self, code: u64) -> ErrorClass {
        self.profile.errors.class(code)
    }

    /// A fresh worker, logged in.
    pub(super) async fn open(&self) -> Result<(Process, Link, TokenFacts), Setback> {
        let limit = self.start_after();
        let troubled = |trouble| self.setback(trouble);
        let process =
            Process::start(&self.settings.worker, &self.settings.env, self.clock.clone()).map_err(troubled)?;
        let mut link = process.lane(limit).await.map_err(troubled)?;
        let load = Request::Load {
            module: &self.vendors.path,
            reserved: self.settings.reserved.as_deref().unwrap_or(&self.profile.module.reserved),
            os_locking: self.profile.module.os_locking,
            read_write: self.profile.session.read_write,
            label: &self.settings.token_label,
            serial: self.settings.token_serial.as_deref().unwrap_or_default(),
        };
        let facts = match link.call(&load, limit).await.map_err(troubled)? {
            Answer::Token(facts) => facts,
            _ => return Err(Setback::Away("the worker's answer makes no sense".into())),
        };
        if let Some(login) = &self.login {
            self.log_in(login, &mut link, &facts.serial, limit).await?;
        }
        Ok((process, link, facts))
    }

    /// Wraps in the token; for an RSA KEK here, and authenticated there.
    pub(super) async fn wrap(
        &self,
        link: &mut Link,
        version: u32,
        public: Option<&RsaPublicKey>,
        plain: &SecretBytes,
        aad: &[u8],
    ) -> Result<SecretBytes, Trouble> {
        let (label, recipe) = (self.label_of(version), self.recipe);
        let encrypted = match (recipe, public) {
            (Recipe::Oaep { hash, .. }, Some(public)) => {
                let encrypted = public.encrypt(hash, plain);
                Some(SecretBytes::new(encrypted.map_err(|error| Trouble::Fault(Fault::Protocol(error.to_string())))?))
            }
            _ => None,
        };
        match encrypted {
            Some(encrypted) if !recipe.has_mac() => Ok(encrypted),
            encrypted => {
                let plain = encrypted.as_ref().unwrap_or(plain).expose();
                link.bytes(&Request::Wrap { recipe, label: &label, plain, aad }, self.hang_after()).await
            }
        }
    }

    /// What was looked for, and what the library was not told.
    fn no_token(&self) -> String {
        let Pkcs11Settings { token_label, token_serial, env, .. } = &self.settings;
        let serial = token_serial.as_ref().map_or(String::new(), |serial| format!(" and serial {serial}"));
        let mut untold = self.profile.module.env.iter().filter(|name| env.iter().all(|(given, _)| given != *name));
        let untold = untold
            .next()
            .map_or(String::new(), |name| format!("; {name} does not reach the library unless `env` sets it"));
        format!("no token has the configured label {token_label}{serial}{untold}")
    }

    /// What trouble outside of a wrap or an unwrap means.
    pub(super) fn setback(&self, trouble: Trouble) -> Setback {
        let fault = match trouble {
            Trouble::Lost(detail) => return Setback::Away(detail),
            Trouble::Fault(fault) => fault,
        };
        let told = fault.to_string();
        match fault {
            // Whatever the profile says of these codes: waiting does not bring the mechanism.
            Fault::Code { code, .. } if CONTRADICTIONS.contains(&code) => Setback::Unfit(format!(
                "{told}: the token does not wrap as its profile says, `keyward hsm probe` shows what it does"
            )),
            Fault::Code { code, .. } => match self.profile.errors.class(code) {
                ErrorClass::PinStop | ErrorClass::Denied => Setback::Denied(told),
                _ => Setback::Away(told),
            },
            Fault::Module(_) => Setback::Library(told),
            Fault::NoToken => Setback::Away(self.no_token()),
            // A mistake at the start; later the token has been pulled out from beside its neighbours.
            Fault::OtherTokens(there) => Setback::Library(format!("{}; there are {there}", self.no_token())),
            Fault::LoggedOut | Fault::Protocol(_) => Setback::Away(told),
            Fault::NoKey(_) => Setback::Missing(told),
            Fault::ManyTokens => Setback::Unfit(format!("{told}: name one by `token_serial`")),
            Fault::ManyKeys(_) => Setback::Unfit(format!("{told}: rename or remove all but one")),
            Fault::IvMode => Setback::Unfit(format!("{told}: `keyward hsm probe` shows what it does")),
            Fault::KeyExists | Fault::NotOurs => Setback::Unfit(told),
        }
    }

    async fn log_in(&self, login: &Arc<Login>, link: &mut Link, serial: &str, limit: Duration) -> Result<(), Setback> {
        let pin = begin(login, serial).await?;
        let tried = link.call(&Request::Login { pin: pin.expose() }, limit).await;
        drop(pin);
        match tried {
            Ok(_) => settle(login, serial).await,
            Err(Trouble::Fault(Fault::Code { code, .. })) if code == ALREADY_LOGGED_IN => settle(login, serial).await,
            // Before C_Login was reached nothing was counted.
            Err(Trouble::Fault(Fault::Code { call, code })) if call != "C_Login" => {
                settle(login, serial).await?;
                Err(self.setback(Trouble::Fault(Fault::Code { call, code })))
            }
            Err(Trouble::Fault(fault @ Fault::Code { .. })) => self.refused(login, serial, fault).await,
            // The latch stays pending: whether the token has counted a failure is not known.
            Err(trouble) => {
                login.end_turn();
                Err(self.setback(trouble))
            }
        }
    }

    /// C_Login answered with an error. Only a code that certainly does not concern the PIN lets it be tried again.
    async fn refused(&self, login: &Arc<Login>, serial: &str, fault: Fault) -> Result<(), Setback> {
        let Fault::Code { code, .. } = fault else { return Err(self.setback(Trouble::Fault(fault))) };
        match self.profile.errors.class(code) {
            ErrorClass::Session | ErrorClass::Reinit | ErrorClass::Gone | ErrorClass::Busy => {
                settle(login, serial).await?;
                Err(self.setback(Trouble::Fault(fault)))
            }
            ErrorClass::PinStop | ErrorClass::Denied | ErrorClass::Ambiguous | ErrorClass::BadInput => {
                let (login, token) = (login.clone(), serial.to_owned());
                blocking(move || login.refuse(&token)).await?;
                Err(Setback::Denied(format!("{fault}: {}", Blocked::Latched(Latch::Refused))))
            }
        }
    }
}

async fn begin(login: &Arc<Login>, serial: &str) -> Result<Arc<SecretBytes>, Setback> {
    let (login, serial) = (login.clone(), serial.to_owned());
    blocking(move || login.begin(&serial)).await?.map_err(|blocked| match blocked {
        // Nobody has said no yet: cached keys and the escrow serve on while an operator looks.
        Blocked::Latched(Latch::Pending) => Setback::Stuck(blocked.to_string()),
        Blocked::Disk(_) => Setback::Away(blocked.to_string()),
        Blocked::Latched(Latch::Refused) => Setback::Denied(blocked.to_string()),
    })
}

async fn settle(login: &Arc<Login>, serial: &str) -> Result<(), Setback> {
    let (login, serial) = (login.clone(), serial.to_owned());
    let settled = blocking(move || login.settle(&serial)).await?;
    // The session is good; but with the latch on disk the next restart would be blocked, so say so now.
    settled.map_err(|problem| Setback::Away(format!("the login worked, but its latch cannot be removed: {problem}")))
}

/// What the log says of the token and of the library that reaches it.
pub(super) fn facts(access: &Access, token: &TokenFacts) -> KekFacts {
    KekFacts {
        kind: "pkcs11",
        manufacturer: token.manufacturer.clone(),
        model: token.model.clone(),
        serial: token.serial.clone(),
        version: format!("firmware {}, library {}", token.firmware, token.module_version),
        module: access.vendors.path.clone(),
        module_sha256: access.vendors.sha256.clone(),
        certificate: access.settings.certificate.clone().unwrap_or_default(),
        key: String::new(),
        development_only: false,
    }
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Setback> {
    tokio::task::spawn_blocking(run).await.map_err(|_| Setback::Away("the sidecar is shutting down".into()))
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
/// Without traffic the token is asked this often.
const CANARY_EVERY: Duration = Duration::from_secs(10);
/// The variable by which OpenSC's spy module finds the library behind it.
const SPY_MARK: &[u8] = b"PKCS11SPY_OUTPUT";
/// Anybody can encrypt to a public key.
const UNPINNED: &str = "rsa-oaep without a MAC key needs the store key's check value in the configuration: anybody can make \
     wraps for a public key. Set store_key_check in [keyring] to what `keyward init` printed";
/// CKR_MECHANISM_INVALID and CKR_MECHANISM_PARAM_INVALID: another mechanism or another IV mode than the profile's.
const CONTRADICTIONS: [u64; 2] = [0x70, 0x71];
