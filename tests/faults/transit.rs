//! What goes wrong with an OpenBao server, done to a real one: in each case what a caller hears, what health says, which
//! events the log gets, and that nobody has to restart keyward.

use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, Deadline, ManualClock, SharedClock, SystemClock, Wall};
use keyward::crypto::DataKey;
use keyward::kek::transit::{TransitKek, TransitSettings};
use keyward::kek::{Deployment, EventSink, Kek, KekError, KekEvent, KekHealth, Wrap, WrapBinding, WrapRole};
use serde_json::json;
use tokio::sync::mpsc;

use crate::openbao::{FULL, OpenBao};

/// A running KEK, what it reports, and a wrap that it made.
struct Subject {
    kek: Arc<TransitKek>,
    events: mpsc::Receiver<KekEvent>,
    key: DataKey,
    wrap: Wrap,
}

impl Subject {
    async fn start(settings: TransitSettings) -> Self {
        Self::start_by(settings, Arc::new(SystemClock), soon()).await
    }

    async fn start_by(settings: TransitSettings, clock: SharedClock, soon: Deadline) -> Self {
        let (sender, events) = mpsc::channel(64);
        let kek = TransitKek::start(settings, Deployment::Development, clock, EventSink::new(sender)).await.unwrap();
        let key = DataKey::generate(&[]).unwrap();
        let wrap = kek.wrap(&key, &binding(), soon).await.unwrap();
        let mut subject = Self { kek, events, key, wrap };
        assert_eq!(subject.heard(), ["admitted"]);
        subject
    }

    async fn open(&self) -> Result<(), KekError> {
        self.opens(&self.wrap).await
    }

    async fn opens(&self, wrap: &Wrap) -> Result<(), KekError> {
        let opened = self.kek.unwrap(wrap, &binding(), soon()).await?;
        assert_eq!(opened.expose_for_wrapping(), self.key.expose_for_wrapping());
        Ok(())
    }

    async fn wrap_again(&self) -> Result<Wrap, KekError> {
        self.kek.wrap(&self.key, &binding(), soon()).await
    }

    /// The events since the last call, by name, an outage or refusal with its detail.
    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(told).collect()
    }

    /// The caller hears a word of the outage, health and the log say it once, and nothing says it twice.
    async fn is_away(&mut self, because: &str) {
        for _ in 0..3 {
            let error = self.open().await.err();
            assert!(matches!(&error, Some(KekError::Unreachable { .. })), "{error:?}");
            assert_eq!(self.kek.health(), KekHealth::Unreachable);
        }
        self.said_once("unreachable: ", because);
    }

    async fn is_refused(&mut self, because: &str) {
        for _ in 0..3 {
            let error = self.open().await.err();
            assert!(matches!(&error, Some(KekError::Denied { .. })), "{error:?}");
            assert_eq!(self.kek.health(), KekHealth::Denied);
        }
        self.said_once("refused: ", because);
    }

    #[track_caller]
    fn said_once(&mut self, what: &str, because: &str) {
        let heard = self.heard();
        assert!(heard.len() == 1 && heard[0].starts_with(what) && heard[0].contains(because), "{heard:?}");
    }

    /// The reason changes once the breaker has let somebody look.
    async fn is_told(&self, reason: &str) {
        let give_up = soon();
        while !matches!(self.open().await, Err(KekError::Denied { detail, .. }) if detail.contains(reason)) {
            assert!(give_up.left(SystemClock.mono()).is_some(), "nobody says {reason}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nobody asks: it comes back by itself.
    async fn recovers(&mut self) {
        until("it recovers", || self.kek.health() == KekHealth::Reachable).await;
        assert_eq!(self.heard(), ["recovered"]);
        self.open().await.unwrap();
    }
}

fn told(event: KekEvent) -> String {
    match event {
        KekEvent::Admitted { .. } => "admitted".into(),
        KekEvent::Recovered { .. } => "recovered".into(),
        KekEvent::Unreachable { detail, .. } => format!("unreachable: {detail}"),
        KekEvent::Refused { detail, .. } => format!("refused: {detail}"),
        KekEvent::FailedOver { .. } => "failed over".into(),
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let give_up = soon();
    while !is_so() {
        assert!(give_up.left(SystemClock.mono()).is_some(), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn within(time: Duration) -> Deadline {
    Deadline(SystemClock.mono().plus(time))
}

/// Long enough for a loaded machine: tests that pass never wait for it.
fn soon() -> Deadline {
    within(Duration::from_secs(60))
}

fn binding() -> WrapBinding {
    WrapBinding {
        store: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        owner: "default/patients".into(),
        key: "0011223344556677".parse().unwrap(),
        kek: "primary".parse().unwrap(),
        role: WrapRole::Primary,
        created: Wall(1_700_000_000_000_000),
    }
}

#[tokio::test]
async fn a_sealed_server_is_away_until_it_is_unsealed() {
    let bao = OpenBao::new();
    let place = bao.place();
    let mut subject = Subject::start(place.settings()).await;
    bao.seal();
    subject.is_away("Vault is sealed").await;
    assert!(matches!(subject.wrap_again().await, Err(KekError::Unreachable { .. })));
    bao.unseal();
    subject.recovers().await;
}

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again_is_used_again() {
    let bao = OpenBao::new();
    let place = bao.place();
    let mut subject = Subject::start(place.settings()).await;
    bao.stop();
    subject.is_away("").await;
    bao.start();
    assert_eq!(subject.kek.health(), KekHealth::Unreachable, "sealed");
    bao.unseal();
    subject.recovers().await;
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_admitted_when_it_comes() {
    let bao = OpenBao::new();
    let place = bao.place();
    let settings = place.settings();
    bao.stop();
    let (sender, mut events) = mpsc::channel(64);
    let started = TransitKek::start(settings, Deployment::Development, Arc::new(SystemClock), EventSink::new(sender));
    let kek = started.await.unwrap();
    assert_eq!(kek.health(), KekHealth::Unreachable);
    let refused = kek.wrap(&DataKey::generate(&[]).unwrap(), &binding(), soon()).await.err();
    assert!(matches!(refused, Some(KekError::Unreachable { .. })), "{refused:?}");
    assert!(told(events.try_recv().unwrap()).starts_with("unreachable: "));
    bao.start();
    bao.unseal();
    until("it is admitted", || kek.health() == KekHealth::Reachable).await;
    assert_eq!(told(events.try_recv().unwrap()), "admitted");
    kek.wrap(&DataKey::generate(&[]).unwrap(), &binding(), soon()).await.unwrap();
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_caller_its_deadline_and_is_then_away() {
    let bao = OpenBao::new();
    let place = bao.place();
    let mut subject = Subject::start(place.settings()).await;
    bao.signal("STOP");
    let short = within(Duration::from_millis(200));
    let error = subject.kek.unwrap(&subject.wrap, &binding(), short).await.err();
    assert!(matches!(error, Some(KekError::Deadline(_))), "{error:?}");
    until("the call's own limit shows the outage", || subject.kek.health() == KekHealth::Unreachable).await;
    subject.said_once("unreachable: ", "no answer within 5 s");
    bao.signal("CONT");
    subject.recovers().await;
}

#[tokio::test]
async fn an_outage_is_seen_while_nobody_asks() {
    let bao = OpenBao::new();
    let place = bao.place();
    let clock = ManualClock::at(Wall(1_700_000_000_000_000));
    let far = Deadline(clock.mono().plus(Duration::from_secs(1_000_000)));
    let mut subject = Subject::start_by(place.settings(), clock.clone(), far).await;
    bao.seal();
    assert_eq!(subject.kek.health(), KekHealth::Reachable, "nobody has asked");
    clock.advance(Duration::from_secs(31));
    until("the canary does not open", || subject.kek.health() == KekHealth::Unreachable).await;
    subject.said_once("unreachable: ", "Vault is sealed");
}

#[tokio::test]
async fn a_dropped_kek_leaves_no_task_behind() {
    let place = OpenBao::shared().place();
    let Subject { kek, mut events, .. } = Subject::start(place.settings()).await;
    drop(kek);
    assert_eq!(events.recv().await, None, "whoever could report is gone");
}

#[tokio::test]
async fn a_revoked_token_refuses_until_its_file_holds_another() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.bao.admin("POST", "auth/token/revoke", &json!({"token": place.token()}));
    subject.is_refused("the token is refused and its file holds no other").await;
    place.new_token(&json!({}));
    subject.recovers().await;
}

#[tokio::test]
async fn a_token_that_was_replaced_in_its_file_is_taken_before_anybody_is_refused() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    let old = place.token();
    place.new_token(&json!({}));
    place.bao.admin("POST", "auth/token/revoke", &json!({"token": old}));
    subject.open().await.unwrap();
    assert_eq!(subject.kek.health(), KekHealth::Reachable);
    assert_eq!(subject.heard(), [""; 0]);
}

#[tokio::test]
async fn a_revoked_login_is_made_anew_and_nobody_notices() {
    let place = OpenBao::shared().place();
    let auth = place.approle(&json!({}));
    let mut subject = Subject::start(place.settings_with(auth)).await;
    place.revoke_logins();
    let calls: Vec<_> = (0..8).map(|_| subject.open()).collect();
    for call in calls {
        call.await.unwrap();
    }
    place.revoke_logins();
    subject.wrap_again().await.unwrap();
    assert_eq!(subject.kek.health(), KekHealth::Reachable);
    assert_eq!(subject.heard(), [""; 0]);
}

#[tokio::test]
async fn a_secret_id_that_is_gone_refuses_until_its_file_holds_another() {
    let place = OpenBao::shared().place();
    let auth = place.approle(&json!({}));
    let mut subject = Subject::start(place.settings_with(auth)).await;
    let role = format!("auth/approle-{}/role/kek/secret-id", place.name);
    let secret_id = std::fs::read_to_string(place.file("secret-id")).unwrap();
    place.bao.admin("POST", &format!("{role}/destroy"), &json!({"secret_id": secret_id.trim()}));
    place.revoke_logins();
    subject.is_refused("the approle login is refused").await;
    let made = place.bao.admin("POST", &role, &json!({}));
    place.write("secret-id", made["data"]["secret_id"].as_str().unwrap(), 0o600);
    subject.recovers().await;
}

#[tokio::test]
async fn a_permission_that_is_taken_away_refuses_until_it_is_given_back() {
    let place = OpenBao::shared().place();
    let without_decrypt: Vec<_> = FULL.iter().filter(|(path, _)| *path != "decrypt/kek").copied().collect();
    for auth in [place.settings().auth, place.approle(&json!({}))] {
        let mut subject = Subject::start(place.settings_with(auth)).await;
        place.allow(&without_decrypt);
        subject.is_refused("permission denied").await;
        place.allow(FULL);
        subject.recovers().await;
    }
}

#[tokio::test]
async fn a_permission_to_wrap_that_is_taken_away_refuses_new_keys_alone() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.allow(&FULL.iter().filter(|(path, _)| *path != "encrypt/kek").copied().collect::<Vec<_>>());
    for _ in 0..2 {
        let error = subject.wrap_again().await.err();
        assert!(matches!(&error, Some(KekError::Denied { .. })), "{error:?}");
        subject.open().await.unwrap();
        assert_eq!(subject.kek.health(), KekHealth::Reachable);
    }
    assert_eq!(subject.heard(), [""; 0]);
}

#[tokio::test]
async fn a_raised_key_version_is_no_fault() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/rotate", &json!({}));
    subject.open().await.unwrap();
    assert_eq!(subject.wrap_again().await.unwrap().kek_version, 2);
    assert_eq!(subject.kek.health(), KekHealth::Reachable);
    assert_eq!(subject.heard(), [""; 0]);
}

#[tokio::test]
async fn a_raised_min_decryption_version_retires_older_wraps_once_and_the_rest_serves_on() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/rotate", &json!({}));
    let new = subject.wrap_again().await.unwrap();
    place.key("POST", "/config", &json!({"min_decryption_version": 2}));
    for _ in 0..3 {
        let error = subject.open().await.err();
        assert!(matches!(&error, Some(KekError::Unsupported(_))), "evicts nothing by itself: {error:?}");
        subject.opens(&new).await.unwrap();
        assert_eq!(subject.kek.health(), KekHealth::Reachable);
    }
    let retired = "refused: min_decryption_version is 2 now: wraps of older versions no longer open";
    assert_eq!(subject.heard(), [retired, "recovered"], "cached keys are evicted once");
    place.key("POST", "/config", &json!({"min_decryption_version": 1}));
    subject.open().await.unwrap();
    subject.opens(&new).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_deleted_refuses_and_another_one_of_its_name_is_not_used() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/config", &json!({"deletion_allowed": true}));
    place.key("DELETE", "", &json!(null));
    subject.is_refused("encryption key not found").await;
    place.key("POST", "", &json!({}));
    subject.is_told("not the one that was admitted").await;
    assert_eq!(subject.kek.health(), KekHealth::Denied);
    assert_eq!(subject.heard(), [""; 0], "refused it is already");
}

#[tokio::test]
async fn a_deleted_key_is_not_made_anew_by_wrapping() {
    let place = OpenBao::shared().place();
    place.allow(&[&FULL[..1], &FULL[2..], &[("encrypt/kek", "create\", \"update")]].concat());
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/config", &json!({"deletion_allowed": true}));
    place.key("DELETE", "", &json!(null));
    let error = subject.wrap_again().await.err();
    assert!(matches!(&error, Some(KekError::Denied { .. })), "{error:?}");
    subject.said_once("refused: ", "encryption key not found");
    let path = format!("{}/keys/kek", place.name);
    let (status, _) = place.bao.call("GET", &path, place.bao.root(), &json!(null));
    assert_eq!(status, 404, "the server would have made one");
}

#[tokio::test]
async fn a_soft_deleted_key_refuses_until_it_is_restored() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/config", &json!({"deletion_allowed": true}));
    place.key("DELETE", "/soft-delete", &json!(null));
    subject.is_refused("soft-deleted").await;
    place.key("POST", "/soft-delete-restore", &json!({}));
    subject.recovers().await;
}

#[tokio::test]
async fn a_key_that_becomes_exportable_is_refused_at_the_next_look() {
    let place = OpenBao::shared().place();
    let mut subject = Subject::start(place.settings()).await;
    place.key("POST", "/config", &json!({"exportable": true}));
    place.allow(&FULL[..1]);
    subject.is_refused("permission denied").await;
    place.allow(FULL);
    subject.is_told("it is exportable").await;
    assert_eq!(subject.kek.health(), KekHealth::Denied);
}

#[tokio::test]
async fn a_token_is_renewed_at_two_thirds_of_its_lease() {
    let place = OpenBao::shared().place();
    let auth = place.approle(&json!({"token_ttl": "1h", "token_max_ttl": "24h"}));
    let clock = ManualClock::at(Wall(1_700_000_000_000_000));
    let far = Deadline(clock.mono().plus(Duration::from_secs(1_000_000)));
    let mut subject = Subject::start_by(place.settings_with(auth), clock.clone(), far).await;
    let logins = place.logins();
    assert_eq!(logins.len(), 1);
    let renewed = || !place.renewed(&logins[0]).is_null();
    clock.advance(Duration::from_secs(33 * 60));
    until("the canary has had its turn", || subject.kek.health() == KekHealth::Reachable).await;
    assert!(!renewed(), "a tenth before two thirds is the earliest");
    clock.advance(Duration::from_secs(8 * 60));
    until("the token is renewed", renewed).await;
    assert_eq!(place.logins(), logins, "renewed, not replaced");
    assert_eq!(subject.kek.health(), KekHealth::Reachable);
    assert_eq!(subject.heard(), [""; 0]);
}

#[tokio::test]
async fn a_login_that_cannot_be_renewed_any_further_is_made_anew() {
    let place = OpenBao::shared().place();
    let auth = place.approle(&json!({"token_ttl": "1h", "token_max_ttl": "24h"}));
    let clock = ManualClock::at(Wall(1_700_000_000_000_000));
    let far = Deadline(clock.mono().plus(Duration::from_secs(1_000_000)));
    let mut subject = Subject::start_by(place.settings_with(auth), clock.clone(), far).await;
    let first = place.logins();
    assert_eq!(first.len(), 1);
    let shorter = json!({"token_policies": [place.name], "token_ttl": "1m", "token_max_ttl": "1m"});
    place.bao.admin("POST", &format!("auth/approle-{}/role/kek", place.name), &shorter);
    clock.advance(Duration::from_secs(41 * 60));
    until("another token is in use and the old one revoked", || {
        let logins = place.logins();
        logins.len() == 1 && logins != first
    })
    .await;
    assert_eq!(subject.kek.health(), KekHealth::Reachable);
    assert_eq!(subject.heard(), [""; 0]);
}
