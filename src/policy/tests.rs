use std::time::Duration;

use super::*;
use crate::identity::{Authenticator, Credentials, Door, KnownPrincipal};

const NOON: Wall = Wall(1_780_315_200_000_000);

fn principal(kind: PrincipalKind, name: &str) -> Principal {
    let known = KnownPrincipal {
        name: name.parse().unwrap(),
        kind,
        uids: vec![7],
        token_sha256: vec![],
        spiffe: vec![],
        jwt: vec![],
    };
    let authenticator =
        Authenticator::new(&crate::identity::Settings { principals: vec![known], jwt: vec![] }).unwrap();
    authenticator
        .authenticate(Door::of(kind), &Credentials::Peer { uid: 7, gid: 7, exe: None }, crate::clock::Wall(0))
        .unwrap()
}

fn settings(text: &str) -> Settings {
    let known = [
        ("portal", PrincipalKind::Service),
        ("ingest", PrincipalKind::Service),
        ("a", PrincipalKind::Service),
        ("a", PrincipalKind::Operator),
        ("demo", PrincipalKind::Service),
        ("operator", PrincipalKind::Operator),
        ("auditor", PrincipalKind::Auditor),
        ("custodian", PrincipalKind::Custodian),
    ];
    Settings {
        documents: vec![("set.cedar".to_owned(), text.to_owned())],
        context_keys: vec!["patient".to_owned(), "a-b".to_owned()],
        principals: known.iter().map(|(name, kind)| (name.parse().unwrap(), *kind)).collect(),
    }
}

fn load(text: &str) -> Arc<Policy> {
    Policy::load(&settings(text)).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    Policy::load(&settings(text)).err().expect("the set must be refused").problems
}

/// A request that tests change one thing of.
struct Asked {
    principal: Principal,
    action: Action,
    keyring: Option<KeyringName>,
    pairs: Vec<(&'static str, &'static str)>,
    purpose: Option<Purpose>,
    grant: Option<GrantKind>,
    request: RequestId,
    now: Wall,
    mono: Mono,
}

fn asked(principal: Principal, action: Action) -> Asked {
    let keyring = matches!(action.resource(), action::Resource::Keyring).then(|| "patients".parse().unwrap());
    let purpose = action.opens().then_some(Purpose::Treatment);
    let request = RequestId::from_random([1; 16]);
    Asked {
        principal,
        action,
        keyring,
        pairs: vec![],
        purpose,
        grant: None,
        request,
        now: NOON,
        mono: Mono(5_000_000_000),
    }
}

impl Asked {
    fn ask(&self) -> Ask<'_> {
        Ask {
            principal: &self.principal,
            action: self.action,
            keyring: self.keyring.as_ref(),
            pairs: &self.pairs,
            purpose: self.purpose,
            grant: self.grant,
            request: &self.request,
            deadline: Deadline(Mono(9_000_000_000)),
            now: self.now,
            mono: self.mono,
        }
    }

    fn of(&self, policy: &Policy) -> Result<(), DenialReason> {
        policy.decide(&self.ask()).map(drop).map_err(|denial| denial.reason)
    }
}

fn portal(action: Action) -> Asked {
    asked(principal(PrincipalKind::Service, "portal"), action)
}

const ALL_FOR_PORTAL: &str = "permit (principal == Service::\"portal\", action, resource);";

#[test]
fn the_actions_of_the_schema_are_exactly_those_of_the_enum() {
    let schema = schema::build(&[]).unwrap();
    let mut in_schema: Vec<_> = schema.actions().map(|uid| uid.id().unescaped().to_owned()).collect();
    let mut in_enum: Vec<_> = Action::ALL.iter().map(|action| action.name().to_owned()).collect();
    in_schema.sort_unstable();
    in_enum.sort_unstable();
    assert_eq!(in_schema, in_enum);
    for action in Action::ALL {
        assert_eq!(action.name().parse(), Ok(*action));
        let uid = schema::Entities::new().unwrap().action(*action);
        let resources: Vec<_> = schema.resources_for_action(&uid).unwrap().map(ToString::to_string).collect();
        assert_eq!(resources, [format!("{:?}", action.resource())], "{action:?}");
    }
}

#[test]
fn an_empty_set_denies_everything() {
    let policy = Policy::load(&Settings::default()).unwrap();
    for action in Action::ALL {
        assert_eq!(portal(*action).of(&policy), Err(DenialReason::NoPermit), "{action:?}");
    }
}

#[test]
fn a_permit_says_what_was_permitted() {
    let policy = load(ALL_FOR_PORTAL);
    let mut it = portal(Action::Open);
    it.pairs = vec![("patient", "p1")];
    let permit = policy.decide(&it.ask()).unwrap();
    assert_eq!(permit.action(), Action::Open);
    assert_eq!(permit.keyring(), it.keyring.as_ref());
    assert_eq!(permit.purpose(), Some(Purpose::Treatment));
    assert_eq!(permit.pairs(), [("patient".into(), "p1".into())]);
    assert_eq!((permit.request(), permit.deadline()), (&it.request, Deadline(Mono(9_000_000_000))));
}

#[test]
fn forbid_wins_over_permit() {
    let policy = load(&format!("{ALL_FOR_PORTAL}\nforbid (principal, action == Action::\"open\", resource);"));
    assert_eq!(portal(Action::Open).of(&policy), Err(DenialReason::Forbidden));
    assert_eq!(portal(Action::Seal).of(&policy), Ok(()));
}

#[test]
fn opening_without_a_purpose_is_denied_whatever_the_policies_say() {
    let policy = load(ALL_FOR_PORTAL);
    let mut it = portal(Action::Open);
    assert_eq!(it.of(&policy), Ok(()));
    it.purpose = None;
    assert_eq!(it.of(&policy), Err(DenialReason::PurposeMissing));
}

#[test]
fn a_service_and_an_operator_of_one_name_are_two_principals() {
    let policy = load("permit (principal == Operator::\"a\", action == Action::\"keyringList\", resource);");
    assert_eq!(asked(principal(PrincipalKind::Operator, "a"), Action::KeyringList).of(&policy), Ok(()));
    for kind in [PrincipalKind::Service, PrincipalKind::Auditor, PrincipalKind::Custodian] {
        let it = asked(principal(kind, "a"), Action::KeyringList);
        assert_eq!(it.of(&policy), Err(DenialReason::NoPermit), "{kind}");
    }
}

#[test]
fn no_policy_lets_a_person_seal_or_open() {
    let policy = load("permit (principal, action, resource);");
    for kind in [PrincipalKind::Operator, PrincipalKind::Auditor, PrincipalKind::Custodian] {
        for action in [Action::Seal, Action::Open, Action::Rewrap] {
            assert_eq!(
                asked(principal(kind, "a"), action).of(&policy),
                Err(DenialReason::NoPermit),
                "{kind} {action:?}"
            );
        }
    }
    assert_eq!(portal(Action::Open).of(&policy), Ok(()));
}

#[test]
fn a_context_value_decides_and_one_that_is_absent_is_no_value() {
    let policy = load(
        "permit (principal, action == Action::\"seal\", resource)
         when { context.fields has \"a-b\" && context.fields[\"a-b\"] == \"x\" };",
    );
    let mut it = portal(Action::Seal);
    assert_eq!(it.of(&policy), Err(DenialReason::NoPermit));
    it.pairs = vec![("a-b", "y")];
    assert_eq!(it.of(&policy), Err(DenialReason::NoPermit));
    it.pairs = vec![("a-b", "x")];
    assert_eq!(it.of(&policy), Ok(()));
}

#[test]
fn a_grant_counts_only_where_a_policy_asks_for_it_and_by_its_kind() {
    let policy = load(
        "permit (principal, action == Action::\"open\", resource)
         when { context has grant && context.grant == \"break-glass\" };
         permit (principal, action == Action::\"seal\", resource);",
    );
    let mut it = portal(Action::Open);
    let mut answer = |grant| {
        it.grant = grant;
        it.of(&policy)
    };
    assert_eq!(answer(None), Err(DenialReason::NoPermit));
    assert_eq!(answer(Some(GrantKind::Grant)), Err(DenialReason::NoPermit));
    assert_eq!(answer(Some(GrantKind::BreakGlass)), Ok(()));
    assert_eq!(policy.grants(&portal(Action::Open).ask()).len(), 1 + GrantKind::ALL.len());
    assert_eq!(policy.grants(&portal(Action::OpenSuspended).ask()).len(), 3, "it needs `open` as well");
    assert_eq!(policy.grants(&portal(Action::Seal).ask()), [None]);
}

#[test]
fn a_request_that_policy_cannot_express_is_denied() {
    let policy = load(ALL_FOR_PORTAL);
    let (mut unknown, mut twice, mut none, mut some) =
        (portal(Action::Seal), portal(Action::Seal), portal(Action::Seal), portal(Action::AuditRead));
    unknown.pairs = vec![("other", "x")];
    twice.pairs = vec![("patient", "x"), ("patient", "y")];
    none.keyring = None;
    some.keyring = Some("patients".parse().unwrap());
    let mut granted = portal(Action::AuditRead);
    granted.grant = Some(GrantKind::Grant);
    for it in [unknown, twice, none, some, granted] {
        assert_eq!(it.of(&policy), Err(DenialReason::EvaluationError));
    }
}

#[test]
fn a_policy_that_fails_to_evaluate_denies_even_what_another_permits() {
    let policy = load(&format!(
        "{ALL_FOR_PORTAL}\nforbid (principal, action, resource) when {{ context.proof == \"peer\" && 9223372036854775807 + 1 > 0 }};"
    ));
    assert_eq!(portal(Action::Seal).of(&policy), Err(DenialReason::EvaluationError));
}

#[test]
fn only_a_permit_to_change_keys_is_an_authority_and_it_says_who_acts() {
    let policy = load(&format!("permit (principal, action, resource); {EXCEPTIONS}"));
    for action in Action::ALL {
        let who = |kind| asked(principal(kind, "a"), *action);
        let permits = [PrincipalKind::Service, PrincipalKind::Operator, PrincipalKind::Custodian]
            .map(|kind| policy.decide(&who(kind).ask()));
        let permit = permits.into_iter().find_map(Result::ok).unwrap();
        let founds = action.changes_keys() || *action == Action::CustodyFound;
        match policy.founding(permit) {
            Ok(authority) => {
                assert!(founds);
                assert_eq!((authority.action(), authority.code()), (*action, "founding"));
                assert_eq!(authority.principal().map(PrincipalName::as_str), Some("a"));
            }
            Err(_) => assert!(!founds, "{action:?}"),
        }
    }
}

const EXCEPTIONS: &str =
    "permit (principal, action in [Action::\"openSuspended\", Action::\"openCompromised\"], resource);";

#[test]
fn an_exception_needs_a_rule_that_names_it_and_the_permission_to_open_beside_it() {
    let open = "permit (principal, action == Action::\"open\", resource);";
    let anything = "permit (principal, action, resource);";
    for action in [Action::OpenSuspended, Action::OpenCompromised] {
        let asks = |text: &str| portal(action).of(&load(text));
        assert_eq!(asks(anything), Err(DenialReason::NoPermit), "nobody had exceptions in mind");
        assert_eq!(asks(open), Err(DenialReason::NoPermit));
        assert_eq!(asks(EXCEPTIONS), Err(DenialReason::NoPermit), "what may not be opened has no exception");
        for rule in [open, anything] {
            assert_eq!(asks(&format!("{rule} {EXCEPTIONS}")), Ok(()));
        }
        let forbidden = format!("{anything} {EXCEPTIONS} forbid (principal, action, resource);");
        assert_eq!(asks(&forbidden), Err(DenialReason::Forbidden));
        let forbidden = format!("{anything} {EXCEPTIONS} forbid (principal, action == Action::\"open\", resource);");
        assert_eq!(asks(&forbidden), Err(DenialReason::Forbidden), "a bar to opening bars the exception");
        let mut aimless = portal(action);
        aimless.purpose = None;
        let all = load(&format!("{anything} {EXCEPTIONS}"));
        assert_eq!(aimless.of(&all), Err(DenialReason::PurposeMissing));
    }
}

#[test]
fn no_service_changes_a_key_that_exists() {
    let policy = load("permit (principal, action, resource);");
    for action in Action::ALL.iter().filter(|action| action.changes_keys() && **action != Action::KeyringCreate) {
        assert_eq!(portal(*action).of(&policy), Err(DenialReason::NoPermit), "{action:?}");
    }
}

#[test]
fn without_a_person_keys_are_rotated_and_rewrapped_and_nothing_else() {
    let policy = load("");
    let keyring: KeyringName = "patients".parse().unwrap();
    let by = Deadline(Mono(9));
    for action in Action::ALL {
        for named in [Some(&keyring), None] {
            let foreseen = match action {
                Action::KeyringRotate => named.is_some(),
                Action::KeysRewrap => named.is_none(),
                _ => false,
            };
            let authority = policy.standing(*action, named, by);
            assert_eq!(authority.is_ok(), foreseen, "{action:?}");
            let Ok(authority) = authority else { continue };
            assert_eq!((authority.action(), authority.keyring(), authority.deadline()), (*action, named, by));
            assert_eq!((authority.principal(), authority.code()), (None, "standing"));
        }
    }
}

#[test]
fn equal_requests_are_evaluated_once_a_second() {
    let policy = load(ALL_FOR_PORTAL);
    let mut it = portal(Action::Seal);
    let start = it.mono;
    for after in [0, 1, 999] {
        it.mono = start.plus(Duration::from_millis(after));
        it.request = RequestId::from_random([u8::try_from(after % 7).unwrap(); 16]);
        assert_eq!(it.of(&policy), Ok(()));
    }
    assert_eq!(policy.evaluations(), 1);
    it.mono = start.plus(Duration::from_secs(1));
    assert_eq!(it.of(&policy), Ok(()));
    assert_eq!(policy.evaluations(), 2);
}

#[test]
fn a_denial_is_kept_like_a_permit() {
    let policy = load(ALL_FOR_PORTAL);
    let it = asked(principal(PrincipalKind::Service, "a"), Action::Seal);
    assert_eq!((it.of(&policy), it.of(&policy)), (Err(DenialReason::NoPermit), Err(DenialReason::NoPermit)));
    assert_eq!(policy.evaluations(), 1);
}

#[test]
fn raising_the_epoch_ends_every_kept_decision() {
    let policy = load(ALL_FOR_PORTAL);
    let it = portal(Action::Seal);
    assert_eq!(it.of(&policy), Ok(()));
    policy.advance_epoch();
    assert_eq!(it.of(&policy), Ok(()));
    assert_eq!(policy.evaluations(), 2);
}

#[test]
fn requests_that_differ_in_one_thing_do_not_share_an_entry() {
    let policy = load(ALL_FOR_PORTAL);
    let mut all = vec![portal(Action::Seal), portal(Action::Open), portal(Action::KeyringList)];
    let changed = |change: fn(&mut Asked)| {
        let mut it = portal(Action::Open);
        change(&mut it);
        it
    };
    all.push(changed(|it| it.purpose = Some(Purpose::Payment)));
    all.push(changed(|it| it.grant = Some(GrantKind::Grant)));
    all.push(changed(|it| it.grant = Some(GrantKind::BreakGlass)));
    all.push(changed(|it| it.keyring = Some("other/patients".parse().unwrap())));
    all.push(changed(|it| it.keyring = Some("default/other".parse().unwrap())));
    all.push(changed(|it| it.principal = principal(PrincipalKind::Service, "ingest")));
    all.push(changed(|it| it.principal = principal(PrincipalKind::Operator, "portal")));
    all.push(changed(|it| it.pairs = vec![("patient", "p1")]));
    all.push(changed(|it| it.pairs = vec![("patient", "p2")]));
    all.push(changed(|it| it.pairs = vec![("a-b", "p1")]));
    all.push(changed(|it| it.pairs = vec![("a-b", ""), ("patient", "p1")]));
    for it in &all {
        let _answer = it.of(&policy);
    }
    assert_eq!(policy.evaluations(), u64::try_from(all.len()).unwrap());
}

#[test]
fn a_decision_that_looks_at_the_time_is_never_kept() {
    let hours = "permit (principal, action == Action::\"seal\", resource)
        when { context.now.toTime() >= duration(\"8h\") && context.now.toTime() < duration(\"18h\") };";
    let policy = load(&format!("{ALL_FOR_PORTAL}\n{}", hours.replace("permit", "forbid")));
    let mut it = portal(Action::Seal);
    assert_eq!(it.of(&policy), Err(DenialReason::Forbidden));
    it.now = Wall(NOON.0 + 6 * 3_600_000_000);
    assert_eq!(it.of(&policy), Ok(()));
    assert_eq!((it.of(&policy), policy.evaluations()), (Ok(()), 3));
    let other = portal(Action::KeyringShow);
    assert_eq!((other.of(&policy), other.of(&policy), policy.evaluations()), (Ok(()), Ok(()), 4));
}

#[test]
fn time_hidden_in_a_condition_is_still_seen() {
    for condition in [
        "context[\"now\"] > datetime(\"2020-01-01\")",
        "!(context.now < datetime(\"2020-01-01\"))",
        "if context.proof == \"peer\" then context.now > datetime(\"2020-01-01\") else false",
        "{ a: context }.a.now > datetime(\"2020-01-01\")",
        "[context.now].contains(datetime(\"2026-06-01T12:00:00Z\"))",
        "context == context && context.proof == \"peer\"",
    ] {
        let text = format!("permit (principal, action == Action::\"seal\", resource) when {{ {condition} }};");
        let policy = load(&text);
        assert_eq!(
            (portal(Action::Seal).of(&policy), portal(Action::Seal).of(&policy)),
            (Ok(()), Ok(())),
            "{condition}"
        );
        assert_eq!(policy.evaluations(), 2, "{condition}");
    }
}

#[test]
fn every_problem_is_reported_with_its_file_and_line() {
    let text = "permit (principal == Service::\"portal\", action == Action::\"seal\", resource);
permit (principal, action == Action::\"sael\", resource);
permit (principal, action == Action::\"seal\", resource)
  when { context.colour == \"red\" };
permit (principal == Service::\"portl\", action, resource);
permit (principal == Operator::\"portal\", action, resource);
permit (principal, action, resource == Keyring::\"patients\");
permit (principal, action == Action::\"open\", resource)
  when { [\"TREAT\", \"TREET\"].contains(context.purpose) };
permit (principal is Operator, action == Action::\"open\", resource);
permit (principal, action == Action::\"seal\", resource) when { context.purpose == \"TREAT\" };
permit (principal, action == Action::\"seal\", resource) when { \"pear\" == context.proof };
permit (principal, action == Action::\"open\", resource) when { context has grant && context.grant == \"glass\" };
permit (principal, action == Action::\"open\", resource) when { context.grant == \"grant\" };
";
    let found = problems(text);
    for (line, part) in [
        (2, "sael"),
        (4, "colour"),
        (5, "Service::\"portl\""),
        (6, "Operator::\"portal\""),
        (7, "Keyring::\"default/patients\""),
        (9, "TREET"),
        (10, "applicable action"),
        (11, "purpose"),
        (12, "pear"),
        (13, "glass"),
        (14, "grant"),
    ] {
        let at = format!("set.cedar:{line}:");
        assert!(found.iter().any(|p| p.starts_with(&at) && p.contains(part)), "{at} {part} in {found:#?}");
    }
    assert!(!found.iter().any(|p| p.starts_with("set.cedar:1:")), "{found:#?}");
}

#[test]
fn a_text_that_is_no_policy_is_refused_at_its_line() {
    let found = problems("permit (principal, action, resource);\n\npermit (principal action, resource);\n");
    assert!(found.iter().any(|p| p.starts_with("set.cedar:3:")), "{found:?}");
    let template = problems("permit (principal == ?principal, action, resource);");
    assert!(template.iter().any(|p| p.contains("templates")), "{template:?}");
}

#[test]
fn two_files_of_one_name_and_bad_context_keys_are_refused() {
    let mut twice = settings(ALL_FOR_PORTAL);
    twice.documents.push(twice.documents[0].clone());
    assert!(Policy::load(&twice).is_err());
    for key in ["", "kw.keyring", "a\"?: Long, \"b", "a\\", "a\nb", "patient"] {
        let mut bad = settings(ALL_FOR_PORTAL);
        bad.context_keys.push(key.to_owned());
        assert!(Policy::load(&bad).is_err(), "{key:?}");
    }
    let mut many = settings(ALL_FOR_PORTAL);
    many.context_keys = (0..=schema::MAX_CONTEXT_KEYS).map(|i| format!("k{i}")).collect();
    assert!(Policy::load(&many).is_err());
}

#[test]
fn the_digest_changes_with_names_texts_and_keys_and_not_with_their_order() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let with = |documents: Vec<(String, String)>, keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Policy::load(&Settings { documents, context_keys: keys, ..settings("") }).unwrap().digest()
    };
    let (a, b) = (file("a", ALL_FOR_PORTAL), file("b", "// nothing"));
    let base = with(vec![a.clone(), b.clone()], &["x", "y"]);
    assert_eq!(base, with(vec![b.clone(), a.clone()], &["y", "x"]));
    let others = [
        with(vec![a.clone()], &["x", "y"]),
        with(vec![a.clone(), b.clone()], &["x"]),
        with(vec![a.clone(), b.clone()], &["x", "y", "z"]),
        with(vec![file("c", ALL_FOR_PORTAL), b], &["x", "y"]),
        with(vec![a, file("b", "// nothing ")], &["x", "y"]),
    ];
    assert!(others.iter().all(|other| *other != base));
}

mod shipped;

#[test]
fn a_policy_may_name_every_proof_there_is() {
    for proof in crate::identity::Proof::CODES {
        let rule = format!(
            "permit (principal, action == Action::\"open\", resource) when {{ context.proof == \"{proof}\" }};"
        );
        assert!(Policy::load(&settings(&rule)).is_ok(), "{proof}");
    }
}
