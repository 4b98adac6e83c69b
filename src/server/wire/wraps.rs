//! What do the requests about wraps say, and how is a survey or a part of a rewrapping told?

use crate::names::{KekName, KeyringName};
use crate::service::life::{Reason, Trigger};
use crate::service::{Operation, Refusal, RewrapReport, RewrapStep};

use super::batch::unknown;
use super::json::{Fault, Reader, once};
use super::keys::{REASONS, TRIGGERS, code, read};
use super::pen::Pen;

/// The longest name of a keyring is shorter.
const MAX_CURSOR_BYTES: usize = 256;

/// Reads `{trigger, after?}`: what the last part answered as `next`.
pub fn parse_rewrap_keys(body: &[u8]) -> Result<Operation, Refusal> {
    read(body, |reader| {
        let (mut trigger, mut after) = (None, None);
        let start = reader.at();
        reader.object(|reader, key| match &*key.text() {
            "trigger" => once(&mut trigger, code(reader, "trigger", Trigger::of, &TRIGGERS)?, key),
            "after" => once(&mut after, cursor(reader).map_err(|fault| fault.within("after"))?, key),
            _ => Err(unknown("trigger and after", key)),
        })?;
        let trigger = trigger.ok_or_else(|| Fault::malformed("the field trigger is missing", start))?;
        Ok(Operation::RewrapKeys { trigger, after })
    })
}

/// Reads `{trigger}` of a rewrapping of partitions.
pub fn parse_rewrap_partitions(keyring: KeyringName, body: &[u8]) -> Result<Operation, Refusal> {
    read(body, |reader| {
        let mut trigger = None;
        let start = reader.at();
        reader.object(|reader, key| match &*key.text() {
            "trigger" => once(&mut trigger, code(reader, "trigger", Trigger::of, &TRIGGERS)?, key),
            _ => Err(unknown("trigger", key)),
        })?;
        let trigger = trigger.ok_or_else(|| Fault::malformed("the field trigger is missing", start))?;
        Ok(Operation::RewrapPartitions { keyring, trigger })
    })
}

/// Reads `{reason, version?}`.
pub fn parse_retire_kek(kek: KekName, body: &[u8]) -> Result<Operation, Refusal> {
    read(body, |reader| {
        let (mut reason, mut version) = (None, None);
        let start = reader.at();
        reader.object(|reader, key| match &*key.text() {
            "reason" => once(&mut reason, code(reader, "reason", Reason::given, &REASONS)?, key),
            "version" => {
                let at = reader.at();
                let number = u32::try_from(reader.number(u32::MAX.into())?).ok().filter(|version| *version > 0);
                let number = number.ok_or_else(|| Fault::malformed("versions count from 1", at).within("version"))?;
                once(&mut version, number, key)
            }
            _ => Err(unknown("reason and version", key)),
        })?;
        let reason = reason.ok_or_else(|| Fault::malformed("the field reason is missing", start))?;
        Ok(Operation::RetireKek { kek, version, reason })
    })
}

fn cursor(reader: &mut Reader<'_>) -> Result<String, Fault> {
    let token = reader.string()?;
    let text = token.text();
    if text.len() > MAX_CURSOR_BYTES {
        return Err(Fault::malformed("give what the last answer said as next", token.at()));
    }
    Ok(text.into_owned())
}

/// `{keys, behind, complete, wraps: [{kek, version, keys}]}`
pub(super) fn report(pen: &mut Pen, report: &RewrapReport) {
    pen.raw("{\"keys\":");
    pen.number(report.keys);
    pen.raw(",\"behind\":");
    pen.number(report.behind);
    pen.raw(",\"complete\":");
    pen.raw(if report.is_complete() { "true" } else { "false" });
    pen.raw(",\"wraps\":");
    pen.list(&report.wraps, |pen, (kek, version, keys)| {
        pen.raw("{\"kek\":");
        pen.string(kek.as_str());
        pen.raw(",\"version\":");
        pen.number((*version).into());
        pen.raw(",\"keys\":");
        pen.number(*keys);
        pen.raw("}");
    });
    damaged(pen, &report.damaged);
    pen.raw("}");
}

/// Keyrings that nobody could look at; none is said by saying nothing.
fn damaged(pen: &mut Pen, keyrings: &[String]) {
    if !keyrings.is_empty() {
        pen.raw(",\"damaged\":");
        pen.list(keyrings, |pen, keyring| pen.string(keyring));
    }
}

/// `{rewrapped, mended, failed, failures: [{key, why}], next?}`
pub(super) fn step(pen: &mut Pen, RewrapStep { report, next, stopped: _ }: &RewrapStep) {
    pen.raw("{\"rewrapped\":");
    pen.number(report.rewrapped);
    pen.raw(",\"mended\":");
    pen.number(report.mended);
    pen.raw(",\"failed\":");
    pen.number(report.failed);
    pen.raw(",\"failures\":");
    pen.list(&report.failures, |pen, (key, why)| {
        pen.raw("{\"key\":");
        pen.string(&key.to_string());
        pen.raw(",\"why\":");
        pen.string(why);
        pen.raw("}");
    });
    damaged(pen, &report.damaged);
    if let Some(next) = next {
        pen.raw(",\"next\":");
        pen.string(next);
    }
    pen.raw("}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_wraps_says_why() {
        for body in ["{}", r#"{"trigger":"whim"}"#, r#"{"trigger":"usage","trigger":"usage"}"#] {
            assert!(parse_rewrap_keys(body.as_bytes()).is_err(), "{body}");
            assert!(parse_rewrap_partitions("p".parse().unwrap(), body.as_bytes()).is_err(), "{body}");
        }
        let asked = parse_rewrap_keys(br#"{"trigger":"incident","after":"default/a"}"#);
        let Ok(Operation::RewrapKeys { trigger: Trigger::Incident, after }) = asked else { panic!("another") };
        assert_eq!(after.as_deref(), Some("default/a"));
        let kek = || "primary".parse().unwrap();
        for body in ["{}", r#"{"version":1}"#, r#"{"reason":"created"}"#, r#"{"reason":"retired","version":0}"#] {
            assert!(parse_retire_kek(kek(), body.as_bytes()).is_err(), "{body}");
        }
        let asked = parse_retire_kek(kek(), br#"{"reason":"personnel","version":3}"#);
        let Ok(Operation::RetireKek { reason, version, .. }) = asked else { panic!("another") };
        assert_eq!((reason.code(), version), ("personnel", Some(3)));
    }
}
