//! Is the key in the token fit to be a KEK? Its attributes as the token reports them: the token's word, not attestation.
//! This module never accepts an attribute that the token leaves out where it must be known.

#![deny(clippy::indexing_slicing)]

use crate::kek::profile::{AttributeName, Profile, User};

use super::frame::{Fields, Frame, Malformed};
use super::recipe::KeyRole;

/// Attributes of a key; None where the token does not report one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyAttributes {
    /// CKA_LABEL.
    pub label: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// CKA_KEY_TYPE.
    pub key_type: Option<u64>,
    /// CKA_VALUE_LEN, in bytes.
    pub value_len: Option<u64>,
    /// CKA_KEY_GEN_MECHANISM.
    pub generated_by: Option<u64>,
    /// CKA_TOKEN.
    pub token: Option<bool>,
    /// CKA_PRIVATE.
    pub private: Option<bool>,
    /// CKA_SENSITIVE.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE.
    pub extractable: Option<bool>,
    /// CKA_ENCRYPT.
    pub encrypt: Option<bool>,
    /// CKA_DECRYPT.
    pub decrypt: Option<bool>,
    /// CKA_WRAP.
    pub wrap: Option<bool>,
    /// CKA_UNWRAP.
    pub unwrap: Option<bool>,
    /// CKA_SIGN.
    pub sign: Option<bool>,
    /// CKA_VERIFY.
    pub verify: Option<bool>,
    /// CKA_MODIFIABLE.
    pub modifiable: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE.
    pub always_sensitive: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE.
    pub never_extractable: Option<bool>,
    /// CKA_LOCAL.
    pub local: Option<bool>,
}

impl KeyAttributes {
    /// The first reason not to use the key for a role, in words; None if it is fit. A key that may decrypt and also wrap
    /// would let a caller wrap any other key with it and read that by decrypting, so a key has one use.
    pub fn objection(&self, role: KeyRole, profile: &Profile) -> Option<String> {
        let secret = !matches!(role, KeyRole::Private);
        if self.key_type == Some(cryptoki_sys::CKK_RSA) && secret
            || self.key_type != Some(cryptoki_sys::CKK_RSA) && !secret
        {
            return Some(if secret { "it is an RSA key".into() } else { "it is not an RSA key".into() });
        }
        if matches!(role, KeyRole::Cipher | KeyRole::Wrapper) && self.key_type != Some(cryptoki_sys::CKK_AES) {
            return Some("it is not an AES key".into());
        }
        if secret && self.value_len.is_some_and(|len| len != KEY_BYTES) {
            return Some("it is not a 256-bit key".into());
        }
        let public = (self.private == Some(false) && profile.login.user == User::User)
            .then(|| "PRIVATE is false, must be true: it could be used without the PIN".to_owned());
        self.wrong_use(role).or(public).or_else(|| self.known_elsewhere(&profile.attributes.reported))
    }

    fn wrong_use(&self, role: KeyRole) -> Option<String> {
        let required = self.required(role).into_iter();
        let always = [("SENSITIVE", self.sensitive, true), ("EXTRACTABLE", self.extractable, false)];
        always.into_iter().chain(required).find_map(|(name, found, must)| match found {
            Some(value) if value == must => None,
            Some(value) => Some(format!("{name} is {value}, must be {must}")),
            None => Some(format!("the token does not report {name}, which must be {must}")),
        })
    }

    fn required(&self, role: KeyRole) -> Vec<(&'static str, Option<bool>, bool)> {
        match role {
            KeyRole::Cipher => vec![
                ("ENCRYPT", self.encrypt, true),
                ("DECRYPT", self.decrypt, true),
                ("WRAP", self.wrap, false),
                ("UNWRAP", self.unwrap, false),
            ],
            KeyRole::Wrapper => vec![
                ("WRAP", self.wrap, true),
                ("UNWRAP", self.unwrap, true),
                ("ENCRYPT", self.encrypt, false),
                ("DECRYPT", self.decrypt, false),
            ],
            KeyRole::Mac => {
                vec![("SIGN", self.sign, true), ("DECRYPT", self.decrypt, false), ("WRAP", self.wrap, false)]
            }
            KeyRole::Private => vec![("DECRYPT", self.decrypt, true), ("UNWRAP", self.unwrap, false)],
        }
    }

    /// A key that was imported, or could once be read, may be known elsewhere. Tokens that do not truly report these are
    /// not held to them: the profile says which do.
    fn known_elsewhere(&self, reported: &[AttributeName]) -> Option<String> {
        let truly = |name, found| if reported.contains(&name) { found } else { None };
        let history = [
            ("TOKEN", self.token),
            ("ALWAYS_SENSITIVE", truly(AttributeName::AlwaysSensitive, self.always_sensitive)),
            ("NEVER_EXTRACTABLE", truly(AttributeName::NeverExtractable, self.never_extractable)),
            ("LOCAL", truly(AttributeName::Local, self.local)),
        ];
        history.into_iter().find_map(|(name, found)| {
            let what = if name == "TOKEN" { "goes with its session" } else { "was imported or could once be read" };
            (found == Some(false)).then(|| format!("{name} is false: the key {what}"))
        })
    }

    /// `NAME=value` of all that the token reports.
    pub fn lines(&self) -> Vec<String> {
        let flags = self.flags().into_iter();
        let mut lines: Vec<String> =
            flags.filter_map(|(name, flag)| flag.map(|flag| format!("{name}={flag}"))).collect();
        let numbers = [("VALUE_LEN", self.value_len), ("KEY_GEN_MECHANISM", self.generated_by)];
        lines.extend(
            numbers.into_iter().filter_map(|(name, number)| number.map(|number| format!("{name}={number:#x}"))),
        );
        lines.push(format!("ID={}", hex::encode(&self.id)));
        lines
    }

    /// The flags with their names.
    fn flags(&self) -> [(&'static str, Option<bool>); 14] {
        [
            ("TOKEN", self.token),
            ("PRIVATE", self.private),
            ("SENSITIVE", self.sensitive),
            ("EXTRACTABLE", self.extractable),
            ("ENCRYPT", self.encrypt),
            ("DECRYPT", self.decrypt),
            ("WRAP", self.wrap),
            ("UNWRAP", self.unwrap),
            ("SIGN", self.sign),
            ("VERIFY", self.verify),
            ("MODIFIABLE", self.modifiable),
            ("ALWAYS_SENSITIVE", self.always_sensitive),
            ("NEVER_EXTRACTABLE", self.never_extractable),
            ("LOCAL", self.local),
        ]
    }

    /// The flags to be filled, by attribute type, in the order of [`Self::flags`].
    pub(super) fn slots(&mut self) -> [(u64, &mut Option<bool>); 14] {
        [
            (cryptoki_sys::CKA_TOKEN, &mut self.token),
            (cryptoki_sys::CKA_PRIVATE, &mut self.private),
            (cryptoki_sys::CKA_SENSITIVE, &mut self.sensitive),
            (cryptoki_sys::CKA_EXTRACTABLE, &mut self.extractable),
            (cryptoki_sys::CKA_ENCRYPT, &mut self.encrypt),
            (cryptoki_sys::CKA_DECRYPT, &mut self.decrypt),
            (cryptoki_sys::CKA_WRAP, &mut self.wrap),
            (cryptoki_sys::CKA_UNWRAP, &mut self.unwrap),
            (cryptoki_sys::CKA_SIGN, &mut self.sign),
            (cryptoki_sys::CKA_VERIFY, &mut self.verify),
            (cryptoki_sys::CKA_MODIFIABLE, &mut self.modifiable),
            (cryptoki_sys::CKA_ALWAYS_SENSITIVE, &mut self.always_sensitive),
            (cryptoki_sys::CKA_NEVER_EXTRACTABLE, &mut self.never_extractable),
            (cryptoki_sys::CKA_LOCAL, &mut self.local),
        ]
    }

    /// Writes the attributes into a message.
    pub(super) fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        frame.put_bytes(self.label.as_bytes())?;
        frame.put_bytes(&self.id)?;
        for number in [self.key_type, self.value_len, self.generated_by] {
            frame.put_u8(u8::from(number.is_some()))?;
            frame.put_u64(number.unwrap_or_default())?;
        }
        self.flags().into_iter().try_for_each(|(_, flag)| frame.put_u8(flag.map_or(UNREPORTED, u8::from)))
    }

    /// Reads the attributes of a message.
    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mut key = Self { label: fields.text()?.into(), id: fields.bytes()?.into(), ..Self::default() };
        for number in [&mut key.key_type, &mut key.value_len, &mut key.generated_by] {
            let reported = fields.flag()?;
            let value = fields.u64()?;
            *number = reported.then_some(value);
        }
        for (_, flag) in key.slots() {
            *flag = match fields.u8()? {
                0 => Some(false),
                1 => Some(true),
                UNREPORTED => None,
                _ => return Err(Malformed),
            };
        }
        Ok(key)
    }
}

/// Ciphers and MAC keys alike.
const KEY_BYTES: u64 = 32;
const UNREPORTED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(reported: &[AttributeName]) -> Profile {
        let mut profile = Profile::parse(crate::kek::profile::Profile::text_of("softhsm2").unwrap()).unwrap();
        profile.attributes.reported = reported.to_vec();
        profile
    }

    fn fit() -> KeyAttributes {
        KeyAttributes {
            label: "kek-1".into(),
            id: vec![1, 2],
            key_type: Some(cryptoki_sys::CKK_AES),
            value_len: Some(32),
            sensitive: Some(true),
            extractable: Some(false),
            encrypt: Some(true),
            decrypt: Some(true),
            wrap: Some(false),
            unwrap: Some(false),
            local: Some(true),
            ..KeyAttributes::default()
        }
    }

    #[test]
    fn a_fit_key_has_no_objection_and_each_wrong_or_silent_attribute_one() {
        let objection = |key: &KeyAttributes| key.objection(KeyRole::Cipher, &profile(&[AttributeName::Local]));
        assert_eq!(objection(&fit()), None);
        type Spoil = fn(&mut KeyAttributes);
        let spoil: [(Spoil, &str); 10] = [
            (|key| key.private = Some(false), "PRIVATE is false, must be true: it could be used without the PIN"),
            (|key| key.sensitive = Some(false), "SENSITIVE is false, must be true"),
            (|key| key.extractable = Some(true), "EXTRACTABLE is true, must be false"),
            (|key| key.extractable = None, "the token does not report EXTRACTABLE, which must be false"),
            (|key| key.encrypt = Some(false), "ENCRYPT is false, must be true"),
            (|key| key.decrypt = None, "the token does not report DECRYPT, which must be true"),
            (|key| key.wrap = Some(true), "WRAP is true, must be false"),
            (|key| key.unwrap = Some(true), "UNWRAP is true, must be false"),
            (|key| key.key_type = Some(0x10), "it is not an AES key"),
            (|key| key.value_len = Some(16), "it is not a 256-bit key"),
        ];
        for (change, told) in spoil {
            let mut key = fit();
            change(&mut key);
            assert_eq!(objection(&key).as_deref(), Some(told));
        }
    }

    #[test]
    fn a_key_serves_one_role_only() {
        let objection = |key: &KeyAttributes, role| key.objection(role, &profile(&[]));
        assert!(objection(&fit(), KeyRole::Wrapper).is_some(), "a cipher does not wrap");
        assert!(objection(&fit(), KeyRole::Mac).is_some(), "a cipher makes no MACs");
        assert_eq!(objection(&fit(), KeyRole::Private).as_deref(), Some("it is not an RSA key"));
        let mac = KeyAttributes { sign: Some(true), encrypt: Some(false), decrypt: Some(false), ..fit() };
        assert_eq!(objection(&mac, KeyRole::Mac), None);
        let wrapper = KeyAttributes { wrap: Some(true), unwrap: Some(true), ..mac };
        assert_eq!(objection(&wrapper, KeyRole::Wrapper), None);
    }

    #[test]
    fn a_history_counts_only_where_the_token_truly_reports_it() {
        let imported = KeyAttributes { local: Some(false), ..fit() };
        let told = imported.objection(KeyRole::Cipher, &profile(&[AttributeName::Local]));
        assert_eq!(told.as_deref(), Some("LOCAL is false: the key was imported or could once be read"));
        assert_eq!(imported.objection(KeyRole::Cipher, &profile(&[AttributeName::AlwaysSensitive])), None);
    }

    #[test]
    fn attributes_cross_the_socket_unchanged() {
        let mut frame = Frame::new();
        fit().put(&mut frame).unwrap();
        let mut fields = Fields::of(frame.body());
        assert_eq!(KeyAttributes::take(&mut fields), Ok(fit()));
        assert_eq!(fields.end(), Ok(()));
    }
}
