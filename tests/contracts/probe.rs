//! Does the probe tell the truth? The shipped profile of every token that runs here holds, a wrong one is found out, and what
//! a draft says works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]
#![allow(clippy::disallowed_methods, reason = "a test writes profiles of its own")]

use std::path::{Path, PathBuf};

use keyward::durable::Disk;
use keyward::kek::Deployment;
use keyward::kek::pkcs11::{PinSource, Pkcs11Kek, Pkcs11Settings};
use keyward::kek::probe::{Finding, Gauge, ProbeError, Report, Target, Token, TokenTarget, Trial, probe};
use keyward::kek::profile::{Profile, ProfileChoice};

use crate::kek::clock;
use crate::softhsm::{self, Softhsm};
use crate::tokens::KEY_LABEL;
use crate::tokens::kryoptic::Kryoptic;
use crate::tokens::nss::Nss;
use crate::tokens::opencryptoki::Opencryptoki;
use crate::tokens::p11kit::P11kit;
use crate::tokens::shim::Shimmed;
use crate::tokens::tpm2::Tpm2;

/// The probe's view of what a configuration says.
fn target(settings: Pkcs11Settings) -> Target {
    let Some(PinSource::File(pin)) = settings.pin else { panic!("a PIN file") };
    let token = TokenTarget {
        label: settings.token_label,
        serial: settings.token_serial,
        pin_file: Some(pin),
        key_label: None,
        method: None,
        rates: false,
    };
    Target {
        profile: Some(settings.profile),
        module: settings.module,
        reserved: settings.reserved,
        env: settings.env,
        token: Some(token),
        worker: settings.worker,
        state_dir: settings.state_dir,
    }
}

/// The same token without a profile.
fn undescribed(settings: Pkcs11Settings) -> Target {
    let profile = Profile::load(&settings.profile).unwrap();
    let module = settings
        .module
        .clone()
        .unwrap_or_else(|| profile.module.paths.iter().find(|path| path.exists()).unwrap().clone());
    let reserved = settings.reserved.clone().unwrap_or(profile.module.reserved);
    Target { profile: None, module: Some(module), reserved: Some(reserved), ..target(settings) }
}

fn on_key(target: Target, label: &str) -> Target {
    let token = target.token.map(|token| TokenTarget { key_label: Some(label.into()), ..token });
    Target { token, ..target }
}

fn with_profile(target: Target, place: &Path, text: &str) -> Target {
    let path: PathBuf = place.join("profile.toml");
    std::fs::write(&path, text).unwrap();
    Target { profile: Some(ProfileChoice::File(path)), ..target }
}

async fn probed(target: Target) -> Report {
    probe(target, clock(), Disk::real(), &|_| {}).await.unwrap()
}

async fn token(target: Target) -> Token {
    probed(target).await.token.unwrap()
}

#[track_caller]
fn holds(token: &Token, methods: &[&str]) {
    assert!(token.findings.is_empty(), "{:#?}", token.findings);
    assert_eq!(token.holds, Some(true), "{token:#?}");
    let works: Vec<_> = token.trials.iter().filter(|trial| trial.result == "works").map(named).collect();
    assert_eq!(works, methods, "{:#?}", token.trials);
}

fn named(trial: &Trial) -> String {
    trial.variant.map_or(trial.method.into(), |variant| format!("{}/{variant}", trial.method))
}

#[track_caller]
fn found<'a>(token: &'a Token, table: &str) -> &'a Finding {
    assert_eq!(token.holds, Some(false));
    token.findings.iter().find(|finding| finding.table == table).unwrap_or_else(|| panic!("{:#?}", token.findings))
}

#[tokio::test]
async fn the_shipped_profile_of_softhsm_holds_and_nothing_is_left_behind() {
    let soft = Softhsm::new();
    let token = token(target(soft.settings())).await;
    holds(&token, &["aes-gcm/caller", "rsa-oaep/sha1", "aes-cbc-hmac", "unwrap-getattr"]);
    assert_eq!((token.sessions.open, token.sessions.refused.is_none()), (65, true));
    assert_eq!(soft.pkcs11_tool(&["--list-objects"]).matches("Object").count(), 0);
}

#[tokio::test]
async fn the_shipped_profile_of_kryoptic_holds() {
    let kryoptic = Kryoptic::new();
    let token = token(target(kryoptic.settings())).await;
    let methods = ["aes-gcm/caller", "aes-kwp", "aes-kw", "aes-cbc-hmac", "rsa-oaep/sha256", "unwrap-getattr"];
    holds(&token, &methods);
}

#[tokio::test]
async fn the_shipped_profile_of_nss_holds() {
    let nss = Nss::new();
    let token = token(target(nss.settings())).await;
    let methods = ["aes-gcm/caller", "aes-kwp", "aes-kw", "aes-cbc-hmac", "rsa-oaep/sha256", "unwrap-getattr"];
    holds(&token, &methods);
}

#[tokio::test]
async fn the_shipped_profile_of_opencryptoki_holds() {
    let ock = Opencryptoki::new();
    let token = token(target(ock.settings())).await;
    holds(&token, &["aes-cbc-hmac", "rsa-oaep/sha256"]);
}

#[tokio::test]
async fn the_shipped_profile_holds_over_p11_kit() {
    let kit = P11kit::new();
    let token = token(target(kit.settings())).await;
    assert!(token.trials.iter().any(|trial| trial.method == "rsa-oaep" && trial.result == "works"), "{token:#?}");
}

#[tokio::test]
async fn the_shipped_profile_of_a_tpm_holds_on_a_named_key_and_without_one_nothing_can_be_tried() {
    let tpm = Tpm2::new();
    let without = token(target(tpm.settings())).await;
    assert_eq!((without.holds, without.trials[0].result), (None, "not-tried"), "{without:#?}");
    let named = token(on_key(target(tpm.settings()), KEY_LABEL)).await;
    holds(&named, &["rsa-oaep/sha256"]);
}

#[tokio::test]
async fn a_wrong_iv_mode_is_found_out_and_the_right_one_named() {
    let soft = Softhsm::new();
    let text = Profile::text_of("softhsm2").unwrap();
    let wrong = text.replace("iv = \"caller\"", "iv = \"hsm-writeback\"");
    let token = token(with_profile(target(soft.settings()), soft.dir(), &wrong)).await;
    assert_eq!(found(&token, "wrap aes-gcm/hsm-writeback").change, "set iv = \"caller\", which works");
}

#[tokio::test]
async fn a_profile_for_the_callers_iv_is_found_out_on_a_token_that_makes_its_own() {
    let shimmed = Shimmed::new("gcm_iv_writeback:0x1087", "");
    let kryoptic = Profile::text_of("kryoptic").unwrap().replace("env = [\"KRYOPTIC_CONF\"]", "env = []");
    let settings = shimmed.settings("kryoptic");
    let token = token(with_profile(target(settings), &shimmed.behind.place.path(""), &kryoptic)).await;
    assert_eq!(found(&token, "wrap aes-gcm/caller").change, "set iv = \"hsm-writeback\", which works");
}

#[tokio::test]
async fn wrong_classes_attributes_and_limits_are_found_out() {
    let soft = Softhsm::new();
    let text = Profile::text_of("softhsm2").unwrap();
    let wrong = text
        .replace("ambiguous = [0x05]", "ambiguous = []")
        .replace("denied = [0x63,", "denied = [0x05, 0x63,")
        .replace("max = 0", "max = 40")
        .replace("mechanism = 0x1085", "mechanism = 0x2106");
    let token = token(with_profile(target(soft.settings()), soft.dir(), &wrong)).await;
    assert!(found(&token, "errors").change.starts_with("move 0x5 from denied to ambiguous"), "{:#?}", token.findings);
    assert_eq!(found(&token, "session").found, "the token gives more than 40 sessions");
    assert!(found(&token, "wrap aes-cbc-hmac").found.contains("CKR_MECHANISM_INVALID"), "{:#?}", token.findings);
}

#[tokio::test]
async fn a_draft_of_softhsm_is_a_profile_that_holds() {
    let soft = Softhsm::new();
    let drafted = token(undescribed(soft.settings())).await;
    let draft = drafted.draft.as_deref().unwrap();
    let profile = Profile::parse(draft).unwrap();
    assert_eq!(profile.errors.ambiguous, [5]);
    let again = token(with_profile(target(soft.settings()), soft.dir(), draft)).await;
    holds(&again, &["aes-gcm/caller", "aes-cbc-hmac", "rsa-oaep/sha1", "unwrap-getattr"]);
    let modes: Vec<_> = drafted.trials.iter().filter(|trial| trial.method == "aes-gcm").collect();
    assert_eq!(modes.iter().filter(|trial| trial.result == "works").count(), 1, "{modes:#?}");
    assert_eq!(soft.pkcs11_tool(&["--list-objects"]).matches("Object").count(), 0);
}

#[tokio::test]
async fn a_draft_finds_each_documented_iv_mode_and_a_vendors_number() {
    let cases = [
        ("gcm_iv_writeback:0x1087", "aes-gcm/hsm-writeback", 0x1087),
        ("gcm_iv_appended:0x1087", "aes-gcm/hsm-appended", 0x1087),
        ("gcm_iv_prepended:0x80001087", "aes-gcm/hsm-prepended", 0x8000_1087),
    ];
    for (quirks, method, mechanism) in cases {
        let mechanisms = if mechanism > 0x8000_0000 { "0x80001087=0x1087" } else { "" };
        let shimmed = Shimmed::new(quirks, mechanisms);
        let drafted = token(undescribed(shimmed.settings("kryoptic"))).await;
        let profile = Profile::parse(drafted.draft.as_deref().unwrap()).unwrap();
        let found = profile.wrap.iter().any(|wrap| wrap.full_name() == method && wrap.mechanism() == mechanism);
        assert!(found, "{quirks}: {:#?}", drafted.trials);
    }
}

#[tokio::test]
async fn a_named_key_is_used_in_the_profiles_own_way_only_and_stays_as_it_was() {
    let soft = Softhsm::new();
    Pkcs11Kek::create_key(soft.settings(), Deployment::Production, clock(), Disk::real()).await.unwrap();
    let before = soft.pkcs11_tool(&["--list-objects"]);
    let held = token(on_key(target(soft.settings()), softhsm::KEY_LABEL)).await;
    holds(&held, &["aes-gcm/caller"]);
    let drafted = token(on_key(undescribed(soft.settings()), softhsm::KEY_LABEL)).await;
    assert_eq!(drafted.trials.iter().map(named).collect::<Vec<_>>(), ["aes-gcm/caller"]);
    assert_eq!(soft.pkcs11_tool(&["--list-objects"]), before);
}

#[tokio::test]
async fn a_look_at_a_library_needs_no_login() {
    let soft = Softhsm::new();
    let seen = probed(Target { token: None, ..undescribed(soft.settings()) }).await;
    let slot = seen.slots.iter().find(|slot| slot.label == softhsm::TOKEN_LABEL).unwrap();
    assert!(slot.initialized && slot.mechanisms.len() > 50, "{} mechanisms", slot.mechanisms.len());
    let gcm = slot.mechanisms.iter().find(|mechanism| mechanism.number == "0x1087").unwrap();
    assert_eq!((gcm.name, gcm.does.contains(&"decrypt")), (Some("CKM_AES_GCM"), true));
    assert!(seen.token.is_none());
}

#[tokio::test]
async fn a_refused_pin_is_tried_once_and_not_by_the_next_probe_either() {
    let shimmed = Shimmed::new("", "");
    shimmed.behind.place.write_pin("wrong-pin-123", 0o600);
    let refused = |error: ProbeError| matches!(&error, ProbeError::Refused(_)).then(|| error.to_string()).unwrap();
    for expected in ["CKR_PIN_INCORRECT", "not tried again"] {
        let error = probe(undescribed(shimmed.settings("kryoptic")), clock(), Disk::real(), &|_| {}).await;
        let told = refused(error.err().unwrap());
        assert!(told.contains(expected), "{told}");
        assert_eq!(shimmed.calls("C_Login"), 1);
    }
}

#[tokio::test]
async fn a_worker_that_a_trial_crashes_costs_that_trial_only() {
    let soft = Softhsm::new();
    let drafted = token(undescribed(soft.settings())).await;
    // SoftHSM dereferences the null IV that this mode hands over.
    let crashed = drafted.trials.iter().find(|trial| trial.variant == Some("hsm-prepended")).unwrap();
    assert!(crashed.answer.as_ref().unwrap().text.contains("the worker ended: signal: 11"), "{crashed:#?}");
    assert_eq!(drafted.trials.last().unwrap().result, "works");
}

#[tokio::test]
async fn a_gauge_measures_the_same_unwrap_inside_and_through() {
    let soft = Softhsm::new();
    let mut gauge = Gauge::open(&target(soft.settings()), clock(), Disk::real()).await.unwrap();
    for sessions in [1, 4] {
        assert!(!gauge.raw(sessions, 20).await.unwrap().is_zero());
        assert!(!gauge.through(sessions, 20).await.unwrap().is_zero());
    }
    gauge.close().await.unwrap();
    assert_eq!(soft.pkcs11_tool(&["--list-objects"]).matches("Object").count(), 0);
}
