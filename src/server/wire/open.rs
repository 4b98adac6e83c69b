//! What does a request to open say? `{sealed, context, purpose?, as?}` or
//! `{items:[{sealed, context?, as?}...], context?, purpose?}`.

use crate::names::{Context, Purpose};
use crate::service::{Form, ItemError, Open, OpenItem, Refusal};

use super::batch::{self, Draft};
use super::json::{Fault, Reader, Token, once};
use super::{MAX_SEALED_BYTES, Shape, context};

const ALLOWED: &str = "sealed, context, as, and beside them purpose and items";

#[derive(Default)]
struct Fields<'a> {
    sealed: Option<Token<'a>>,
    form: Option<Form>,
}

/// Reads a request to open.
pub fn parse_open(body: &[u8]) -> Result<(Open, Shape), Refusal> {
    let mut purpose = None;
    let batch = batch::read(
        body,
        ALLOWED,
        |fields: &mut Fields<'_>, reader, key| {
            match &*key.text() {
                "sealed" => once(&mut fields.sealed, reader.string()?, key)?,
                "as" => once(&mut fields.form, form(reader).map_err(|fault| fault.within("as"))?, key)?,
                _ => return Ok(false),
            }
            Ok(true)
        },
        |reader, key| {
            if key.text() != "purpose" {
                return Ok(false);
            }
            once(&mut purpose, read_purpose(reader).map_err(|fault| fault.within("purpose"))?, key)?;
            Ok(true)
        },
    )?;
    if let Some(missing) = batch.items.iter().position(|draft| draft.fields.sealed.is_none()) {
        let at = batch.items.get(missing).map_or(0, |draft| draft.at);
        return Err(without_sealed(missing, at, batch.shape, body));
    }
    let shared = batch.shared.as_ref();
    let items = batch.items.into_iter().map(|draft| item(draft, shared)).collect();
    Ok((Open { purpose, items }, batch.shape))
}

fn item(draft: Draft<Fields<'_>>, shared: Option<&Context>) -> Result<OpenItem, ItemError> {
    let sealed = draft.fields.sealed.ok_or(ItemError::MalformedItem)?;
    if sealed.len() > MAX_SEALED_BYTES {
        return Err(ItemError::MalformedValue);
    }
    let context = context::complete(draft.context, shared)?;
    OpenItem::parse(context, &sealed.text(), draft.fields.form.unwrap_or(Form::Text))
}

/// The refusal of a request whose item of this number, which begins here, has no sealed value.
pub(super) fn without_sealed(missing: usize, at: usize, shape: Shape, body: &[u8]) -> Refusal {
    match shape {
        Shape::One => Fault::malformed("the field sealed is missing", at).refusal(body),
        Shape::Many => {
            Fault::malformed(format!("item {missing} has no field sealed"), at).within("items").refusal(body)
        }
    }
}

fn form(reader: &mut Reader<'_>) -> Result<Form, Fault> {
    let token = reader.string()?;
    match &*token.text() {
        "text" => Ok(Form::Text),
        "bytes" => Ok(Form::Bytes),
        _ => Err(Fault::malformed("there are text and bytes", token.at())),
    }
}

/// A purpose of use.
pub(super) fn read_purpose(reader: &mut Reader<'_>) -> Result<Purpose, Fault> {
    let token = reader.string()?;
    let wrong = |_| Fault::malformed("a purpose is an HL7 PurposeOfUse code such as TREAT", token.at());
    token.text().parse().map_err(wrong)
}
