//! What do the requests about wraps say, and how is a survey or a part of a rewrapping told?

use crate::service::{Refusal, RewrapReport, RewrapStep};

use super::batch::unknown;
use super::json::{Fault, Reader, once};
use super::keys::read;
use super::pen::Pen;

/// The longest name of a keyring is shorter.
const MAX_CURSOR_BYTES: usize = 256;

/// Reads `{after?}`: what the last part answered as `next`.
pub fn parse_rewrap_keys(body: &[u8]) -> Result<Option<String>, Refusal> {
    read(body, |reader| {
        let mut after = None;
        reader.object(|reader, key| match &*key.text() {
            "after" => once(&mut after, cursor(reader).map_err(|fault| fault.within("after"))?, key),
            _ => Err(unknown("after", key)),
        })?;
        Ok(after)
    })
}

/// Reads `{version?}`.
pub fn parse_retire_kek(body: &[u8]) -> Result<Option<u32>, Refusal> {
    read(body, |reader| {
        let mut version = None;
        reader.object(|reader, key| match &*key.text() {
            "version" => {
                let at = reader.at();
                let number = u32::try_from(reader.number(u32::MAX.into())?).ok().filter(|version| *version > 0);
                let number = number.ok_or_else(|| Fault::malformed("versions count from 1", at).within("version"))?;
                once(&mut version, number, key)
            }
            _ => Err(unknown("version", key)),
        })?;
        Ok(version)
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
    pen.raw("}");
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
    if let Some(next) = next {
        pen.raw(",\"next\":");
        pen.string(next);
    }
    pen.raw("}");
}
