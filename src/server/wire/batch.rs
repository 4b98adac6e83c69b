//! What do one value and a list of values have in common? An optional shared context and the limit of items.

use crate::names::Context;
use crate::service::{Code, Refusal};

use super::context::{self, Given};
use super::json::{Fault, Reader, Token, once};
use super::{MAX_ITEMS, Shape};

/// An item as it was read: its own fields beside the context that every item may give.
pub(super) struct Draft<T> {
    pub(super) context: Option<Given>,
    pub(super) fields: T,
    /// Where the item begins, for a fault that is found when the whole request is known.
    pub(super) at: usize,
}

/// A request as it was read.
pub(super) struct Batch<T> {
    pub(super) shape: Shape,
    pub(super) shared: Option<Context>,
    pub(super) items: Vec<Draft<T>>,
}

/// Reads `{items:[...], context}` or one item; `field` reads a field of an item, `beside` one that may only stand
/// beside `items` or in a single value. Both say whether they knew it.
pub(super) fn read<'a, T: Default>(
    body: &'a [u8],
    allowed: &'static str,
    field: impl FnMut(&mut T, &mut Reader<'a>, Token<'a>) -> Result<bool, Fault>,
    beside: impl FnMut(&mut Reader<'a>, Token<'a>) -> Result<bool, Fault>,
) -> Result<Batch<T>, Refusal> {
    let whole = Reader::new(body).and_then(|mut reader| request(&mut reader, allowed, field, beside));
    whole.map_err(|fault| fault.refusal(body))
}

fn request<'a, T: Default>(
    reader: &mut Reader<'a>,
    allowed: &'static str,
    mut field: impl FnMut(&mut T, &mut Reader<'a>, Token<'a>) -> Result<bool, Fault>,
    mut beside: impl FnMut(&mut Reader<'a>, Token<'a>) -> Result<bool, Fault>,
) -> Result<Batch<T>, Fault> {
    let mut single = Draft { context: None, fields: T::default(), at: reader.at() };
    let (mut own_fields, mut items) = (None, None);
    reader.object(|reader, key| {
        match &*key.text() {
            "items" => {
                let list = list(reader, allowed, &mut field).map_err(|fault| fault.within("items"))?;
                once(&mut items, list, key)?;
            }
            "context" => once(&mut single.context, read_context(reader)?, key)?,
            _ if beside(reader, key)? => {}
            _ if field(&mut single.fields, reader, key)? => own_fields = Some(key.at()),
            _ => return Err(unknown(allowed, key)),
        }
        Ok(())
    })?;
    reader.end()?;
    assemble(single, own_fields, items)
}

fn list<'a, T: Default>(
    reader: &mut Reader<'a>,
    allowed: &'static str,
    field: &mut impl FnMut(&mut T, &mut Reader<'a>, Token<'a>) -> Result<bool, Fault>,
) -> Result<Vec<Draft<T>>, Fault> {
    let mut items = Vec::new();
    let start = reader.at();
    reader.array(|reader, index| {
        if index >= MAX_ITEMS {
            let what = format!("a request takes at most {MAX_ITEMS} items");
            return Err(Fault::of(Code::TooManyItems, what, reader.at()));
        }
        let mut draft = Draft { context: None, fields: T::default(), at: reader.at() };
        reader.object(|reader, key| {
            match &*key.text() {
                "context" => once(&mut draft.context, read_context(reader)?, key)?,
                _ if field(&mut draft.fields, reader, key)? => {}
                _ => return Err(unknown(allowed, key)),
            }
            Ok(())
        })?;
        items.push(draft);
        Ok(())
    })?;
    if items.is_empty() { Err(Fault::malformed("items must hold at least one item", start)) } else { Ok(items) }
}

fn assemble<T>(single: Draft<T>, own_fields: Option<usize>, items: Option<Vec<Draft<T>>>) -> Result<Batch<T>, Fault> {
    let Some(items) = items else {
        if single.context.is_none() {
            return Err(Fault::malformed("the field context is missing", single.at));
        }
        return Ok(Batch { shape: Shape::One, shared: None, items: vec![single] });
    };
    if let Some(at) = own_fields {
        return Err(Fault::malformed("beside items, a field of an item has no meaning", at));
    }
    let wrong = |error| Fault::of(Code::InvalidContext, format!("{error}"), single.at).within("context");
    let shared = single.context.transpose().map_err(wrong)?;
    match items.iter().find(|item| shared.is_none() && item.context.is_none()) {
        Some(item) => Err(Fault::malformed("the field context is missing, in the item and beside items", item.at)),
        None => Ok(Batch { shape: Shape::Many, shared, items }),
    }
}

fn read_context(reader: &mut Reader<'_>) -> Result<Given, Fault> {
    context::read(reader).map_err(|fault| fault.within("context"))
}

/// The name of an unknown field is not repeated: it may be a value in the wrong place.
pub(super) fn unknown(allowed: &'static str, key: Token<'_>) -> Fault {
    Fault::malformed(format!("a field is unknown; there are {allowed}"), key.at())
}
