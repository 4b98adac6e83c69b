//! What is to be sealed in this document, and what was sealed? The answers that `document seal` and `open` work on.

use std::fmt;
use std::sync::Arc;

use super::document::{Document, Kind, Span};
use super::error::{FieldsError, Position};
use super::map::{Hipaa, Mode};
use super::plan::Plan;
use super::scan::scan;
use super::walk::{Found, Resources, walk};

/// How every sealed value begins (the text form of the envelope).
pub const SEALED_PREFIX: &str = "kw1.";

/// A string that the profile means.
#[derive(Clone, PartialEq, Eq)]
pub struct Selected<'d> {
    /// The string's token, quotes included.
    pub span: Span,
    /// The context's `resource`: `Patient/123`, `Patient/123#Coverage/c`.
    pub resource: Arc<str>,
    /// The context's `path`: `name[0].given[1]`.
    pub path: String,
    /// How to seal it.
    pub mode: Mode,
    /// What it may identify.
    pub hipaa: Hipaa,
    /// The index of its rule in [`Plan::rules`].
    pub rule: usize,
    raw: &'d str,
}

impl<'d> Selected<'d> {
    /// FLD-30: what stands between the quotes, escapes and all: the plaintext to seal, or the sealed value to open.
    pub const fn raw(&self) -> &'d str {
        self.raw
    }

    /// The pairs that bind the value to its place (FLD-10); the tenant is not the document's to say.
    pub fn context_pairs(&self) -> [(&'static str, &str); 2] {
        [("resource", &self.resource), ("path", &self.path)]
    }
}

/// The value may be a patient's name, so Debug shows the place only.
impl fmt::Debug for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selected({} {} {:?})", self.resource, self.path, self.span)
    }
}

/// A position that should be sealed, or decided on, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// The token.
    pub span: Span,
    /// As in [`Selected`]; without an id where the resource has none.
    pub resource: Arc<str>,
    /// As in [`Selected`].
    pub path: String,
    /// The index of the rule in [`Plan::rules`] that means it.
    pub rule: Option<usize>,
    /// Why it stays as it is.
    pub gap: Gap,
}

/// Why a position stays unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// A number, which a sealed text cannot replace.
    #[error("a number is not sealed by this version")]
    Number,
    /// A boolean.
    #[error("a boolean is not sealed by this version")]
    Boolean,
    /// An object where the rule means a text.
    #[error("the rule means a text, here is an object")]
    Structure,
    /// A resource type that the map neither has rules for nor calls reviewed.
    #[error("the field map does not know this resource type")]
    UnreviewedType,
    /// A resource where FHIR has none; only the rules of the surrounding resource look into it.
    #[error("a resource where FHIR has none")]
    MisplacedResource,
}

/// What to seal in a document.
#[derive(Debug)]
pub struct Selection<'d> {
    /// In document order.
    pub values: Vec<Selected<'d>>,
    /// In document order.
    pub uncovered: Vec<Uncovered>,
}

/// What to open in a document.
#[derive(Debug)]
pub struct SealedSelection<'d> {
    /// Selected strings that begin like sealed values, in document order.
    pub sealed: Vec<Selected<'d>>,
    /// Selected strings that do not.
    pub plain: Vec<Selected<'d>>,
    /// Strings that begin like sealed values where the profile selects nothing.
    pub strays: Vec<Span>,
    /// As in [`Selection`].
    pub uncovered: Vec<Uncovered>,
}

/// Finds what to seal. A selected string that is sealed already is refused (FLD-31).
pub fn select<'d>(document: &'d [u8], plan: &Plan) -> Result<Selection<'d>, FieldsError> {
    select_among(document, plan, &mut Resources::new())
}

pub(super) fn select_among<'d>(
    document: &'d [u8],
    plan: &Plan,
    resources: &mut Resources,
) -> Result<Selection<'d>, FieldsError> {
    let scanned = scan(document)?;
    let (values, uncovered) = split(&scanned, plan, walk(&scanned, plan, resources)?);
    match values.iter().find(|value| says_sealed(value.raw())) {
        Some(Selected { span, path, .. }) => {
            let at = Position::of(document, span.start);
            Err(FieldsError::AlreadySealed { path: path.clone(), at })
        }
        None => Ok(Selection { values, uncovered }),
    }
}

/// Finds what to open (FLD-32).
pub fn sealed_spans<'d>(document: &'d [u8], plan: &Plan) -> Result<SealedSelection<'d>, FieldsError> {
    sealed_among(document, plan, &mut Resources::new())
}

pub(super) fn sealed_among<'d>(
    document: &'d [u8],
    plan: &Plan,
    resources: &mut Resources,
) -> Result<SealedSelection<'d>, FieldsError> {
    let scanned = scan(document)?;
    let (values, uncovered) = split(&scanned, plan, walk(&scanned, plan, resources)?);
    let (sealed, plain): (Vec<_>, Vec<_>) = values.into_iter().partition(|value| value.raw.starts_with(SEALED_PREFIX));
    let strays = scanned
        .values()
        .filter(|value| value.kind() == Kind::String)
        .map(|value| value.span())
        .filter(|span| scanned.body(*span).starts_with(SEALED_PREFIX))
        .filter(|span| sealed.binary_search_by_key(&span.start, |value| value.span.start).is_err())
        .collect();
    Ok(SealedSelection { sealed, plain, strays, uncovered })
}

/// Escapes do not hide that a value is sealed.
fn says_sealed(raw: &str) -> bool {
    super::text::unescape(raw).starts_with(SEALED_PREFIX.as_bytes())
}

fn split<'d>(document: &Document<'d>, plan: &Plan, found: Vec<Found>) -> (Vec<Selected<'d>>, Vec<Uncovered>) {
    let (mut values, mut uncovered) = (Vec::new(), Vec::new());
    for Found { span, resource, path, rule, gap } in found {
        match (gap, rule.and_then(|index| Some((index, plan.rules().get(index)?)))) {
            (None, Some((rule, &super::map::Rule { mode, hipaa, .. }))) => {
                let raw = document.body(span);
                values.push(Selected { span, resource, path, mode, hipaa, rule, raw });
            }
            (None, None) => {}
            (Some(gap), _) => uncovered.push(Uncovered { span, resource, path, rule, gap }),
        }
    }
    (values, uncovered)
}
