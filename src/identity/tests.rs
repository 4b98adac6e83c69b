use super::*;
use crate::clock::Wall;

const NOW: Wall = Wall(0);

fn known(name: &str, kind: PrincipalKind, uids: &[u32], tokens: &[[u8; 32]]) -> KnownPrincipal {
    KnownPrincipal {
        name: name.parse().unwrap(),
        kind,
        uids: uids.to_vec(),
        token_sha256: tokens.to_vec(),
        spiffe: vec![],
        jwt: vec![],
    }
}

fn build(principals: Vec<KnownPrincipal>) -> Result<Authenticator, SettingsError> {
    Authenticator::new(&Settings { principals, jwt: vec![] })
}

fn bearer(text: &[u8]) -> Credentials {
    Credentials::Bearer(SecretBytes::new(text.to_vec()))
}

#[test]
fn a_configured_uid_proves_its_principal_and_no_other_uid_does() {
    let authenticator = build(vec![known("portal", PrincipalKind::Service, &[1000, 1001], &[])]).unwrap();
    let principal =
        authenticator.authenticate(Door::Data, &Credentials::Peer { uid: 1001, gid: 7, exe: None }, NOW).unwrap();
    assert_eq!(principal.name().as_str(), "portal");
    assert_eq!(principal.kind(), PrincipalKind::Service);
    assert_eq!(principal.proof(), &Proof::Peer { uid: 1001 });
    for uid in [0, 999, 1002, u32::MAX] {
        assert_eq!(
            authenticator.authenticate(Door::Data, &Credentials::Peer { uid, gid: 1000, exe: None }, NOW),
            Err(IdentityError::Unknown)
        );
    }
}

#[test]
fn nothing_offered_is_missing_and_not_unknown() {
    assert_eq!(build(vec![]).unwrap().authenticate(Door::Data, &Credentials::None, NOW), Err(IdentityError::Missing));
}

#[test]
fn the_old_and_the_new_token_are_valid_at_once_and_a_changed_one_never() {
    let (old, new) = (token::generate().unwrap(), token::generate().unwrap());
    let authenticator = build(vec![known("lab", PrincipalKind::Service, &[], &[old.sha256, new.sha256])]).unwrap();
    for valid in [&old, &new] {
        let principal = authenticator.authenticate(Door::Data, &bearer(valid.text.expose()), NOW).unwrap();
        assert_eq!((principal.name().as_str(), principal.proof()), ("lab", &Proof::Token));
    }
    for at in 0..old.text.expose().len() {
        let mut changed = old.text.expose().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(authenticator.authenticate(Door::Data, &bearer(&changed), NOW), Err(IdentityError::Unknown));
    }
}

#[test]
fn a_short_or_malformed_token_is_unknown_even_if_its_hash_is_configured() {
    for text in ["a".repeat(42), "a".repeat(257), format!("{}=", "a".repeat(43)), format!("{} ", "a".repeat(43))] {
        let hash = crate::crypto::sha256(&[text.as_bytes()]);
        let authenticator = build(vec![known("lab", PrincipalKind::Service, &[], &[hash])]).unwrap();
        assert_eq!(
            authenticator.authenticate(Door::Data, &bearer(text.as_bytes()), NOW),
            Err(IdentityError::Unknown),
            "{text}"
        );
    }
}

#[test]
fn a_generated_token_has_256_bits_behind_the_prefix_and_differs_each_time() {
    let (one, two) = (token::generate().unwrap(), token::generate().unwrap());
    let text = std::str::from_utf8(one.text.expose()).unwrap();
    assert_eq!(text.strip_prefix(token::PREFIX).unwrap().len(), token::MIN_CHARS);
    assert_ne!(one.text.expose(), two.text.expose());
    assert_eq!(token::hash(one.text.expose()), Some(one.sha256));
}

#[test]
fn a_proof_or_name_claimed_twice_is_refused() {
    let (service, operator) = (PrincipalKind::Service, PrincipalKind::Operator);
    let uid = build(vec![known("a", service, &[5], &[]), known("b", service, &[5], &[])]);
    assert!(matches!(uid, Err(SettingsError::Shared { what: "uid", .. })));
    let hash = build(vec![known("a", service, &[], &[[1; 32]]), known("b", operator, &[], &[[1; 32]])]);
    assert!(matches!(hash, Err(SettingsError::Shared { what: "token", .. })));
    let within = build(vec![known("a", service, &[], &[[1; 32], [1; 32]])]);
    assert!(matches!(within, Err(SettingsError::Shared { what: "token", .. })));
    let name = build(vec![known("a", service, &[1], &[]), known("a", operator, &[2], &[])]);
    assert!(matches!(name, Err(SettingsError::Duplicate(_))));
}

#[test]
fn a_third_token_is_refused() {
    let three = build(vec![known("a", PrincipalKind::Service, &[], &[[1; 32], [2; 32], [3; 32]])]);
    assert!(matches!(three, Err(SettingsError::TooManyTokens(_))));
}

#[test]
fn only_a_local_host_with_the_listeners_port_and_no_origin_is_let_in() {
    let listen = "127.0.0.1:8420".parse().unwrap();
    for host in ["127.0.0.1:8420", "localhost:8420", "LocalHost:8420", "[::1]:8420"] {
        assert!(origin_allowed(Some(host), None, listen), "{host}");
        assert!(!origin_allowed(Some(host), Some("http://localhost:8420"), listen), "{host}");
        assert!(!origin_allowed(Some(host), Some("null"), listen), "{host}");
    }
    let foreign = [
        "",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "localhost:80",
        "localhost:08420",
        "localhost:+8420",
        "evil.example:8420",
        "localhost.evil.example:8420",
        "127.0.0.1.evil.example:8420",
        "127.0.0.2:8420",
        "::1:8420",
        "localhost:8420 ",
        "localhost:8420,evil",
        "user@localhost:8420",
        "localhost.:8420",
    ];
    for host in foreign {
        assert!(!origin_allowed(Some(host), None, listen), "{host}");
    }
    assert!(!origin_allowed(None, None, listen));
}

#[test]
fn every_kind_is_read_back_from_its_code() {
    for kind in PrincipalKind::ALL {
        assert_eq!(kind.code().parse(), Ok(*kind));
    }
    assert_eq!("root".parse::<PrincipalKind>(), Err(UnknownKind));
}

#[test]
fn a_service_is_nobody_at_the_control_door_and_a_person_nobody_at_the_data_door() {
    let (service, operator) = (PrincipalKind::Service, PrincipalKind::Operator);
    let authenticator = build(vec![known("app", service, &[5], &[]), known("ops", operator, &[5, 6], &[])]).unwrap();
    let who = |door, uid| authenticator.authenticate(door, &Credentials::Peer { uid, gid: 0, exe: None }, NOW);
    assert_eq!(who(Door::Data, 5).unwrap().kind(), service);
    assert_eq!(who(Door::Control, 5).unwrap().kind(), operator);
    assert_eq!(who(Door::Data, 6), Err(IdentityError::Unknown));
    let token = token::generate().unwrap();
    let person = build(vec![known("ops", operator, &[], &[token.sha256])]).unwrap();
    assert_eq!(person.authenticate(Door::Data, &bearer(token.text.expose()), NOW), Err(IdentityError::Unknown));
    assert!(person.authenticate(Door::Control, &bearer(token.text.expose()), NOW).is_ok());
}

fn workload(name: &str, kind: PrincipalKind, id: &str, subject: &str) -> KnownPrincipal {
    let jwt = JwtSubject { provider: "cluster".parse().unwrap(), subject: subject.into() };
    KnownPrincipal { spiffe: vec![id.parse().unwrap()], jwt: vec![jwt], ..known(name, kind, &[], &[]) }
}

fn provider(name: &str, issuer: &str) -> jwt::ProviderSettings {
    jwt::ProviderSettings {
        name: name.parse().unwrap(),
        issuer: issuer.to_owned(),
        audience: vec!["keyward".to_owned()],
        algorithms: vec![jwt::Algorithm::Es256],
        keys: jwt::KeySource::File("/nowhere".into()),
        refresh: std::time::Duration::from_secs(1),
        stale_for: std::time::Duration::from_secs(1),
        skew: std::time::Duration::ZERO,
    }
}

#[test]
fn a_person_and_a_service_share_neither_a_spiffe_id_nor_a_subject() {
    let (service, person) = (PrincipalKind::Service, PrincipalKind::Custodian);
    let with = |principals| Authenticator::new(&Settings { principals, jwt: vec![provider("cluster", "i")] });
    let a = || workload("a", service, "spiffe://x/a", "one");
    let same_id = with(vec![a(), workload("b", person, "spiffe://x/a", "two")]);
    assert!(matches!(same_id, Err(SettingsError::Shared { what: "SPIFFE id", .. })));
    let same_subject = with(vec![a(), workload("b", person, "spiffe://x/b", "one")]);
    assert!(matches!(same_subject, Err(SettingsError::Shared { what: "subject", .. })));
    assert!(with(vec![a(), workload("b", person, "spiffe://x/b", "two")]).is_ok());
}

#[test]
fn a_subject_needs_its_provider_and_an_issuer_belongs_to_one() {
    let principals = vec![workload("a", PrincipalKind::Service, "spiffe://x/a", "one")];
    let lonely = Authenticator::new(&Settings { principals, jwt: vec![] });
    assert!(matches!(lonely, Err(SettingsError::NoProvider(..))));
    let twice = Settings { principals: vec![], jwt: vec![provider("a", "i"), provider("b", "i")] };
    assert!(matches!(Authenticator::new(&twice), Err(SettingsError::SharedIssuer(..))));
}

#[test]
fn every_proof_has_its_name_in_the_closed_list() {
    let who = JwtSubject { provider: "cluster".parse().unwrap(), subject: "a".into() };
    let proofs = [
        Proof::Peer { uid: 1 },
        Proof::Token,
        Proof::Mtls { spiffe: "spiffe://x/a".parse().unwrap() },
        Proof::Jwt { who },
    ];
    assert_eq!(proofs.map(|proof| proof.code()), Proof::CODES);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_of_certificates_tokens_and_key_sets_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2_000),
        text in r#"[A-Za-z0-9._{}":,\[\]-]{0,200}"#,
    ) {
        let authenticator = Authenticator::new(&Settings { principals: vec![], jwt: vec![provider("cluster", "i")] }).unwrap();
        for bytes in [&bytes[..], text.as_bytes(), format!("e30.{text}.AA").as_bytes()] {
            proptest::prop_assert!(authenticator.authenticate(Door::Data, &bearer(bytes), NOW).is_err());
            let _set = jwt::KeySet::parse(bytes);
            proptest::prop_assert!(Svid::read(bytes, &"example.org".parse().unwrap()).is_err());
        }
        let _id = text.parse::<SpiffeId>();
    }
}
