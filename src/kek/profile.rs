//! What is true of an HSM product? Facts from `hsm-profiles/*.toml`, each with its source; strict, so that a typo is no fact.
//! This module never guesses: a method, an IV mode or an error class that the profile does not name does not exist.

#![deny(clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::Method;

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
    /// By which property.
    pub select: Select,
    /// Who says so.
    pub source: String,
}

/// By which property a token is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The token's label, which must be unique.
    Label,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As whom.
    pub user: User,
    /// After how many refused PINs the token locks; 0: never.
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
}

/// What sessions the token gives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Whether sessions are opened read-write; some tokens refuse the other kind.
    pub read_write: bool,
    /// How many at once; 0: no limit known.
    pub max: u32,
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

/// One method of wrapping.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrapMethod {
    /// Which.
    pub method: MethodName,
    /// The mechanism's number, vendor ones included.
    pub mechanism: u64,
    /// Who makes the IV.
    pub iv: IvMode,
    /// The most bytes of plaintext.
    pub max_plain: u32,
    /// Who says so.
    pub source: String,
}

/// Methods that this keyward has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// AES-GCM with the binding as AAD.
    AesGcm,
}

/// Who makes the IV. A wrong guess encrypts under a known IV, so it is a fact, never a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IvMode {
    /// The worker draws it and hands it over.
    Caller,
}

/// What return codes mean. A code stands in one class; one in none counts as `ambiguous`: the canary decides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// The blob or its AAD is wrong; says nothing of the token.
    pub bad_input: Vec<u64>,
    /// Either that or a dead token.
    pub ambiguous: Vec<u64>,
    /// Try again a little later.
    pub busy: Vec<u64>,
    /// The session or its handles are lost.
    pub session: Vec<u64>,
    /// The library must start again.
    pub reinit: Vec<u64>,
    /// The token forbids it.
    pub denied: Vec<u64>,
    /// The token is away.
    pub gone: Vec<u64>,
    /// The PIN was refused: nobody may try again.
    pub pin_stop: Vec<u64>,
    /// Who says so.
    pub source: String,
}

/// What a return code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The blob or its AAD is wrong.
    BadInput,
    /// The canary decides.
    Ambiguous,
    /// Try again a little later.
    Busy,
    /// The session or its handles are lost.
    Session,
    /// The library must start again.
    Reinit,
    /// The token forbids it.
    Denied,
    /// The token is away.
    Gone,
    /// The PIN was refused.
    PinStop,
}

impl Errors {
    /// The class of a return code.
    pub fn class(&self, code: u64) -> ErrorClass {
        let listed = self.lists().into_iter().find(|(_, codes)| codes.contains(&code));
        listed.map_or(ErrorClass::Ambiguous, |(class, _)| class)
    }

    fn lists(&self) -> [(ErrorClass, &[u64]); 8] {
        [
            (ErrorClass::BadInput, &self.bad_input),
            (ErrorClass::Ambiguous, &self.ambiguous),
            (ErrorClass::Busy, &self.busy),
            (ErrorClass::Session, &self.session),
            (ErrorClass::Reinit, &self.reinit),
            (ErrorClass::Denied, &self.denied),
            (ErrorClass::Gone, &self.gone),
            (ErrorClass::PinStop, &self.pin_stop),
        ]
    }

    fn listed_twice(&self) -> Option<u64> {
        let mut codes: Vec<u64> = self.lists().iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        codes.sort_unstable();
        codes.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        })
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

/// Which profile the configuration means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileChoice {
    /// One that keyward ships, by its id.
    Shipped(String),
    /// A file of the operator's.
    File(PathBuf),
}

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No such shipped profile.
    #[error("keyward ships no profile {id}: it ships {shipped}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// What there is.
        shipped: String,
    },
    /// The file cannot be read.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It was written for a newer keyward.
    #[error("a profile of schema {0} needs a newer keyward: this one reads schema {SCHEMA}")]
    Newer(u64),
    /// It does not say what a profile must say.
    #[error("the profile is not valid: {0}")]
    Invalid(String),
}

impl Profile {
    /// The profile that the configuration means.
    pub fn load(choice: &ProfileChoice) -> Result<Self, ProfileError> {
        match choice {
            ProfileChoice::Shipped(id) => Self::shipped(id),
            ProfileChoice::File(path) => Self::read(path),
        }
    }

    /// Parses and checks a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let invalid = |error: toml::de::Error| ProfileError::Invalid(error.to_string().trim_end().into());
        // The schema is looked at first: a newer profile must say so, not complain of a field that this keyward lacks.
        let header: Header = toml::from_str(text).map_err(invalid)?;
        if header.schema > u64::from(SCHEMA) {
            return Err(ProfileError::Newer(header.schema));
        }
        let profile: Self = toml::from_str(text).map_err(invalid)?;
        profile.check().map_err(ProfileError::Invalid)?;
        Ok(profile)
    }

    /// The first listed method, which new wraps use.
    pub fn preferred(&self) -> Option<(Method, &WrapMethod)> {
        self.wrap.first().map(|wrap| match (wrap.method, wrap.iv) {
            (MethodName::AesGcm, IvMode::Caller) => (Method::AesGcmCallerIv, wrap),
        })
    }

    /// Whether the token truly reports an attribute.
    pub fn reports(&self, name: AttributeName) -> bool {
        self.attributes.reported.contains(&name)
    }

    fn shipped(id: &str) -> Result<Self, ProfileError> {
        let unknown = || {
            let shipped: Vec<_> = SHIPPED.iter().map(|(id, _)| *id).collect();
            ProfileError::Unknown { id: id.into(), shipped: shipped.join(", ") }
        };
        let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == id).ok_or_else(unknown)?;
        Self::parse(text)
    }

    fn read(path: &Path) -> Result<Self, ProfileError> {
        let unreadable = |problem: String| ProfileError::Unreadable { path: path.to_path_buf(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} does not exist", self.schema));
        }
        if self.wrap.is_empty() {
            return Err("no method of wrapping is listed".into());
        }
        if self.calls.hang_after_ms == 0 || self.calls.start_after_ms == 0 {
            return Err("a limit of calls is zero".into());
        }
        if let Some(wrap) = self.wrap.iter().find(|wrap| wrap.max_plain < KEY_BYTES) {
            return Err(format!("max_plain {} is less than a data key", wrap.max_plain));
        }
        // The loader's variables would run other code in the worker, with the PIN in hand.
        if let Some(name) = self.module.env.iter().find(|name| name.starts_with("LD_")) {
            return Err(format!("the environment variable {name} is the loader's, not the library's"));
        }
        match self.errors.listed_twice() {
            Some(code) => Err(format!("the code {code:#x} stands in two classes")),
            None => self.sources_given(),
        }
    }

    fn sources_given(&self) -> Result<(), String> {
        let tables = [
            ("module", &self.module.source),
            ("slot", &self.slot.source),
            ("login", &self.login.source),
            ("session", &self.session.source),
            ("calls", &self.calls.source),
            ("errors", &self.errors.source),
            ("attributes", &self.attributes.source),
            ("setup", &self.setup.source),
        ];
        let wraps = self.wrap.iter().map(|wrap| ("wrap", &wrap.source));
        let pitfalls = self.pitfall.iter().map(|pitfall| ("pitfall", &pitfall.source));
        let mut all = tables.into_iter().chain(wraps).chain(pitfalls);
        match all.find(|(_, source)| source.trim().is_empty()) {
            Some((table, _)) => Err(format!("the table {table} names no source")),
            None => Ok(()),
        }
    }
}

/// What every schema has.
#[derive(Deserialize)]
struct Header {
    schema: u64,
}

/// The profiles that keyward ships.
pub const SHIPPED: &[(&str, &str)] = &[("softhsm2", include_str!("../../hsm-profiles/softhsm2.toml"))];

const SCHEMA: u16 = 1;
const KEY_BYTES: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn softhsm() -> String {
        SHIPPED[0].1.to_owned()
    }

    fn refusal(text: &str) -> String {
        Profile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_shipped_profile_parses_and_carries_the_id_it_is_shipped_under() {
        for (id, text) in SHIPPED {
            assert_eq!(Profile::parse(text).unwrap().id, *id);
        }
    }

    #[test]
    fn an_unknown_field_is_refused_in_every_table() {
        for table in
            ["[module]", "[slot]", "[login]", "[session]", "[calls]", "[[wrap]]", "[errors]", "[attributes]", "[setup]"]
        {
            let text = softhsm().replacen(table, &format!("{table}\nsurprise = 1"), 1);
            assert!(refusal(&text).contains("surprise"), "{table}");
        }
    }

    #[test]
    fn a_newer_schema_names_the_version_needed_even_if_it_has_new_fields() {
        let text = softhsm().replacen("schema = 1", "schema = 2\nnovelty = true", 1);
        assert_eq!(refusal(&text), "a profile of schema 2 needs a newer keyward: this one reads schema 1");
    }

    #[test]
    fn a_code_in_two_classes_and_an_empty_source_are_refused() {
        let twice = softhsm().replacen("busy = []", "busy = [0x05]", 1);
        assert!(refusal(&twice).contains("the code 0x5 stands in two classes"));
        let silent = softhsm().replacen("source = \"run\"\n", "source = \" \"\n", 1);
        assert!(refusal(&silent).contains("names no source"));
    }

    #[test]
    fn a_variable_of_the_loader_is_refused() {
        let text = softhsm().replacen("[\"SOFTHSM2_CONF\"]", "[\"SOFTHSM2_CONF\", \"LD_PRELOAD\"]", 1);
        assert!(refusal(&text).contains("LD_PRELOAD is the loader's"));
    }

    #[test]
    fn an_iv_mode_that_this_keyward_lacks_is_refused_and_never_replaced() {
        let text = softhsm().replacen("iv = \"caller\"", "iv = \"hsm-writeback\"", 1);
        assert!(refusal(&text).contains("hsm-writeback"));
    }

    #[test]
    fn an_unlisted_code_is_ambiguous() {
        let profile = Profile::parse(&softhsm()).unwrap();
        assert_eq!(profile.errors.class(0x8000_1234), ErrorClass::Ambiguous);
        assert_eq!(profile.errors.class(0x40), ErrorClass::BadInput);
        assert_eq!(profile.errors.class(0xA0), ErrorClass::PinStop);
    }

    #[test]
    fn an_unknown_id_lists_what_is_shipped() {
        let choice = ProfileChoice::Shipped("luna9".into());
        let error = Profile::load(&choice).unwrap_err().to_string();
        assert_eq!(error, "keyward ships no profile luna9: it ships softhsm2");
    }
}
