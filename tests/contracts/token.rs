//! What a KEK in a token must keep beyond the common contract: admission, the worker's isolation, outages and the PIN.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyward::durable::Disk;
use keyward::kek::pkcs11::{PinSource, Pkcs11Kek, Pkcs11Settings, clear_login};
use keyward::kek::profile::ProfileChoice;
use keyward::kek::{Deployment, Kek, KekError, KekEvent, KekHealth, StartError, Wrap};
use rustix::process::{Pid, Signal, kill_process};

use crate::kek::{binding, clock, data_key, opens, sink, soon, start, token_with_key, within};
use crate::softhsm::{KEY_LABEL, MODULE, PIN, Softhsm, TOKEN_LABEL};

const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so";

async fn refusal(settings: Pkcs11Settings) -> StartError {
    Pkcs11Kek::start(settings, Deployment::Development, clock(), Disk::real(), sink().0).await.err().unwrap()
}

fn signal(kek: &Pkcs11Kek, signal: Signal) {
    let worker = i32::try_from(kek.worker().unwrap()).unwrap();
    kill_process(Pid::from_raw(worker).unwrap(), signal).unwrap();
    if signal == Signal::STOP {
        // The kernel stops the threads of a process one after the other: one that runs may still answer.
        let tasks = || std::fs::read_dir(format!("/proc/{}/task", kek.worker().unwrap())).unwrap();
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        };
        while !tasks().all(stopped) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Tries until the breaker lets a call through to a token that is back.
async fn recovers(kek: &Arc<Pkcs11Kek>, wrap: &Wrap) {
    for _ in 0..600 {
        match kek.unwrap(wrap, &binding(), soon()).await {
            Ok(_) => return assert_eq!(kek.health(), KekHealth::Reachable),
            Err(KekError::Unreachable { .. } | KekError::Denied { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the key-encryption key did not recover");
}

#[tokio::test]
async fn a_created_kek_is_sensitive_and_never_extractable_and_pkcs11_tool_agrees() {
    let token = Softhsm::new();
    let made = Pkcs11Kek::create_key(token.settings(), Deployment::Development, clock(), Disk::real()).await.unwrap();
    assert_eq!(made.objection, None);
    let key = &made.attributes;
    assert_eq!((key.sensitive, key.extractable), (Some(true), Some(false)));
    assert_eq!((key.always_sensitive, key.never_extractable, key.local), (Some(true), Some(true), Some(true)));
    assert_eq!((key.encrypt, key.decrypt, key.wrap, key.unwrap), (Some(true), Some(true), Some(false), Some(false)));
    assert_eq!((key.token, key.private, key.modifiable), (Some(true), Some(true), Some(false)));
    assert_eq!((key.value_len, key.id.len(), key.label.as_str()), (Some(32), 16, KEY_LABEL));
    let listed = token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert!(listed.contains("Access:     sensitive, always sensitive, never extractable, local"), "{listed}");
    let usage = listed.lines().find(|line| line.contains("Usage:")).unwrap();
    assert!(usage.contains("encrypt, decrypt") && !usage.contains("wrap"), "{usage}");
    let shown = Pkcs11Kek::inspect(token.settings(), Deployment::Development, clock(), Disk::real()).await.unwrap();
    assert_eq!(shown, made);
}

#[tokio::test]
async fn a_label_that_is_taken_is_not_given_to_a_second_key() {
    let token = token_with_key().await;
    let error =
        Pkcs11Kek::create_key(token.settings(), Deployment::Development, clock(), Disk::real()).await.err().unwrap();
    assert!(error.to_string().contains("a key with this label exists in the token"), "{error}");
    assert_eq!(token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]).matches("Secret Key Object").count(), 1);
}

#[tokio::test]
async fn an_extractable_key_and_one_that_may_wrap_are_refused_by_name() {
    let token = Softhsm::new();
    let make = |label: &str, extra: &[&str]| {
        let common = ["--keygen", "--key-type", "AES:32", "--label", label, "--usage-decrypt"];
        token.pkcs11_tool(&[&common, extra].concat());
    };
    make("open", &["--sensitive", "--extractable"]);
    make("plain", &[]);
    make("wraps", &["--sensitive"]);
    let cases = [("open", "EXTRACTABLE is true"), ("plain", "SENSITIVE is false"), ("wraps", "WRAP is true")];
    for (label, objection) in cases {
        let error = refusal(Pkcs11Settings { key_label: label.into(), ..token.settings() }).await;
        assert!(matches!(error, StartError::Unfit { .. }), "{error:?}");
        assert!(error.to_string().contains(objection), "{error}");
    }
}

#[tokio::test]
async fn a_token_label_that_no_token_has_is_refused_and_those_that_are_there_are_named() {
    let token = token_with_key().await;
    let error = refusal(Pkcs11Settings { token_label: "kek-tset".into(), ..token.settings() }).await.to_string();
    assert!(error.contains("no token has the configured label kek-tset"), "{error}");
    assert!(error.contains("there are kek-test (serial "), "{error}");
    let serial = refusal(Pkcs11Settings { token_serial: Some("0".into()), ..token.settings() }).await.to_string();
    assert!(serial.contains("label kek-test and serial 0"), "{serial}");
}

#[tokio::test]
async fn a_label_that_names_no_key_or_two_and_a_token_label_that_names_two_are_refused() {
    let token = token_with_key().await;
    let missing = refusal(Pkcs11Settings { key_label: "none".into(), ..token.settings() }).await.to_string();
    assert!(missing.contains("no key in the token has the configured label"), "{missing}");
    assert!(missing.contains("keyward kek create"), "{missing}");
    let twin = ["--keygen", "--key-type", "AES:32", "--label", KEY_LABEL, "--usage-decrypt", "--sensitive"];
    token.pkcs11_tool(&twin);
    let two = refusal(token.settings()).await.to_string();
    assert!(two.contains("several keys in the token"), "{two}");
    token.init(TOKEN_LABEL);
    let tokens = refusal(token.settings()).await.to_string();
    assert!(tokens.contains("several tokens have the configured label"), "{tokens}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_the_token_is_touched() {
    let token = Softhsm::new();
    let env = ("LD_PRELOAD".to_owned(), "/nowhere/x.so".to_owned());
    let cases = [
        (
            Pkcs11Settings { module: Some("/nowhere.so".into()), ..token.settings() },
            "the library /nowhere.so does not exist",
        ),
        (Pkcs11Settings { key_version: Some(0), ..token.settings() }, "key_version counts from 1"),
        (Pkcs11Settings { token_label: String::new(), ..token.settings() }, "token_label must have"),
        (Pkcs11Settings { env: vec![env], ..token.settings() }, "does not let LD_PRELOAD reach the library"),
        (
            Pkcs11Settings { state_dir: "/nowhere".into(), ..token.settings() },
            "the state directory /nowhere does not exist",
        ),
        (
            Pkcs11Settings { profile: ProfileChoice::Shipped("none".into()), ..token.settings() },
            "ships no profile none",
        ),
        (Pkcs11Settings { module: Some("/etc/hostname".into()), ..token.settings() }, "the library cannot be used"),
    ];
    for (settings, problem) in cases {
        let error = refusal(settings).await.to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn a_pin_file_that_others_may_read_is_refused() {
    let token = Softhsm::new();
    token.write_pin(PIN, 0o644);
    let error = refusal(token.settings()).await;
    assert!(matches!(error, StartError::Pin { .. }));
    assert!(error.to_string().contains("has mode 0644: others may reach it, make it 0600"), "{error}");
}

#[tokio::test]
async fn the_admission_is_told_once_with_the_attributes_of_the_key() {
    let token = token_with_key().await;
    let (sink, mut events) = sink();
    let kek = Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink).await.unwrap();
    let Some(KekEvent::Admitted { version, facts, attributes, .. }) = events.recv().await else {
        panic!("no admission")
    };
    assert_eq!((version, facts.kind, facts.development_only), (1, "pkcs11", false));
    assert!(facts.manufacturer.starts_with("SoftHSM") && !facts.serial.is_empty(), "{facts:?}");
    assert!(attributes.contains(&"NEVER_EXTRACTABLE=true".to_owned()), "{attributes:?}");
    kek.random(soon()).await.unwrap();
    assert!(events.try_recv().is_err(), "steady service makes no events");
}

#[tokio::test]
async fn a_killed_worker_is_replaced_by_the_next_call_and_both_are_told() {
    let token = token_with_key().await;
    let (sink, mut events) = sink();
    let kek = Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink).await.unwrap();
    assert!(matches!(events.recv().await, Some(KekEvent::Admitted { .. })));
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let first = kek.worker();
    signal(&kek, Signal::KILL);
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
    assert_ne!(kek.worker(), first);
    assert!(matches!(events.try_recv(), Ok(KekEvent::Unreachable { .. })));
    assert!(matches!(events.try_recv(), Ok(KekEvent::Recovered { .. })));
}

#[tokio::test]
async fn a_hung_worker_costs_its_caller_the_deadline_and_is_then_replaced() {
    let token = token_with_key().await;
    let kek = start(&token).await;
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let first = kek.worker();
    signal(&kek, Signal::STOP);
    let late = kek.unwrap(&wrap, &binding(), within(Duration::from_millis(200))).await.err();
    assert_eq!(late, Some(KekError::Deadline("primary".parse().unwrap())));
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
    assert_ne!(kek.worker(), first);
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_is_not_made() {
    let token = token_with_key().await;
    let kek = start(&token).await;
    let late = kek.random(within(Duration::ZERO)).await.err();
    assert_eq!(late, Some(KekError::Deadline("primary".parse().unwrap())));
    assert_eq!(kek.health(), KekHealth::Reachable);
}

#[tokio::test]
async fn a_token_that_vanishes_is_unreachable_and_serves_again_when_it_is_back() {
    let token = token_with_key().await;
    let kek = start(&token).await;
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    token.pull();
    for _ in 0..3 {
        let away = kek.unwrap(&wrap, &binding(), soon()).await.err();
        assert!(matches!(away, Some(KekError::Unreachable { .. })), "{away:?}");
        assert_eq!(kek.health(), KekHealth::Unreachable);
    }
    token.plug_in();
    recovers(&kek, &wrap).await;
}

#[tokio::test]
async fn a_token_that_is_away_at_the_start_is_admitted_when_it_comes() {
    let token = token_with_key().await;
    let earlier = start(&token).await;
    let wrap = earlier.wrap(&data_key(), &binding(), soon()).await.unwrap();
    token.pull();
    let (sink, mut events) = sink();
    let kek = Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink).await.unwrap();
    assert_eq!(kek.health(), KekHealth::Unreachable);
    assert!(matches!(events.try_recv(), Ok(KekEvent::Unreachable { .. })));
    token.plug_in();
    recovers(&kek, &wrap).await;
    assert!(matches!(events.try_recv(), Ok(KekEvent::Admitted { .. })));
}

#[tokio::test]
async fn a_corrupt_wrap_costs_the_token_neither_its_worker_nor_its_good_name() {
    let token = token_with_key().await;
    let (sink, mut events) = sink();
    let kek = Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink).await.unwrap();
    let mut wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    wrap.blob[20] ^= 1;
    let worker = kek.worker();
    for _ in 0..100 {
        assert_eq!(kek.unwrap(&wrap, &binding(), soon()).await.err(), Some(KekError::BadWrap));
    }
    assert_eq!((kek.health(), kek.worker()), (KekHealth::Reachable, worker));
    assert!(matches!(events.try_recv(), Ok(KekEvent::Admitted { .. })));
    assert!(events.try_recv().is_err(), "nothing but the admission was told");
}

#[tokio::test]
async fn a_key_replaced_under_the_same_label_is_denied() {
    let token = token_with_key().await;
    let kek = start(&token).await;
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    token.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--label", KEY_LABEL]);
    Pkcs11Kek::create_key(token.settings(), Deployment::Development, clock(), Disk::real()).await.unwrap();
    signal(&kek, Signal::KILL);
    let denied = kek.unwrap(&wrap, &binding(), soon()).await.err().unwrap().to_string();
    assert!(denied.contains("not the one that was admitted"), "{denied}");
    assert_eq!(kek.health(), KekHealth::Denied);
}

/// Settings through pkcs11-spy, which writes a line for every call.
#[expect(clippy::disallowed_methods, reason = "a test writes a profile of its own")]
fn spied(token: &Softhsm) -> Pkcs11Settings {
    assert!(std::path::Path::new(SPY).exists(), "{SPY} is missing: install the Debian package opensc-pkcs11");
    let profile = token.dir().join("spied.toml");
    let shipped = include_str!("../../hsm-profiles/softhsm2.toml");
    let with_spy = shipped.replace("[\"SOFTHSM2_CONF\"]", "[\"SOFTHSM2_CONF\", \"PKCS11SPY\", \"PKCS11SPY_OUTPUT\"]");
    std::fs::write(&profile, with_spy).unwrap();
    let mut settings = token.settings();
    settings.profile = ProfileChoice::File(profile);
    settings.module = Some(SPY.into());
    settings.env.push(("PKCS11SPY".into(), MODULE.into()));
    settings.env.push(("PKCS11SPY_OUTPUT".into(), token.dir().join("spy.log").display().to_string()));
    settings
}

fn logins(token: &Softhsm) -> usize {
    std::fs::read_to_string(token.dir().join("spy.log")).unwrap().matches(": C_Login\n").count()
}

#[tokio::test]
async fn a_refused_pin_is_tried_once_across_restarts_until_it_is_replaced() {
    let token = token_with_key().await;
    token.write_pin("00000000", 0o600);
    let settings = spied(&token);
    for _ in 0..3 {
        let error = refusal(settings.clone()).await;
        assert!(matches!(error, StartError::Kek(KekError::Denied { .. })), "{error:?}");
        assert!(error.to_string().contains("keyward kek login --clear"), "{error}");
        assert_eq!(logins(&token), 1);
    }
    token.write_pin(PIN, 0o600);
    let kek = Pkcs11Kek::start(settings, Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap();
    assert_eq!((kek.health(), logins(&token)), (KekHealth::Reachable, 2));
}

#[tokio::test]
async fn a_cleared_latch_allows_one_more_login() {
    let token = token_with_key().await;
    token.write_pin("00000000", 0o600);
    let settings = spied(&token);
    refusal(settings.clone()).await;
    assert_eq!(clear_login(&Disk::real(), &settings.state_dir, &settings.name).unwrap(), 1);
    refusal(settings.clone()).await;
    refusal(settings).await;
    assert_eq!(logins(&token), 2);
}

#[tokio::test]
async fn a_pin_refused_while_serving_is_tried_once_and_a_new_one_heals_without_a_restart() {
    let token = token_with_key().await;
    let kek = Pkcs11Kek::start(spied(&token), Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap();
    let wrap = kek.wrap(&data_key(), &binding(), soon()).await.unwrap();
    token.write_pin("00000000", 0o600);
    signal(&kek, Signal::KILL);
    for _ in 0..5 {
        let denied = kek.unwrap(&wrap, &binding(), soon()).await.err();
        assert!(matches!(denied, Some(KekError::Denied { .. })), "{denied:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((kek.health(), logins(&token)), (KekHealth::Denied, 2));
    token.write_pin(PIN, 0o600);
    recovers(&kek, &wrap).await;
    assert_eq!(logins(&token), 3);
}

#[tokio::test]
async fn a_pin_comes_through_an_inherited_descriptor_too() {
    use std::io::Write;
    use std::os::fd::IntoRawFd;
    let token = token_with_key().await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(PIN.as_bytes()).unwrap();
    drop(writer);
    let pin = PinSource::Descriptor(OwnedFd::from(reader).into_raw_fd());
    let kek = Pkcs11Kek::start(
        Pkcs11Settings { pin: Some(pin), ..token.settings() },
        Deployment::Development,
        clock(),
        Disk::real(),
        sink().0,
    )
    .await
    .unwrap();
    assert_eq!(kek.health(), KekHealth::Reachable);
    signal(&kek, Signal::KILL);
    kek.random(soon()).await.unwrap();
}

#[tokio::test]
async fn the_worker_gets_the_listed_environment_its_door_one_lane_and_no_privileges() {
    let token = token_with_key().await;
    let (inherited, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let leaked = link_of(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inherited)));
    let kek = start(&token).await;
    let worker = format!("/proc/{}", kek.worker().unwrap());
    let status = std::fs::read_to_string(format!("{worker}/status")).unwrap();
    assert!(status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"])), "{status}");
    let limits = std::fs::read_to_string(format!("{worker}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{core}");
    if !rustix::process::geteuid().is_root() {
        // Not dumpable: not even we, its parent, may look.
        return assert!(std::fs::read(format!("{worker}/environ")).is_err());
    }
    let environ = std::fs::read(format!("{worker}/environ")).unwrap();
    assert_eq!(environ, format!("SOFTHSM2_CONF={}\0", token.conf().display()).as_bytes());
    let open: Vec<String> = std::fs::read_dir(format!("{worker}/fd"))
        .unwrap()
        .map(|entry| link_of(&entry.unwrap().path().display().to_string()))
        .collect();
    assert!(!open.contains(&leaked), "{open:?}");
    let sockets: std::collections::BTreeSet<_> = open.iter().filter(|link| link.starts_with("socket:")).collect();
    assert_eq!(sockets.len(), 2, "its door and the one lane in use: {open:?}");
}

fn link_of(path: &str) -> String {
    std::fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn a_worker_ends_in_order_when_its_sidecar_is_gone_and_refuses_to_run_without_one() {
    let worker = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.arg("kek-worker").env_clear();
        command
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = worker().stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(ours);
    assert!(child.wait().unwrap().success());
    assert_eq!(worker().stdin(Stdio::null()).status().unwrap().code(), Some(2));
}

#[tokio::test]
async fn a_worker_stopped_in_a_call_ends_after_its_sidecar() {
    let token = token_with_key().await;
    let kek = start(&token).await;
    let process = kek.worker().unwrap();
    signal(&kek, Signal::STOP);
    drop(kek);
    for _ in 0..600 {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        if status.is_empty() || status.contains("State:\tZ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the worker {process} outlives its sidecar");
}

#[tokio::test]
async fn a_wrap_opens_with_the_token_alone_through_a_client_that_is_not_ours() {
    let token = token_with_key().await;
    let kek =
        Pkcs11Kek::start(token.settings(), Deployment::Development, clock(), Disk::real(), sink().0).await.unwrap();
    let key = data_key();
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let example = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("unwrap");
    let run = |blob: &[u8]| {
        Command::new(&example)
            .args([MODULE, TOKEN_LABEL, KEY_LABEL])
            .arg(token.pin())
            .args([hex::encode(binding().encode(wrap.method)), hex::encode(blob)])
            .env("SOFTHSM2_CONF", token.conf())
            .output()
            .unwrap()
    };
    let opened = run(&wrap.blob);
    let expected = hex::encode(keyward::crypto::sha256(&[key.expose_for_wrapping()]));
    assert_eq!(String::from_utf8_lossy(&opened.stdout).trim(), expected, "{}", String::from_utf8_lossy(&opened.stderr));
    let mut altered = wrap.blob;
    altered[20] ^= 1;
    assert!(!run(&altered).status.success());
}
