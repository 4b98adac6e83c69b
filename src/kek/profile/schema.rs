//! What does a profile say? The shape of `hsm-profiles/*.toml`, strict: an unknown field is an error.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::errors::Errors;
use super::wraps::WrapMethod;

/// Everything keyward knows of a product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The schema of this file.
    pub schema: u16,
    /// The name by which the configuration chooses it.
    pub id: String,
    /// Product and version that the facts are about.
    pub product: String,
    /// How the facts were found.
    pub verified: Verified,
    /// The vendor's library.
    pub module: Module,
    /// How the token is found.
    pub slot: Slot,
    /// How to log in.
    pub login: Login,
    /// What sessions the token gives.
    pub session: Session,
    /// How long its calls may take.
    pub calls: Calls,
    /// Methods of wrapping, in order of preference.
    pub wrap: Vec<WrapMethod>,
    /// What its return codes mean.
    pub errors: Errors,
    /// What it says of its keys.
    pub attributes: Attributes,
    /// How a token is set up.
    pub setup: Setup,
    /// What has bitten others.
    #[serde(default)]
    pub pitfall: Vec<Pitfall>,
}

/// How a profile's facts were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// The tests run against it.
    Live,
    /// The vendor's documents say so.
    Docs,
    /// Others' code and reports say so.
    SecondHand,
}

impl Verified {
    /// The word that profiles use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Docs => "docs",
            Self::SecondHand => "second-hand",
        }
    }
}

/// The vendor's library.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Where it is installed; the first that exists is taken.
    pub paths: Vec<PathBuf>,
    /// Whether C_Initialize gets CKF_OS_LOCKING_OK.
    pub os_locking: bool,
    /// The string for C_Initialize's pReserved; empty for none.
    pub reserved: String,
    /// The environment variables that the library reads; nothing else reaches it.
    pub env: Vec<String>,
    /// Who says so.
    pub source: String,
}

/// How the token is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// By which properties of the token; its slot's number is never one of them.
    pub select: Vec<Select>,
    /// Who says so.
    pub source: String,
}

/// By which property a token is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The token's label.
    Label,
    /// The token's serial number.
    Serial,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As whom.
    pub user: User,
    /// What a PIN looks like; one of another shape is refused before the token could count it.
    pub pin_shape: PinShape,
    /// The fewest and the most bytes of a PIN; 0: not known.
    pub pin_min: u16,
    /// See above.
    pub pin_max: u16,
    /// After how many refused PINs the token locks; 0: never or not known (the source says which).
    pub lockout_after: u32,
    /// Who says so.
    pub source: String,
}

/// PKCS#11 user types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// CKU_USER.
    User,
    /// No C_Login: the library authenticates by itself.
    None,
}

/// What a PIN looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinShape {
    /// Any bytes.
    Free,
    /// `user:password`.
    UserPassword,
    /// Four hexadecimal digits of a key's id, then its password.
    KeyIdPassword,
}

/// What sessions the token gives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Whether sessions are opened read-write; some tokens refuse the other kind.
    pub read_write: bool,
    /// How many at once; 0: no limit known.
    pub max: u32,
    /// How many sessions work at once; one more keeps the login.
    pub pool: u32,
    /// The token drops what is idle for longer than this; 0: it does not.
    pub idle_drop_s: u32,
    /// Who says so.
    pub source: String,
}

/// How long calls may take before the worker counts as hung.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// A wrap, an unwrap, a canary.
    pub hang_after_ms: u32,
    /// Loading the library and logging in.
    pub start_after_ms: u32,
    /// Who says so.
    pub source: String,
}

impl Calls {
    /// How long a call may take.
    pub fn hang_after(&self) -> Duration {
        Duration::from_millis(self.hang_after_ms.into())
    }

    /// How long loading and logging in may take.
    pub fn start_after(&self) -> Duration {
        Duration::from_millis(self.start_after_ms.into())
    }
}

/// What the token says of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// What it truly reports.
    pub reported: Vec<AttributeName>,
    /// What may stand in the template of a new key beyond the required ones.
    pub settable: Vec<AttributeName>,
    /// Who says so.
    pub source: String,
}

/// Attributes of a key that some tokens report and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttributeName {
    /// CKA_SENSITIVE.
    Sensitive,
    /// CKA_EXTRACTABLE.
    Extractable,
    /// CKA_ALWAYS_SENSITIVE.
    AlwaysSensitive,
    /// CKA_NEVER_EXTRACTABLE.
    NeverExtractable,
    /// CKA_LOCAL.
    Local,
    /// CKA_KEY_GEN_MECHANISM.
    KeyGenMechanism,
    /// CKA_MODIFIABLE.
    Modifiable,
}

/// How a token is set up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// One step a line, for people.
    pub steps: Vec<String>,
    /// Who says so.
    pub source: String,
}

/// What has bitten others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pitfall {
    /// What.
    pub text: String,
    /// Who says so.
    pub source: String,
}
