//! What does the value of a parameter look like? Each form is checked where a proposal is written and again where it is read.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::identity::sshsig::{SshKey, SshSignature};
use crate::names::{KekName, KeyVersionId, KeyringName, LookupName, PrincipalName, Purpose, RESERVED_PREFIX};
use crate::policy::separation::Separation;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A keyring.
    Keyring,
    /// A key-encryption key of the configuration.
    Kek,
    /// A key version: 16 hexadecimal digits.
    Version,
    /// A look-up key: `index/mrn`.
    Lookup,
    /// A principal.
    Principal,
    /// A purpose of use.
    Purpose,
    /// Context keys with commas between them.
    ContextKeys,
    /// One context key.
    ContextKey,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number between these.
    Number(u64, u64),
    /// Days, as in `35d`.
    Days,
    /// SHA-256: 64 hexadecimal digits.
    Digest,
    /// The name of a partition, 32 hexadecimal digits; never the value that it is of.
    Partition,
    /// A line as `ssh-keygen` writes it, without a comment.
    SshKey,
    /// A code of lower-case letters, digits, `_` and `-`.
    Code,
    /// The number of a ticket, or the name of a place.
    Label,
    /// What becomes of guarded settings: a JSON object from names to texts, or to null.
    Changes,
    /// A separation file, in base64.
    Rules,
    /// An SSH signature, in base64 without its armour.
    Proof,
}

impl Form {
    /// Checks a value; the error says what it must be.
    pub fn check(self, value: &str) -> Result<(), String> {
        if self.holds(value) { Ok(()) } else { Err(self.what()) }
    }

    fn holds(self, value: &str) -> bool {
        match self {
            Self::Keyring => value.parse::<KeyringName>().is_ok(),
            Self::Kek => value.parse::<KekName>().is_ok(),
            Self::Version => value.parse::<KeyVersionId>().is_ok(),
            Self::Lookup => value.parse::<LookupName>().is_ok(),
            Self::Principal => value.parse::<PrincipalName>().is_ok(),
            Self::Purpose => value.parse::<Purpose>().is_ok(),
            Self::ContextKeys => context_keys(value),
            Self::ContextKey => context_key(value),
            Self::Word(words) => words.contains(&value),
            Self::Number(least, most) => number(value).is_some_and(|number| (least..=most).contains(&number)),
            Self::Days => value.strip_suffix('d').and_then(number).is_some_and(|days| days <= MAX_DAYS),
            Self::Digest => is_hex(value, 64),
            Self::Partition => is_hex(value, 32),
            Self::SshKey => SshKey::parse(value).is_ok_and(|key| key.line() == value),
            Self::Code => is_code(value),
            Self::Label => is_label(value),
            Self::Changes => is_changes(value),
            Self::Rules => rules(value).is_some(),
            Self::Proof => {
                let blob = STANDARD.decode(value).ok().filter(|_| value.len() <= MOST_PROOF);
                blob.is_some_and(|blob| SshSignature::of_blob(&blob).is_ok())
            }
        }
    }

    /// What it looks like, for people.
    pub fn what(self) -> String {
        match self {
            Self::Keyring => "the name of a keyring (TENANT/NAME, or NAME)".to_owned(),
            Self::Kek => "the name of a key-encryption key of the configuration".to_owned(),
            Self::Version => "the id of a key version (16 hexadecimal digits)".to_owned(),
            Self::Lookup => "a look-up key (deterministic/NAME, index/NAME or token/NAME)".to_owned(),
            Self::Principal => "the name of a principal".to_owned(),
            Self::Purpose => "a purpose of use, such as TREAT".to_owned(),
            Self::ContextKeys => "1 to 16 different context keys in order, with commas between them".to_owned(),
            Self::ContextKey => "a context key of letters, digits, _, . and -".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Days => "days, as in 35d".to_owned(),
            Self::Digest => "a SHA-256 (64 hexadecimal digits in lower case)".to_owned(),
            Self::Partition => {
                "the name of a partition (32 hexadecimal digits), never the value that it is of".to_owned()
            }
            Self::SshKey => "a public SSH key, TYPE BASE64 without a comment".to_owned(),
            Self::Code => "a code of at most 64 of a-z, 0-9, _ and -".to_owned(),
            Self::Changes => "a JSON object from the names of settings to their new values, or to null for what goes; \
                              --settings-of CONFIG writes it"
                .to_owned(),
            Self::Rules => "a separation file in base64 (--set rules=@FILE encodes it)".to_owned(),
            Self::Proof => "the new key's signature that `keyward custody accept` made (--set proof=@FILE)".to_owned(),
            Self::Label => "1 to 128 letters, digits or any of . _ / # : -".to_owned(),
        }
    }
}

/// Whether it is a reason code, as decisions and proposals give one.
pub fn is_code(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether it is the number of a ticket or the name of a place.
pub fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'#' | b':' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether it says of settings what becomes of them; what it leads to is for whoever knows them.
fn is_changes(text: &str) -> bool {
    let Ok(Value::Object(all)) = serde_json::from_str(text) else { return false };
    let named = |name: &str| {
        (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
    };
    let fine = |(name, value): (&String, &Value)| named(name) && (value.is_null() || value.is_string());
    !all.is_empty() && text.len() <= MOST_TEXT && all.iter().all(fine)
}

/// The separation of duties that base64 text holds.
pub fn rules(text: &str) -> Option<Arc<Separation>> {
    let bytes = STANDARD.decode(text).ok().filter(|_| text.len() <= MOST_TEXT)?;
    Separation::load(&String::from_utf8(bytes).ok()?).ok()
}

/// Whether it is so many hexadecimal digits in lower case.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Decimal without leading zeros: one number has one spelling.
fn number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

fn context_keys(text: &str) -> bool {
    let keys: Vec<&str> = text.split(',').collect();
    let rising = keys.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    keys.len() <= 16 && rising && keys.into_iter().all(context_key)
}

/// Narrower than what a context may hold: what people sign must look the same on every screen, and a comma parts two keys.
fn context_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && !text.starts_with(RESERVED_PREFIX) && text.bytes().all(allowed)
}

/// A signature by an RSA key of 8,192 bits takes three thousand.
const MOST_PROOF: usize = 4 * 1024;

/// Bytes of a text that holds a file: a proposal has 32 KiB with all else.
const MOST_TEXT: usize = 24 * 1024;

/// A hundred years.
const MAX_DAYS: u64 = 36_500;
