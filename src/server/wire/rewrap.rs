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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Purpose;
    use crate::server::wire::{MAX_ITEMS, MAX_PLAINTEXT_BYTES};

    fn sealed(plaintext: usize) -> String {
        let mut bytes = vec![1, 7, 7, 7, 7, 7, 7, 7, 7, 2, 1, 0];
        bytes.resize(12 + 24 + 32 + plaintext + 16, 0);
        format!("kw1.{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes))
    }

    fn pairs(context: &Context) -> Vec<(String, String)> {
        context.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn refused(body: &str) -> (Code, String) {
        let refusal = parse_rewrap(body.as_bytes()).err().unwrap_or_else(|| panic!("{body} is accepted"));
        (refusal.code, refusal.detail.unwrap_or_default().into_owned())
    }

    #[test]
    fn a_new_context_is_complete_and_one_that_is_the_old_one_is_none() {
        let value = sealed(4);
        let one = format!(r#"{{"sealed":"{value}","context":{{"a":"1"}},"new_context":{{"b":"2"}},"purpose":"HDM"}}"#);
        let (rewrap, shape) = parse_rewrap(one.as_bytes()).unwrap();
        assert_eq!((rewrap.purpose, shape), (Some(Purpose::DataQuality), Shape::One));
        let item = rewrap.items.into_iter().next().unwrap().ok().unwrap();
        assert_eq!((pairs(&item.context), item.sealed.to_text()), (vec![pair("a", "1")], value.clone()));
        assert_eq!(item.new_context.as_ref().map(pairs), Some(vec![pair("b", "2")]));
        let body = format!(
            r#"{{"context":{{"p":"1"}},"new_context":{{"p":"2"}},"items":[{{"sealed":"{value}"}},
            {{"sealed":"{value}","context":{{"f":"x"}},"new_context":{{"f":"y"}}}},
            {{"sealed":"{value}","new_context":{{"p":"1"}}}},{{"sealed":"x"}},{{"sealed":"{value}","context":{{"p":"2"}}}}]}}"#
        );
        let (rewrap, shape) = parse_rewrap(body.as_bytes()).unwrap();
        let of = |item: &RewrapItem| (pairs(&item.context), item.new_context.as_ref().map(pairs));
        let read: Vec<_> = rewrap.items.iter().map(|item| item.as_ref().map(of).map_err(|error| *error)).collect();
        assert_eq!((shape, read[0].clone()), (Shape::Many, Ok((vec![pair("p", "1")], Some(vec![pair("p", "2")])))));
        let own = (vec![pair("f", "x"), pair("p", "1")], Some(vec![pair("f", "y"), pair("p", "2")]));
        assert_eq!(read[1], Ok(own));
        assert_eq!(
            read[2..],
            [ItemError::InvalidContext, ItemError::MalformedValue, ItemError::InvalidContext].map(Err)
        );
        let stays = format!(r#"{{"sealed":"{value}","context":{{"a":"1"}},"new_context":{{"a":"1"}}}}"#);
        let item = parse_rewrap(stays.as_bytes()).unwrap().0.items.remove(0).ok().unwrap();
        assert!(item.new_context.is_none());
    }

    #[test]
    fn what_is_no_request_to_rewrap_is_refused_by_its_place_and_the_limits_are_those_of_opening() {
        for (body, detail) in [
            (r#"{"sealed":"x"}"#, "the field context is missing"),
            (r#"{"context":{}}"#, "the field sealed is missing"),
            (r#"{"context":{},"items":[{"sealed":"x"},{}]}"#, "item 1 has no field sealed"),
            (r#"{"context":{},"sealed":"x","as":"text"}"#, "a field is unknown"),
            (r#"{"context":{},"sealed":"x","new_context":{"a":"1","a":"2"}}"#, "at $.new_context (line 1"),
            (r#"{"context":{},"sealed":"x","new_context":7}"#, "at $.new_context (line 1"),
            (r#"{"context":{},"sealed":"x","new_context":{},"new_context":{}}"#, "given twice"),
            (r#"{"context":{},"items":[{"sealed":"x","purpose":"TREAT"}]}"#, "a field is unknown"),
        ] {
            let (code, found) = refused(body);
            assert!(code == Code::MalformedRequest && found.contains(detail), "{body}: {found}");
        }
        let shared = r#"{"context":{},"new_context":{"kw.x":"SECRET"},"items":[{"sealed":"x"}]}"#;
        let (code, found) = refused(shared);
        assert!(code == Code::InvalidContext && !found.contains("SECRET"), "{found}");
        let items = |n: usize| format!(r#"{{"context":{{}},"items":[{}]}}"#, vec![r#"{"sealed":"x"}"#; n].join(","));
        assert_eq!(parse_rewrap(items(MAX_ITEMS).as_bytes()).unwrap().0.items.len(), MAX_ITEMS);
        assert_eq!(refused(&items(MAX_ITEMS + 1)).0, Code::TooManyItems);
        let first = |plaintext| {
            let body = format!(r#"{{"context":{{}},"sealed":"{}"}}"#, sealed(plaintext));
            parse_rewrap(body.as_bytes()).unwrap().0.items.remove(0).map(drop)
        };
        assert_eq!(first(MAX_PLAINTEXT_BYTES), Ok(()));
        assert_eq!(first(MAX_PLAINTEXT_BYTES + 3), Err(ItemError::MalformedValue));
    }
}
