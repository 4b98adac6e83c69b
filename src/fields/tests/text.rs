use crate::fields::text::unescape;
use crate::fields::{FieldsError, Kind, Position, ScanFault, Span, scan, splice};

fn refusal(text: &[u8]) -> (ScanFault, usize) {
    match scan(text) {
        Err(FieldsError::Syntax { fault, at }) => (fault, at.offset),
        other => panic!("{other:?}"),
    }
}

/// FLD-1
#[test]
fn fld_1_what_is_not_json_is_refused_where_it_goes_wrong() {
    let cases: [(&[u8], ScanFault, usize); 24] = [
        (b"", ScanFault::UnexpectedEnd, 0),
        (b"  ", ScanFault::UnexpectedEnd, 2),
        (b"\xEF\xBB\xBF{}", ScanFault::ByteOrderMark, 0),
        (b"\"\xFF\"", ScanFault::InvalidUtf8, 1),
        (b"\"\xED\xA0\x80\"", ScanFault::InvalidUtf8, 1),
        (b"{} {}", ScanFault::TrailingContent, 3),
        (b"1\x0b", ScanFault::TrailingContent, 1),
        (b"[1,]", ScanFault::Expected("a value"), 3),
        (b"[1 2]", ScanFault::Expected("a comma or ]"), 3),
        (b"{\"a\":1,}", ScanFault::Expected("a name in quotes"), 7),
        (b"{\"a\" 1}", ScanFault::Expected("a colon"), 5),
        (b"{\"a\":1]", ScanFault::Expected("a comma or }"), 6),
        (b"{\"a\":1", ScanFault::UnexpectedEnd, 6),
        (b"nul", ScanFault::Expected("true, false or null"), 0),
        (b"NaN", ScanFault::Expected("a value"), 0),
        (b"\"a\nb\"", ScanFault::ControlCharacter, 2),
        (b"\"a\0b\"", ScanFault::ControlCharacter, 2),
        (b"\"\\x\"", ScanFault::InvalidEscape, 1),
        (b"\"\\u12g4\"", ScanFault::InvalidEscape, 1),
        (b"\"abc", ScanFault::UnexpectedEnd, 4),
        (b"01", ScanFault::InvalidNumber, 1),
        (b"1.", ScanFault::InvalidNumber, 2),
        (b"-", ScanFault::InvalidNumber, 1),
        (b"1e+", ScanFault::InvalidNumber, 3),
    ];
    for (text, fault, offset) in cases {
        assert_eq!(refusal(text), (fault, offset), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn refusals_name_line_and_column() {
    let Err(FieldsError::Syntax { at, .. }) = scan(b"{\r\n  \"a\": tru\r\n}") else { panic!("refused") };
    assert_eq!(at, Position { offset: 10, line: 2, column: 8 });
}

/// FLD-2
#[test]
fn fld_2_a_name_that_occurs_twice_is_refused_at_its_second_place() {
    assert_eq!(refusal(br#"{"a":1,"b":2,"a":3}"#), (ScanFault::DuplicateKey, 13));
    assert_eq!(refusal(br#"{"a":1,"\u0061":2}"#), (ScanFault::DuplicateKey, 7));
    assert_eq!(refusal(br#"[{"x":{"\ud83d\ude00":1,"b":0,"\uD83D\uDE00":2}}]"#), (ScanFault::DuplicateKey, 30));
    assert_eq!(refusal("{\"\u{1F600}\":1,\"\\ud83d\\ude00\":2}".as_bytes()), (ScanFault::DuplicateKey, 10));
    assert!(scan(br#"{"a":{"a":1},"A":[{"a":1},{"a":2}],"\ud83d":1,"\ude00":2}"#).is_ok());
}

/// FLD-3, FLD-4
#[test]
fn fld_3_and_4_escapes_lone_surrogates_and_numbers_stay_as_they_are() {
    let text = r#"[1.10, 1E2, -0, 1234567890123456789012345678901234567890, 1e999, "\ud800", "\u0000\/\u00e9"]"#;
    let document = scan(text.as_bytes()).unwrap();
    let raw: Vec<&str> = document.root().children().map(|value| value.raw()).collect();
    assert_eq!(raw.join(", "), text[1..text.len() - 1]);
    assert_eq!(document.root().kind(), Kind::Array);
}

#[test]
fn texts_are_compared_after_unescaping() {
    assert_eq!(&*unescape(r#"a\"\\\/\b\f\n\r\t\u00e9"#), "a\"\\/\u{8}\u{c}\n\r\té".as_bytes());
    assert_eq!(&*unescape(r"\ud83d\ude00"), "😀".as_bytes());
    assert_eq!(&*unescape(r"\ud83dx"), b"\xED\xA0\xBDx");
    assert_eq!(&*unescape(r"\ude00\ud83d\ud83d\ude00"), b"\xED\xB8\x80\xED\xA0\xBD\xF0\x9F\x98\x80");
}

/// FLD-33
#[test]
fn fld_33_splice_refuses_what_would_change_the_structure() {
    let document = br#"{"a": "x", "b": "y"}"#;
    let (a, b) = (Span { start: 6, end: 9 }, Span { start: 16, end: 19 });
    assert_eq!(splice(document, &[(a, "1"), (b, r"\ud800")]).unwrap(), br#"{"a": "1", "b": "\ud800"}"#);
    for injected in [r#"", "admin": ""#, "\"", "\\", "\n", "\\u12"] {
        assert_eq!(splice(document, &[(a, injected)]), Err(FieldsError::ReplacementInvalid { index: 0 }));
    }
    assert_eq!(splice(document, &[(a, b"\xFF")]), Err(FieldsError::ReplacementInvalid { index: 0 }));
    let whole = Span { start: 6, end: 19 };
    for wrong in [Span { start: 5, end: 9 }, whole, Span { start: 16, end: 99 }, Span { start: 9, end: 6 }] {
        assert_eq!(splice(document, &[(wrong, "1")]), Err(FieldsError::SpanMismatch { index: 0 }));
    }
    assert_eq!(splice(document, &[(b, "1"), (a, "1")]), Err(FieldsError::SpanMismatch { index: 1 }));
    assert_eq!(splice(document, &[(a, "1"), (a, "1")]), Err(FieldsError::SpanMismatch { index: 1 }));
    assert_eq!(splice(b"\"", &[(Span { start: 0, end: 1 }, "1")]), Err(FieldsError::SpanMismatch { index: 0 }));
}
