use super::*;

#[test]
fn a_name_is_lower_case_digits_and_hyphens_not_leading() {
    for good in ["a", "0", "patients", "a-b-0", &"x".repeat(63)] {
        assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "-a", "A", "a_b", "a/b", "a b", "é", &"x".repeat(64)] {
        assert!(bad.parse::<Name>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_keyring_without_a_tenant_belongs_to_the_default_tenant() {
    let short: KeyringName = "patients".parse().unwrap();
    assert_eq!(short.to_string(), "default/patients");
    assert_eq!(short, "default/patients".parse().unwrap());
    for bad in ["/a", "a/", "a/b/c", "", "A/b"] {
        assert!(bad.parse::<KeyringName>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_context_sorts_refuses_duplicates_and_reserved_keys() {
    let pairs = |p: &[(&str, &str)]| p.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>();
    let context = Context::parse(pairs(&[("b", "2"), ("a", "1")])).unwrap();
    assert_eq!(context.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    assert_eq!(Context::parse(pairs(&[("a", "1"), ("a", "1")])), Err(ContextError::Duplicate));
    assert_eq!(Context::parse(pairs(&[("kw.keyring", "x")])), Err(ContextError::Reserved));
    assert_eq!(Context::parse(pairs(&[("", "x")])), Err(ContextError::EmptyKey));
    let many: Vec<_> = (0..=MAX_CALLER_PAIRS).map(|i| (format!("k{i}"), String::new())).collect();
    assert_eq!(Context::parse(many), Err(ContextError::TooMany));
    assert_eq!(Context::parse(pairs(&[("a", &"x".repeat(MAX_CONTEXT_BYTES))])), Err(ContextError::TooLarge));
}

#[test]
fn merging_two_contexts_refuses_a_conflict_and_allows_agreement() {
    let one = Context::parse([("a".to_owned(), "1".to_owned())]).unwrap();
    let two = Context::parse([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]).unwrap();
    assert_eq!(one.merge(&two).unwrap().iter().count(), 2);
    let three = Context::parse([("a".to_owned(), "9".to_owned())]).unwrap();
    assert_eq!(one.merge(&three), Err(ContextError::Conflict));
}
