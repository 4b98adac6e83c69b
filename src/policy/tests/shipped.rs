//! The policies that keyward ships do what their tables say, and every rule in them matters.

use cedar_policy::PolicySet;

use super::*;

const LEAST: (&str, &str) = (
    include_str!("../../../policies/least-privilege.cedar"),
    include_str!("../../../policies/tests/least-privilege.toml"),
);
const DEVELOPMENT: (&str, &str) =
    (include_str!("../../../policies/development.cedar"), include_str!("../../../policies/tests/development.toml"));

const INCIDENT: &str = include_str!("../../../policies/incident.cedar");

const EXAMPLES: &[(&str, &str)] = &[
    (include_str!("../../../policies/sensitivity.cedar"), include_str!("../../../policies/tests/sensitivity.toml")),
    (include_str!("../../../policies/break-glass.cedar"), include_str!("../../../policies/tests/break-glass.toml")),
    (include_str!("../../../policies/two-person.cedar"), include_str!("../../../policies/tests/two-person.toml")),
    (include_str!("../../../policies/auditor.cedar"), include_str!("../../../policies/tests/auditor.toml")),
    (include_str!("../../../policies/operator.cedar"), include_str!("../../../policies/tests/operator.toml")),
];

/// With the services that the examples are about.
fn example(text: &str) -> Arc<Policy> {
    let mut settings = settings(text);
    let services = ["behavioural", "reproductive", "emergency", "prescribing"];
    settings.principals.extend(services.map(|name| (name.parse().unwrap(), PrincipalKind::Service)));
    Policy::load(&settings).unwrap()
}

#[test]
fn each_example_answers_as_its_table_says_and_misses_every_rule_of_it() {
    for (text, table) in EXAMPLES {
        let report = run_table(&example(text), table).unwrap();
        assert_eq!(report.failures, [], "{report:#?}");
        assert_eq!(report.undecided, Vec::<String>::new());
        let set: PolicySet = text.parse().unwrap();
        let all: Vec<_> = set.policies().map(ToString::to_string).collect();
        for left_out in 0..all.len() {
            let rest: Vec<_> = (0..all.len()).filter(|i| *i != left_out).map(|i| all[i].as_str()).collect();
            let report = run_table(&example(&rest.join("\n")), table).unwrap();
            assert!(!report.failures.is_empty(), "no case misses {}", all[left_out]);
        }
    }
}

#[test]
fn what_the_examples_forbid_stays_forbidden_beside_a_rule_that_permits_everything() {
    let everything = "permit (principal, action, resource);";
    let asks = |text: &str, it: &Asked| it.of(&example(&format!("{text} {everything}")));
    let of = |index: usize| EXAMPLES.get(index).unwrap().0;
    let opening = |keyring: &str, purpose, grant| {
        let mut it = portal(Action::Open);
        (it.keyring, it.purpose, it.grant) = (Some(keyring.parse().unwrap()), Some(purpose), grant);
        it
    };
    let forbidden = Err(DenialReason::Forbidden);
    assert_eq!(asks(of(0), &opening("reproductive/notes", Purpose::Payment, None)), forbidden);
    assert_eq!(asks(of(1), &opening("patients", Purpose::BreakGlass, None)), forbidden);
    assert_eq!(asks(of(1), &opening("patients", Purpose::BreakGlass, Some(GrantKind::BreakGlass))), Ok(()));
    for grant in [None, Some(GrantKind::BreakGlass)] {
        assert_eq!(asks(of(2), &opening("prescriptions", Purpose::Treatment, grant)), forbidden);
    }
    for action in Action::ALL.iter().filter(|action| action.changes_keys()) {
        let stops = matches!(action, Action::KeySuspend | Action::KeyCompromise);
        let answer = asks(of(4), &asked(principal(PrincipalKind::Operator, "operator"), *action));
        assert_eq!(answer, if stops { Ok(()) } else { forbidden }, "{action:?}");
        let answer = asks(of(3), &asked(principal(PrincipalKind::Auditor, "auditor"), *action));
        assert_eq!(answer, Err(DenialReason::NoPermit), "the schema gives it to no auditor: {action:?}");
    }
}

#[test]
fn the_shipped_policies_answer_as_their_tables_say() {
    for ((text, table), least) in [(LEAST, 25), (DEVELOPMENT, 10)] {
        let report = run_table(&load(text), table).unwrap();
        assert_eq!(report.failures, [], "{report:#?}");
        assert_eq!(report.undecided, Vec::<String>::new());
        assert!(report.cases >= least, "{}", report.cases);
    }
}

#[test]
fn a_shipped_policy_that_is_taken_away_fails_its_table() {
    for (text, table) in [LEAST, DEVELOPMENT] {
        let set: PolicySet = text.parse().unwrap();
        let all: Vec<_> = set.policies().map(|policy| policy.to_cedar().unwrap()).collect();
        for left_out in 0..all.len() {
            let rest: Vec<_> = (0..all.len()).filter(|i| *i != left_out).map(|i| all[i].as_str()).collect();
            let report = run_table(&load(&rest.join("\n")), table).unwrap();
            assert!(!report.failures.is_empty(), "no case misses {}", all[left_out]);
        }
    }
}

#[test]
fn a_shipped_policy_that_is_widened_fails_its_table() {
    for (text, table) in [LEAST, DEVELOPMENT] {
        let of_all = Action::ALL
            .iter()
            .map(|action| format!("permit (principal, action == Action::\"{}\", resource);", action.name()));
        let some = [
            "permit (principal in Service::\"portal\", action == Action::\"open\", resource) when { context.purpose == \"HPAYMT\" };",
            "permit (principal is Operator, action in [Action::\"keyringCreate\", Action::\"keyringShow\"], resource);",
            "permit (principal is Operator, action == Action::\"keyDestroy\", resource);",
            "permit (principal is Operator, action == Action::\"keyResume\", resource);",
        ];
        for widened in of_all.chain(some.map(str::to_owned)) {
            let report = run_table(&load(&format!("{text}\n{widened}")), table).unwrap();
            // In development there is no portal, and whoever is a custodian may do already what custodians alone can.
            let of_custodians = ["Propose", "Decide", "Found", "Revoke", "grantEnd"];
            let already = ["portal"].iter().chain(&of_custodians).any(|what| widened.contains(what));
            let nothing_new = already && text == DEVELOPMENT.0;
            assert_eq!(report.failures.is_empty(), nothing_new, "no case forbids {widened}");
        }
    }
}

#[test]
fn the_policies_for_an_incident_open_what_is_suspended_or_compromised_and_no_more() {
    let (both, table) = (format!("{}\n{INCIDENT}", LEAST.0), include_str!("../../../policies/tests/incident.toml"));
    assert_eq!(run_table(&load(&both), table).unwrap().failures, []);
    let set: PolicySet = INCIDENT.parse().unwrap();
    for policy in set.policies() {
        let report = run_table(&load(&format!("{}\n{policy}", LEAST.0)), table).unwrap();
        assert!(!report.failures.is_empty(), "no case misses the other one of {policy}");
    }
}

#[test]
fn a_report_says_what_each_file_holds_and_who_is_forgotten() {
    let report = check(&settings(LEAST.0)).unwrap();
    assert_eq!(report.digest, hex::encode(load(LEAST.0).digest()));
    assert_eq!(report.files, [FileReport { name: "set.cedar".to_owned(), permits: 10, forbids: 1 }]);
    let open = report.actions.iter().find(|(action, _)| *action == Action::Open).unwrap();
    assert_eq!(open.1.iter().map(PrincipalName::as_str).collect::<Vec<_>>(), ["portal"]);
    let unused: Vec<_> = report.unused.iter().map(|(name, kind)| format!("{kind} {name}")).collect();
    assert_eq!(unused, ["service a", "operator a", "service demo"]);
}

#[test]
fn a_table_that_makes_no_sense_is_refused() {
    let policy = load(
        "permit (principal, action == Action::\"seal\", resource) when { context.now > datetime(\"2020-01-01\") };",
    );
    let good = "schema = 1\n[[case]]\nname = \"n\"\nprincipal = \"a\"\nkind = \"service\"\naction = \"seal\"\n\
        keyring = \"patients\"\nnow = 2026-01-31T08:00:00Z\nexpect = \"permit\"\n";
    assert_eq!(run_table(&policy, good).unwrap().failures, []);
    assert!(matches!(run_table(&policy, &good.replace("schema = 1", "schema = 2")), Err(TableError::Schema(2))));
    assert!(matches!(run_table(&policy, &good.replace("schema = 1", "")), Err(TableError::Syntax(_))));
    assert!(matches!(
        run_table(&policy, &good.replace("purpose", "x").replace("expect", "expects")),
        Err(TableError::Syntax(_))
    ));
    for (from, to) in [
        ("\"service\"", "\"root\""),
        ("\"seal\"", "\"Seal\""),
        ("\"patients\"", "\"a/b/c\""),
        ("08:00:00Z", "08:00:00+01:00"),
        ("now = 2026-01-31T08:00:00Z\n", ""),
        ("expect = \"permit\"", "expect = \"permit\"\nreason = \"no_permit\""),
        ("expect = \"permit\"", "expect = \"deny\""),
        ("expect = \"permit\"", "expect = \"deny\"\nreason = \"because\""),
        ("expect = \"permit\"", "expect = \"permit\"\nfields = { other = \"x\" }"),
        ("expect = \"permit\"", "expect = \"permit\"\npurpose = \"TREET\""),
        ("expect = \"permit\"", "expect = \"permit\"\nproof = \"badge\""),
    ] {
        let result = run_table(&policy, &good.replace(from, to));
        assert!(matches!(result, Err(TableError::Cases(_))), "{to}: {result:?}");
    }
    let wrong = run_table(&policy, &good.replace("2026", "2019")).unwrap();
    assert_eq!((wrong.failures[0].expected, wrong.failures[0].found), ("permit", "no_permit"));
    assert_eq!(wrong.undecided, ["set.cedar:1"]);
}
