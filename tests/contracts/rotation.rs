//! A new version of a key-encryption key: made once whatever happened before, and taken up by who runs already.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it copies and replaces files, and waits")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, Deadline, ManualClock, Wall};
use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::transit::TransitKek;
use keyward::kek::{
    Deployment, Kek, KekError, KekEvent, KekReport, Rotated, Settings, SoftwareKek, SoftwareSettings, StartError,
    Uptake,
};
use serde_json::json;

use crate::kek::{binding, clock, data_key, opens, sink, soon};
use crate::openbao::{FULL, OpenBao};
use crate::softhsm::Softhsm;
use crate::suite;
use crate::tokens::kryoptic::Kryoptic;

fn versioned(settings: Pkcs11Settings, method: &str) -> Pkcs11Settings {
    Pkcs11Settings { key_label: "kek-{version}".into(), method: Some(method.into()), ..settings }
}

async fn create(settings: &Pkcs11Settings) -> Result<KekReport, StartError> {
    let made = Pkcs11Kek::create_key(settings.clone(), Deployment::Production, clock(), Disk::real()).await;
    made.map(KekReport::from)
}

async fn start(settings: &Pkcs11Settings) -> Result<Arc<Pkcs11Kek>, StartError> {
    Pkcs11Kek::start(settings.clone(), Deployment::Production, clock(), Disk::real(), sink().0).await
}

/// What `keyward kek create` and `keyward kek rotate` leave when they are stopped between the two keys of a version.
#[tokio::test]
async fn a_version_that_was_half_made_is_not_used_and_the_next_run_makes_what_is_missing() {
    let (soft, kryoptic) = (Softhsm::new(), Kryoptic::new());
    type Tool<'a> = &'a dyn Fn(&[&str]) -> String;
    let tokens: [(Pkcs11Settings, Tool<'_>, &str); 3] = [
        (soft.settings(), &|arguments| soft.pkcs11_tool(arguments), "aes-cbc-hmac"),
        (kryoptic.settings(), &|arguments| kryoptic.pkcs11_tool(arguments), "aes-cbc-hmac"),
        (Softhsm::settings(&soft), &|arguments| soft.pkcs11_tool(arguments), "rsa-oaep"),
    ];
    for (at, (settings, tool, method)) in tokens.into_iter().enumerate() {
        let settings = versioned(settings, method);
        let settings = Pkcs11Settings { key_label: format!("kek-{at}-{{version}}"), ..settings };
        let label = |version: u32| settings.key_label.replace("{version}", &version.to_string());
        let drop_mac = |version| {
            tool(&["--delete-object", "--type", "secrkey", "--label", &format!("{}.mac", label(version))]);
        };
        let whole = create(&settings).await.unwrap();
        drop_mac(1);
        let told = start(&settings).await.err().unwrap().to_string();
        assert!(told.contains(&format!("label {}.mac", label(1))), "{told}");
        let completed = create(&settings).await.unwrap();
        assert_eq!(completed.attributes, whole.attributes, "the first key is the one that was there");
        let taken = create(&settings).await.err().unwrap().to_string();
        assert!(taken.contains("a key with this label exists"), "{taken}");

        assert_eq!(suite::rotate(&settings, None).await.unwrap().made, [label(2), format!("{}.mac", label(2))]);
        drop_mac(2);
        let kek = start(&settings).await.unwrap();
        assert_eq!(kek.current_version(), Some(1), "half a version wraps nothing");
        let rotated = suite::rotate(&settings, None).await.unwrap();
        assert_eq!((rotated.version, rotated.made), (2, vec![format!("{}.mac", label(2))]));
        assert_eq!(start(&settings).await.unwrap().current_version(), Some(2));
    }
}

#[tokio::test]
async fn two_keys_of_one_version_are_refused_by_name_and_the_version_before_serves_on() {
    let token = Softhsm::new();
    let settings = versioned(token.settings(), "aes-gcm");
    create(&settings).await.unwrap();
    suite::rotate(&settings, None).await.unwrap();
    let twin = ["--keygen", "--key-type", "AES:32", "--label", "kek-2", "--usage-decrypt", "--sensitive"];
    token.pkcs11_tool(&twin);
    let told = suite::rotate(&settings, None).await.err().unwrap().to_string();
    assert!(told.contains("several keys in the token have the configured label kek-2"), "{told}");
    let kek = start(&settings).await.unwrap();
    assert_eq!(kek.current_version(), Some(1));
    let shown =
        keyward::kek::inspect(Settings::Pkcs11(Box::new(settings)), Deployment::Production, clock(), Disk::real());
    let shown = shown.await.unwrap();
    let objections: Vec<_> = shown.versions.iter().map(|one| (one.number, one.objection.is_some())).collect();
    assert_eq!((shown.version, objections), (1, vec![(1, false), (2, true)]));
}

#[tokio::test]
async fn a_pinned_version_wraps_on_until_the_configuration_says_so() {
    let token = Softhsm::new();
    let pinned = |version| Pkcs11Settings { key_version: Some(version), ..versioned(token.settings(), "aes-gcm") };
    create(&pinned(1)).await.unwrap();
    for _again in 0..2 {
        let rotated = suite::rotate(&pinned(1), None).await.unwrap();
        assert_eq!((rotated.version, rotated.uptake), (2, Uptake::Configured), "never further than one version");
    }
    assert_eq!(start(&pinned(1)).await.unwrap().current_version(), Some(1));
    assert_eq!(start(&pinned(2)).await.unwrap().current_version(), Some(2));
    let told = start(&pinned(3)).await.err().unwrap().to_string();
    assert!(told.contains("label kek-3") && told.contains("keyward kek create"), "{told}");
}

#[tokio::test]
async fn a_version_out_of_turn_and_a_label_without_versions_are_refused() {
    let token = Softhsm::new();
    let settings = versioned(token.settings(), "aes-gcm");
    create(&settings).await.unwrap();
    for to in [0, 3] {
        let told = suite::rotate(&settings, Some(to)).await.err().unwrap().to_string();
        assert!(told.contains("version 1 is current, so the next one is 2"), "{told}");
    }
    let told = suite::rotate(&token.settings(), None).await.err().unwrap().to_string();
    assert!(told.contains("no {version} in it") && told.contains("retiring"), "{told}");
}

#[tokio::test]
async fn versions_that_were_removed_do_not_hide_newer_ones() {
    let token = Softhsm::new();
    let settings = versioned(token.settings(), "aes-gcm");
    create(&settings).await.unwrap();
    for _ in 0..3 {
        suite::rotate(&settings, None).await.unwrap();
    }
    for label in ["kek-1", "kek-2", "kek-3"] {
        token.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--label", label]);
    }
    assert_eq!(start(&settings).await.unwrap().current_version(), Some(4));
    assert_eq!(suite::rotate(&settings, None).await.unwrap().version, 5);
}

/// Lets the clock run until a KEK wraps by a version.
async fn until_version(clock: &ManualClock, kek: &dyn Kek, version: u32) {
    for _ in 0..600 {
        if kek.current_version() == Some(version) {
            return;
        }
        clock.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} stays at {:?}", kek.name(), kek.current_version());
}

#[tokio::test]
async fn a_running_sidecar_takes_a_new_version_up_and_a_record_says_so() {
    for method in ["aes-gcm", "rsa-oaep"] {
        let token = Softhsm::new();
        let settings = versioned(token.settings(), method);
        create(&settings).await.unwrap();
        let (clock, (events, mut heard)) = (ManualClock::at(Wall(1_700_000_000_000_000)), sink());
        let started = Pkcs11Kek::start(settings.clone(), Deployment::Production, clock.clone(), Disk::real(), events);
        let kek = started.await.unwrap();
        assert!(matches!(heard.recv().await, Some(KekEvent::Admitted { version: 1, .. })));
        let key = data_key();
        let soon = || Deadline(clock.mono().plus(Duration::from_secs(3600)));
        let older = kek.wrap(&key, &binding(), soon()).await.unwrap();
        let worker = kek.worker();
        suite::rotate(&settings, None).await.unwrap();
        until_version(&clock, kek.as_ref(), 2).await;
        assert!(matches!(heard.recv().await, Some(KekEvent::Admitted { version: 2, .. })));
        assert_eq!(kek.worker(), worker, "no worker is replaced for it");
        let newer = kek.wrap(&key, &binding(), soon()).await.unwrap();
        assert_eq!((older.kek_version, newer.kek_version), (1, 2));
        for wrap in [&older, &newer] {
            let opened = kek.unwrap(wrap, &binding(), soon()).await.unwrap();
            assert_eq!(opened.check_value(), key.check_value());
        }
    }
}

#[tokio::test]
async fn a_transit_key_is_rotated_and_shown_by_who_may_and_its_users_notice_by_themselves() {
    let place = OpenBao::shared().place();
    let (clock, (events, mut heard)) = (ManualClock::at(Wall(1_700_000_000_000_000)), sink());
    let kek = TransitKek::start(place.settings(), Deployment::Development, clock.clone(), events).await.unwrap();
    assert!(matches!(heard.recv().await, Some(KekEvent::Admitted { version: 1, .. })));
    assert_eq!(kek.current_version(), Some(1));
    let settings = || Settings::Transit(Box::new(place.settings()));
    let rotate = |to| keyward::kek::rotate(settings(), to, Deployment::Development, crate::kek::clock(), Disk::real());
    let told = rotate(None).await.err().unwrap().to_string();
    assert!(told.contains(&format!("right to update {}/keys/kek/rotate", place.name)), "{told}");
    place.allow(&[FULL, &[("keys/kek/rotate", "update")]].concat());
    let Rotated { version, made, uptake, .. } = rotate(None).await.unwrap();
    assert_eq!((version, made.len(), uptake), (2, 1, Uptake::AtOnce));
    assert_eq!(rotate(Some(2)).await.unwrap().made, [""; 0]);
    assert!(rotate(Some(4)).await.err().unwrap().to_string().contains("the next one is 3"));
    until_version(&clock, kek.as_ref(), 2).await;
    let Some(KekEvent::Admitted { version: 2, facts, attributes, .. }) = heard.recv().await else {
        panic!("no record")
    };
    assert_eq!(facts.model, "aes256-gcm96 version 2");
    assert!(attributes.contains(&"latest_version=2".to_owned()), "{attributes:?}");

    place.key("POST", "/config", &json!({"min_decryption_version": 2}));
    place.allow(&FULL[..1]);
    let shown = keyward::kek::inspect(settings(), Deployment::Development, crate::kek::clock(), Disk::real());
    let shown = shown.await.unwrap();
    assert_eq!((shown.version, shown.objection), (2, None));
    for fact in ["type=aes256-gcm96", "min_decryption_version=2", "derived=false", "exportable=false"] {
        assert!(shown.attributes.contains(&fact.to_owned()), "{fact}: {:?}", shown.attributes);
    }
    let versions: Vec<_> = shown.versions.iter().map(|one| one.number).collect();
    assert!(versions.contains(&2), "{versions:?}");
}

#[tokio::test]
async fn a_wrap_by_a_newer_version_of_a_transit_key_tells_of_it() {
    let place = OpenBao::shared().place();
    let kek = crate::transit::start(place.settings()).await.unwrap();
    place.key("POST", "/rotate", &json!({}));
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    assert_eq!((wrap.kek_version, kek.current_version()), (2, Some(2)));
}

fn software(file: &Path) -> SoftwareSettings {
    let name = "primary".parse().unwrap();
    SoftwareSettings { name, file: file.to_owned(), insecure_software_kek_for_development: true }
}

/// Another test that is starting a process holds a copy of every lock for a moment.
fn rotate_file(file: &Path, to: Option<u32>) -> Result<(u32, bool), StartError> {
    loop {
        match SoftwareKek::rotate_file(&Disk::real(), file, to) {
            Err(StartError::KeyFile(error)) if error.problem.contains("is locked") => std::thread::yield_now(),
            done => return done,
        }
    }
}

async fn start_software(file: &Path) -> Arc<dyn Kek> {
    let settings = Settings::Software(software(file));
    keyward::kek::start(settings, Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap()
}

#[tokio::test]
async fn a_key_in_a_file_is_rotated_under_a_running_sidecar_and_older_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kek");
    SoftwareKek::create_file(&Disk::real(), &file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap().len(), 40, "one key is written as it always was");
    let (kek, key) = (start_software(&file).await, data_key());
    let older = kek.wrap(&key, &binding(), soon()).await.unwrap();
    for version in 2..=64 {
        assert_eq!(rotate_file(&file, None).unwrap(), (version, true));
    }
    assert_eq!(rotate_file(&file, Some(64)).unwrap(), (64, false));
    assert!(rotate_file(&file, None).is_err(), "no more than fit");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(kek.current_version(), Some(64));
    let newer = kek.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!((older.kek_version, newer.kek_version), (1, 64));
    for kek in [kek, start_software(&file).await] {
        opens(kek.as_ref(), &older, &key).await.unwrap();
        opens(kek.as_ref(), &newer, &key).await.unwrap();
    }
}

#[tokio::test]
async fn another_key_in_the_file_s_place_is_not_taken_up_and_a_lost_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join("kek"), dir.path().join("copy"));
    SoftwareKek::create_file(&Disk::real(), &file).unwrap();
    std::fs::copy(&file, &copy).unwrap();
    rotate_file(&file, None).unwrap();
    let (kek, key) = (start_software(&file).await, data_key());
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let told = start_software(&copy).await.unwrap(&wrap, &binding(), soon()).await.err();
    assert!(
        matches!(&told, Some(KekError::Unsupported(what)) if what.contains("version 2") && what.contains("copy")),
        "{told:?}"
    );
    std::fs::remove_file(&file).unwrap();
    SoftwareKek::create_file(&Disk::real(), &file).unwrap();
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
    assert_eq!(kek.current_version(), Some(2));
}
