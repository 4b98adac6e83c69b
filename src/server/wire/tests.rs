use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Wall;
use crate::names::{KeyringName, Purpose, RequestId};
use crate::secret::SecretBytes;
use crate::service::{Answer, Code, Form, ItemError, KeyLimits, KeyringView, Opened, Operation, Refusal, Suite};

fn keyring() -> KeyringName {
    "acme/patients".parse().unwrap()
}

fn seal(body: &str) -> Result<(crate::service::Seal, Shape), Refusal> {
    parse_seal(keyring(), body.as_bytes())
}

/// A well-formed sealed value of a plaintext of this size; it opens nowhere.
fn sealed(plaintext: usize) -> String {
    let mut bytes = vec![1, 7, 7, 7, 7, 7, 7, 7, 7, 2, 1, 0];
    bytes.resize(12 + 24 + 32 + plaintext + 16, 0);
    format!("kw1.{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes))
}

fn refused<T>(result: Result<T, Refusal>) -> (Code, String) {
    let refusal = result.err().expect("the body is refused");
    (refusal.code, refusal.detail.unwrap_or_default().into_owned())
}

fn plaintexts(body: &str) -> Vec<Result<Vec<u8>, ItemError>> {
    let (seal, _) = seal(body).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    seal.items.into_iter().map(|item| item.map(|item| item.plaintext.expose().to_vec())).collect()
}

#[test]
fn one_value_and_a_list_are_read_with_their_contexts() {
    let (one, shape) = seal(r#" {"context":{"patient":"1"},"text":"Anna \u00e9\ud83d\ude00\n"} "#).unwrap();
    assert_eq!((one.items.len(), shape), (1, Shape::One));
    let item = one.items.into_iter().next().unwrap().ok().unwrap();
    assert_eq!(item.plaintext.expose(), "Anna é😀\n".as_bytes());
    assert_eq!(item.context.get("patient"), Some("1"));

    let (many, shape) = seal(
        r#"{"items":[{"text":"a","context":{"field":"x"}},{"bytes":"AAE=","context":{"patient":"1"}},
           {"text":"c","context":{"patient":"2"}},{"text":"d"}],"context":{"patient":"1"}}"#,
    )
    .unwrap();
    assert_eq!(shape, Shape::Many);
    let contexts: Vec<_> = many.items.iter().map(|item| item.as_ref().ok().map(|i| i.context.iter().count())).collect();
    assert_eq!(contexts, [Some(2), Some(1), None, Some(1)]);
    assert_eq!(many.items[2].as_ref().err(), Some(&ItemError::InvalidContext), "a conflict is the item's own error");
}

#[test]
fn bad_items_keep_their_places_and_spare_the_others() {
    let read = plaintexts(
        r#"{"context":{},"items":[{"text":"ok"},{},{"text":"a","bytes":"AA=="},{"bytes":"AA"},{"bytes":"AB=="},
           {"bytes":"-_8="},{"bytes":" AA=="},{"text":"x","context":{"kw.keyring":"y"}},{"text":"x","context":{"":"y"}},
           {"bytes":"\/\/8="},{"bytes":""},{"text":""}]}"#,
    );
    let malformed = || Err(ItemError::MalformedItem);
    let context = || Err(ItemError::InvalidContext);
    let wanted = [
        Ok(b"ok".to_vec()),
        malformed(),
        malformed(),
        malformed(),
        malformed(),
        malformed(),
        malformed(),
        context(),
        context(),
        Ok(vec![255, 255]),
        Ok(vec![]),
        Ok(vec![]),
    ];
    assert_eq!(read, wanted);
}

#[test]
fn a_malformed_body_is_refused_with_its_place_and_without_a_byte_of_it() {
    let cases = [
        ("", "an object is expected, at $ (line 1, column 1)"),
        ("[]", "an object is expected, at $ (line 1, column 1)"),
        (r#"{"text":"SECRET"}"#, "the field context is missing, at $ (line 1, column 1)"),
        (
            "{\n \"SECRET\":1}",
            "a field is unknown; there are context, text or bytes, and items, at $ (line 2, column 3)",
        ),
        (r#"{"text":SECRET}"#, "a string is expected, at $ (line 1, column 9)"),
        (r#"{"text":null}"#, "a string is expected, at $ (line 1, column 9)"),
        (r#"{"text":"SECRET","text":"b"}"#, "a field is given twice, at $ (line 1, column 19)"),
        (r#"{"text":"SECRET","te\u0078t":"b"}"#, "a field is given twice, at $ (line 1, column 19)"),
        (r#"{"context":{"a":1}}"#, "a string is expected, at $.context (line 1, column 17)"),
        (r#"{"context":{"a":"1","a":"SECRET"}}"#, "a context key is given twice, at $.context (line 1, column 12)"),
        (r#"{"context":{},"text":"a"} SECRET"#, "nothing may follow the object, at $ (line 1, column 27)"),
        (r#"{"context":{},"text":"a",}"#, "a string is expected, at $ (line 1, column 26)"),
        (r#"{"items":[{"text":"é","SECRET":"b"}]}"#, "at $.items[0] (line 1, column 24)"),
        (r#"{"items":[{"text":"a"}]}"#, "missing, in the item and beside items, at $ (line 1, column 11)"),
        (r#"{"items":[]}"#, "items must hold at least one item, at $.items (line 1, column 10)"),
        (r#"{"items":[{"text":"a","context":{}}],"text":"SECRET"}"#, "a field of an item has no meaning"),
        (r#"{"text":"SECRET"#, "a string does not end, at $ (line 1, column 10)"),
        (r#"{"text":"\ud800"}"#, "half of a surrogate pair"),
        (r#"{"text":"\udc00\ud800"}"#, "half of a surrogate pair"),
        (r#"{"text":"\ud800\u0041"}"#, "half of a surrogate pair"),
        (r#"{"text":"\x"}"#, "an escape of a string is not one"),
        (r#"{"text":"\u00g0"}"#, "four hexadecimal digits"),
        (r#"{"text":"\u+041"}"#, "four hexadecimal digits"),
        ("{\"text\":\"a\tb\"}", "a control character"),
        ("\u{feff}{}", "an object is expected"),
    ];
    for (body, detail) in cases {
        let (code, found) = refused(seal(body));
        assert_eq!(code, Code::MalformedRequest, "{body}");
        assert!(found.contains(detail), "{body}: {found}");
        assert!(!found.contains("SECRET"), "{found}");
    }
    assert!(
        refused(parse_seal(keyring(), b"{\"text\":\"\xff\"}"))
            .1
            .starts_with("the body is not UTF-8, at $ (line 1, column 10")
    );
    let shared = r#"{"items":[{"text":"a"}],"context":{"kw.x":"SECRET"}}"#;
    assert_eq!(refused(seal(shared)).0, Code::InvalidContext);
}

#[test]
fn the_limits_are_exact() {
    let items = |n: usize| format!(r#"{{"context":{{}},"items":[{}]}}"#, vec![r#"{"text":"a"}"#; n].join(","));
    assert_eq!(plaintexts(&items(MAX_ITEMS)).len(), MAX_ITEMS);
    assert_eq!(refused(seal(&items(MAX_ITEMS + 1))).0, Code::TooManyItems);

    let text = |n: usize| format!(r#"{{"context":{{}},"text":"{}"}}"#, "\\n".repeat(n));
    assert_eq!(plaintexts(&text(MAX_PLAINTEXT_BYTES)), [Ok(vec![b'\n'; MAX_PLAINTEXT_BYTES])]);
    assert_eq!(refused(seal(&text(MAX_PLAINTEXT_BYTES + 1))).0, Code::TooLarge);

    let bytes = |n: usize| {
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![0_u8; n]);
        format!(r#"{{"context":{{}},"bytes":"{encoded}"}}"#)
    };
    assert_eq!(plaintexts(&bytes(MAX_PLAINTEXT_BYTES)), [Ok(vec![0; MAX_PLAINTEXT_BYTES])]);
    assert_eq!(refused(seal(&bytes(MAX_PLAINTEXT_BYTES + 1))).0, Code::TooLarge);

    let first = |n| {
        let body = json!({"context": {}, "sealed": sealed(n)}).to_string();
        parse_open(body.as_bytes()).unwrap().0.items.remove(0).map(|_| ())
    };
    assert!(sealed(MAX_PLAINTEXT_BYTES).len() <= MAX_SEALED_BYTES);
    assert_eq!(first(MAX_PLAINTEXT_BYTES), Ok(()));
    assert_eq!(first(MAX_PLAINTEXT_BYTES + 3), Err(ItemError::MalformedValue));
}

#[test]
fn a_request_to_open_names_purpose_and_form() {
    let value = sealed(4);
    let one = json!({"sealed": value, "context": {"a": "b"}, "purpose": "TREAT", "as": "bytes"}).to_string();
    let (open, shape) = parse_open(one.as_bytes()).unwrap();
    assert_eq!((open.purpose, shape), (Some(Purpose::Treatment), Shape::One));
    let item = open.items.into_iter().next().unwrap().ok().unwrap();
    assert_eq!((item.sealed.to_text(), item.form), (value.clone(), Form::Bytes));

    let items = [json!({"sealed": value}), json!({"sealed": "x"}), json!({"sealed": value, "as": "bytes"})];
    let (open, _) = parse_open(json!({"items": items, "context": {}}).to_string().as_bytes()).unwrap();
    let forms: Vec<_> = open.items.iter().map(|item| item.as_ref().map(|item| item.form).map_err(|e| *e)).collect();
    assert_eq!(open.purpose, None);
    assert_eq!(forms, [Ok(Form::Text), Err(ItemError::MalformedValue), Ok(Form::Bytes)]);

    for (body, detail) in [
        (r#"{"sealed":"x","context":{},"purpose":"CURIOSITY"}"#, "at $.purpose (line 1"),
        (r#"{"sealed":"x","context":{},"as":"hex"}"#, "at $.as (line 1"),
        (r#"{"context":{}}"#, "the field sealed is missing"),
        (r#"{"context":{},"items":[{"sealed":"x"},{}]}"#, "item 1 has no field sealed"),
        (r#"{"context":{},"items":[{"sealed":"x","purpose":"TREAT"}]}"#, "a field is unknown"),
        (r#"{"context":{},"items":[{"sealed":"x"}],"as":"bytes"}"#, "a field of an item has no meaning"),
    ] {
        let (code, found) = refused(parse_open(body.as_bytes()));
        assert_eq!(code, Code::MalformedRequest, "{body}");
        assert!(found.contains(detail), "{body}: {found}");
    }
}

#[test]
fn a_keyring_is_asked_for_by_name_context_and_suite() {
    let full =
        br#"{"name":"acme/p","required_context":["patient","field"],"subject_key":"patient","suite":"xaes-256-gcm"}"#;
    let asked = parse_create_keyring(full).unwrap();
    assert_eq!((asked.name.to_string().as_str(), asked.suite), ("acme/p", Suite::Xaes));
    assert_eq!((asked.required_context.len(), asked.subject_key.as_deref()), (2, Some("patient")));
    assert_eq!(parse_create_keyring(br#"{"name":"p"}"#).unwrap().suite, Suite::XaesCommitted);
    for bad in [
        r#"{}"#,
        r#"{"name":"P"}"#,
        r#"{"name":"p","subject_key":"patient"}"#,
        r#"{"name":"p","required_context":["a","a"]}"#,
        r#"{"name":"p","required_context":["kw.a"]}"#,
        r#"{"name":"p","suite":"aes"}"#,
        r#"{"name":"p","keys":"1"}"#,
    ] {
        assert_eq!(refused(parse_create_keyring(bad.as_bytes())).0, Code::MalformedRequest, "{bad}");
    }
}

#[test]
fn the_audit_query_is_read_strictly() {
    let read = |query| match parse_audit_query(query) {
        Ok(Operation::ReadAudit { from, limit }) => Some((from, limit)),
        _ => None,
    };
    assert_eq!(read(None), Some((None, 100)));
    assert_eq!(read(Some("from=7&limit=1000")), Some((Some(7), 1_000)));
    for bad in
        ["from", "from=-1", "from=+1", "from=1&from=2", "limit=0", "limit=1001", "x=1", "from=99999999999999999999"]
    {
        assert_eq!(read(Some(bad)), None, "{bad}");
    }
}

fn text(encoded: &Encoded) -> Value {
    serde_json::from_slice(encoded.body.expose()).unwrap()
}

#[test]
fn answers_take_the_shape_of_the_request_and_a_single_no_its_status() {
    let id: RequestId = "r-1".parse().unwrap();
    let opened = |bytes: &[u8], form| Ok(Opened { plaintext: SecretBytes::new(bytes.to_vec()), form });
    let one = encode(Answer::Opened(vec![opened("é\"\\\n\u{1}".as_bytes(), Form::Text)]), Shape::One, false, &id);
    assert_eq!((one.status.as_u16(), text(&one)), (200, json!({"text": "é\"\\\n\u{1}"})));

    let refusal = Refusal::from(Code::CannotOpen);
    let many = vec![opened(&[0, 255], Form::Bytes), Err(refusal.clone()), opened(&[255], Form::Text)];
    let many = encode(Answer::Opened(many), Shape::Many, false, &id);
    let body = text(&many);
    assert_eq!((many.status.as_u16(), &body["items"][0]), (200, &json!({"bytes": "AP8="})));
    assert_eq!(body["items"][1]["error"]["code"], "cannot_open");
    assert_eq!(body["items"][2]["error"]["code"], "not_text", "bytes that are not text never become text");

    let no = encode(Answer::Sealed(vec![Err(refusal)]), Shape::One, false, &id);
    assert_eq!((no.status.as_u16(), no.content_type), (422, "application/problem+json"));
    assert_eq!((&text(&no)["request_id"], &text(&no)["status"]), (&json!("r-1"), &json!(422)));
    assert_eq!(encode(Answer::Sealed(vec![]), Shape::One, false, &id).status.as_u16(), 500);
}

#[test]
fn keyrings_and_records_are_told_as_json() {
    let id: RequestId = "r-1".parse().unwrap();
    let view = KeyringView {
        name: keyring(),
        required_context: vec!["patient".to_owned()],
        subject_key: None,
        suite: Suite::XaesCommitted,
        partition_key: None,
        limits: KeyLimits::default(),
        versions: vec![],
        created: Wall(951_827_696_000_007),
        generation: 3,
    };
    let told = text(&encode(Answer::Keyring(Arc::new(view)), Shape::One, true, &id));
    assert_eq!((&told["name"], &told["created"]), (&json!("acme/patients"), &json!("2000-02-29T12:34:56.000007Z")));
    let records = Answer::Records { records: vec![(4, r#"{"a":1}"#.to_owned())], next: 5 };
    let told = text(&encode(records, Shape::One, false, &id));
    assert_eq!(told, json!({"records": [{"index": 4, "record": {"a": 1}}], "next": 5}));
}

/// What serde_json, asked for the same strictness, would make of a single value to seal.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    #[serde(rename = "context")]
    _context: std::collections::BTreeMap<String, String>,
    text: String,
}

proptest! {
    #[test]
    fn any_text_comes_through_reader_and_pen_unchanged(plain in any::<String>(), key in "[a-z]{1,8}", value in any::<String>()) {
        let body = json!({"context": {key.as_str(): value.as_str()}, "text": plain.as_str()}).to_string();
        prop_assert_eq!(plaintexts(&body), [Ok(plain.clone().into_bytes())]);
        let answer = vec![Ok(Opened { plaintext: SecretBytes::new(plain.clone().into_bytes()), form: Form::Text })];
        let told = encode(Answer::Opened(answer), Shape::One, false, &"r".parse().unwrap());
        prop_assert_eq!(text(&told), json!({"text": plain}));
    }

    #[test]
    fn the_reader_accepts_exactly_what_serde_json_accepts(
        noise in proptest::collection::vec((any::<prop::sample::Index>(), r#"[{}\[\]":,\\ud8c0aA \n\t\x00-\x1f]"#), 0..3),
        plain in r#"(\\[nrt"\\/bf]|\\u[0-9a-fA-F]{4}|\\ud83d\\ude00|[ -~&&[^"\\]]|é){0,12}"#,
    ) {
        let mut body: Vec<char> = format!(r#"{{"context":{{"a":"b"}},"text":"{plain}"}}"#).chars().collect();
        for (at, with) in noise {
            let at = at.index(body.len());
            body[at] = with.chars().next().unwrap_or(' ');
        }
        let body: String = body.into_iter().collect();
        let reference = serde_json::from_str::<Reference>(&body);
        match (seal(&body), reference) {
            (Ok((seal, _)), Ok(reference)) => {
                let item = seal.items.into_iter().next().unwrap();
                if let Ok(item) = item {
                    prop_assert_eq!(item.plaintext.expose(), reference.text.as_bytes());
                }
            }
            (Err(_), Err(_)) => {}
            // The same object with its text under `bytes` or without one: an item's error here, a missing field there.
            (Ok((seal, _)), Err(_)) => prop_assert!(seal.items.iter().all(Result::is_err), "{}", body),
            (Err(refusal), Ok(_)) => prop_assert!(refusal.detail.unwrap_or_default().contains("given twice"), "{}", body),
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _seal = parse_seal(keyring(), &body);
        let _open = parse_open(&body);
        let _rewrap = parse_rewrap(&body);
        let _create = parse_create_keyring(&body);
    }
}
