//! What the shipped map does to real charts.

use std::collections::BTreeSet;
use std::path::Path;

use keyward::fields::{self, FieldMap, Plan, SealedSelection, Selection, Span};
use serde::Deserialize;
use serde_json::Value;

const PROFILES: [&str; 2] = ["direct-identifiers", "safe-harbor"];

struct Chart {
    file: String,
    bytes: Vec<u8>,
}

impl Chart {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fhir");
        let mut charts: Vec<Self> = std::fs::read_dir(folder)
            .expect("the test data is there")
            .map(|entry| entry.expect("a directory entry").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json" || ending == "ndjson"))
            .map(|path| Self {
                file: path.file_name().and_then(|name| name.to_str()).expect("an ASCII name").to_owned(),
                bytes: std::fs::read(&path).expect("a readable file"),
            })
            .collect();
        charts.sort_by(|a, b| a.file.cmp(&b.file));
        assert!(charts.len() >= 9, "the committed charts are all there");
        charts
    }

    fn is_lines(&self) -> bool {
        self.file.ends_with(".ndjson")
    }

    fn select<'d>(&'d self, plan: &Plan) -> Selection<'d> {
        let found = if self.is_lines() { fields::lines::select } else { fields::select };
        found(&self.bytes, plan).expect(&self.file)
    }

    fn sealed<'d>(&'d self, plan: &Plan) -> SealedSelection<'d> {
        let found = if self.is_lines() { fields::lines::sealed_spans } else { fields::sealed_spans };
        found(&self.bytes, plan).expect(&self.file)
    }

    /// The chart with every selected value replaced by a text that begins like a sealed one and has no word in it.
    fn fake_seal(&self, plan: &Plan) -> Self {
        let fake = |(at, value): (usize, &fields::Selected<'_>)| (value.span, format!("kw1._{at}_"));
        let replacements: Vec<(Span, String)> = self.select(plan).values.iter().enumerate().map(fake).collect();
        let bytes = fields::splice(&self.bytes, &replacements).expect("spans of this chart");
        Self { file: self.file.clone(), bytes }
    }

    fn resources(&self) -> Vec<Value> {
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).expect("the charts are JSON");
        if self.is_lines() {
            return fields::lines::lines(&self.bytes).map(|(_, line)| read(line)).collect();
        }
        vec![read(&self.bytes)]
    }
}

fn plan(profile: &str) -> Plan {
    let map = FieldMap::parse(fields::FHIR_R4).expect("the shipped map parses");
    map.plan(profile).expect("the shipped map has the profile")
}

fn for_each(check: impl Fn(&Chart, &Plan)) {
    let charts = Chart::all();
    for profile in PROFILES {
        let plan = plan(profile);
        charts.iter().for_each(|chart| check(chart, &plan));
    }
}

#[test]
fn every_chart_has_something_to_seal_and_no_place_twice() {
    for_each(|chart, plan| {
        let selection = chart.select(plan);
        let places: BTreeSet<_> = selection.values.iter().map(|value| value.context_pairs()).collect();
        assert!(!selection.values.is_empty(), "{} {}", chart.file, plan.profile());
        assert_eq!(places.len(), selection.values.len(), "{}", chart.file);
    });
}

#[test]
fn selected_spans_are_whole_strings_in_document_order() {
    for_each(|chart, plan| {
        let selection = chart.select(plan);
        assert!(selection.values.is_sorted_by(|a, b| a.span.end <= b.span.start));
        for value in &selection.values {
            let token = &chart.bytes[value.span.start..value.span.end];
            assert_eq!(token, format!("\"{}\"", value.raw()).as_bytes());
        }
    });
}

#[test]
fn splicing_the_own_values_changes_no_byte() {
    for_each(|chart, plan| {
        let selection = chart.select(plan);
        let own: Vec<_> = selection.values.iter().map(|value| (value.span, value.raw())).collect();
        assert!(fields::splice(&chart.bytes, &own).expect("own values") == chart.bytes, "{}", chart.file);
    });
}

#[test]
fn opening_finds_every_sealed_value_at_its_place_and_restores_every_byte() {
    for_each(|chart, plan| {
        let selection = chart.select(plan);
        let sealed_chart = chart.fake_seal(plan);
        let found = sealed_chart.sealed(plan);
        assert_eq!((found.plain.len(), found.strays.len()), (0, 0), "{}", chart.file);
        let places = |values: &[fields::Selected<'_>]| -> Vec<_> {
            values.iter().map(|v| (v.resource.to_string(), v.path.clone(), v.rule)).collect()
        };
        assert_eq!(places(&found.sealed), places(&selection.values), "{}", chart.file);
        let originals = found.sealed.iter().zip(&selection.values).map(|(new, old)| (new.span, old.raw()));
        let opened = fields::splice(&sealed_chart.bytes, &originals.collect::<Vec<_>>()).expect("own spans");
        assert!(opened == chart.bytes, "{} does not come back", chart.file);
    });
}

#[test]
fn the_sealed_chart_differs_from_the_plain_one_in_selected_strings_only() {
    for_each(|chart, plan| {
        let sealed_chart = chart.fake_seal(plan);
        let (mut plain_at, mut sealed_at) = (0, 0);
        for (old, new) in chart.select(plan).values.iter().zip(&sealed_chart.sealed(plan).sealed) {
            assert!(chart.bytes[plain_at..old.span.start] == sealed_chart.bytes[sealed_at..new.span.start]);
            (plain_at, sealed_at) = (old.span.end, new.span.end);
        }
        assert!(chart.bytes[plain_at..] == sealed_chart.bytes[sealed_at..]);
    });
}

#[test]
fn sealing_a_sealed_chart_is_refused() {
    for_each(|chart, plan| {
        let sealed_chart = chart.fake_seal(plan);
        let select = if chart.is_lines() { fields::lines::select } else { fields::select };
        let error = select(&sealed_chart.bytes, plan).expect_err("already sealed");
        assert!(matches!(error, fields::FieldsError::AlreadySealed { .. }), "{error}");
    });
}

#[test]
fn explain_has_a_row_for_every_position_and_shows_no_value() {
    for_each(|chart, plan| {
        let found = chart.sealed(plan);
        let explanation = fields::explain(&found, plan);
        assert_eq!(explanation.rows.len(), found.plain.len() + found.uncovered.len());
        assert_eq!(explanation.rules.iter().map(|count| count.selected).sum::<usize>(), found.plain.len());
        let table: BTreeSet<&str> = explanation
            .rows
            .iter()
            .flat_map(|row| [&*row.resource, &*row.path, &*row.rule, &*row.mode, &*row.hipaa])
            .collect();
        for value in identifying(chart) {
            let is_id = |row: &&str| chart.is_lines() && row.starts_with("Patient/");
            assert!(!table.iter().filter(|row| !is_id(row)).any(|row| row.contains(&value)), "{}", chart.file);
        }
    });
}

#[test]
fn no_place_occurs_in_two_charts() {
    let charts = Chart::all();
    let plan = plan("safe-harbor");
    let mut places = BTreeSet::new();
    for value in charts.iter().flat_map(|chart| chart.select(&plan).values) {
        assert!(places.insert((value.resource.to_string(), value.path.clone())), "{value:?}");
    }
}

#[test]
fn safe_harbor_leaves_no_date_that_says_more_than_the_year() {
    let plan = plan("safe-harbor");
    let is_date = |text: &str| {
        let shape: String = text.chars().take(7).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape == "0000-00"
    };
    for chart in Chart::all() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        chart.resources().iter().for_each(|resource| readable(resource, "", &mut before));
        chart.fake_seal(&plan).resources().iter().for_each(|resource| readable(resource, "", &mut after));
        let left: Vec<_> = after.iter().filter(|(_, text)| is_date(text)).collect();
        assert!(left.is_empty(), "{}: {left:?}", chart.file);
        assert!(!chart.file.starts_with("bundle") || before.iter().any(|(_, text)| is_date(text)));
    }
}

#[test]
fn home_coordinates_are_reported_as_not_covered() {
    let plan = plan("safe-harbor");
    for chart in Chart::all().iter().filter(|chart| chart.file.starts_with("bundle")) {
        let selection = chart.select(&plan);
        let numbers =
            selection.uncovered.iter().filter(|u| u.gap == fields::Gap::Number && u.path.contains("geolocation"));
        assert_eq!(numbers.count(), 2, "{}", chart.file);
        let others = selection.uncovered.iter().filter(|u| u.gap != fields::Gap::Number);
        assert_eq!(others.count(), 0, "{}: {:?}", chart.file, selection.uncovered);
    }
}

/// Names, streets, numbers, telephone numbers and e-mail addresses of patients and relatives, four characters or more.
/// They are taken from the document without the map, so that a rule that is missing shows.
fn identifying(chart: &Chart) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    chart.resources().iter().for_each(|resource| persons(resource, &mut values));
    values.retain(|value| value.chars().count() >= 4);
    assert!(
        chart.file.starts_with("doc")
            || chart.file.starts_with("Q")
            || chart.file.starts_with("all-")
            || values.len() >= 4,
        "{}",
        chart.file
    );
    values
}

fn persons(value: &Value, values: &mut BTreeSet<String>) {
    if matches!(value["resourceType"].as_str(), Some("Patient" | "RelatedPerson")) {
        let named = items(&value["name"]).chain(items(&value["contact"]).map(|contact| &contact["name"]));
        let names = named.flat_map(|name| items(&name["given"]).chain([&name["family"], &name["text"]]));
        let streets = items(&value["address"]).flat_map(|address| items(&address["line"]));
        let numbers = items(&value["telecom"]).chain(items(&value["identifier"])).map(|number| &number["value"]);
        let is_maiden =
            |extension: &&Value| extension["url"].as_str().is_some_and(|u| u.ends_with("mothersMaidenName"));
        let maiden = items(&value["extension"]).filter(is_maiden).map(|extension| &extension["valueString"]);
        let all = names.chain(streets).chain(numbers).chain(maiden);
        values.extend(all.filter_map(Value::as_str).map(str::to_owned));
    }
    match value {
        Value::Object(members) => members.values().for_each(|member| persons(member, values)),
        Value::Array(items) => items.iter().for_each(|item| persons(item, values)),
        _ => {}
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    exception: Vec<Exception>,
}

/// A value that may be read in the sealed text, where, and why that is accepted.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Clone)]
#[serde(deny_unknown_fields)]
struct Exception {
    file: String,
    element: String,
    value: String,
    reason: String,
}

#[test]
fn no_identifying_value_is_left_outside_the_reviewed_exceptions() {
    let reviewed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fhir/leak-exceptions.toml");
    let reviewed = std::fs::read_to_string(reviewed).expect("the reviewed exceptions");
    let reviewed: Exceptions = toml::from_str(&reviewed).expect("the exceptions parse");
    assert!(reviewed.exception.iter().all(|exception| exception.reason.len() > 20), "each has its reason");
    let expected: BTreeSet<_> =
        reviewed.exception.into_iter().map(|Exception { file, element, value, .. }| (file, element, value)).collect();
    for profile in PROFILES {
        let plan = plan(profile);
        let found: BTreeSet<_> = Chart::all().iter().flat_map(|chart| leaks(chart, &plan)).collect();
        let new: Vec<_> = found.difference(&expected).collect();
        assert!(new.is_empty(), "{profile}: readable and not reviewed: {new:#?}");
        let gone: Vec<_> = expected.difference(&found).collect();
        assert!(gone.is_empty(), "{profile}: reviewed and not there any more: {gone:#?}");
    }
}

/// File, element and value of every identifying value that the sealed chart still shows, whatever its case.
fn leaks(chart: &Chart, plan: &Plan) -> Vec<(String, String, String)> {
    let values = identifying(chart);
    let mut texts = Vec::new();
    chart.fake_seal(plan).resources().iter().for_each(|resource| readable(resource, "", &mut texts));
    let mut leaks = Vec::new();
    for (element, text) in texts {
        let text = text.to_lowercase();
        let shown = values.iter().filter(|value| text.contains(&value.to_lowercase()));
        leaks.extend(shown.map(|value| (chart.file.clone(), element.clone(), value.clone())));
    }
    leaks
}

/// Every text of the document with its element, names of members included.
fn readable(value: &Value, element: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            let kind = members.get("resourceType").and_then(Value::as_str).unwrap_or(element);
            for (name, member) in members {
                texts.push((format!("{kind}: a name"), name.clone()));
                readable(member, &format!("{kind}.{name}"), texts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| readable(item, element, texts)),
        Value::String(text) => texts.push((element.to_owned(), text.clone())),
        Value::Number(number) => texts.push((element.to_owned(), number.to_string())),
        Value::Bool(_) | Value::Null => {}
    }
}
