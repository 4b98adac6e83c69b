//! A KEK in the transit engine of a real OpenBao server: admission, logins, TLS; what is wrong stops the start.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use keyward::kek::transit::{Auth, TransitKek, TransitSettings};
use keyward::kek::{Deployment, Kek, KekError, KekEvent, KekHealth, StartError, Wrap};
use serde_json::json;

use crate::kek::{binding, clock, data_key, opens, sink, soon};
use crate::openbao::{FULL, OpenBao};
use crate::tokenreview;

pub(crate) async fn start(settings: TransitSettings) -> Result<Arc<TransitKek>, StartError> {
    TransitKek::start(settings, Deployment::Development, clock(), sink().0).await
}

async fn refusal(settings: TransitSettings) -> String {
    start(settings).await.err().map(|error| error.to_string()).unwrap_or_default()
}

async fn works(kek: &TransitKek) {
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    opens(kek, &wrap, &key).await.unwrap();
}

#[tokio::test]
async fn the_admission_records_where_the_key_lies_and_what_the_server_says_of_it() {
    let place = OpenBao::shared().place();
    let (events, mut heard) = sink();
    let _kek = TransitKek::start(place.settings(), Deployment::Development, clock(), events).await.unwrap();
    let Ok(KekEvent::Admitted { version: 1, facts, attributes, .. }) = heard.try_recv() else { panic!("no record") };
    assert_eq!(facts.kind, "transit");
    assert_eq!(facts.manufacturer, place.bao.address().replace("http://", ""));
    assert_eq!(facts.model, "aes256-gcm96 version 1");
    assert_eq!(facts.serial, format!("{}/kek", place.name));
    assert!(facts.version.starts_with("2."), "{}", facts.version);
    for fact in ["exportable=false", "derived=false", "deletion_allowed=false", "auth=token", "token_renewable=true"] {
        assert!(attributes.contains(&fact.to_owned()), "{fact} is not among {attributes:?}");
    }
    assert!(heard.try_recv().is_err(), "one event");
}

#[tokio::test]
async fn a_key_that_is_not_fit_stops_the_start() {
    let place = OpenBao::shared().place();
    for (key, properties, reason) in [
        ("other-type", json!({"type": "chacha20-poly1305"}), "its type is not aes256-gcm96"),
        ("shorter", json!({"type": "aes128-gcm96"}), "its type is not aes256-gcm96"),
        ("signs", json!({"type": "ed25519"}), "its type is not aes256-gcm96"),
        ("leaves", json!({"exportable": true}), "it is exportable"),
        ("copied", json!({"allow_plaintext_backup": true}), "it allows a plaintext backup"),
        ("derived", json!({"derived": true}), "it is derived"),
    ] {
        place.bao.admin("POST", &format!("{}/keys/{key}", place.name), &properties);
        place.bao.admin("PUT", &format!("sys/policies/acl/{}", place.name), &json!({"policy": all_of(&place.name)}));
        let told = refusal(TransitSettings { key: key.into(), ..place.settings() }).await;
        assert!(told.contains("is not fit for use") && told.contains(reason), "{key}: {told}");
    }
    let told = refusal(TransitSettings { key: "missing".into(), ..place.settings() }).await;
    assert!(told.contains("there is no key missing"), "{told}");
}

fn all_of(mount: &str) -> String {
    format!("path \"{mount}/*\" {{ capabilities = [\"read\", \"update\"] }}")
}

#[tokio::test]
async fn policies_that_do_not_suffice_stop_the_start_and_randomness_alone_may_be_missing() {
    let place = OpenBao::shared().place();
    for missing in &FULL[..3] {
        place.allow(&FULL.iter().filter(|right| *right != missing).copied().collect::<Vec<_>>());
        let told = refusal(place.settings()).await;
        assert!(told.contains("refused") && told.contains("permission denied"), "without {missing:?}: {told}");
    }
    place.allow(FULL);
    let kek = start(place.settings()).await.unwrap();
    let (one, two) = (kek.random(soon()).await.unwrap(), kek.random(soon()).await.unwrap());
    assert_eq!(one.len(), 32);
    assert_ne!(one, two);
    place.allow(&FULL[..3]);
    assert_eq!(kek.random(soon()).await.unwrap(), [0; 0]);
    assert_eq!(kek.health(), KekHealth::Reachable);
    works(&kek).await;
}

#[tokio::test]
async fn an_approle_logs_in_with_its_secret_id_and_a_wrong_one_stops_the_start() {
    let place = OpenBao::shared().place();
    let auth = place.approle(&json!({}));
    works(&start(place.settings_with(auth.clone())).await.unwrap()).await;
    place.write("secret-id", "00000000-0000-0000-0000-000000000000", 0o600);
    let told = refusal(place.settings_with(auth)).await;
    assert!(told.contains("the approle login is refused: status 400: invalid"), "{told}");
}

#[tokio::test]
async fn a_secret_that_others_may_read_stops_the_start() {
    let place = OpenBao::shared().place();
    place.write("token", &place.token(), 0o640);
    let told = refusal(place.settings()).await;
    assert!(told.contains("has mode 0640"), "{told}");
    let told = refusal(place.settings_with(Auth::Token { file: place.file("none") })).await;
    assert!(told.contains("cannot be opened"), "{told}");
    place.write("token", "two words", 0o600);
    let told = refusal(place.settings()).await;
    assert!(told.contains("holds more than one word"), "{told}");
}

#[tokio::test]
async fn a_server_is_believed_only_under_the_authority_that_was_named() {
    let place = OpenBao::shared().place();
    let tls = |ca_file| TransitSettings {
        address: place.bao.tls_address().parse().unwrap(),
        ca_file: Some(ca_file),
        ..place.settings()
    };
    let (events, _heard) = sink();
    let kek = TransitKek::start(tls(place.bao.ca_file()), Deployment::Production, clock(), events).await.unwrap();
    works(&kek).await;

    let elsewhere = tempfile::tempdir().unwrap();
    crate::openbao::make_certificates(elsewhere.path());
    let foreign = tls(elsewhere.path().join("ca.pem"));
    // The certificate is one for 127.0.0.1.
    let address = place.bao.tls_address().replace("127.0.0.1", "localhost").parse().unwrap();
    let misnamed = TransitSettings { address, ..tls(place.bao.ca_file()) };
    for settings in [foreign, misnamed] {
        let (events, mut heard) = sink();
        let kek = TransitKek::start(settings, Deployment::Production, clock(), events).await.unwrap();
        let Ok(KekEvent::Unreachable { detail, .. }) = heard.try_recv() else { panic!("it was believed") };
        assert!(detail.contains("certificate"), "{detail}");
        assert_eq!(kek.health(), KekHealth::Unreachable);
    }
}

#[tokio::test]
async fn production_and_tls_settings_that_weaken_the_connection_stop_the_start() {
    let place = OpenBao::shared().place();
    let (events, _heard) = sink();
    let told = TransitKek::start(place.settings(), Deployment::Production, clock(), events).await.err().unwrap();
    assert!(told.to_string().contains("address must be https in production"), "{told}");
    let tls = TransitSettings { address: place.bao.tls_address().parse().unwrap(), ..place.settings() };
    assert!(refusal(tls.clone()).await.contains("ca_file is needed with https"));
    place.write("empty.pem", "nothing", 0o644);
    let empty = TransitSettings { ca_file: Some(place.file("empty.pem")), ..tls };
    assert!(refusal(empty).await.contains("holds no certificate"));
}

#[tokio::test]
async fn a_namespace_and_a_mount_with_slashes_reach_their_key() {
    let bao = OpenBao::shared();
    let place = bao.place();
    bao.admin("POST", "sys/namespaces/team", &json!({}));
    bao.admin("POST", "team/sys/mounts/kms/transit", &json!({"type": "transit"}));
    bao.admin("POST", "team/kms/transit/keys/kek", &json!({}));
    let policy = all_of("kms/transit");
    bao.admin("PUT", "team/sys/policies/acl/kek", &json!({"policy": policy}));
    let made = bao.admin("POST", "team/auth/token/create", &json!({"policies": ["kek"]}));
    place.write("token", made["auth"]["client_token"].as_str().unwrap(), 0o600);
    let there = TransitSettings { namespace: Some("team".into()), mount: "kms/transit".into(), ..place.settings() };
    let kek = start(there.clone()).await.unwrap();
    works(&kek).await;
    assert_eq!(kek.facts().serial, "team/kms/transit/kek");
    let told = refusal(TransitSettings { namespace: None, ..there }).await;
    assert!(told.contains("denied"), "{told}");
}

#[tokio::test]
async fn a_raised_key_version_stands_in_new_wraps_and_old_ones_open_across_a_restart() {
    let place = OpenBao::shared().place();
    let kek = start(place.settings()).await.unwrap();
    let key = data_key();
    let old = kek.wrap(&key, &binding(), soon()).await.unwrap();
    place.key("POST", "/rotate", &json!({}));
    let new = kek.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!((old.kek_version, new.kek_version), (1, 2));
    assert!(new.blob.starts_with(b"vault:v2:"));
    let again = start(place.settings()).await.unwrap();
    for kek in [&kek, &again] {
        opens(kek.as_ref(), &old, &key).await.unwrap();
        opens(kek.as_ref(), &new, &key).await.unwrap();
    }
}

#[tokio::test]
async fn a_version_that_differs_between_wrap_and_ciphertext_is_refused() {
    let place = OpenBao::shared().place();
    let kek = start(place.settings()).await.unwrap();
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    place.key("POST", "/rotate", &json!({}));
    let text = String::from_utf8(wrap.blob.clone()).unwrap();
    let cases = [
        (2, text.clone()),
        (2, text.replace("vault:v1:", "vault:v2:")),
        (9, text.replace("vault:v1:", "vault:v9:")),
        (1, text.replace("vault:v1:", "vault:v01:")),
        (1, text.replace("vault:v1:", "vault:v0:")),
        (0, text.replace("vault:v1:", "vault:v0:")),
    ];
    for (kek_version, text) in cases {
        let bent = Wrap { kek_version, blob: text.clone().into_bytes(), ..wrap.clone() };
        assert_eq!(kek.unwrap(&bent, &binding(), soon()).await.err(), Some(KekError::BadWrap), "{text}");
    }
    assert_eq!(kek.health(), KekHealth::Reachable);
}

#[tokio::test]
async fn a_service_account_logs_in_through_the_review_of_its_cluster() {
    let place = OpenBao::shared().place();
    let mount = format!("kubernetes-{}", place.name);
    let (good, foreign) = (tokenreview::jwt("good"), tokenreview::jwt("foreign"));
    let host = tokenreview::serve(good.clone());
    let method = format!("auth/{mount}");
    place.bao.admin("POST", &format!("sys/{method}"), &json!({"type": "kubernetes"}));
    let authority = std::fs::read_to_string(place.bao.ca_file()).unwrap();
    let cluster = json!({
        "kubernetes_host": host,
        "kubernetes_ca_cert": authority,
        "disable_local_ca_jwt": true,
        "token_reviewer_jwt": good,
    });
    place.bao.admin("POST", &format!("{method}/config"), &cluster);
    let role = json!({
        "bound_service_account_names": [tokenreview::ACCOUNT],
        "bound_service_account_namespaces": [tokenreview::NAMESPACE],
        "token_policies": [place.name],
    });
    place.bao.admin("POST", &format!("{method}/role/keyward"), &role);
    // As the kubelet writes it: every user of the pod may read it.
    place.write("jwt", &good, 0o644);
    let auth = Auth::Kubernetes { mount, role: "keyward".into(), jwt_file: place.file("jwt") };
    works(&start(place.settings_with(auth.clone())).await.unwrap()).await;

    place.write("jwt", &foreign, 0o644);
    let told = refusal(place.settings_with(auth.clone())).await;
    assert!(told.contains("the kubernetes login is refused"), "{told}");
    place.write("jwt", &good, 0o666);
    let told = refusal(place.settings_with(auth)).await;
    assert!(told.contains("others may change it"), "{told}");
}

/// What a standby answers that does not forward. A second server would have to be lured; this one is two listeners.
#[tokio::test]
async fn a_token_is_not_carried_to_where_a_server_points() {
    let [here, there] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, elsewhere) = (here.local_addr().unwrap(), there.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in here.incoming().flatten() {
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/v1/x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            // What is asked does not matter; whoever hangs up early has his answer.
            let _asked = stream.read(&mut [0; 4096]);
            let _told = stream.write_all(answer.as_bytes());
        }
    });
    let place = OpenBao::shared().place();
    let settings = TransitSettings { address: format!("http://{address}").parse().unwrap(), ..place.settings() };
    let (events, mut heard) = sink();
    let kek = TransitKek::start(settings, Deployment::Development, clock(), events).await.unwrap();
    let Ok(KekEvent::Unreachable { detail, .. }) = heard.try_recv() else { panic!("it was believed") };
    assert_eq!(detail, "status 307: a standby sends its callers to another server");
    assert_eq!(kek.health(), KekHealth::Unreachable);
    there.set_nonblocking(true).unwrap();
    assert_eq!(there.accept().err().map(|error| error.kind()), Some(std::io::ErrorKind::WouldBlock));
}
