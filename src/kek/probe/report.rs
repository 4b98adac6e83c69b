//! What did a probe find? Plain data: `keyward hsm probe --json` prints exactly this, and `hsm-profiles/README.md` says what
//! each field means. A field is never renamed or removed without another `schema`.

use serde::Serialize;

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of this shape.
    pub schema: u16,
    /// UTC, `YYYY-MM-DD`.
    pub date: String,
    /// The vendor's library.
    pub library: Library,
    /// Slots with a token.
    pub slots: Vec<Slot>,
    /// The token that was tried; None if none was asked for.
    pub token: Option<Token>,
}

/// The vendor's library.
#[derive(Debug, Clone, Serialize)]
pub struct Library {
    /// Its file.
    pub path: String,
    /// The SHA-256 of its file.
    pub sha256: String,
    /// What it says of itself.
    pub manufacturer: String,
    /// See above.
    pub description: String,
    /// Its version.
    pub version: String,
    /// The version of PKCS#11 that it speaks.
    pub cryptoki: String,
    /// Whether it was started with CKF_OS_LOCKING_OK.
    pub os_locking: bool,
}

/// A slot and its token.
#[derive(Debug, Clone, Serialize)]
pub struct Slot {
    /// The slot, in the library's words.
    pub description: String,
    /// The token's label.
    pub label: String,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its firmware.
    pub firmware: String,
    /// Whether it has been initialised.
    pub initialized: bool,
    /// Whether it says that users log in.
    pub wants_login: bool,
    /// The shortest PIN, as it says.
    pub pin_min: u64,
    /// The longest.
    pub pin_max: u64,
    /// The most sessions, as it says; 0: no limit, or it does not say.
    pub sessions: u64,
    /// In the order of their numbers.
    pub mechanisms: Vec<Mechanism>,
}

/// A mechanism, as the token describes it.
#[derive(Debug, Clone, Serialize)]
pub struct Mechanism {
    /// In hexadecimal.
    pub number: String,
    /// Its name, if it is one that a profile could use.
    pub name: Option<&'static str>,
    /// The shortest key, in units that depend on the mechanism.
    pub key_min: u64,
    /// The longest.
    pub key_max: u64,
    /// What it does: `encrypt`, `unwrap`, ...
    pub does: Vec<&'static str>,
}

/// What was tried on a token.
#[derive(Debug, Clone, Serialize)]
pub struct Token {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// The profile that was held against it; None: a draft was wanted.
    pub profile: Option<String>,
    /// Whether the profile holds: false if something contradicts it, None if there is none or nothing could be tried.
    pub holds: Option<bool>,
    /// How many sessions it gives.
    pub sessions: Sessions,
    /// What C_GenerateRandom says to some lengths.
    pub random: Vec<Random>,
    /// What the token truly reports of a key that it made.
    pub reported: Vec<&'static str>,
    /// One for each table of the profile, or each candidate.
    pub trials: Vec<Trial>,
    /// What contradicts the profile, and what to change.
    pub findings: Vec<Finding>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// A profile of what works.
    pub draft: Option<String>,
}

/// How many sessions a token gives.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sessions {
    /// So many were open at once, the one that keeps the login included.
    pub open: u32,
    /// What the one too many was answered; None: the probe stopped asking.
    pub refused: Option<Answer>,
}

/// A length that C_GenerateRandom was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Random {
    /// How many bytes.
    pub bytes: u16,
    /// What was answered instead; None: the bytes.
    pub refused: Option<Answer>,
}

/// One way of wrapping, tried.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The mechanism's number, in hexadecimal.
    pub mechanism: String,
    /// Its name.
    pub name: Option<&'static str>,
    /// `aes-gcm`, ...
    pub method: &'static str,
    /// The IV mode or the hash.
    pub variant: Option<&'static str>,
    /// `works`, `fails`, `not-tried`.
    pub result: &'static str,
    /// What failed: `key`, `wrap`, `unwrap`, `context`, `changed`.
    pub stage: Option<&'static str>,
    /// What was answered.
    pub answer: Option<Answer>,
    /// What a wrong context was answered; None where the token does not see it.
    pub wrong_context: Option<Answer>,
    /// What a changed wrap was answered.
    pub changed: Option<Answer>,
    /// How fast it unwraps.
    pub rates: Vec<Rate>,
}

/// What the token answered, or keyward's worker for it.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// In words.
    pub text: String,
    /// The PKCS#11 function.
    pub call: Option<String>,
    /// The return code, in hexadecimal.
    pub code: Option<String>,
    /// Its name.
    pub name: Option<&'static str>,
}

/// How fast a token unwraps.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// How many sessions worked at once.
    pub sessions: u32,
    /// Unwraps a second of all of them, in the worker: the token and its library alone.
    pub raw_per_second: f64,
    /// The same asked for from outside, one at a time on each lane.
    pub worker_per_second: f64,
    /// `worker_per_second / raw_per_second`.
    pub ratio: f64,
    /// What the way to the worker adds to each unwrap, in microseconds: the difference of `1 / rate`. Noise on a busy machine
    /// may make it negative where the token itself is slow.
    pub added_us: f64,
}

/// A contradiction.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The table of the profile.
    pub table: String,
    /// What the token does.
    pub found: String,
    /// What to change.
    pub change: String,
}

/// The shape of this report.
pub const SCHEMA: u16 = 1;
