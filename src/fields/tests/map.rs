use super::{plan_of, shipped};
use crate::fields::{FHIR_R4, FieldMap, MapError};

fn map(rule: &str) -> Result<FieldMap, MapError> {
    FieldMap::parse(&format!("schema = 1\n[[profile]]\nname = 'all'\nnote = ''\n[[rule]]\n{rule}"))
}

fn with_path(path: &str) -> Result<FieldMap, MapError> {
    map(&format!("path = '{path}'\nmode = 'rand'\nhipaa = 'A'\nprofiles = ['all']"))
}

#[test]
fn the_shipped_map_has_both_profiles_and_safe_harbor_contains_the_other() {
    let (small, large) = (shipped("direct-identifiers"), shipped("safe-harbor"));
    assert!(small.rules().len() > 50 && small.rules().len() < large.rules().len());
    let paths: Vec<&str> = large.rules().iter().map(|rule| rule.path.as_str()).collect();
    assert!(small.rules().iter().all(|rule| paths.contains(&rule.path.as_str())));
    for letter in "ABCDEFGHIJKMNOQR".chars() {
        assert!(large.rules().iter().any(|rule| rule.hipaa.letter() == letter), "{letter}");
    }
}

/// FLD-25
#[test]
fn fld_25_a_map_that_says_anything_unknown_is_refused() {
    let good = "path = 'Patient.name'\nmode = 'rand'\nhipaa = 'A'\nprofiles = ['all']";
    assert!(map(good).is_ok());
    assert!(matches!(map(&format!("{good}\nkeep = true")), Err(MapError::Toml(_))));
    assert!(matches!(FieldMap::parse("rule = []"), Err(MapError::Toml(_))));
    assert_eq!(FieldMap::parse("schema = 2\nanything = 1").err(), Some(MapError::Schema { found: 2 }));
    let changed = |from: &str, to: &str| map(&good.replace(from, to)).err();
    assert!(matches!(changed("'A'", "'S'"), Some(MapError::Hipaa { .. })));
    assert!(matches!(changed("'A'", "'AB'"), Some(MapError::Hipaa { .. })));
    assert!(matches!(changed("['all']", "[]"), Some(MapError::NoProfile { .. })));
    assert!(matches!(changed("['all']", "['al']"), Some(MapError::UnknownProfile { .. })));
    let twice = format!("{good}\n[[rule]]\n{}", good.replace("name'", "name[]'"));
    assert_eq!(map(&twice).err(), Some(MapError::RuleTwice { path: "Patient.name[]".into() }));
}

#[test]
fn modes_that_are_not_built_yet_are_refused_by_name() {
    for mode in ["det", "bidx", "fpe", "blob", "tok", "drop", "keep", "RAND", ""] {
        let rule = format!("path = 'Patient.name'\nmode = '{mode}'\nhipaa = 'A'\nprofiles = ['all']");
        let error = map(&rule).unwrap_err();
        assert_eq!(error, MapError::ModeUnavailable { path: "Patient.name".into(), mode: mode.into() });
    }
}

#[test]
fn a_profile_that_is_not_there_is_answered_with_those_that_are() {
    let error = FieldMap::parse(FHIR_R4).unwrap().plan("everything").unwrap_err();
    assert!(error.to_string().ends_with("the map has: direct-identifiers, safe-harbor"), "{error}");
}

/// FLD-20, FLD-21, FLD-22
#[test]
fn fld_20_to_22_paths_that_are_no_selectors_are_refused() {
    let wrong = [
        "Patient",
        "",
        ".name",
        "Patient.",
        "Patient..name",
        "Patient.name.",
        "Patient|.name",
        "Pat1ent.name",
        "Patient.na-me",
        "Patient.name[",
        "Patient.name]",
        "Patient.name[]x",
        "Patient.1st",
        "Patient._",
        "Patient.**",
        "Patient.*",
        "Patient.**.**.x",
        "Patient.**[url=x].y",
        "Patient.a[kind=x].y",
        "Patient.a[type=].y",
        "Patient.a[type].y",
        "Patient.a[reference=1].y",
        "Patient.name[system=x]",
        "*|Patient.name",
        "Patient.é",
    ];
    for path in wrong {
        assert!(matches!(with_path(path), Err(MapError::Selector { .. })), "{path}");
    }
}

/// FLD-24
#[test]
fn fld_24_what_places_and_conditions_are_read_from_cannot_be_selected() {
    for last in ["resourceType", "id", "system", "code", "reference", "type", "fullUrl"] {
        assert!(matches!(with_path(&format!("*.**.a[].{last}[]")), Err(MapError::Selector { .. })), "{last}");
    }
    for path in ["*.**.url", "*.url.*.url", "Patient.extension[].url", "Patient.a.modifierExtension[url=x].url"] {
        assert!(matches!(with_path(path), Err(MapError::Selector { .. })), "{path}");
    }
    assert!(with_path("Patient.photo[].url").is_ok());
}

#[test]
fn a_plan_knows_its_profile() {
    assert_eq!(plan_of(&["Patient.a"]).profile(), "all");
}
