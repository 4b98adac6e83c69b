//! What does each live token do when what it needs goes away, and does its KEK come back by itself? Daemons, connections
//! and files of real tokens are taken away and given back; no sidecar is restarted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]

use std::sync::Arc;
use std::time::Duration;

use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::{Deployment, Kek, KekError, KekHealth, Wrap};

use crate::kek::{binding, clock, data_key, sink, soon, within};
use crate::tokens::kryoptic::Kryoptic;
use crate::tokens::nss::Nss;
use crate::tokens::opencryptoki::Opencryptoki;
use crate::tokens::p11kit::P11kit;
use crate::tokens::shim::Shimmed;
use crate::tokens::signal;
use crate::tokens::tpm2::Tpm2;

async fn create_and_start(settings: Pkcs11Settings) -> (Arc<Pkcs11Kek>, Wrap) {
    Pkcs11Kek::create_key(settings.clone(), Deployment::Production, clock(), Disk::real()).await.unwrap();
    start(settings).await
}

/// A running KEK and a wrap of it.
async fn start(settings: Pkcs11Settings) -> (Arc<Pkcs11Kek>, Wrap) {
    let kek = Pkcs11Kek::start(settings, Deployment::Production, clock(), Disk::real(), sink().0).await.unwrap();
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    (kek, wrap)
}

#[track_caller]
fn assert_away(answer: Result<(), KekError>) {
    assert!(matches!(answer, Err(KekError::Unreachable { .. })), "{answer:?}");
}

async fn unwrap(kek: &Pkcs11Kek, wrap: &Wrap) -> Result<(), KekError> {
    kek.unwrap(wrap, &binding(), soon()).await.map(|_| ())
}

/// Tries until the breaker lets a call through to the token that is back.
async fn recovers(kek: &Pkcs11Kek, wrap: &Wrap) {
    for _ in 0..600 {
        match unwrap(kek, wrap).await {
            Ok(()) if kek.health() == KekHealth::Reachable => return,
            // The canary of the background met the fault meanwhile, in a lane of its own.
            Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(KekError::Unreachable { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the key-encryption key did not recover");
}

#[tokio::test]
async fn a_cut_connection_to_the_token_costs_its_caller_nothing() {
    let token = P11kit::new();
    let (kek, wrap) = create_and_start(token.settings()).await;
    let worker = kek.worker();
    token.cut();
    unwrap(&kek, &wrap).await.unwrap();
    assert_ne!(kek.worker(), worker, "only a fresh C_Initialize connects again");
}

#[tokio::test]
async fn a_token_whose_server_is_gone_is_unreachable_until_the_server_is_back() {
    let mut token = P11kit::new();
    let (kek, wrap) = create_and_start(token.settings()).await;
    token.stop();
    assert_away(unwrap(&kek, &wrap).await);
    assert_away(unwrap(&kek, &wrap).await);
    token.start();
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn a_token_that_stops_answering_costs_the_deadline_and_serves_again() {
    let token = P11kit::new();
    let (kek, wrap) = create_and_start(token.settings()).await;
    token.signal("STOP");
    let late = kek.unwrap(&wrap, &binding(), within(Duration::from_millis(300))).await.err();
    assert_eq!(late, Some(KekError::Deadline("primary".parse().unwrap())));
    token.signal("CONT");
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn a_tpm_whose_resource_manager_is_gone_is_unreachable_until_it_is_back() {
    let mut token = Tpm2::new();
    let (kek, wrap) = start(token.settings()).await;
    token.stop();
    assert_away(unwrap(&kek, &wrap).await);
    token.start();
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn opencryptoki_without_its_daemon_serves_on_but_lets_no_new_worker_in() {
    let mut token = Opencryptoki::new();
    let (kek, wrap) = create_and_start(token.settings()).await;
    token.kill_daemon();
    unwrap(&kek, &wrap).await.unwrap();
    signal(kek.worker().unwrap(), "KILL");
    assert_away(unwrap(&kek, &wrap).await);
    token.start_daemon();
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn a_database_that_was_moved_away_is_missed_by_the_next_worker_and_found_again() {
    let kryoptic = Kryoptic::new();
    let (kek, wrap) = create_and_start(kryoptic.settings()).await;
    kryoptic.pull();
    signal(kek.worker().unwrap(), "KILL");
    assert_away(unwrap(&kek, &wrap).await);
    kryoptic.plug_in();
    recovers(&kek, &wrap).await;
    let nss = Nss::new();
    let (kek, wrap) = create_and_start(nss.settings()).await;
    nss.pull();
    signal(kek.worker().unwrap(), "KILL");
    assert_away(unwrap(&kek, &wrap).await);
    nss.plug_in();
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn a_library_that_crashes_once_costs_its_caller_nothing() {
    let token = Shimmed::new("", "");
    let (kek, wrap) = create_and_start(token.settings("kryoptic")).await;
    let worker = kek.worker();
    token.faults(&["C_Decrypt crash 1"]);
    unwrap(&kek, &wrap).await.unwrap();
    assert_ne!(kek.worker(), worker);
    assert!(token.faults_left().is_empty());
}

#[tokio::test]
async fn a_lost_login_and_lost_sessions_cost_their_caller_nothing() {
    let token = Shimmed::new("", "");
    let (kek, wrap) = create_and_start(token.settings("kryoptic")).await;
    for rule in ["C_DecryptInit logout 1", "C_DecryptInit close_sessions 1"] {
        token.faults(&[rule]);
        unwrap(&kek, &wrap).await.unwrap_or_else(|error| panic!("{rule}: {error}\n{:#?}", token.log()));
        assert!(token.faults_left().is_empty(), "{rule}");
        assert_eq!(kek.health(), KekHealth::Reachable, "{rule}");
    }
}

#[tokio::test]
async fn a_code_of_the_device_from_any_function_is_survived() {
    let token = Shimmed::new("", "");
    let (kek, wrap) = create_and_start(token.settings("kryoptic")).await;
    // Not the codes that the profile calls ambiguous: where the canary opens, those are the wrap's fault.
    for function in ["C_DecryptInit", "C_Decrypt", "C_OpenSession", "C_FindObjectsInit", "C_Initialize", "C_Finalize"] {
        for code in ["0x2", "0x6", "0x31", "0x32", "0xE0", "0xB3", "0x82"] {
            token.faults(&[&format!("{function} {code} 1")]);
            recovers(&kek, &wrap).await;
            token.faults(&[]);
        }
    }
}
