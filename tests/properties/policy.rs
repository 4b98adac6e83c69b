//! Whatever the policies and the requests: the cache changes no answer, and neither do the slices.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use keyward::clock::{Deadline, Mono, Wall};
use keyward::identity::{self, Authenticator, Credentials, Door, KnownPrincipal, Principal, PrincipalKind};
use keyward::names::{KeyringName, Purpose, RequestId};
use keyward::policy::{Action, Ask, DenialReason, GrantKind, Policy, Settings};
use proptest::prelude::*;

const KINDS: &[(PrincipalKind, &str)] = &[
    (PrincipalKind::Service, "Service"),
    (PrincipalKind::Custodian, "Custodian"),
    (PrincipalKind::Auditor, "Auditor"),
    (PrincipalKind::Operator, "Operator"),
];
const NAMES: &[&str] = &["a", "b"];
const KEYRINGS: &[&str] = &["default/p", "default/q", "other/p"];
const PURPOSES: &[Purpose] = &[Purpose::Treatment, Purpose::Payment, Purpose::BreakGlass];
const VALUES: &[&str] = &["", "x", "y"];
const HOURS: u64 = 3_600_000_000;

/// A policy that both Cedar and this test can evaluate.
#[derive(Debug, Clone)]
struct Rule {
    forbid: bool,
    principal: Scope,
    actions: Vec<Action>,
    tenant: Option<&'static str>,
    keyring: Option<&'static str>,
    purpose: Option<Purpose>,
    value: Option<(&'static str, &'static str)>,
    token: Option<bool>,
    grant: Option<GrantKind>,
    before_hour: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Scope {
    Anyone,
    Kind(usize),
    One(usize, &'static str),
}

/// A request, as indexes into the constants.
#[derive(Debug, Clone)]
struct Request {
    kind: usize,
    name: &'static str,
    token: bool,
    action: Action,
    keyring: &'static str,
    purpose: Option<Purpose>,
    grant: Option<GrantKind>,
    pairs: Vec<(&'static str, &'static str)>,
    hour: u64,
    /// Milliseconds since the request before.
    later: u64,
}

const fn on_keyring(action: Action) -> bool {
    !matches!(
        action,
        Action::KeysRewrap
            | Action::KeyringList
            | Action::InventoryRead
            | Action::AuditRead
            | Action::AuditLookup
            | Action::CeremonyPropose
            | Action::CeremonyDecide
            | Action::CeremonyExecute
            | Action::CeremonyRead
            | Action::CustodyFound
            | Action::CustodianRevoke
            | Action::GrantEnd
            | Action::LockEngage
            | Action::LockRelease
            | Action::PolicyReload
    )
}

/// Who may be given an action at all: the schema, said a second time.
fn applies(kind: PrincipalKind, action: Action) -> bool {
    match action {
        Action::Seal | Action::Open | Action::OpenSuspended | Action::OpenCompromised | Action::Rewrap => {
            kind == PrincipalKind::Service
        }
        Action::KeyringCreate => kind != PrincipalKind::Auditor,
        Action::KeyringRotate
        | Action::KeyringConfigure
        | Action::LookupRotate
        | Action::KeySuspend
        | Action::KeyResume
        | Action::KeyDeactivate
        | Action::KeyCompromise
        | Action::KeyDestroy
        | Action::KeysRewrap
        | Action::CeremonyExecute
        | Action::LockEngage
        | Action::LockRelease
        | Action::PolicyReload
        | Action::PartitionShred => matches!(kind, PrincipalKind::Custodian | PrincipalKind::Operator),
        Action::CeremonyPropose
        | Action::CeremonyDecide
        | Action::CustodyFound
        | Action::CustodianRevoke
        | Action::GrantEnd => kind == PrincipalKind::Custodian,
        Action::InventoryRead | Action::AuditLookup | Action::CeremonyRead => kind != PrincipalKind::Service,
        Action::KeyringList | Action::KeyringShow | Action::AuditRead => true,
    }
}

impl Rule {
    /// Whether some request can match: a rule that cannot is refused when the set is loaded.
    fn possible(&self) -> bool {
        let of_kind = |kind: usize| self.actions.iter().any(|action| applies(KINDS[kind].0, *action));
        match self.principal {
            Scope::Anyone => true,
            Scope::Kind(kind) | Scope::One(kind, _) => of_kind(kind),
        }
    }

    fn cedar(&self) -> String {
        let mut text = String::from(if self.forbid { "forbid (" } else { "permit (" });
        match self.principal {
            Scope::Anyone => text.push_str("principal, "),
            Scope::Kind(kind) => write!(text, "principal is {}, ", KINDS[kind].1).unwrap(),
            Scope::One(kind, name) => write!(text, "principal == {}::\"{name}\", ", KINDS[kind].1).unwrap(),
        }
        let actions: Vec<_> = self.actions.iter().map(|action| format!("Action::\"{}\"", action.name())).collect();
        write!(text, "action in [{}], ", actions.join(", ")).unwrap();
        match (self.keyring, self.tenant) {
            (Some(keyring), _) => write!(text, "resource == Keyring::\"{keyring}\")").unwrap(),
            (None, Some(tenant)) => write!(text, "resource in Tenant::\"{tenant}\")").unwrap(),
            (None, None) => text.push_str("resource)"),
        }
        if let Some(purpose) = self.purpose {
            write!(text, " when {{ context has purpose && context.purpose == \"{}\" }}", purpose.code()).unwrap();
        }
        if let Some((key, value)) = self.value {
            write!(text, " when {{ context.fields has {key} && context.fields.{key} == \"{value}\" }}").unwrap();
        }
        if let Some(token) = self.token {
            write!(text, " when {{ context.proof == \"{}\" }}", if token { "token" } else { "peer" }).unwrap();
        }
        if let Some(grant) = self.grant {
            write!(text, " when {{ context has grant && context.grant == \"{}\" }}", grant.code()).unwrap();
        }
        if let Some(hour) = self.before_hour {
            write!(text, " when {{ context.now.toTime() < duration(\"{hour}h\") }}").unwrap();
        }
        text.push(';');
        text
    }

    fn matches(&self, request: &Request) -> bool {
        let keyring = on_keyring(request.action).then_some(request.keyring);
        let principal = match self.principal {
            Scope::Anyone => true,
            Scope::Kind(kind) => kind == request.kind,
            Scope::One(kind, name) => kind == request.kind && name == request.name,
        };
        principal
            && self.actions.contains(&request.action)
            && self.keyring.is_none_or(|named| keyring == Some(named))
            && (self.keyring.is_some()
                || self.tenant.is_none_or(|tenant| keyring.is_some_and(|k| k.split('/').next() == Some(tenant))))
            && self.purpose.is_none_or(|purpose| request.purpose == Some(purpose))
            && self.value.is_none_or(|pair| request.pairs.contains(&pair))
            && self.token.is_none_or(|token| request.token == token)
            && self.grant.is_none_or(|grant| request.grant == Some(grant))
            && self.before_hour.is_none_or(|hour| request.hour < hour)
    }
}

/// What the rules mean, without Cedar, slices or cache.
fn expected(rules: &[Rule], request: &Request) -> Result<(), DenialReason> {
    if request.action.opens() && request.purpose.is_none() {
        return Err(DenialReason::PurposeMissing);
    }
    if matches!(request.action, Action::OpenSuspended | Action::OpenCompromised) {
        // An exception needs the rule beside it.
        expected(rules, &Request { action: Action::Open, ..request.clone() })?;
    }
    if !applies(KINDS[request.kind].0, request.action) {
        return Err(DenialReason::NoPermit);
    }
    let matching = |forbid: bool| rules.iter().any(|rule| rule.forbid == forbid && rule.matches(request));
    match (matching(true), matching(false)) {
        (true, _) => Err(DenialReason::Forbidden),
        (false, true) => Ok(()),
        (false, false) => Err(DenialReason::NoPermit),
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let kind = 0..KINDS.len();
    let scope = prop_oneof![
        Just(Scope::Anyone),
        kind.clone().prop_map(Scope::Kind),
        (kind, prop::sample::select(NAMES)).prop_map(|(kind, name)| Scope::One(kind, name)),
    ];
    let data = prop::sample::subsequence(vec![Action::Seal, Action::Open, Action::KeyringShow], 1..=3);
    let others = prop::sample::subsequence(Action::ALL.to_vec(), 1..=4);
    let actions = prop_oneof![data, others];
    let optional = |values: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(values));
    let purpose = prop::option::weighted(0.3, prop::sample::select(PURPOSES));
    let value = prop::option::weighted(0.3, (prop::sample::select(&["k", "l"][..]), prop::sample::select(VALUES)));
    let grant = prop::option::weighted(0.2, prop::sample::select(GrantKind::ALL));
    let rest = (prop::option::weighted(0.2, any::<bool>()), grant, prop::option::weighted(0.1, 1_u64..24));
    (
        prop::bool::weighted(0.25),
        scope,
        actions,
        optional(&["default", "other"]),
        optional(KEYRINGS),
        purpose,
        value,
        rest,
    )
        .prop_map(|(forbid, principal, actions, tenant, keyring, purpose, value, (token, grant, before_hour))| {
            let named = keyring.is_some() || tenant.is_some() || grant.is_some();
            // A rule about a keyring can apply only to actions on keyrings.
            let actions: Vec<_> = actions.into_iter().filter(|action| !named || on_keyring(*action)).collect();
            Rule { forbid, principal, actions, tenant, keyring, purpose, value, token, grant, before_hour }
        })
        .prop_filter("can never apply", Rule::possible)
        .prop_filter("no action is left", |rule| !rule.actions.is_empty())
}

fn request() -> impl Strategy<Value = Request> {
    let who = (0..KINDS.len(), prop::sample::select(NAMES), any::<bool>());
    let what = (prop::sample::select(Action::ALL), prop::sample::select(KEYRINGS));
    let why = (
        prop::option::weighted(0.8, prop::sample::select(PURPOSES)),
        prop::option::weighted(0.4, prop::sample::select(GrantKind::ALL)),
    );
    let (k, l) = (prop::option::of(prop::sample::select(VALUES)), prop::option::of(prop::sample::select(VALUES)));
    (who, what, why, k, l, 0_u64..24, 0_u64..400).prop_map(|(who, what, (purpose, grant), k, l, hour, later)| {
        let (kind, name, token) = who;
        let (action, keyring) = what;
        let pairs = [("k", k), ("l", l)].into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let grant = grant.filter(|_| on_keyring(action));
        Request { kind, name, token, action, keyring, purpose, grant, pairs, hour, later }
    })
}

/// Every principal that a request may come from, recognised as a real one is.
fn principals() -> HashMap<(usize, &'static str, bool), Principal> {
    let mut found = HashMap::new();
    for (kind, (as_kind, _)) in KINDS.iter().enumerate() {
        for name in NAMES {
            let token = identity::token::generate().unwrap();
            let known = KnownPrincipal {
                name: name.parse().unwrap(),
                kind: *as_kind,
                uids: vec![7],
                token_sha256: vec![token.sha256],
                spiffe: vec![],
                jwt: vec![],
            };
            let authenticator =
                Authenticator::new(&identity::Settings { principals: vec![known], jwt: vec![] }).unwrap();
            let by = |credentials| {
                authenticator.authenticate(Door::of(*as_kind), &credentials, keyward::clock::Wall(0)).unwrap()
            };
            found.insert((kind, *name, false), by(Credentials::Peer { uid: 7, gid: 7, exe: None }));
            found.insert((kind, *name, true), by(Credentials::Bearer(token.text)));
        }
    }
    found
}

fn load(rules: &[Rule]) -> Arc<Policy> {
    let text: Vec<_> = rules.iter().map(Rule::cedar).collect();
    let all = KINDS.iter().flat_map(|(kind, _)| NAMES.iter().map(|name| (name.parse().unwrap(), *kind)));
    let settings = Settings {
        documents: vec![("random.cedar".to_owned(), text.join("\n"))],
        context_keys: vec!["k".to_owned(), "l".to_owned()],
        principals: all.collect(),
    };
    Policy::load(&settings).unwrap_or_else(|error| panic!("{error}\n{}", text.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn cached_uncached_and_expected_decisions_are_equal(
        rules in prop::collection::vec(rule(), 0..12),
        requests in prop::collection::vec(request(), 1..60),
        again in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let policy = load(&rules);
        let principals = principals();
        let id = RequestId::from_random([0; 16]);
        let mut mono = 1_000_000_000;
        // Every request once, then some of them again: within a second or long after.
        for request in requests.iter().chain(again.iter().map(|index| index.get(&requests))) {
            mono += request.later * 1_000_000;
            let keyring: KeyringName = request.keyring.parse().unwrap();
            let ask = Ask {
                principal: &principals[&(request.kind, request.name, request.token)],
                action: request.action,
                keyring: on_keyring(request.action).then_some(&keyring),
                pairs: &request.pairs,
                purpose: request.purpose,
                grant: request.grant,
                request: &id,
                deadline: Deadline(Mono(mono + 1)),
                now: Wall(20_000 * 24 * HOURS + request.hour * HOURS),
                mono: Mono(mono),
            };
            let cached = policy.decide(&ask).map(drop).map_err(|denial| denial.reason);
            let fresh = policy.decide_afresh(&ask).map(drop).map_err(|denial| denial.reason);
            prop_assert_eq!(cached, fresh, "{:?}", request);
            prop_assert_eq!(fresh, expected(&rules, request), "{:?}", request);
        }
    }
}
