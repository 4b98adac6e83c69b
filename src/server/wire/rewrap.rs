//! What does a request to rewrap values say? `{sealed, context, new_context?, purpose?}` or
//! `{items:[{sealed, context?, new_context?}...], context?, new_context?, purpose?}`. A new context is complete: nothing of
//! the old one is carried over.

use crate::names::Context;
use crate::service::{Code, ItemError, Refusal, Rewrap, RewrapItem};

use super::batch::{self, Draft};
use super::context::{self, Given};
use super::json::{Fault, Token, once};
use super::open::{read_purpose, without_sealed};
use super::{MAX_SEALED_BYTES, Shape};

const ALLOWED: &str = "sealed, context, new_context, and beside them purpose and items";

#[derive(Default)]
struct Fields<'a> {
    sealed: Option<Token<'a>>,
    new_context: Option<Given>,
}

/// Reads a request to rewrap.
pub fn parse_rewrap(body: &[u8]) -> Result<(Rewrap, Shape), Refusal> {
    let (mut purpose, mut shared_new) = (None, None);
    let batch = batch::read(
        body,
        ALLOWED,
        |fields: &mut Fields<'_>, reader, key| {
            match &*key.text() {
                "sealed" => once(&mut fields.sealed, reader.string()?, key)?,
                "new_context" => {
                    let given = context::read(reader).map_err(|fault| fault.within("new_context"))?;
                    once(&mut fields.new_context, given, key)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        },
        |reader, key| {
            match &*key.text() {
                "purpose" => {
                    once(&mut purpose, read_purpose(reader).map_err(|fault| fault.within("purpose"))?, key)?;
                }
                "new_context" => {
                    let given = context::read(reader).map_err(|fault| fault.within("new_context"))?;
                    once(&mut shared_new, given, key)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        },
    )?;
    if let Some(missing) = batch.items.iter().position(|draft| draft.fields.sealed.is_none()) {
        let at = batch.items.get(missing).map_or(0, |draft| draft.at);
        return Err(without_sealed(missing, at, batch.shape, body));
    }
    let wrong = |error| Fault::of(Code::InvalidContext, format!("{error}"), 0).within("new_context").refusal(body);
    let shared_new = match batch.shape {
        Shape::Many => shared_new.transpose().map_err(wrong)?.map(Ok),
        Shape::One => shared_new,
    };
    let shared = batch.shared.as_ref();
    let items = batch.items.into_iter().map(|draft| item(draft, shared, shared_new.as_ref())).collect();
    Ok((Rewrap { purpose, items }, batch.shape))
}

fn item(
    draft: Draft<Fields<'_>>,
    shared: Option<&Context>,
    shared_new: Option<&Given>,
) -> Result<RewrapItem, ItemError> {
    let sealed = draft.fields.sealed.ok_or(ItemError::MalformedItem)?;
    if sealed.len() > MAX_SEALED_BYTES {
        return Err(ItemError::MalformedValue);
    }
    let shared_new = shared_new.map(Result::as_ref).transpose().map_err(|_| ItemError::InvalidContext)?;
    let new = match (draft.fields.new_context, shared_new) {
        (None, None) => None,
        (own, shared) => Some(context::complete(own, shared)?),
    };
    RewrapItem::parse(context::complete(draft.context, shared)?, new, &sealed.text())
}
