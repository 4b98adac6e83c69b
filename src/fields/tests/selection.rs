use super::{places, plan_of, selected, shipped};
use crate::fields::{Coverage, Gap, explain, sealed_spans, splice};

fn first_rules(document: &str, paths: &[&str]) -> Vec<String> {
    let plan = plan_of(paths);
    selected(document, &plan).values.iter().map(|value| plan.rules()[value.rule].path.clone()).collect()
}

/// FLD-20
#[test]
fn fld_20_a_star_is_every_type_but_those_that_are_not_about_patients() {
    let of = |kind: &str| format!(r#"{{"resourceType":"{kind}","id":"i","a":"1","b":"2","c":"3"}}"#);
    let plan = plan_of(&["*.a", "Patient|Person.b", "Organization.c"]);
    let paths =
        |kind| places(&of(kind), &plan).iter().map(|p| p.split_once(' ').unwrap().1.to_owned()).collect::<String>();
    assert_eq!((paths("Person"), paths("Novel"), paths("Organization")), ("ab".into(), "a".into(), "c".into()));
}

/// FLD-21
#[test]
fn fld_21_depth_wildcards_brackets_and_malformed_arrays() {
    let document = r#"{"resourceType":"Basic","id":"b","t":"0","n":{"t":"1"},"item":[{"item":[{"t":["2","3"]}]}],"m":[{"x":{"t":"4"}}]}"#;
    let at = |path: &str| {
        places(document, &plan_of(&[path])).into_iter().map(|p| p.replace("Basic/b ", "")).collect::<Vec<_>>()
    };
    assert_eq!(at("*.t"), ["t"]);
    assert_eq!(at("*.**.t"), ["t", "n.t", "item[0].item[0].t[0]", "item[0].item[0].t[1]", "m[0].x.t"]);
    assert_eq!(at("*.**.item[].t[]"), ["item[0].item[0].t[0]", "item[0].item[0].t[1]"]);
    assert_eq!(at("*.n[].t[]"), ["n.t"]);
    assert_eq!(at("*.m.x.t"), ["m[0].x.t"]);
    assert_eq!(at("*.*.*.t"), ["item[0].item[0].t[0]", "item[0].item[0].t[1]", "m[0].x.t"]);
    assert_eq!(at("*.**.*.**.x.t"), ["m[0].x.t"]);
}

/// FLD-22
#[test]
fn fld_22_identifiers_are_told_apart_by_type_code_and_system() {
    let document = r#"{"resourceType":"Patient","id":"p","identifier":[
        {"value":"1","type":{"coding":[{"code":"XX"},{"code":"\u004dR"}]}},
        {"value":"2","system":"http:\/\/hl7.org/ssn"},{"value":"3","type":{"text":"MR"}},{"system":"s","value":"4"}]}"#;
    let rules = [
        "Patient.identifier[type=MR].value",
        "Patient.identifier[system=http://hl7.org/ssn].value",
        "Patient.identifier[].value",
    ];
    assert_eq!(first_rules(document, &rules), [rules[0], rules[1], rules[2], rules[2]]);
    assert_eq!(first_rules(document, &["Patient.identifier[type=MR][system=s].value"]), [""; 0]);
}

/// FLD-22
#[test]
fn fld_22_extensions_are_found_by_url_at_every_level() {
    let geo = r#"{"extension":[{"url":"lat","valueString":"1"}],"url":"http://x/geo"}"#;
    let document = format!(
        r#"{{"resourceType":"Patient","id":"p","extension":[{geo}],"a":{{"extension":[{{"url":"http://x/other","valueString":"0"}},{geo}]}}}}"#
    );
    let found = places(&document, &plan_of(&["*.**.extension[url=http://x/geo].extension[url=lat].valueString"]));
    assert_eq!(found.len(), 2);
    assert!(found[1].starts_with("Patient/p a.extension[1](http://x/geo)"));
}

/// FLD-22
#[test]
fn fld_22_references_to_a_patient_are_known_by_type_entry_and_container() {
    let of = |reference: &str| format!(r#"{{{reference},"display":"D"}}"#);
    let plan = plan_of(&["*.**.*[reference=Patient].display"]);
    let count = |reference: &str| {
        let document = format!(
            r##"{{"resourceType":"Bundle","entry":[
            {{"fullUrl":"urn:uuid:1","resource":{{"resourceType":"Patient","id":"p"}}}},
            {{"fullUrl":"urn:uuid:2","resource":{{"resourceType":"Practitioner","id":"p"}}}},
            {{"resource":{{"resourceType":"Task","id":"t","performer":[{}],"contained":[{{"resourceType":"Patient","id":"c"}}]}}}},
            {{"resource":{{"resourceType":"Task","id":"u","contained":[{{"resourceType":"Claim","id":"c"}}]}}}}]}}"##,
            of(reference)
        );
        places(&document, &plan).len()
    };
    for patient in [
        r#""reference":"Patient/1""#,
        r#""reference":"http://x/Patient/1/_history/2""#,
        r#""reference":"Patient?identifier=a|b""#,
        r#""type":"Patient""#,
        r#""type":"http://hl7.org/fhir/StructureDefinition/Patient""#,
        r#""reference":"urn:uuid:1""#,
        r##""reference":"#c""##,
    ] {
        assert_eq!(count(patient), 1, "{patient}");
    }
    for other in [
        r#""reference":"Practitioner/1""#,
        r#""reference":"urn:uuid:2""#,
        r#""reference":"urn:uuid:3""#,
        r##""reference":"#d""##,
        r#""x":"Patient""#,
    ] {
        assert_eq!(count(other), 0, "{other}");
    }
}

/// FLD-23
#[test]
fn fld_23_the_first_rule_counts_whatever_its_length() {
    let document = r#"{"resourceType":"Patient","id":"p","a":{"b":"1"}}"#;
    assert_eq!(first_rules(document, &["*.**.b", "Patient.a.b"]), ["*.**.b"]);
    assert_eq!(first_rules(document, &["Patient.a.b", "*.**.b"]), ["Patient.a.b"]);
}

/// FLD-30
#[test]
fn fld_30_numbers_booleans_and_objects_are_reported_and_null_is_nothing() {
    let document = r#"{"resourceType":"Patient","id":"p","a":[1.10,true,{"b":"1"},null,"s",[2]]}"#;
    let selection = selected(document, &plan_of(&["*.a[]"]));
    let gaps: Vec<_> =
        selection.uncovered.iter().map(|u| (u.path.as_str(), u.gap)).filter(|(p, _)| *p != "resourceType").collect();
    assert_eq!(
        gaps,
        [("a[0]", Gap::Number), ("a[1]", Gap::Boolean), ("a[2]", Gap::Structure), ("a[5][0]", Gap::Number)]
    );
    assert_eq!(selection.values.iter().map(|v| v.path.as_str()).collect::<Vec<_>>(), ["a[4]"]);
}

#[test]
fn debug_and_errors_show_no_value() {
    let plan = plan_of(&["*.a"]);
    let document = r#"{"resourceType":"Patient","id":"p","a":"kw2.Windler"}"#;
    assert!(!format!("{:?}", selected(document, &plan)).contains("Windler"));
    let sealed = document.replace("kw2", "kw1");
    assert!(!format!("{0} {0:?}", crate::fields::select(sealed.as_bytes(), &plan).unwrap_err()).contains("Windler"));
}

#[test]
fn explain_counts_every_rule_and_tells_sealed_from_plain() {
    let plan = plan_of(&["*.a", "*.b", "*.c"]);
    let document = br#"{"resourceType":"Patient","id":"p","b":5,"a":"kw1.A"}"#;
    let found = sealed_spans(document, &plan).unwrap();
    let explanation = explain(&found, &plan);
    let rows: Vec<_> = explanation.rows.iter().map(|row| (row.path.as_str(), row.coverage)).collect();
    let unknown = ("resourceType", Coverage::NotCovered(Gap::UnreviewedType));
    assert_eq!(rows, [unknown, ("b", Coverage::NotCovered(Gap::Number)), ("a", Coverage::Sealed)]);
    let counts: Vec<_> = explanation.rules.iter().map(|c| (c.rule.path.as_str(), c.selected, c.not_covered)).collect();
    assert_eq!(counts, [("*.a", 1, 0), ("*.b", 0, 1), ("*.c", 0, 0)]);
}

#[test]
fn what_providers_are_called_stays_and_their_narrative_does_not() {
    let document = r#"{"resourceType":"Practitioner","id":"p","name":[{"family":"Stark"}],"text":{"div":"<div/>"}}"#;
    assert_eq!(places(document, &shipped("safe-harbor")), ["Practitioner/p text.div"]);
}

#[test]
fn a_value_that_opens_to_nothing_but_quotes_is_spliced_as_the_empty_string() {
    let document = r#"{"resourceType":"Patient","id":"p","a":""}"#;
    let selection = selected(document, &plan_of(&["*.a"]));
    let sealed = splice(document.as_bytes(), &[(selection.values[0].span, "kw1.A")]).unwrap();
    assert_eq!(sealed, document.replace("\"\"", "\"kw1.A\"").as_bytes());
}
