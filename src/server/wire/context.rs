//! How does a JSON object become a context? Strictly: strings only, no key twice.

use crate::names::{Context, ContextError};
use crate::service::ItemError;

use super::json::{Fault, Reader, Token};

/// A context as an item or a request gives it; a bad key is the item's error, not the request's.
pub(super) type Given = Result<Context, ContextError>;

/// Reads the object of pairs.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Given, Fault> {
    let start = reader.at();
    let mut pairs = Vec::new();
    reader.object(|reader, key: Token<'_>| {
        pairs.push((key.text().into_owned(), reader.string()?.text().into_owned()));
        Ok(())
    })?;
    match Context::parse(pairs) {
        Err(ContextError::Duplicate) => Err(Fault::malformed("a context key is given twice", start)),
        given => Ok(given),
    }
}

/// The complete context of an item: its own pairs and the shared ones.
pub(super) fn complete(own: Option<Given>, shared: Option<&Context>) -> Result<Context, ItemError> {
    match (own.transpose().map_err(|_| ItemError::InvalidContext)?, shared) {
        (Some(own), Some(shared)) => own.merge(shared).map_err(|_| ItemError::InvalidContext),
        (Some(own), None) => Ok(own),
        (None, Some(shared)) => Ok(shared.clone()),
        // The reader has refused a request that gives neither.
        (None, None) => Err(ItemError::InvalidContext),
    }
}
