//! Which token, which key, and how to get at them? Checked before anything is touched.

use std::path::PathBuf;

use crate::kek::profile::{Profile, ProfileChoice, Select, User};
use crate::names::KekName;

use super::{PinSource, VERSION_MARK};

/// The settings of a KEK in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Settings {
    /// The name in the configuration.
    pub name: KekName,
    /// The product's profile.
    pub profile: ProfileChoice,
    /// The vendor's library; None takes the first of the profile's paths that exists.
    pub module: Option<PathBuf>,
    /// C_Initialize's pReserved instead of the profile's.
    pub reserved: Option<String>,
    /// The token's label.
    pub token_label: String,
    /// The token's serial number, where several tokens have the label.
    pub token_serial: Option<String>,
    /// The key's label; `{version}` in it stands for the version, so that older versions still unwrap.
    pub key_label: String,
    /// The version of new wraps: 1, 2, ... None takes the newest fit one that the token holds.
    pub key_version: Option<u32>,
    /// The method of new wraps; None takes the profile's first that needs no opting in.
    pub method: Option<String>,
    /// How many calls run at once; None as the profile says, and never more than that.
    pub pool: Option<u32>,
    /// Where the PIN comes from; None only where the profile knows no login.
    pub pin: Option<PinSource>,
    /// The certificate of the module, for the log.
    pub certificate: Option<String>,
    /// Whether the configuration pins the store key's check value, without which a wrap that anybody can make is refused.
    pub store_key_pinned: bool,
    /// The program that runs [`super::worker_main`] when called with `kek-worker`: keyward itself.
    pub worker: PathBuf,
    /// An existing directory for the login latch.
    pub state_dir: PathBuf,
    /// The environment of the worker: names that the profile lists, with values.
    pub env: Vec<(String, String)>,
}

impl Pkcs11Settings {
    /// The first problem, in words.
    pub(super) fn check(&self, profile: &Profile) -> Result<(), String> {
        if !self.state_dir.is_dir() {
            return Err(format!("the state directory {} does not exist", self.state_dir.display()));
        }
        self.check_without_state(profile)
    }

    /// [`Self::check`] before there is a state directory.
    pub(super) fn check_without_state(&self, profile: &Profile) -> Result<(), String> {
        let label_fits = |label: &str, max| !label.is_empty() && label.len() <= max;
        if !label_fits(&self.token_label, MAX_TOKEN_LABEL) {
            return Err(format!("token_label must have 1 to {MAX_TOKEN_LABEL} bytes"));
        }
        if !label_fits(&self.key_label, MAX_KEY_LABEL) {
            return Err(format!("key_label must have 1 to {MAX_KEY_LABEL} bytes"));
        }
        match self.key_version {
            Some(0) => return Err("key_version counts from 1".into()),
            Some(version) if version > 1 && !self.has_versions() => {
                return Err(format!("key_version {version} needs {VERSION_MARK} in key_label"));
            }
            _ => {}
        }
        if self.token_serial.is_some() && !profile.slot.select.contains(&Select::Serial) {
            return Err(format!("the tokens of {} are not told apart by a serial number", profile.product));
        }
        self.check_pin(profile)?;
        match self.env.iter().find(|(name, _)| !profile.module.env.contains(name)) {
            Some((name, _)) => Err(format!("the profile {} does not let {name} reach the library", profile.id)),
            None => Ok(()),
        }
    }

    /// Whether the label tells versions apart.
    pub(super) fn has_versions(&self) -> bool {
        self.key_label.contains(VERSION_MARK)
    }

    /// The version of new wraps where no token has to be asked.
    pub(super) fn pinned(&self) -> Option<u32> {
        self.key_version.or((!self.has_versions()).then_some(1))
    }

    fn check_pin(&self, profile: &Profile) -> Result<(), String> {
        match (profile.login.user, &self.pin) {
            (User::User, None) => Err(format!("{} wants a PIN: set pin_file", profile.product)),
            (User::None, Some(_)) => Err(format!("{} knows no login: remove the PIN", profile.product)),
            (User::User, Some(_)) | (User::None, None) => Ok(()),
        }
    }
}

/// CK_TOKEN_INFO has room for 32 bytes.
const MAX_TOKEN_LABEL: usize = 32;
/// Products differ; what is longer than this is a mistake.
const MAX_KEY_LABEL: usize = 128;
