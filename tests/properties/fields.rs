//! The field scanner, the selection and the splice hold for any JSON, and for the real documents of tests/data/fhir.
//! `kw1.` texts made here stand in for sealed values: `fields` knows nothing of a seal but how it begins.

mod documents;
mod json;
