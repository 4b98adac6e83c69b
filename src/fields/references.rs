//! What does a reference refer to? Only its resource type, only within the document: the condition `[reference=...]`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::document::Value;
use super::selector::Condition;

type Text<'d> = Cow<'d, [u8]>;

/// The types of the resources that this document holds, by the names that references use.
#[derive(Default)]
pub(super) struct Targets<'d> {
    /// By `Bundle.entry.fullUrl`.
    urls: HashMap<Text<'d>, Text<'d>>,
    /// By the id of a resource contained in the present root resource.
    contained: HashMap<Text<'d>, Text<'d>>,
}

impl<'d> Targets<'d> {
    /// Remembers the entries of a bundle.
    pub(super) fn enter_bundle(&mut self, bundle: Value<'d>) {
        for entry in bundle.member(b"entry").into_iter().flat_map(Value::children) {
            let kind = entry.member(b"resource").and_then(|resource| string(resource, b"resourceType"));
            if let (Some(url), Some(kind)) = (string(entry, b"fullUrl"), kind) {
                self.urls.insert(url, kind);
            }
        }
    }

    /// Replaces the contained resources by those of another root resource.
    pub(super) fn enter_root(&mut self, resource: Value<'d>) {
        let items = resource.member(b"contained").into_iter().flat_map(Value::children);
        self.contained =
            items.filter_map(|item| Some((string(item, b"id")?, string(item, b"resourceType")?))).collect();
    }

    /// FLD-22: whether an element holds what a selector asks of it.
    pub(super) fn holds(&self, condition: &Condition, element: Value<'d>) -> bool {
        let is = |name: &[u8], text: &str| string(element, name).as_deref() == Some(text.as_bytes());
        match condition {
            Condition::System(system) => is(b"system", system),
            Condition::Url(url) => is(b"url", url),
            Condition::TypeCode(code) => has_type_code(element, code.as_bytes()),
            Condition::Reference(kind) => self.refers_to(element, kind.as_bytes()),
        }
    }

    fn refers_to(&self, reference: Value<'d>, kind: &[u8]) -> bool {
        let names = |text: &[u8]| text.split(|b| matches!(b, b'/' | b'?' | b'|')).any(|part| part == kind);
        if string(reference, b"type").is_some_and(|text| names(&text)) {
            return true;
        }
        let Some(target) = string(reference, b"reference") else { return false };
        match target.strip_prefix(b"#") {
            Some(id) => self.contained.get(id).is_some_and(|there| **there == *kind),
            None => names(&target) || self.urls.get(&target).is_some_and(|there| **there == *kind),
        }
    }
}

fn has_type_code(element: Value<'_>, code: &[u8]) -> bool {
    let codings = element.member(b"type").and_then(|kind| kind.member(b"coding"));
    codings.into_iter().flat_map(Value::children).any(|coding| string(coding, b"code").as_deref() == Some(code))
}

fn string<'d>(value: Value<'d>, name: &[u8]) -> Option<Text<'d>> {
    value.member(name).and_then(Value::string)
}
