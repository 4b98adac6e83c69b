use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const NOW: Wall = Wall(1_700_000_000_000_000);
const SECONDS: u64 = 1_700_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a P-256 key `ec` and an Ed25519 key `ed`.
struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

#[expect(clippy::disallowed_methods, reason = "a test plays the issuer, who has a library of its own")]
fn randomness() -> SystemRandom {
    SystemRandom::new()
}

impl Issuer {
    fn new() -> Self {
        let random = randomness();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let (_, point) = self.ec.public_key().as_ref().split_first().unwrap();
        let (x, y) = point.split_at(32);
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256", "x": b64(x), "y": b64(y), "x5c": ["x"] },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(self.ed.public_key().as_ref()) },
            { "kty": "oct", "kid": "secret", "alg": "HS256", "k": b64("secret") },
            { "kty": "new", "kid": "unheard" },
        ]})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = if header.contains("EdDSA") {
            b64(self.ed.sign(signed.as_bytes()))
        } else {
            b64(self.ec.sign(&randomness(), signed.as_bytes()).unwrap())
        };
        format!("{signed}.{signature}")
    }

    fn providers(&self) -> Providers {
        let settings = ProviderSettings {
            name: "cluster".parse().unwrap(),
            issuer: "https://issuer".to_owned(),
            audience: vec!["keyward".to_owned(), "keyward-2".to_owned()],
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa],
            keys: KeySource::File("/nowhere".into()),
            refresh: Duration::from_secs(300),
            stale_for: Duration::from_secs(60),
            skew: Duration::from_secs(30),
        };
        let providers = Providers::new(&[settings]);
        let set = KeySet::parse(self.jwks().to_string().as_bytes());
        providers.all[0].take_for_tests(set.map_err(|error| error.to_string()));
        providers
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "ec", "typ": "JWT" })
}

fn claims() -> Value {
    json!({ "iss": "https://issuer", "sub": "system:serviceaccount:ns:sa", "aud": ["keyward", "b"], "exp": SECONDS + 60,
        "nbf": SECONDS - 5, "iat": SECONDS - 5, "kubernetes.io": { "namespace": "ns" } })
}

fn with(mut of: Value, name: &str, value: Value) -> Value {
    of[name] = value;
    of
}

fn without(mut of: Value, name: &str) -> Value {
    of.as_object_mut().unwrap().remove(name);
    of
}

#[test]
fn a_token_of_the_issuer_for_us_proves_its_subject_by_any_allowed_algorithm() {
    let issuer = Issuer::new();
    let providers = issuer.providers();
    let eddsa = with(with(header(), "alg", json!("EdDSA")), "kid", json!("ed"));
    for (header, claims) in [
        (header(), claims()),
        (eddsa, with(claims(), "aud", json!("keyward-2"))),
        (with(header(), "typ", json!("application/at+jwt")), with(claims(), "exp", json!(SECONDS as f64 + 0.5))),
    ] {
        let token = issuer.sign(&header, &claims);
        for _ in 0..2 {
            let who = providers.verify(token.as_bytes(), NOW).unwrap();
            assert_eq!((who.provider.as_str(), &*who.subject), ("cluster", "system:serviceaccount:ns:sa"));
        }
    }
}

#[test]
fn every_bad_token_is_refused_for_its_reason() {
    use JwtError::{
        Algorithm, Audience, Expired, Extension, KeyMismatch, KeyUnnamed, Malformed, NotYet, OtherType, Subject,
        UnknownKey,
    };
    let issuer = Issuer::new();
    let providers = issuer.providers();
    let headers = [
        (with(header(), "alg", json!("none")), Algorithm),
        (with(header(), "alg", json!("HS256")), Algorithm),
        (with(header(), "alg", json!("RS256")), Algorithm),
        (with(header(), "alg", json!("es256")), Algorithm),
        (with(header(), "kid", json!("secret")), UnknownKey),
        (with(header(), "kid", json!("other")), UnknownKey),
        (with(header(), "kid", json!("ed")), KeyMismatch),
        (without(header(), "kid"), KeyUnnamed),
        (with(header(), "crit", json!(["exp"])), Extension),
        (with(header(), "crit", json!(null)), Extension),
        (with(header(), "b64", json!(false)), Extension),
        (with(header(), "typ", json!("logout+jwt")), OtherType),
        (without(header(), "alg"), Malformed),
        (json!([]), Malformed),
    ];
    let contents = [
        (with(claims(), "iss", json!("https://issuer/")), JwtError::Issuer),
        (with(claims(), "aud", json!("other")), Audience),
        (with(claims(), "aud", json!([])), Audience),
        (with(claims(), "exp", json!(SECONDS - 30)), Expired),
        (without(claims(), "exp"), Expired),
        (with(claims(), "exp", json!(-1)), Expired),
        (with(claims(), "exp", json!(SECONDS.to_string())), Malformed),
        (with(claims(), "nbf", json!(SECONDS + 31)), NotYet),
        (with(claims(), "iat", json!(SECONDS + 31)), NotYet),
        (with(claims(), "sub", json!("")), Subject),
        (with(claims(), "sub", json!("a\nb")), Subject),
        (with(claims(), "sub", json!("a".repeat(513))), Subject),
        (without(claims(), "sub"), Malformed),
        (without(claims(), "aud"), Malformed),
    ];
    let headers = headers.into_iter().map(|(header, why)| (header, claims(), why));
    let contents = contents.into_iter().map(|(claims, why)| (header(), claims, why));
    for (header, claims, why) in headers.chain(contents) {
        let token = issuer.sign(&header, &claims);
        assert_eq!(providers.verify(token.as_bytes(), NOW), Err(why), "{header} {claims}");
    }
    let twice = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    assert_eq!(providers.verify(issuer.sign_text(&header().to_string(), &twice).as_bytes(), NOW), Err(Malformed));
}

#[test]
fn a_token_that_was_changed_anywhere_is_refused() {
    let issuer = Issuer::new();
    let providers = issuer.providers();
    let token = issuer.sign(&header(), &claims());
    assert!(providers.verify(token.as_bytes(), NOW).is_ok());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(providers.verify(&changed, NOW).is_err(), "at {at}");
    }
    let unsigned = &token[..=token.rfind('.').unwrap()];
    for bad in [unsigned, &format!("{token}."), &format!("{token}="), &token[1..], "..", ""] {
        assert!(providers.verify(bad.as_bytes(), NOW).is_err(), "{bad}");
    }
    let foreign = Issuer::new().sign(&header(), &claims());
    assert_eq!(providers.verify(foreign.as_bytes(), NOW), Err(JwtError::Signature));
    let long = "a".repeat(token::MOST_BYTES + 1);
    assert_eq!(providers.verify(long.as_bytes(), NOW), Err(JwtError::TooLarge));
}

#[test]
fn a_verified_token_still_ends_with_its_time_and_with_its_key() {
    let issuer = Issuer::new();
    let providers = issuer.providers();
    let token = issuer.sign(&header(), &claims());
    let at = |seconds: u64| Wall((SECONDS + seconds) * 1_000_000);
    for (seconds, found) in [(0, None), (89, None), (90, Some(JwtError::Expired)), (1, None)] {
        assert_eq!(providers.verify(token.as_bytes(), at(seconds)).err(), found, "{seconds}");
    }
    let other = KeySet::parse(Issuer::new().jwks().to_string().as_bytes()).unwrap();
    providers.all[0].take_for_tests(Ok(other));
    assert_eq!(providers.verify(token.as_bytes(), NOW), Err(JwtError::Signature));
}

#[test]
fn keys_serve_on_while_their_source_is_away_and_no_longer_than_said() {
    let issuer = Issuer::new();
    let providers = issuer.providers();
    let token = issuer.sign(&header(), &claims());
    let away = |mono| providers.all[0].take_at_for_tests(Err("away".to_owned()), crate::clock::Mono(mono));
    away(60_000_000_000);
    assert!(providers.verify(token.as_bytes(), NOW).is_ok());
    assert_eq!(providers.status()[0].problem.as_deref(), Some("away"));
    away(60_000_000_001);
    assert_eq!(providers.verify(token.as_bytes(), NOW), Err(JwtError::NoKeys));
}

#[test]
fn a_key_set_is_refused_for_its_reason() {
    let issuer = Issuer::new();
    let key = |at: usize| issuer.jwks()["keys"][at].clone();
    let set = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    assert_eq!(set(json!([key(0), key(1), key(2), key(3)])).unwrap().ids(), ["ec", "ed"]);
    assert_eq!(set(json!([key(2), key(3)])), Err(KeySetError::Empty));
    assert_eq!(set(json!([with(key(0), "use", json!("enc"))])), Err(KeySetError::Empty));
    assert_eq!(set(json!([key(0), with(key(1), "kid", json!("ec"))])), Err(KeySetError::SharedId("ec".to_owned())));
    for wrong in [with(key(0), "x", json!(b64([1; 31]))), with(key(0), "y", json!("!")), without(key(0), "y")] {
        assert_eq!(set(json!([wrong])), Err(KeySetError::Key("ec".to_owned())));
    }
    let short = json!({ "kty": "RSA", "kid": "r", "n": b64([255; 128]), "e": "AQAB" });
    assert_eq!(set(json!([short])), Err(KeySetError::Key("r".to_owned())));
    assert_eq!(set(json!(vec![key(0); 65])), Err(KeySetError::TooMany));
    assert!(matches!(KeySet::parse(b"[]"), Err(KeySetError::Malformed(_))));
    assert_eq!(KeySet::parse(&vec![b' '; keys::MOST_BYTES + 1]), Err(KeySetError::TooLarge));
}
