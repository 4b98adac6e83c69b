//! What does a decision cost: answered from the cache, and evaluated by Cedar over a set of twenty policies?
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up must stop")]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use keyward::clock::{Deadline, Mono, Wall};
use keyward::identity::{self, Authenticator, Credentials, Door, KnownPrincipal, Principal, PrincipalKind};
use keyward::names::{KeyringName, Purpose, RequestId};
use keyward::policy::{Action, Ask, Policy, Settings};

/// Four services with five policies each. `general` ones apply to everybody, so that slicing leaves all twenty.
fn policy(general: bool) -> Arc<Policy> {
    let mut text = String::new();
    for n in 0..20 {
        let service = n % 4;
        let who =
            if general { "principal is Service".to_owned() } else { format!("principal == Service::\"s{service}\"") };
        let action = if general || n % 5 < 3 { "open" } else { "seal" };
        writeln!(
            text,
            "permit ({who}, action == Action::\"{action}\", resource == Keyring::\"default/k{n}\")
               when {{ context has purpose && [\"TREAT\", \"PATRQT\"].contains(context.purpose) }}
               unless {{ context.fields has patient && context.fields.patient == \"vip-{n}\" }};"
        )
        .unwrap();
    }
    let principals = (0..4).map(|n| (format!("s{n}").parse().unwrap(), PrincipalKind::Service)).collect();
    let settings = Settings {
        documents: vec![("bench.cedar".to_owned(), text)],
        context_keys: vec!["patient".to_owned()],
        principals,
    };
    Policy::load(&settings).unwrap()
}

fn caller() -> Principal {
    let known = KnownPrincipal {
        name: "s0".parse().unwrap(),
        kind: PrincipalKind::Service,
        uids: vec![1000],
        token_sha256: vec![],
        spiffe: vec![],
        jwt: vec![],
    };
    let authenticator = Authenticator::new(&identity::Settings { principals: vec![known], jwt: vec![] }).unwrap();
    authenticator
        .authenticate(Door::Data, &Credentials::Peer { uid: 1000, gid: 1000, exe: None }, keyward::clock::Wall(0))
        .unwrap()
}

fn decide(criterion: &mut Criterion) {
    let caller = caller();
    let keyring: KeyringName = "default/k0".parse().unwrap();
    let request = RequestId::from_random([1; 16]);
    let ask = Ask {
        principal: &caller,
        action: Action::Open,
        keyring: Some(&keyring),
        pairs: &[("patient", "4f1c2a90")],
        purpose: Some(Purpose::Treatment),
        grant: None,
        request: &request,
        deadline: Deadline(Mono(2_000_000_000)),
        now: Wall(1_780_315_200_000_000),
        mono: Mono(1_000_000_000),
    };
    let mut group = criterion.benchmark_group("decide, 20 policies");
    let (sliced, whole) = (policy(false), policy(true));
    group.bench_function("cached", |bench| bench.iter(|| black_box(whole.decide(black_box(&ask)).unwrap())));
    group.bench_function("not cached", |bench| bench.iter(|| black_box(whole.decide_afresh(black_box(&ask)).unwrap())));
    group.bench_function("not cached, sliced to those of the caller", |bench| {
        bench.iter(|| black_box(sliced.decide_afresh(black_box(&ask)).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
