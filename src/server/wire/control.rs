//! What does a request to make a keyring say? `{name, required_context?, subject_key?,
//! partition_key?, suite?, escrow?}`; and one to shred a partition? `{value, reason, backup_retention?}`.

use std::time::Duration;

use crate::names::{KeyringName, MAX_CALLER_PAIRS, MAX_CONTEXT_BYTES, RESERVED_PREFIX};
use crate::service::life::Reason;
use crate::service::{CreateKeyring, Refusal, ShredPartition, Suite};

use super::batch::unknown;
use super::json::{Fault, Reader, once};
use super::keys::escrow;

const ALLOWED: &str = "name, required_context, subject_key, partition_key, suite and escrow";
const SHRED: &str = "value, reason and backup_retention";

/// Reads a request to make a keyring.
pub fn parse_create_keyring(body: &[u8]) -> Result<CreateKeyring, Refusal> {
    Reader::new(body).and_then(|mut reader| create(&mut reader)).map_err(|fault| fault.refusal(body))
}

fn create(reader: &mut Reader<'_>) -> Result<CreateKeyring, Fault> {
    let (mut name, mut required, mut subject, mut partition, mut chosen) = (None, None, None, None, None);
    let mut wanted = None;
    let start = reader.at();
    reader.object(|reader, key| match &*key.text() {
        "name" => once(&mut name, keyring(reader).map_err(|fault| fault.within("name"))?, key),
        "required_context" => {
            once(&mut required, context_keys(reader).map_err(|fault| fault.within("required_context"))?, key)
        }
        "subject_key" => once(&mut subject, context_key(reader).map_err(|fault| fault.within("subject_key"))?, key),
        "partition_key" => {
            once(&mut partition, context_key(reader).map_err(|fault| fault.within("partition_key"))?, key)
        }
        "suite" => once(&mut chosen, suite(reader).map_err(|fault| fault.within("suite"))?, key),
        "escrow" => once(&mut wanted, escrow(reader)?, key),
        _ => Err(unknown(ALLOWED, key)),
    })?;
    reader.end()?;
    let required: Vec<String> = required.unwrap_or_default();
    if subject.as_ref().is_some_and(|subject| !required.contains(subject)) {
        return Err(Fault::malformed("subject_key must be one of required_context", start));
    }
    if partition.as_ref().is_some_and(|partition| !required.contains(partition)) {
        return Err(Fault::malformed("partition_key must be one of required_context", start));
    }
    Ok(CreateKeyring {
        name: name.ok_or_else(|| Fault::malformed("the field name is missing", start))?,
        required_context: required,
        subject_key: subject,
        partition_key: partition,
        suite: chosen.unwrap_or(Suite::XaesCommitted),
        escrow: wanted.unwrap_or_default(),
    })
}

/// Reads a request to shred a partition of a keyring.
pub fn parse_shred_partition(keyring: KeyringName, body: &[u8]) -> Result<ShredPartition, Refusal> {
    Reader::new(body).and_then(|mut reader| shred(keyring, &mut reader)).map_err(|fault| fault.refusal(body))
}

fn shred(keyring: KeyringName, reader: &mut Reader<'_>) -> Result<ShredPartition, Fault> {
    let (mut value, mut why, mut retention) = (None, None, None);
    let start = reader.at();
    reader.object(|reader, key| match &*key.text() {
        "value" => once(&mut value, reader.string().map_err(|fault| fault.within("value"))?.text().into_owned(), key),
        "reason" => once(&mut why, reason(reader).map_err(|fault| fault.within("reason"))?, key),
        "backup_retention" => {
            once(&mut retention, days(reader).map_err(|fault| fault.within("backup_retention"))?, key)
        }
        _ => Err(unknown(SHRED, key)),
    })?;
    reader.end()?;
    Ok(ShredPartition {
        keyring,
        value: value.ok_or_else(|| Fault::malformed("the field value is missing", start))?,
        reason: why.ok_or_else(|| Fault::malformed("the field reason is missing", start))?,
        backup_retention: retention,
    })
}

fn reason(reader: &mut Reader<'_>) -> Result<Reason, Fault> {
    let token = reader.string()?;
    let known = || {
        let codes: Vec<&str> =
            Reason::ALL.iter().map(|reason| reason.code()).filter(|code| *code != "created").collect();
        format!("there are {}", codes.join(", "))
    };
    Reason::given(&token.text()).ok_or_else(|| Fault::malformed(known(), token.at()))
}

/// Days, as in `35d`.
fn days(reader: &mut Reader<'_>) -> Result<Duration, Fault> {
    let token = reader.string()?;
    let days: Option<u32> = token.text().strip_suffix('d').and_then(|days| days.parse().ok());
    let days = days.filter(|days| *days <= 36_500);
    let wrong = || Fault::malformed("days are expected, as in 35d, and at most a hundred years", token.at());
    days.map(|days| Duration::from_secs(u64::from(days) * 86_400)).ok_or_else(wrong)
}

fn keyring(reader: &mut Reader<'_>) -> Result<KeyringName, Fault> {
    let token = reader.string()?;
    token.text().parse().map_err(|error| Fault::malformed(format!("{error}"), token.at()))
}

fn suite(reader: &mut Reader<'_>) -> Result<Suite, Fault> {
    let token = reader.string()?;
    match &*token.text() {
        "xaes-256-gcm" => Ok(Suite::Xaes),
        "xaes-256-gcm-committed" => Ok(Suite::XaesCommitted),
        _ => Err(Fault::malformed("there are xaes-256-gcm and xaes-256-gcm-committed", token.at())),
    }
}

fn context_keys(reader: &mut Reader<'_>) -> Result<Vec<String>, Fault> {
    let mut keys: Vec<String> = Vec::new();
    reader.array(|reader, index| {
        let at = reader.at();
        let key = context_key(reader)?;
        if index >= MAX_CALLER_PAIRS {
            return Err(Fault::malformed(format!("a context has at most {MAX_CALLER_PAIRS} keys"), at));
        }
        if keys.contains(&key) {
            return Err(Fault::malformed("a context key is given twice", at));
        }
        keys.push(key);
        Ok(())
    })?;
    Ok(keys)
}

/// A key that no context could hold would make a keyring that seals nothing.
fn context_key(reader: &mut Reader<'_>) -> Result<String, Fault> {
    let token = reader.string()?;
    let key = token.text();
    if key.is_empty() || key.starts_with(RESERVED_PREFIX) || key.len() > MAX_CONTEXT_BYTES {
        return Err(Fault::malformed("this cannot be a context key: it is empty, reserved or too long", token.at()));
    }
    Ok(key.into_owned())
}
