//! Where is the PHI in newline-delimited JSON, one resource a line? Spans count from the start of the whole text.

use super::document::Span;
use super::error::FieldsError;
use super::plan::Plan;
use super::select::{SealedSelection, Selected, Selection, Uncovered, sealed_among, select_among};
use super::walk::Resources;

/// The lines that hold something: the offset of each and its bytes without the line feed (FLD-34).
pub fn lines(document: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = 0;
    document
        .split(|byte| *byte == b'\n')
        .map(move |line| {
            let at = next;
            next += line.len() + 1;
            (at, line)
        })
        .filter(|(_, line)| !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')))
}

/// [`super::select`] over all lines.
pub fn select<'d>(document: &'d [u8], plan: &Plan) -> Result<Selection<'d>, FieldsError> {
    let mut resources = Resources::new();
    let mut all = Selection { values: Vec::new(), uncovered: Vec::new() };
    for (base, line) in lines(document) {
        let part = select_among(line, plan, &mut resources).map_err(|error| error.moved(document, base))?;
        all.values.extend(part.values.into_iter().map(|value| moved(value, base)));
        all.uncovered.extend(part.uncovered.into_iter().map(|gap| moved_gap(gap, base)));
    }
    Ok(all)
}

/// [`super::sealed_spans`] over all lines.
pub fn sealed_spans<'d>(document: &'d [u8], plan: &Plan) -> Result<SealedSelection<'d>, FieldsError> {
    let mut resources = Resources::new();
    let mut all = SealedSelection { sealed: Vec::new(), plain: Vec::new(), strays: Vec::new(), uncovered: Vec::new() };
    for (base, line) in lines(document) {
        let part = sealed_among(line, plan, &mut resources).map_err(|error| error.moved(document, base))?;
        all.sealed.extend(part.sealed.into_iter().map(|value| moved(value, base)));
        all.plain.extend(part.plain.into_iter().map(|value| moved(value, base)));
        all.strays.extend(part.strays.into_iter().map(|span: Span| span.moved(base)));
        all.uncovered.extend(part.uncovered.into_iter().map(|gap| moved_gap(gap, base)));
    }
    Ok(all)
}

fn moved(mut value: Selected<'_>, base: usize) -> Selected<'_> {
    value.span = value.span.moved(base);
    value
}

fn moved_gap(mut gap: Uncovered, base: usize) -> Uncovered {
    gap.span = gap.span.moved(base);
    gap
}
