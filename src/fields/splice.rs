//! How does a document get new strings without losing a byte elsewhere?

use super::document::{Kind, Span};
use super::error::FieldsError;
use super::scan::scan;

/// The document with the insides of the given strings replaced; everything else is copied byte for byte (FLD-33).
/// Spans come from a selection of this very document, in its order. A replacement must be what can stand between
/// quotes: an opened value that is not is refused, so a sealed text cannot smuggle structure into a document.
pub fn splice<R: AsRef<[u8]>>(document: &[u8], replacements: &[(Span, R)]) -> Result<Vec<u8>, FieldsError> {
    let mut out =
        Vec::with_capacity(document.len() + replacements.iter().map(|(_, r)| r.as_ref().len()).sum::<usize>());
    let mut copied = 0;
    for (index, (span, replacement)) in replacements.iter().enumerate() {
        let replacement = replacement.as_ref();
        let before = before_body(document, copied, *span).ok_or(FieldsError::SpanMismatch { index })?;
        if !is_string_body(replacement) {
            return Err(FieldsError::ReplacementInvalid { index });
        }
        out.extend_from_slice(before);
        out.extend_from_slice(replacement);
        copied = span.end - 1;
    }
    out.extend_from_slice(document.get(copied..).unwrap_or_default());
    Ok(out)
}

/// What is to be copied up to and with the opening quote, if the span is a string that begins behind `copied`.
fn before_body(document: &[u8], copied: usize, span: Span) -> Option<&[u8]> {
    let token = document.get(span.start..span.end)?;
    let inside = token.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    is_string_body(inside).then_some(())?;
    document.get(copied..=span.start)
}

/// Whether the bytes, put between quotes, are one JSON string.
fn is_string_body(body: &[u8]) -> bool {
    let quoted = [b"\"", body, b"\""].concat();
    scan(&quoted).is_ok_and(|document| document.root().kind() == Kind::String)
}
