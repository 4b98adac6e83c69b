//! What are numbers called? Mechanisms that a profile could use, what they do, and attributes.
//! This module never interprets: a number without a name is shown as it is.

use crate::kek::pkcs11::{Fault, KeyAttributes, Trouble, code_name};
use crate::kek::profile::{AttributeName, ErrorClass};

use super::report::Answer;

/// A number as profiles write it.
pub(super) fn hexadecimal(number: u64) -> String {
    format!("{number:#x}")
}

/// The name of a mechanism that wrapping or key-making uses.
pub(super) fn mechanism(number: u64) -> Option<&'static str> {
    MECHANISMS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// What a mechanism does, of its CKF_ bits.
pub(super) fn does(flags: u64) -> Vec<&'static str> {
    FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

/// Trouble as data.
pub(super) fn answer(trouble: &Trouble) -> Answer {
    match trouble {
        Trouble::Fault(fault @ Fault::Code { call, code }) => Answer {
            text: fault.to_string(),
            call: Some(call.clone()),
            code: Some(hexadecimal(*code)),
            name: Some(code_name(*code)),
        },
        Trouble::Fault(Fault::IvMode) => plain("it encrypts, but treats the IV otherwise".into()),
        Trouble::Fault(fault) => plain(fault.to_string()),
        Trouble::Lost(detail) => plain(detail.clone()),
    }
}

/// A return code without its call.
pub(super) fn code(call: &str, code: u64) -> Answer {
    answer(&Trouble::Fault(Fault::Code { call: call.into(), code }))
}

/// What keyward itself says.
pub(super) const fn plain(text: String) -> Answer {
    Answer { text, call: None, code: None, name: None }
}

/// The name of a class as profiles write it.
pub(super) const fn class(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::BadInput => "bad_input",
        ErrorClass::Ambiguous => "ambiguous",
        ErrorClass::Busy => "busy",
        ErrorClass::Session => "session",
        ErrorClass::Reinit => "reinit",
        ErrorClass::Denied => "denied",
        ErrorClass::Gone => "gone",
        ErrorClass::PinStop => "pin_stop",
    }
}

/// The attributes that profiles list, with their names there.
pub(super) const ATTRIBUTES: [(AttributeName, &str); 7] = [
    (AttributeName::Sensitive, "SENSITIVE"),
    (AttributeName::Extractable, "EXTRACTABLE"),
    (AttributeName::AlwaysSensitive, "ALWAYS_SENSITIVE"),
    (AttributeName::NeverExtractable, "NEVER_EXTRACTABLE"),
    (AttributeName::Local, "LOCAL"),
    (AttributeName::KeyGenMechanism, "KEY_GEN_MECHANISM"),
    (AttributeName::Modifiable, "MODIFIABLE"),
];

/// Whether the token tells the truth about an attribute of a key that it has just made.
pub(super) fn truly(name: AttributeName, key: &KeyAttributes) -> bool {
    match name {
        AttributeName::Sensitive => key.sensitive == Some(true),
        AttributeName::Extractable => key.extractable == Some(false),
        AttributeName::AlwaysSensitive => key.always_sensitive == Some(true),
        AttributeName::NeverExtractable => key.never_extractable == Some(true),
        AttributeName::Local => key.local == Some(true),
        AttributeName::KeyGenMechanism => key.generated_by.is_some_and(|number| number != UNAVAILABLE),
        AttributeName::Modifiable => key.modifiable.is_some(),
    }
}

/// CK_UNAVAILABLE_INFORMATION.
const UNAVAILABLE: u64 = u64::MAX;

const FLAGS: &[(u64, &str)] = &[
    (0x100, "encrypt"),
    (0x200, "decrypt"),
    (0x400, "digest"),
    (0x800, "sign"),
    (0x2000, "verify"),
    (0x8000, "generate"),
    (0x1_0000, "generate-pair"),
    (0x2_0000, "wrap"),
    (0x4_0000, "unwrap"),
    (0x8_0000, "derive"),
    (1, "hardware"),
];

const MECHANISMS: &[(u64, &str)] = &[
    (0x00, "CKM_RSA_PKCS_KEY_PAIR_GEN"),
    (0x01, "CKM_RSA_PKCS"),
    (0x03, "CKM_RSA_X_509"),
    (0x09, "CKM_RSA_PKCS_OAEP"),
    (0x0D, "CKM_RSA_PKCS_PSS"),
    (0x40, "CKM_SHA256_RSA_PKCS"),
    (0x220, "CKM_SHA_1"),
    (0x221, "CKM_SHA_1_HMAC"),
    (0x250, "CKM_SHA256"),
    (0x251, "CKM_SHA256_HMAC"),
    (0x252, "CKM_SHA256_HMAC_GENERAL"),
    (0x261, "CKM_SHA384_HMAC"),
    (0x271, "CKM_SHA512_HMAC"),
    (0x350, "CKM_GENERIC_SECRET_KEY_GEN"),
    (0x1040, "CKM_EC_KEY_PAIR_GEN"),
    (0x1041, "CKM_ECDSA"),
    (0x1044, "CKM_ECDSA_SHA256"),
    (0x1050, "CKM_ECDH1_DERIVE"),
    (0x1057, "CKM_EDDSA"),
    (0x1080, "CKM_AES_KEY_GEN"),
    (0x1081, "CKM_AES_ECB"),
    (0x1082, "CKM_AES_CBC"),
    (0x1083, "CKM_AES_MAC"),
    (0x1085, "CKM_AES_CBC_PAD"),
    (0x1086, "CKM_AES_CTR"),
    (0x1087, "CKM_AES_GCM"),
    (0x1088, "CKM_AES_CCM"),
    (0x108A, "CKM_AES_CMAC"),
    (0x2109, "CKM_AES_KEY_WRAP"),
    (0x210A, "CKM_AES_KEY_WRAP_PAD"),
    (0x210B, "CKM_AES_KEY_WRAP_KWP"),
    (0x4009, "CKM_SHA256_KEY_GEN"),
];
