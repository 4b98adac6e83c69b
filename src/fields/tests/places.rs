use super::{places, plan_of, selected, shipped};
use crate::fields::{FieldsError, Gap, lines, sealed_spans, select};

/// FLD-10, FLD-11, FLD-12
#[test]
fn fld_11_and_12_entries_are_resources_of_their_own_and_contained_ones_keep_the_chain() {
    let plan = plan_of(&["*.a", "Bundle.x"]);
    let document = r##"{"resourceType":"Bundle","id":"b","x":"0","entry":[
        {"resource":{"a":"1","contained":[{"resourceType":"Coverage","id":"c","a":"2",
            "contained":[{"resourceType":"Person","id":"d","a":"3"}]}],"id":"e","resourceType":"Claim"}},
        {"resource":{"resourceType":"Parameters","id":"p","parameter":[
            {"resource":{"resourceType":"Patient","id":"q","a":"4"}},{"part":[{"resource":{"resourceType":"Patient","id":"r","a":"5"}}]}]}},
        {"response":{"outcome":{"resourceType":"OperationOutcome","id":"o","a":"6"}}}]}"##;
    let expected = [
        "Bundle/b x",
        "Claim/e a",
        "Claim/e#Coverage/c a",
        "Claim/e#Coverage/c#Person/d a",
        "Patient/q a",
        "Patient/r a",
        "OperationOutcome/o a",
    ];
    assert_eq!(places(document, &plan), expected);
}

/// FLD-11
#[test]
fn fld_11_a_resource_that_cannot_be_one_is_refused_or_reported() {
    let plan = plan_of(&["*.a", "Patient.b"]);
    for document in [
        "[]",
        "\"x\"",
        "{}",
        r#"{"resourceType":1}"#,
        r#"{"resourceType":"A/b"}"#,
        r#"{"resourceType":""}"#,
        r#"{"resourceType":"Bundle","entry":[{"resource":{"a":"1"}}]}"#,
        r#"{"resourceType":"Claim","contained":[{"a":"1"}]}"#,
    ] {
        assert!(
            matches!(select(document.as_bytes(), &plan), Err(FieldsError::ResourceTypeMissing { .. })),
            "{document}"
        );
    }
    let misplaced = selected(r#"{"resourceType":"Patient","id":"p","x":{"resourceType":"Patient","a":"1"}}"#, &plan);
    assert_eq!((misplaced.uncovered[0].gap, misplaced.uncovered[0].path.as_str()), (Gap::MisplacedResource, "x"));
    let unknown = selected(r#"{"resourceType":"Novel","id":"p","a":"1"}"#, &plan);
    assert_eq!((unknown.values.len(), unknown.uncovered[0].gap), (1, Gap::UnreviewedType));
}

/// FLD-12
#[test]
fn fld_12_a_resource_without_id_is_refused_unless_the_caller_gives_one() {
    let plan = plan_of(&["*.a"]);
    let document = br#"{"resourceType":"Patient","id":"","a":"1"}"#;
    let error = select(document, &plan).unwrap_err();
    assert!(error.to_string().starts_with("resource_id_missing: the Patient at line 1, column 1"), "{error}");
    let given = plan.clone().with_resource_id("p7");
    assert_eq!(&*select(document, &given).unwrap().values[0].resource, "Patient/p7");
    assert_eq!(places(r#"{"resourceType":"Patient","id":"own","a":"1"}"#, &given), ["Patient/own a"]);
    let within = [
        r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","a":"1"}}]}"#,
        r#"{"resourceType":"Claim","id":"c","contained":[{"resourceType":"Patient","a":"1"}]}"#,
    ];
    for document in within {
        assert!(matches!(select(document.as_bytes(), &given), Err(FieldsError::ResourceIdMissing { .. })));
    }
    assert!(places(r#"{"resourceType":"Patient","b":"1"}"#, &plan).is_empty());
}

/// FLD-13
#[test]
fn fld_13_two_resources_of_one_name_are_refused() {
    let plan = plan_of(&["*.a"]);
    let patient = r#"{"resourceType":"Patient","id":"p","a":"1"}"#;
    let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{{"resource":{patient}}},{{"resource":{patient}}}]}}"#);
    assert!(matches!(select(bundle.as_bytes(), &plan), Err(FieldsError::ResourceTwice { .. })));
    let twice = format!("{patient}\n\n{patient}\n");
    let Err(FieldsError::ResourceTwice { at, .. }) = lines::select(twice.as_bytes(), &plan) else { panic!("refused") };
    assert_eq!((at.line, at.column), (3, 1));
    let without_values = bundle.replacen("\"a\"", "\"b\"", 1);
    assert_eq!(places(&without_values, &plan), ["Patient/p a"]);
}

/// FLD-14
#[test]
fn fld_14_extensions_keep_index_and_url_and_primitives_their_siblings() {
    let plan = plan_of(&["Patient.**.valueString"]);
    let document = r#"{"resourceType":"Patient","id":"p","extension":[{"url":"u"},{"extension":[{"url":"in","valueString":"1"}],
        "url":"http://x/y#z"}],"_birthDate":{"extension":[{"valueString":"2"}]},"name":[null,{"_given":[null,{"extension":
        [{"url":"g","valueString":"3"}]}]}],"nested":[[{"valueString":"4"}]]}"#;
    let expected = [
        "Patient/p extension[1](http://x/y#z).extension[0](in).valueString",
        "Patient/p _birthDate.extension[0]().valueString",
        "Patient/p name[1]._given[1].extension[0](g).valueString",
        "Patient/p nested[0][0].valueString",
    ];
    assert_eq!(places(document, &plan), expected);
}

/// FLD-14
#[test]
fn fld_14_no_document_can_borrow_the_place_of_another() {
    let plan = plan_of(&["*.**.a"]);
    let place = |document: &str| places(document, &plan).remove(0);
    assert_eq!(
        place(r#"{"resourceType":"Patient","id":"x#Claim/y%","b[0].c":{"a":"1"}}"#),
        "Patient/x%23Claim%2Fy%25 b%5B0%5D%2Ec.a"
    );
    let url = r#"{"resourceType":"Patient","id":"p","extension":[{"url":"u).extension[0](v\u00e9\ud800%","a":"1"}]}"#;
    assert_eq!(place(url), "Patient/p extension[0](u%29.extension%5B0%5D%28v%C3%A9%ED%A0%80%25).a");
    let same = r#"{"resourceType":"Patient","id":"\u0070","\u0062":{"\u0061":"1"}}"#;
    assert_eq!(place(same), "Patient/p b.a");
}

/// FLD-14
#[test]
fn fld_14_a_place_longer_than_its_limit_is_refused() {
    let plan = plan_of(&["*.**.a"]);
    let document = |id: usize| format!(r#"{{"resourceType":"Patient","id":"{}","a":"1"}}"#, "i".repeat(id));
    assert_eq!(places(&document(4096 - 9), &plan).len(), 1);
    for length in [4096 - 8, 100_000] {
        assert!(matches!(select(document(length).as_bytes(), &plan), Err(FieldsError::PlaceTooLong { .. })));
    }
}

/// FLD-34
#[test]
fn fld_34_spans_of_lines_count_from_the_start_and_line_ends_stay() {
    let plan = shipped("direct-identifiers");
    let text = "\r\n{\"resourceType\":\"Patient\",\"id\":\"p\",\"name\":[{\"family\":\"A\"}]}\r\n \n\
                {\"resourceType\":\"Patient\",\"id\":\"q\",\"name\":[{\"family\":\"B\"}]}";
    let selection = lines::select(text.as_bytes(), &plan).unwrap();
    let found: Vec<&str> = selection.values.iter().map(|v| &text[v.span.start..v.span.end]).collect();
    assert_eq!(found, ["\"A\"", "\"B\""]);
    let cut = lines::select(b"{\"resourceType\":\"Basic\"}\n\n {", &plan).unwrap_err();
    assert!(matches!(cut, FieldsError::Syntax { at, .. } if (at.line, at.column, at.offset) == (3, 3, 28)), "{cut}");
}

/// FLD-31, FLD-32
#[test]
fn fld_31_and_32_sealed_values_are_told_from_plain_ones() {
    let plan = plan_of(&["*.a[]"]);
    for sealed in ["kw1.AAAA", r"\u006bw1.AAAA", "kw1."] {
        let document = format!(r#"{{"resourceType":"Patient","id":"p","a":["{sealed}"]}}"#);
        let error = select(document.as_bytes(), &plan).unwrap_err();
        assert!(matches!(&error, FieldsError::AlreadySealed { path, .. } if path == "a[0]"), "{error}");
    }
    let mixed = br#"{"resourceType":"Patient","id":"p","a":["kw1.A","kw2.",""],"b":"kw1.B"}"#;
    let found = sealed_spans(mixed, &plan).unwrap();
    let raw = |values: &[crate::fields::Selected<'_>]| values.iter().map(|v| v.raw().to_owned()).collect::<Vec<_>>();
    assert_eq!((raw(&found.sealed), raw(&found.plain)), (vec!["kw1.A".into()], vec!["kw2.".into(), String::new()]));
    assert_eq!(found.strays.iter().map(|s| &mixed[s.start..s.end]).collect::<Vec<_>>(), [b"\"kw1.B\""]);
}
