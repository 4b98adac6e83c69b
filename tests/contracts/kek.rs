//! The contract of every key-encryption key, kept by the one in a file, by one in a real PKCS#11 token and by one in the
//! transit engine of a real OpenBao server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]

use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, Deadline, SharedClock, SystemClock, Wall};
use keyward::crypto::DataKey;
use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::{
    Deployment, EventSink, Kek, KekError, KekEvent, KekHealth, Settings, SoftwareKek, SoftwareSettings, StartError,
    Wrap, WrapBinding, WrapRole,
};
use tokio::sync::mpsc;

use crate::openbao::OpenBao;
use crate::softhsm::Softhsm;

/// A KEK and what keeps it alive.
struct Subject {
    kek: Arc<dyn Kek>,
    _place: Box<dyn std::any::Any>,
}

/// The software KEK, a token for every method that SoftHSM has, and a key in an OpenBao server, each with a KEK of its own.
async fn subjects() -> Vec<Subject> {
    let dir = tempfile::tempdir().unwrap();
    let mut subjects = vec![Subject { kek: software(dir.path()).await, _place: Box::new(dir) }];
    for method in ["aes-gcm", "rsa-oaep", "aes-cbc-hmac", "unwrap-getattr"] {
        let token = Softhsm::new();
        let settings = Pkcs11Settings { method: Some(method.into()), ..token.settings() };
        let made = Pkcs11Kek::create_key(settings.clone(), Deployment::Development, clock(), Disk::real()).await;
        assert_eq!(made.unwrap().objection, None, "{method}");
        let kek = Pkcs11Kek::start(settings, Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap();
        subjects.push(Subject { kek, _place: Box::new(token) });
    }
    let place = OpenBao::shared().place();
    let kek = crate::transit::start(place.settings()).await.unwrap();
    subjects.push(Subject { kek, _place: Box::new(place) });
    subjects
}

async fn software(dir: &std::path::Path) -> Arc<dyn Kek> {
    let settings = software_settings(dir);
    SoftwareKek::create_file(&Disk::real(), &settings.file).unwrap();
    let start =
        keyward::kek::start(Settings::Software(settings), Deployment::Development, clock(), Disk::real(), sink().0);
    start.await.unwrap()
}

fn software_settings(dir: &std::path::Path) -> SoftwareSettings {
    let file = dir.join("kek");
    SoftwareSettings { name: "primary".parse().unwrap(), file, insecure_software_kek_for_development: true }
}

pub(crate) async fn token_with_key() -> Softhsm {
    let token = Softhsm::new();
    Pkcs11Kek::create_key(token.settings(), Deployment::Development, clock(), Disk::real()).await.unwrap();
    token
}

pub(crate) async fn start(token: &Softhsm) -> Arc<Pkcs11Kek> {
    Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap()
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

pub(crate) fn within(time: Duration) -> Deadline {
    Deadline(SystemClock.mono().plus(time))
}

/// Long enough for a loaded machine: tests that pass never wait for it.
pub(crate) fn soon() -> Deadline {
    within(Duration::from_secs(60))
}

pub(crate) fn sink() -> (EventSink, mpsc::Receiver<KekEvent>) {
    let (sender, receiver) = mpsc::channel(64);
    (EventSink::new(sender), receiver)
}

pub(crate) fn binding() -> WrapBinding {
    WrapBinding {
        store: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        owner: "default/patients".into(),
        key: "0011223344556677".parse().unwrap(),
        kek: "primary".parse().unwrap(),
        role: WrapRole::Primary,
        created: Wall(1_700_000_000_000_000),
    }
}

pub(crate) fn data_key() -> DataKey {
    DataKey::generate(&[]).unwrap()
}

pub(crate) async fn opens(kek: &dyn Kek, wrap: &Wrap, key: &DataKey) -> Result<(), KekError> {
    let opened = kek.unwrap(wrap, &binding(), soon()).await?;
    assert_eq!(opened.expose_for_wrapping(), key.expose_for_wrapping());
    Ok(())
}

#[tokio::test]
async fn a_wrap_opens_to_the_key_that_was_wrapped_and_survives_its_stored_form() {
    for Subject { kek, .. } in &subjects().await {
        let key = data_key();
        let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
        assert_eq!(wrap.check_value, key.check_value());
        let stored = Wrap::decode(&wrap.encode()).unwrap();
        assert_eq!(stored, wrap);
        opens(kek.as_ref(), &stored, &key).await.unwrap();
        assert_eq!(kek.health(), KekHealth::Reachable);
    }
}

#[tokio::test]
async fn two_wraps_of_one_key_share_no_bytes_that_would_show_it() {
    for Subject { kek, .. } in &subjects().await {
        let key = data_key();
        let one = kek.wrap(&key, &binding(), soon()).await.unwrap();
        let two = kek.wrap(&key, &binding(), soon()).await.unwrap();
        // The text of a transit engine begins with the version of its key.
        let from = if kek.facts().kind == "transit" { "vault:v1:".len() } else { 0 };
        assert_ne!(one.blob[from..from + 12], two.blob[from..from + 12], "the nonce is fresh");
        assert_ne!(one.blob[from + 24..], two.blob[from + 24..]);
        assert!(!one.blob.windows(32).any(|window| window == key.expose_for_wrapping()));
    }
}

#[tokio::test]
async fn a_wrap_opens_under_no_other_binding_whichever_field_differs() {
    type Change = fn(&mut WrapBinding);
    let changes: [(&str, Change); 6] = [
        ("store", |binding| binding.store.0[0] ^= 1),
        ("owner", |binding| binding.owner.push('x')),
        ("key", |binding| binding.key.0[7] ^= 1),
        ("kek", |binding| binding.kek = "escrow".parse().unwrap()),
        ("role", |binding| binding.role = WrapRole::Escrow),
        ("created", |binding| binding.created.0 += 1),
    ];
    for Subject { kek, .. } in &subjects().await {
        let key = data_key();
        let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
        for (field, change) in changes {
            let mut other = binding();
            change(&mut other);
            let refused = kek.unwrap(&wrap, &other, soon()).await.err();
            assert_eq!(refused, Some(KekError::BadWrap), "{field} of {}", kek.facts().kind);
        }
        opens(kek.as_ref(), &wrap, &key).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrap_with_any_bit_flipped_or_any_byte_missing_is_refused_and_the_kek_stays_reachable() {
    for Subject { kek, .. } in &subjects().await {
        let key = data_key();
        let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
        // Of a long blob one bit a byte, in turn: each refusal costs the token two calls.
        let step = if wrap.blob.len() > 100 { 9 } else { 1 };
        for bit in (0..wrap.blob.len() * 8).step_by(step) {
            let mut bent = wrap.clone();
            bent.blob[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kek.unwrap(&bent, &binding(), soon()).await.err(), Some(KekError::BadWrap), "bit {bit}");
            assert_eq!(kek.health(), KekHealth::Reachable, "bit {bit}");
        }
        for len in 0..wrap.blob.len() {
            let short = Wrap { blob: wrap.blob[..len].to_vec(), ..wrap.clone() };
            assert_eq!(kek.unwrap(&short, &binding(), soon()).await.err(), Some(KekError::BadWrap), "{len} bytes");
        }
        opens(kek.as_ref(), &wrap, &key).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrap_whose_check_value_or_kek_version_differs_is_refused() {
    for Subject { kek, .. } in &subjects().await {
        let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
        let mut check = wrap.clone();
        check.check_value[15] ^= 1;
        assert_eq!(kek.unwrap(&check, &binding(), soon()).await.err(), Some(KekError::BadWrap));
        let version = Wrap { kek_version: 2, ..wrap.clone() };
        let told = kek.unwrap(&version, &binding(), soon()).await.err();
        assert!(matches!(told, Some(KekError::BadWrap | KekError::Unsupported(_))), "{told:?}");
        let method =
            if wrap.blob.len() == 60 { keyward::kek::Method::Software } else { keyward::kek::Method::AesGcmCallerIv };
        let method = Wrap { method, ..wrap };
        assert_eq!(kek.unwrap(&method, &binding(), soon()).await.err(), Some(KekError::BadWrap));
    }
}

#[tokio::test]
async fn a_wrap_of_a_foreign_kek_of_the_same_name_is_refused() {
    let (ours, theirs) = (subjects().await, subjects().await);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let wrap = theirs.kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
        assert_eq!(ours.kek.unwrap(&wrap, &binding(), soon()).await.err(), Some(KekError::BadWrap));
        assert_eq!(ours.kek.health(), KekHealth::Reachable);
    }
}

#[tokio::test]
async fn a_binding_of_another_kek_is_not_wrapped() {
    let other = WrapBinding { kek: "escrow".parse().unwrap(), ..binding() };
    for Subject { kek, .. } in &subjects().await {
        let refused = kek.wrap(&data_key(), &other, soon()).await.err();
        assert!(matches!(refused, Some(KekError::Denied { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn thirty_two_unwraps_at_once_all_get_their_own_key() {
    for Subject { kek, .. } in &subjects().await {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let key = data_key();
            let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
            let kek = kek.clone();
            tasks.spawn(async move { opens(kek.as_ref(), &wrap, &key).await });
        }
        assert!(tasks.join_all().await.into_iter().all(|result| result.is_ok()));
    }
}

#[tokio::test]
async fn a_token_and_a_server_give_randomness_and_a_file_none() {
    let subjects = subjects().await;
    let [software, hardware, .., server] = subjects.as_slice() else { panic!("three at least") };
    assert!(software.kek.random(soon()).await.unwrap().is_empty());
    for Subject { kek, .. } in [hardware, server] {
        let (one, two) = (kek.random(soon()).await.unwrap(), kek.random(soon()).await.unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}

#[tokio::test]
async fn a_software_kek_is_refused_in_production_and_without_its_dangerous_setting() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = software_settings(dir.path());
    SoftwareKek::create_file(&Disk::real(), &allowed.file).unwrap();
    let unnamed = SoftwareSettings { insecure_software_kek_for_development: false, ..allowed.clone() };
    let cases = [
        (allowed, Deployment::Production, "the environment is production"),
        (unnamed, Deployment::Development, "insecure_software_kek_for_development is not set"),
    ];
    for (settings, deployment, reason) in cases {
        let start = keyward::kek::start(Settings::Software(settings), deployment, clock(), Disk::real(), sink().0);
        let error = start.await.err().unwrap().to_string();
        assert_eq!(error, format!("the software key-encryption key primary is for development only, and {reason}"));
    }
}

#[tokio::test]
async fn a_software_kek_says_that_only_development_may_use_it() {
    let dir = tempfile::tempdir().unwrap();
    assert!(software(dir.path()).await.facts().development_only);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test spoils the key file")]
async fn a_software_kek_file_that_is_damaged_or_open_to_others_is_refused_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let settings = software_settings(dir.path());
    SoftwareKek::create_file(&Disk::real(), &settings.file).unwrap();
    assert!(matches!(SoftwareKek::create_file(&Disk::real(), &settings.file), Err(StartError::KeyFile(_))));
    let good = std::fs::read(&settings.file).unwrap();
    let refusal = async || {
        let settings = Settings::Software(settings.clone());
        let start = keyward::kek::start(settings, Deployment::Development, clock(), Disk::real(), sink().0);
        start.await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refusal().await, "", "the file as it was made");
    for bad in [&good[..39], &[good.as_slice(), &[0]].concat(), &[b"KWSOFTK\x02", &good[8..]].concat()] {
        std::fs::write(&settings.file, bad).unwrap();
        assert!(refusal().await.contains("cannot be used"), "{} bytes", bad.len());
    }
    std::fs::write(&settings.file, good).unwrap();
    std::fs::set_permissions(&settings.file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal().await.contains("has mode 0640"));
}
