//! How do methods, profiles and versions of a KEK go together over the years? Older wraps open, and what nobody should use
//! is refused by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes profiles")]

use std::sync::Arc;

use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::profile::{ProfileChoice, SHIPPED};
use keyward::kek::{Deployment, Kek, KekError, KekHealth, Method, StartError};

use crate::kek::{binding, clock, data_key, opens, sink, soon};
use crate::softhsm::Softhsm;
use crate::tokens::kryoptic::Kryoptic;
use crate::tokens::shim::Shimmed;

async fn create(settings: &Pkcs11Settings) {
    Pkcs11Kek::create_key(settings.clone(), Deployment::Production, clock(), Disk::real()).await.unwrap();
}

async fn start(settings: Pkcs11Settings) -> Result<Arc<Pkcs11Kek>, StartError> {
    Pkcs11Kek::start(settings, Deployment::Production, clock(), Disk::real(), sink().0).await
}

#[tokio::test]
async fn a_wrap_of_an_older_profile_opens_and_new_ones_are_made_as_the_newer_says() {
    let token = Kryoptic::new();
    let by = |method: &str| Pkcs11Settings { method: Some(method.into()), ..token.settings() };
    create(&by("aes-kw")).await;
    let key = data_key();
    let mut older = Vec::new();
    for method in ["aes-kw", "aes-kwp"] {
        older.push(start(by(method)).await.unwrap().wrap(&key, &binding(), soon()).await.unwrap());
    }
    assert_eq!(older.iter().map(|wrap| wrap.method).collect::<Vec<_>>(), [Method::AesKw, Method::AesKwp]);
    // The newer profile lists AES-GCM alone: what it no longer names opens by the numbers of the standard.
    let (_, shipped) = SHIPPED.iter().find(|(id, _)| *id == "kryoptic").unwrap();
    let mut newer: toml::Table = shipped.parse().unwrap();
    let gcm = newer["wrap"].as_array().unwrap().iter().find(|wrap| wrap["method"].as_str() == Some("aes-gcm")).cloned();
    newer["wrap"] = toml::Value::Array(vec![gcm.unwrap()]);
    let path = token.place.path("newer.toml");
    std::fs::write(&path, newer.to_string()).unwrap();
    let kek = start(Pkcs11Settings { profile: ProfileChoice::File(path), ..token.settings() }).await.unwrap();
    for wrap in &older {
        opens(kek.as_ref(), wrap, &key).await.unwrap();
    }
    assert_eq!(kek.wrap(&key, &binding(), soon()).await.unwrap().method, Method::AesGcmCallerIv);
}

#[tokio::test]
async fn a_version_that_wraps_otherwise_does_not_strand_the_one_before_it() {
    let token = Softhsm::new();
    let key = data_key();
    let mut older = Vec::new();
    let methods = ["rsa-oaep", "unwrap-getattr", "aes-cbc-hmac", "aes-gcm"];
    for (method, key_version) in methods.into_iter().zip(1..) {
        let method = Some(method.to_owned());
        let key_version = Some(key_version);
        let settings = Pkcs11Settings { key_label: "kek-{version}".into(), key_version, method, ..token.settings() };
        create(&settings).await;
        let kek = start(settings).await.unwrap();
        older.push(kek.wrap(&key, &binding(), soon()).await.unwrap());
        for wrap in &older {
            opens(kek.as_ref(), wrap, &key).await.unwrap();
        }
        assert_eq!(kek.health(), KekHealth::Reachable);
    }
}

#[tokio::test]
async fn a_wrap_of_a_newer_version_than_the_configured_one_opens_and_one_of_no_version_is_named() {
    let token = Softhsm::new();
    let version =
        |version| Pkcs11Settings { key_label: "kek-{version}".into(), key_version: Some(version), ..token.settings() };
    create(&version(1)).await;
    create(&version(2)).await;
    let key = data_key();
    let newer = start(version(2)).await.unwrap().wrap(&key, &binding(), soon()).await.unwrap();
    let kek = start(version(1)).await.unwrap();
    opens(kek.as_ref(), &newer, &key).await.unwrap();
    assert_eq!(kek.wrap(&key, &binding(), soon()).await.unwrap().kek_version, 1, "pinned");
    let fixed = start(Pkcs11Settings { key_label: "kek-1".into(), ..version(1) }).await.unwrap();
    let told = fixed.unwrap(&newer, &binding(), soon()).await.err().unwrap();
    assert!(
        matches!(&told, KekError::Unsupported(what) if what.contains("key_label kek-1 has no {version}")),
        "{told}"
    );
}

#[tokio::test]
async fn an_older_version_that_is_gone_from_the_token_is_named_and_the_newer_one_serves_on() {
    let token = Softhsm::new();
    let version =
        |version| Pkcs11Settings { key_label: "kek-{version}".into(), key_version: Some(version), ..token.settings() };
    create(&version(1)).await;
    let key = data_key();
    let older = start(version(1)).await.unwrap().wrap(&key, &binding(), soon()).await.unwrap();
    create(&version(2)).await;
    let kek = start(version(2)).await.unwrap();
    opens(kek.as_ref(), &older, &key).await.unwrap();
    token.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--label", "kek-1"]);
    let kek = start(version(2)).await.unwrap();
    let told = kek.unwrap(&older, &binding(), soon()).await.err().unwrap();
    assert!(
        matches!(&told, KekError::Unsupported(what) if what.contains("version 1") && what.ends_with("label kek-1")),
        "{told}"
    );
    assert_eq!(kek.health(), KekHealth::Reachable);
    let newer = kek.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!(newer.kek_version, 2);
    opens(kek.as_ref(), &newer, &key).await.unwrap();
}

#[tokio::test]
async fn an_rsa_key_without_a_mac_key_is_used_only_if_the_store_key_is_pinned() {
    let token = Softhsm::new();
    let text = SHIPPED.iter().find(|(id, _)| *id == "softhsm2").unwrap().1;
    let mut profile: toml::Table = text.parse().unwrap();
    for wrap in profile["wrap"].as_array_mut().unwrap() {
        let wrap = wrap.as_table_mut().unwrap();
        if wrap["method"].as_str() == Some("rsa-oaep") {
            wrap.retain(|name, _| !name.starts_with("mac_"));
        }
    }
    let path = token.dir().join("no-mac.toml");
    std::fs::write(&path, profile.to_string()).unwrap();
    let settings =
        Pkcs11Settings { profile: ProfileChoice::File(path), method: Some("rsa-oaep".into()), ..token.settings() };
    create(&settings).await;
    let refused = start(settings.clone()).await.err().unwrap().to_string();
    assert!(refused.contains("anybody can make") && refused.contains("store_key_check"), "{refused}");
    let kek = start(Pkcs11Settings { store_key_pinned: true, ..settings }).await.unwrap();
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!(wrap.method, Method::RsaOaepSha1);
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
}

#[tokio::test]
async fn the_spy_module_is_refused_in_production_under_any_name() {
    let token = Softhsm::new();
    let spy =
        std::path::Path::new("/usr/lib").join(format!("{}-linux-gnu/pkcs11/pkcs11-spy.so", std::env::consts::ARCH));
    let copy = token.dir().join("libvendor.so");
    std::fs::copy(&spy, &copy).unwrap();
    for module in [spy, copy] {
        let refused =
            start(Pkcs11Settings { module: Some(module), ..token.settings() }).await.err().unwrap().to_string();
        assert!(refused.contains("writes PINs and keys in clear"), "{refused}");
    }
}

#[tokio::test]
async fn a_code_that_may_mean_anything_is_heard_twice_before_a_wrap_is_blamed() {
    let token = Shimmed::new("", "");
    let settings = token.settings("softhsm2");
    let settings = Pkcs11Settings { env: Vec::new(), ..settings };
    create(&settings).await;
    let kek = start(settings).await.unwrap();
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    // CKR_GENERAL_ERROR is both a bad tag and a dead token to that profile.
    for rule in ["C_Decrypt 0x5 1", "C_DecryptInit 0x5 1"] {
        token.faults(&[rule]);
        opens(kek.as_ref(), &wrap, &key).await.unwrap();
        assert_eq!(kek.health(), KekHealth::Reachable, "{rule}");
    }
}
