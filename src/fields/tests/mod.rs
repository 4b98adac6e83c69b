//! The clauses of FORMAT.md one by one, on the smallest documents that show them.

mod map;
mod places;
mod selection;
mod text;

use super::{FHIR_R4, FieldMap, Plan, Selection, select};

/// A map with the given rules in one profile `all`.
fn plan_of(paths: &[&str]) -> Plan {
    let rule = |path: &&str| format!("[[rule]]\npath = '{path}'\nmode = 'rand'\nhipaa = 'A'\nprofiles = ['all']\n");
    let rules: String = paths.iter().map(rule).collect();
    let text =
        format!("schema = 1\nnot_about_patients = ['Organization']\n[[profile]]\nname = 'all'\nnote = ''\n{rules}");
    FieldMap::parse(&text).and_then(|map| map.plan("all")).unwrap()
}

fn shipped(profile: &str) -> Plan {
    FieldMap::parse(FHIR_R4).and_then(|map| map.plan(profile)).unwrap()
}

fn selected<'d>(document: &'d str, plan: &Plan) -> Selection<'d> {
    select(document.as_bytes(), plan).unwrap()
}

/// `resource path` of everything that is selected.
fn places(document: &str, plan: &Plan) -> Vec<String> {
    selected(document, plan).values.iter().map(|value| format!("{} {}", value.resource, value.path)).collect()
}
