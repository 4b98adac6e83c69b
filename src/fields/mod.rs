//! Where is the PHI in a document? Selectors and spans over FHIR JSON, pure. This module never does IO, never holds a
//! key, never converts a number or a string, and never puts a value into an error or into Debug.
//!
//! `FORMAT.md` beside this file says what is promised (clauses `FLD-n`).
//!
//! # Sealing and opening a document
//!
//! ```
//! use keyward::fields::{self, FieldMap};
//!
//! let plan = FieldMap::parse(fields::FHIR_R4)?.plan("direct-identifiers")?;
//! let document = br#"{"resourceType": "Patient", "id": "p1", "name": [{"family": "O\u0027Keefe"}], "gender": "female"}"#;
//!
//! // Sealing: one batch, one item a value.
//! let selection = fields::select(document, &plan)?;
//! let value = &selection.values[0];
//! assert_eq!(value.context_pairs(), [("resource", "Patient/p1"), ("path", "name[0].family")]);
//! assert_eq!(value.raw(), r"O\u0027Keefe");
//! let sealed = fields::splice(document, &[(value.span, "kw1.AAAA")])?;
//!
//! // Opening: the same places, and the bytes come back.
//! let found = fields::sealed_spans(&sealed, &plan)?;
//! assert_eq!(found.sealed[0].raw(), "kw1.AAAA");
//! assert_eq!(found.sealed[0].context_pairs(), value.context_pairs());
//! let opened = fields::splice(&sealed, &[(found.sealed[0].span, r"O\u0027Keefe")])?;
//! assert_eq!(opened, document);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//!
//! | question | call |
//! |---|---|
//! | which map, which profile | [`FieldMap::parse`], [`FieldMap::plan`] (compile once; [`Plan::with_resource_id`] for a resource without id) |
//! | is it JSON | [`scan`] |
//! | what to seal | [`select`], for newline-delimited JSON [`lines::select`] |
//! | what to open | [`sealed_spans`], [`lines::sealed_spans`] |
//! | put the answers in | [`splice`]: serves plain, bundled and newline-delimited documents alike |
//! | what happens to a document | [`explain()`] over what `sealed_spans` found |
//!
//! Everything takes time linear in the document, and memory of about 24 bytes a JSON value beside it.
#![deny(clippy::indexing_slicing)]

mod document;
mod error;
mod explain;
pub mod lines;
mod map;
mod place;
mod plan;
mod references;
mod scan;
mod select;
mod selector;
mod splice;
mod text;
mod walk;

pub use document::{Document, Kind, Span, Value};
pub use error::{FieldsError, Position, ScanFault};
pub use explain::{Coverage, Explanation, Row, RuleCount, explain};
pub use map::{FHIR_R4, FieldMap, Hipaa, MAP_SCHEMA, MapError, Mode, Profile, Rule};
pub use place::MAX_PLACE_BYTES;
pub use plan::Plan;
pub use scan::{MAX_DEPTH, scan};
pub use select::{Gap, SEALED_PREFIX, SealedSelection, Selected, Selection, Uncovered, sealed_spans, select};
pub use splice::splice;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that indexes wrongly fails")]
mod tests;
