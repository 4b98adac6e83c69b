//! What does a request to put the policy files in force say, and what is answered? `{}`; `{before, policy, files}`.

use super::batch::unknown;
use super::json::Reader;
use super::pen::Pen;
use crate::service::{PolicyLoaded, Refusal};

/// Reads `{}`: there is nothing to choose.
pub fn parse_nothing(body: &[u8]) -> Result<(), Refusal> {
    let mut reader = Reader::new(body).map_err(|fault| fault.refusal(body))?;
    let read = reader.object(|_, key| Err(unknown("no field", key))).and_then(|()| reader.end());
    read.map_err(|fault| fault.refusal(body))
}

pub(super) fn loaded(pen: &mut Pen, loaded: &PolicyLoaded) {
    pen.raw("{\"before\":");
    pen.string(&hex::encode(loaded.before));
    pen.raw(",\"policy\":");
    pen.string(&hex::encode(loaded.now));
    pen.raw(",\"files\":");
    pen.number(u64::try_from(loaded.files).unwrap_or(u64::MAX));
    pen.raw("}");
}
