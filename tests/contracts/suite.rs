//! What every key-encryption key must keep, whoever made the token and by whichever method it wraps. One function a claim;
//! `live.rs` runs each on every token.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]

use std::any::Any;
use std::sync::Arc;

use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::profile::{AttributeName, Profile};
use keyward::kek::{
    Deployment, Kek, KekError, KekHealth, Rotated, Settings, StartError, Uptake, Wrap, WrapBinding, WrapRole,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::kek::{binding, clock, data_key, opens, sink, soon};
use crate::tokens::SECOND_KEY_LABEL;

/// A token with the key `kek-1`.
pub struct Subject {
    pub settings: Pkcs11Settings,
    /// Who makes the key `kek-2`; the vendor's tool has made it already.
    pub second: Second,
    /// Of a wrap's bytes, every so many are changed: a TPM takes a tenth of a second for each.
    pub stride: usize,
    /// Lives as long as the subject.
    pub _token: Box<dyn Any>,
}

/// How a token comes to its second key.
#[derive(PartialEq)]
pub enum Second {
    /// `keyward kek create`, when it is needed: RSA keys take their time.
    OnDemand,
    /// It is there.
    Made,
}

impl Subject {
    /// Makes the key, as `keyward kek create` does.
    pub async fn create(settings: Pkcs11Settings, token: Box<dyn Any>) -> Self {
        create_key(settings.clone()).await;
        Self { settings, second: Second::OnDemand, stride: 1, _token: token }
    }

    /// Settings that reach the second key.
    async fn second(&self) -> Pkcs11Settings {
        let settings = Pkcs11Settings { key_label: SECOND_KEY_LABEL.into(), ..self.settings.clone() };
        if self.second == Second::OnDemand {
            create_key(settings.clone()).await;
        }
        settings
    }

    /// RSA blobs are long and their canaries slow.
    pub fn sparing(self, method: &str) -> Self {
        Self { stride: if method == "rsa-oaep" { 7 } else { 1 }, ..self }
    }

    async fn kek(&self) -> Arc<Pkcs11Kek> {
        start(self.settings.clone()).await
    }
}

async fn create_key(settings: Pkcs11Settings) {
    let made = Pkcs11Kek::create_key(settings, Deployment::Production, clock(), Disk::real()).await.unwrap();
    assert_eq!(made.objection, None);
}

/// As `keyward kek rotate` does.
pub async fn rotate(settings: &Pkcs11Settings, to: Option<u32>) -> Result<Rotated, StartError> {
    let settings = Settings::Pkcs11(Box::new(settings.clone()));
    keyward::kek::rotate(settings, to, Deployment::Production, clock(), Disk::real()).await
}

async fn start(settings: Pkcs11Settings) -> Arc<Pkcs11Kek> {
    let kek = Pkcs11Kek::start(settings, Deployment::Production, clock(), Disk::real(), sink().0).await.unwrap();
    assert_eq!(kek.health(), KekHealth::Reachable);
    kek
}

async fn refusal(kek: &Pkcs11Kek, wrap: &Wrap, binding: &WrapBinding) -> Option<KekError> {
    kek.unwrap(wrap, binding, soon()).await.err()
}

pub async fn a_wrap_opens_to_its_key_and_survives_its_stored_form(subject: &Subject) {
    let (kek, key) = (subject.kek().await, data_key());
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!(wrap.check_value, key.check_value());
    let stored = Wrap::decode(&wrap.encode()).unwrap();
    assert_eq!(stored, wrap);
    opens(kek.as_ref(), &stored, &key).await.unwrap();
    let (at_once, opened) = kek.wrap_and_open(&key, &binding(), soon()).await.unwrap();
    assert_eq!(opened.check_value(), key.check_value());
    opens(kek.as_ref(), &at_once, &key).await.unwrap();
    assert_eq!(kek.health(), KekHealth::Reachable);
}

pub async fn two_wraps_of_one_key_share_no_eight_bytes(subject: &Subject) {
    let (kek, key) = (subject.kek().await, data_key());
    let one = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let two = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let shared = one.blob.windows(8).find(|run| two.blob.windows(8).any(|other| other == *run));
    assert_eq!(shared, None);
    let plain = key.expose_for_wrapping();
    assert!(!one.blob.windows(8).any(|run| plain.windows(8).any(|part| part == run)));
}

pub async fn a_wrap_opens_under_no_other_binding(subject: &Subject) {
    type Change = fn(&mut WrapBinding);
    let changes: [(&str, Change); 6] = [
        ("store", |binding| binding.store.0[0] ^= 1),
        ("owner", |binding| binding.owner.push('x')),
        ("key", |binding| binding.key.0[7] ^= 1),
        ("kek", |binding| binding.kek = "escrow".parse().unwrap()),
        ("role", |binding| binding.role = WrapRole::Escrow),
        ("created", |binding| binding.created.0 += 1),
    ];
    let (kek, key) = (subject.kek().await, data_key());
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    for (field, change) in changes {
        let mut other = binding();
        change(&mut other);
        assert_eq!(refusal(&kek, &wrap, &other).await, Some(KekError::BadWrap), "{field}");
        assert_eq!(kek.health(), KekHealth::Reachable, "{field}");
    }
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
}

pub async fn a_changed_wrap_is_refused_and_the_token_keeps_its_worker(subject: &Subject) {
    let (kek, key) = (subject.kek().await, data_key());
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let worker = kek.worker();
    for at in (0..wrap.blob.len()).step_by(subject.stride) {
        let mut bent = wrap.clone();
        bent.blob[at] ^= 1 << (at % 8);
        assert_eq!(refusal(&kek, &bent, &binding()).await, Some(KekError::BadWrap), "byte {at}");
        let short = Wrap { blob: wrap.blob[..at].to_vec(), ..wrap.clone() };
        assert_eq!(refusal(&kek, &short, &binding()).await, Some(KekError::BadWrap), "{at} bytes");
    }
    let long = Wrap { blob: [&wrap.blob[..], &[0]].concat(), ..wrap.clone() };
    assert_eq!(refusal(&kek, &long, &binding()).await, Some(KekError::BadWrap));
    let mut check = wrap.clone();
    check.check_value[15] ^= 1;
    assert_eq!(refusal(&kek, &check, &binding()).await, Some(KekError::BadWrap));
    assert_eq!((kek.health(), kek.worker()), (KekHealth::Reachable, worker));
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
}

pub async fn a_wrap_by_another_key_of_the_token_is_refused(subject: &Subject) {
    let foreign = start(subject.second().await).await.wrap(&data_key(), &binding(), soon()).await.unwrap();
    let kek = subject.kek().await;
    assert_eq!(refusal(&kek, &foreign, &binding()).await, Some(KekError::BadWrap));
    assert_eq!(kek.health(), KekHealth::Reachable);
}

pub async fn thirty_two_callers_at_once_all_get_their_own_key(subject: &Subject) {
    let kek = subject.kek().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let kek = kek.clone();
        tasks.spawn(async move {
            let key = data_key();
            let wrap = kek.wrap(&key, &binding(), soon()).await?;
            opens(kek.as_ref(), &wrap, &key).await
        });
    }
    let failed: Vec<_> = tasks.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

pub async fn the_token_gives_randomness(subject: &Subject) {
    let kek = subject.kek().await;
    let (one, two) = (kek.random(soon()).await.unwrap(), kek.random(soon()).await.unwrap());
    assert_eq!(one.len(), 32);
    assert_ne!(one, two);
}

pub async fn the_key_is_fit_and_the_token_reports_what_its_profile_says(subject: &Subject) {
    let shown =
        Pkcs11Kek::inspect(subject.settings.clone(), Deployment::Production, clock(), Disk::real()).await.unwrap();
    assert_eq!(shown.objection, None);
    let key = &shown.attributes;
    assert_eq!((key.sensitive, key.extractable), (Some(true), Some(false)));
    let profile = Profile::load(&subject.settings.profile).unwrap();
    let told = |name| match name {
        AttributeName::Sensitive => key.sensitive,
        AttributeName::Extractable => key.extractable.map(|value| !value),
        AttributeName::AlwaysSensitive => key.always_sensitive,
        AttributeName::NeverExtractable => key.never_extractable,
        AttributeName::Local => key.local,
        AttributeName::KeyGenMechanism => key.generated_by.map(|_| true),
        AttributeName::Modifiable => key.modifiable.map(|_| true),
    };
    for name in [
        AttributeName::Sensitive,
        AttributeName::Extractable,
        AttributeName::AlwaysSensitive,
        AttributeName::NeverExtractable,
        AttributeName::Local,
        AttributeName::KeyGenMechanism,
        AttributeName::Modifiable,
    ] {
        assert_eq!(told(name) == Some(true), profile.reports(name), "{name:?} is {:?}", told(name));
    }
    let unmodifiable = profile.attributes.settable.contains(&AttributeName::Modifiable);
    assert!(!unmodifiable || key.modifiable == Some(false));
}

pub async fn a_key_for_another_use_is_refused(subject: &Subject) {
    let profile = Profile::load(&subject.settings.profile).unwrap();
    let used = profile.chosen(subject.settings.method.as_deref()).unwrap().name();
    let role = |method: &str| match method {
        "unwrap-getattr" => 0,
        "rsa-oaep" => 1,
        _ => 2,
    };
    let others = profile.wrap.iter().map(|wrap| wrap.name()).filter(|name| role(name) != role(used));
    let settings = match others.into_iter().next() {
        Some(other) => {
            let settings = Pkcs11Settings { key_label: "other".into(), ..subject.settings.clone() };
            create_key(Pkcs11Settings { method: Some(other.into()), ..settings.clone() }).await;
            settings
        }
        // A token of one method has one other kind of key: that of its MACs.
        None => Pkcs11Settings { key_label: "kek-1.mac".into(), ..subject.settings.clone() },
    };
    let started = Pkcs11Kek::start(settings, Deployment::Production, clock(), Disk::real(), sink().0).await;
    let refused = started.err().expect("a key for another use was admitted");
    assert!(matches!(refused, StartError::Unfit { .. }), "{refused}");
}

pub async fn a_wrap_outlives_the_worker_and_the_sidecar(subject: &Subject) {
    let (kek, key) = (subject.kek().await, data_key());
    let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
    let worker = kek.worker().unwrap();
    kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();
    opens(kek.as_ref(), &wrap, &key).await.unwrap();
    assert_ne!(kek.worker(), Some(worker));
    drop(kek);
    opens(subject.kek().await.as_ref(), &wrap, &key).await.unwrap();
}

pub async fn after_a_rotation_wraps_of_both_versions_open(subject: &Subject) {
    let version = |version| Pkcs11Settings {
        key_label: "kek-{version}".into(),
        key_version: Some(version),
        ..subject.settings.clone()
    };
    let (one, two) = (data_key(), data_key());
    subject.second().await;
    let first = start(version(1)).await.wrap(&one, &binding(), soon()).await.unwrap();
    let kek = start(version(2)).await;
    let second = kek.wrap(&two, &binding(), soon()).await.unwrap();
    assert_eq!((first.kek_version, second.kek_version), (1, 2));
    opens(kek.as_ref(), &first, &one).await.unwrap();
    opens(kek.as_ref(), &second, &two).await.unwrap();
    // A fleet is restarted one sidecar at a time: the one that is not yet opens what the others wrap.
    opens(start(version(1)).await.as_ref(), &second, &two).await.unwrap();
    let newest = start(Pkcs11Settings { key_version: None, ..version(1) }).await;
    assert_eq!(newest.current_version(), Some(2));
    opens(newest.as_ref(), &first, &one).await.unwrap();
    let swapped = Wrap { kek_version: 1, ..second };
    assert_eq!(refusal(&kek, &swapped, &binding()).await, Some(KekError::BadWrap));
    let unknown = Wrap { kek_version: 3, ..first };
    let told = refusal(&kek, &unknown, &binding()).await;
    assert!(matches!(&told, Some(KekError::Unsupported(what)) if what.contains("label kek-3")), "{told:?}");
    assert_eq!(kek.health(), KekHealth::Reachable);
}

pub async fn a_rotation_makes_the_next_version_once_and_both_old_and_new_sidecars_open_its_wraps(subject: &Subject) {
    let settings = Pkcs11Settings { key_label: "kek-{version}".into(), key_version: None, ..subject.settings.clone() };
    let (running, key) = (start(settings.clone()).await, data_key());
    let before = running.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!(Some(before.kek_version), running.current_version());
    if subject.second == Second::Made {
        let told = rotate(&settings, None).await.err().unwrap().to_string();
        return assert!(told.contains("there is no key kek-3") && told.contains("vendor's tools"), "{told}");
    }
    let rotated = rotate(&settings, None).await.unwrap();
    assert_eq!((rotated.version, rotated.uptake), (2, Uptake::Looking));
    assert_eq!(rotated.made.first().map(String::as_str), Some("kek-2"));
    let again = rotate(&settings, Some(2)).await.unwrap();
    assert_eq!((again.version, again.made), (2, vec![]));
    let versions: Vec<_> = again.report.versions.iter().map(|one| (one.number, one.objection.as_deref())).collect();
    assert_eq!(versions, [(1, None), (2, None)]);
    let restarted = start(settings).await;
    let after = restarted.wrap(&key, &binding(), soon()).await.unwrap();
    assert_eq!((before.kek_version, after.kek_version), (1, 2));
    for kek in [&running, &restarted] {
        opens(kek.as_ref(), &before, &key).await.unwrap();
        opens(kek.as_ref(), &after, &key).await.unwrap();
        assert_eq!(kek.health(), KekHealth::Reachable);
    }
}
