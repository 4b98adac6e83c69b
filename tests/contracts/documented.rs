//! Does keyward wrap as the documents of each product say it must? Every method of every profile whose product cannot be
//! had here, through the shim, which keeps the product's rules over Kryoptic and refuses what the product refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its key-encryption key must fail")]
#![allow(clippy::disallowed_methods, reason = "a test writes profiles of its own")]

use std::sync::Arc;

use keyward::durable::Disk;
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::profile::{
    AttributeName, IvMode, PinShape, Profile, ProfileChoice, SHIPPED, User, Verified, WrapMethod,
};
use keyward::kek::{Deployment, Kek, KekError, KekHealth, StartError};

use crate::kek::{binding, clock, data_key, opens, sink, soon};
use crate::tokens::kryoptic::Kryoptic;
use crate::tokens::shim::Shimmed;

/// One method of one profile: the profile with nothing but its table.
struct Documented {
    profile: Profile,
    text: String,
}

fn documented() -> Vec<Documented> {
    let from_documents = SHIPPED.iter().filter(|(_, text)| Profile::parse(text).unwrap().verified != Verified::Live);
    let each = from_documents.flat_map(|(_, text)| {
        let whole: toml::Table = toml::from_str(text).unwrap();
        let wraps = whole["wrap"].as_array().unwrap().clone();
        wraps.into_iter().map(move |wrap| {
            let mut one = whole.clone();
            one.insert("wrap".into(), vec![wrap].into());
            toml::to_string(&one).unwrap()
        })
    });
    each.map(|text| Documented { profile: Profile::parse(&text).unwrap(), text }).collect()
}

impl Documented {
    fn wrap(&self) -> &WrapMethod {
        &self.profile.wrap[0]
    }

    fn name(&self) -> String {
        format!("{} by {:?}", self.profile.id, self.wrap().method())
    }

    /// What the product refuses, as far as its profile says.
    fn quirks(&self) -> String {
        let mut quirks = vec!["no_length_query".to_owned()];
        if self.profile.session.read_write {
            quirks.push("no_ro_session".into());
        }
        if self.profile.session.max > 0 {
            quirks.push(format!("max_sessions:{}", self.profile.session.max));
        }
        let types = [
            (AttributeName::AlwaysSensitive, cryptoki_sys::CKA_ALWAYS_SENSITIVE),
            (AttributeName::NeverExtractable, cryptoki_sys::CKA_NEVER_EXTRACTABLE),
            (AttributeName::Local, cryptoki_sys::CKA_LOCAL),
            (AttributeName::KeyGenMechanism, cryptoki_sys::CKA_KEY_GEN_MECHANISM),
            (AttributeName::Modifiable, cryptoki_sys::CKA_MODIFIABLE),
        ];
        let hidden = types.into_iter().filter(|(name, _)| !self.profile.reports(*name));
        quirks.extend(hidden.map(|(_, kind)| format!("no_attribute:{kind:#x}")));
        quirks.extend(match self.wrap() {
            WrapMethod::AesGcm { iv: IvMode::HsmWriteback, mechanism: 0x8001_E101, .. } => Some("cloudkms".into()),
            WrapMethod::AesGcm { iv: IvMode::HsmWriteback, mechanism, .. } => {
                Some(format!("gcm_iv_writeback:{mechanism:#x}"))
            }
            WrapMethod::AesGcm { iv: IvMode::HsmAppended, mechanism, .. } => {
                Some(format!("gcm_iv_appended:{mechanism:#x}"))
            }
            WrapMethod::AesGcm { iv: IvMode::HsmPrepended, mechanism, .. } => {
                Some(format!("gcm_iv_prepended:{mechanism:#x}"))
            }
            WrapMethod::UnwrapGetattr { mechanism, value_len, .. } => {
                let len = if *value_len { ",unwrap_needs_value_len" } else { "" };
                Some(format!("wrap_only:{mechanism:#x}{len}"))
            }
            _ => None,
        });
        if !matches!(self.wrap(), WrapMethod::UnwrapGetattr { .. }) {
            quirks.push("no_cka_value".into());
        }
        quirks.join(",")
    }

    /// The vendor's numbers for what Kryoptic knows by the standard's.
    fn mechanisms(&self) -> String {
        let (number, standard) = match *self.wrap() {
            WrapMethod::AesGcm { mechanism, .. } => (mechanism, cryptoki_sys::CKM_AES_GCM),
            WrapMethod::AesKwp { mechanism, .. } => (mechanism, 0x210B),
            WrapMethod::AesKw { mechanism, .. } | WrapMethod::UnwrapGetattr { mechanism, .. } => {
                (mechanism, cryptoki_sys::CKM_AES_KEY_WRAP)
            }
            WrapMethod::AesCbcHmac { mechanism, .. } => (mechanism, cryptoki_sys::CKM_AES_CBC_PAD),
            WrapMethod::RsaOaep { mechanism, .. } => (mechanism, cryptoki_sys::CKM_RSA_PKCS_OAEP),
        };
        if number == standard { String::new() } else { format!("{number:#x}={standard:#x}") }
    }

    fn pin(&self) -> &'static str {
        match self.profile.login.pin_shape {
            PinShape::Free => "12345678",
            PinShape::UserPassword => "crypto_user:12345678",
            PinShape::KeyIdPassword => "000112345678",
        }
    }

    /// The product, and settings that reach its key.
    async fn product(&self, quirks: &str) -> (Shimmed, Pkcs11Settings) {
        let behind = Kryoptic::with_pin(self.pin());
        // By the token's own profile: how a key is generated differs, and no test of the shim's rules.
        let method = Some(self.wrap().name().to_owned());
        let own = Pkcs11Settings { method: method.clone(), ..behind.settings() };
        Pkcs11Kek::create_key(own, Deployment::Production, clock(), Disk::real()).await.unwrap();
        let mechanisms = self.mechanisms();
        let mut more = vec![("P11SHIM_QUIRKS", quirks), ("P11SHIM_MECHANISMS", &mechanisms)];
        let by_itself = self.profile.login.user == User::None;
        more.extend(by_itself.then_some(("P11SHIM_LOGIN", self.pin())));
        let shim = Shimmed::before(behind, &more);
        let file = shim.behind.place.path("documented.toml");
        std::fs::write(&file, &self.text).unwrap();
        let settings = shim.settings("kryoptic");
        let pin = settings.pin.clone().filter(|_| !by_itself);
        let pinned = matches!(self.wrap(), WrapMethod::RsaOaep { mac_mechanism: None, .. });
        let profile = ProfileChoice::File(file);
        (shim, Pkcs11Settings { profile, method, pin, store_key_pinned: pinned, ..settings })
    }
}

async fn start(settings: Pkcs11Settings) -> Result<Arc<Pkcs11Kek>, StartError> {
    Pkcs11Kek::start(settings, Deployment::Production, clock(), Disk::real(), sink().0).await
}

#[tokio::test]
async fn every_method_of_every_documented_product_wraps_by_its_rules() {
    let all = documented();
    assert!(all.len() >= 12, "{} methods", all.len());
    for one in all {
        let (shim, settings) = one.product(&one.quirks()).await;
        let kek = start(settings).await.unwrap_or_else(|error| panic!("{}: {error}\n{:#?}", one.name(), shim.log()));
        assert_eq!(kek.health(), KekHealth::Reachable, "{}", one.name());
        let key = data_key();
        let wrap = kek.wrap(&key, &binding(), soon()).await.unwrap();
        assert_eq!(wrap.method, one.wrap().method());
        opens(kek.as_ref(), &wrap, &key).await.unwrap();
        let mut other = binding();
        other.owner.push('x');
        assert_eq!(kek.unwrap(&wrap, &other, soon()).await.err(), Some(KekError::BadWrap), "{}", one.name());
        for at in [0, 12, wrap.blob.len() - 1] {
            let mut bent = wrap.clone();
            bent.blob[at] ^= 1;
            assert_eq!(kek.unwrap(&bent, &binding(), soon()).await.err(), Some(KekError::BadWrap), "{}", one.name());
        }
        assert_eq!(kek.health(), KekHealth::Reachable, "{}", one.name());
        assert_eq!(shim.calls("C_Login"), usize::from(one.profile.login.user == User::User), "{}", one.name());
    }
}

#[tokio::test]
async fn a_token_that_contradicts_the_iv_mode_of_its_profile_is_refused_at_the_start() {
    for one in documented() {
        let WrapMethod::AesGcm { iv, mechanism, .. } = *one.wrap() else { continue };
        let rules = [
            // A token that takes the caller's IV would take the zeros of the other modes for one.
            (IvMode::Caller, String::new()),
            (IvMode::HsmWriteback, format!("gcm_iv_writeback:{mechanism:#x}")),
            (IvMode::HsmAppended, format!("gcm_iv_appended:{mechanism:#x}")),
            (IvMode::HsmPrepended, format!("gcm_iv_prepended:{mechanism:#x}")),
        ];
        for (_, quirks) in rules.iter().filter(|(rule, _)| *rule != iv) {
            let (shim, settings) = one.product(quirks).await;
            let started = start(settings).await;
            let refused = started.err().unwrap_or_else(|| panic!("{} with {quirks}", one.name()));
            assert!(matches!(refused, StartError::Unfit { .. }), "{} with {quirks}: {refused}", one.name());
            assert!(shim.calls("C_EncryptInit") > 0, "{}: the token was asked", one.name());
        }
    }
}
