//! What does a profile do to a document? A table of places for `document explain`; it never shows a value.

use super::map::Rule;
use super::plan::Plan;
use super::select::{Gap, SEALED_PREFIX, SealedSelection, Selected, Uncovered};

/// One position of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The context's `resource`.
    pub resource: String,
    /// The context's `path`.
    pub path: String,
    /// `rand`; empty where no rule means the position.
    pub mode: String,
    /// The letter of 45 CFR 164.514(b)(2)(i); empty where no rule means the position.
    pub hipaa: String,
    /// The rule's path in the map.
    pub rule: String,
    /// What happens to it.
    pub coverage: Coverage,
}

/// What happens to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Sealing will seal it.
    ToSeal,
    /// It is sealed.
    Sealed,
    /// It stays as it is.
    NotCovered(Gap),
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ToSeal => f.write_str("to seal"),
            Self::Sealed => f.write_str("sealed"),
            Self::NotCovered(gap) => write!(f, "not covered: {gap}"),
        }
    }
}

/// How often a rule was met.
#[derive(Debug, Clone)]
pub struct RuleCount<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Strings that it selected.
    pub selected: usize,
    /// Positions that it means and cannot seal.
    pub not_covered: usize,
}

/// The whole answer.
#[derive(Debug, Clone)]
pub struct Explanation<'p> {
    /// In document order.
    pub rows: Vec<Row>,
    /// Every rule of the profile in the map's order, also those that met nothing.
    pub rules: Vec<RuleCount<'p>>,
    /// Strings that look sealed where the profile selects nothing.
    pub strays: usize,
}

/// Explains what [`super::sealed_spans`] or [`super::lines::sealed_spans`] found; a plain document is one without
/// sealed values.
pub fn explain<'p>(found: &SealedSelection<'_>, plan: &'p Plan) -> Explanation<'p> {
    let selected = found.sealed.iter().chain(&found.plain).map(|value| (value.span.start, selected_row(value, plan)));
    let gaps = found.uncovered.iter().map(|gap| (gap.span.start, gap_row(gap, plan)));
    let mut rows: Vec<(usize, Row)> = selected.chain(gaps).collect();
    rows.sort_by_key(|(start, _)| *start);
    let count = |index: usize, rule: &'p Rule| RuleCount {
        rule,
        selected: found.sealed.iter().chain(&found.plain).filter(|value| value.rule == index).count(),
        not_covered: found.uncovered.iter().filter(|gap| gap.rule == Some(index)).count(),
    };
    let rules = plan.rules().iter().enumerate().map(|(index, rule)| count(index, rule)).collect();
    Explanation { rows: rows.into_iter().map(|(_, row)| row).collect(), rules, strays: found.strays.len() }
}

fn selected_row(value: &Selected<'_>, plan: &Plan) -> Row {
    let is_sealed = value.raw().starts_with(SEALED_PREFIX);
    let coverage = if is_sealed { Coverage::Sealed } else { Coverage::ToSeal };
    row(&value.resource, &value.path, Some(value.rule), coverage, plan)
}

fn gap_row(gap: &Uncovered, plan: &Plan) -> Row {
    row(&gap.resource, &gap.path, gap.rule, Coverage::NotCovered(gap.gap), plan)
}

fn row(resource: &str, path: &str, rule: Option<usize>, coverage: Coverage, plan: &Plan) -> Row {
    let rule = rule.and_then(|index| plan.rules().get(index));
    Row {
        resource: resource.to_owned(),
        path: path.to_owned(),
        mode: rule.map(|rule| rule.mode.to_string()).unwrap_or_default(),
        hipaa: rule.map(|rule| rule.hipaa.to_string()).unwrap_or_default(),
        rule: rule.map(|rule| rule.path.clone()).unwrap_or_default(),
        coverage,
    }
}
