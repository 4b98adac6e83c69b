//! What is worth trying on a token that nobody has described? The standard's methods, and vendors' numbers that it lists.
//! This module never names a vendor's mechanism that the token does not list: the number may mean something else there.

use crate::kek::pkcs11::KeyRole;
use crate::kek::profile::{IvMode, OaepHash, Profile, ProfileChoice, SHIPPED, WrapMethod};

use super::hold::MODES;
use super::report::Mechanism;
use super::trial::{Outcome, Stage, Tried};

/// Tables of which one is enough; the next is tried where the one before failed for a reason that the next avoids.
pub(super) struct Group {
    pub(super) tables: Vec<WrapMethod>,
    /// Whether only a failing MAC is a reason to go on.
    pub(super) for_mac: bool,
}

/// Everything to try with temporary keys.
pub(super) fn all(listed: &[Mechanism]) -> Vec<Group> {
    let one = |table| Group { tables: vec![table], for_mac: false };
    let mut groups: Vec<Group> = MODES.into_iter().map(|iv| one(gcm(AES_GCM, iv))).collect();
    for number in vendor_gcm(listed) {
        groups.extend(MODES.into_iter().map(|iv| one(gcm(number, iv))));
    }
    let (generate, source) = (Some(AES_KEY_GEN), String::new());
    groups.extend(
        [AES_KWP, AES_KEY_WRAP_PAD]
            .map(|mechanism| one(WrapMethod::AesKwp { mechanism, generate, source: source.clone() })),
    );
    groups.push(one(WrapMethod::AesKw { mechanism: AES_KW, generate, source }));
    groups.push(Group { tables: vec![cbc(GENERIC_SECRET), cbc(SHA256_HMAC_KEY)], for_mac: true });
    groups.extend(hashes().map(|hash| Group { tables: oaep(hash, true), for_mac: true }));
    let by_value = [(false, true), (true, true), (false, false), (true, false)];
    groups.push(Group {
        tables: by_value.map(|(value_len, readable)| get_attr(value_len, readable)).into(),
        for_mac: false,
    });
    groups
}

/// What may be tried on a key of the token's: nothing that could meet an IV that is known or used.
pub(super) fn on_a_named_key(role: KeyRole) -> Vec<Group> {
    match role {
        KeyRole::Private => hashes().map(|hash| Group { tables: oaep(hash, false), for_mac: true }).into(),
        _ => vec![Group { tables: vec![without_generate(gcm(AES_GCM, IvMode::Caller))], for_mac: false }],
    }
}

impl Group {
    /// Whether the next table could do better.
    pub(super) fn goes_on(&self, tried: &Tried) -> bool {
        match &tried.outcome {
            Outcome::Works => false,
            Outcome::Fails(Stage::Key(KeyRole::Mac), _) => true,
            Outcome::Fails(..) | Outcome::NotTried(_) => !self.for_mac || is_mac(tried),
        }
    }
}

/// Whether the answer came from the MAC.
fn is_mac(tried: &Tried) -> bool {
    use super::trial::Why;
    use crate::kek::pkcs11::{Fault, Trouble};
    match &tried.outcome {
        Outcome::Fails(_, Why::Trouble(Trouble::Fault(Fault::Code { call, .. }))) => call.starts_with("C_Sign"),
        _ => false,
    }
}

fn vendor_gcm(listed: &[Mechanism]) -> Vec<u64> {
    let profiles = SHIPPED.iter().filter_map(|(id, _)| Profile::load(&ProfileChoice::Shipped((*id).into())).ok());
    let tables = profiles.flat_map(|profile| profile.wrap);
    let mut numbers: Vec<u64> = tables
        .filter(|table| matches!(table, WrapMethod::AesGcm { .. }))
        .map(|table| table.mechanism())
        .filter(|number| *number >= VENDOR_DEFINED)
        .filter(|number| listed.iter().any(|mechanism| mechanism.number == super::names::hexadecimal(*number)))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

const fn hashes() -> [OaepHash; 2] {
    [OaepHash::Sha256, OaepHash::Sha1]
}

const fn gcm(mechanism: u64, iv: IvMode) -> WrapMethod {
    WrapMethod::AesGcm { mechanism, iv, max_plain: 4096, generate: Some(AES_KEY_GEN), source: String::new() }
}

fn without_generate(mut table: WrapMethod) -> WrapMethod {
    if let WrapMethod::AesGcm { generate, .. } = &mut table {
        *generate = None;
    }
    table
}

const fn cbc(mac_key_type: u64) -> WrapMethod {
    WrapMethod::AesCbcHmac {
        mechanism: AES_CBC_PAD,
        mac_mechanism: SHA256_HMAC,
        mac_key_type,
        generate: Some(AES_KEY_GEN),
        mac_generate: Some(GENERIC_SECRET_KEY_GEN),
        source: String::new(),
    }
}

/// With a MAC of either type of key, or without one.
fn oaep(hash: OaepHash, made_here: bool) -> Vec<WrapMethod> {
    let table = |mac: Option<u64>| WrapMethod::RsaOaep {
        mechanism: RSA_PKCS_OAEP,
        hash,
        mac_mechanism: mac.map(|_| SHA256_HMAC),
        mac_key_type: mac,
        bits: RSA_BITS,
        generate: made_here.then_some(RSA_PKCS_KEY_PAIR_GEN),
        mac_generate: mac.filter(|_| made_here).map(|_| GENERIC_SECRET_KEY_GEN),
        source: String::new(),
    };
    [Some(GENERIC_SECRET), Some(SHA256_HMAC_KEY), None].into_iter().map(table).collect()
}

const fn get_attr(value_len: bool, readable: bool) -> WrapMethod {
    WrapMethod::UnwrapGetattr {
        mechanism: AES_KW,
        value_len,
        readable,
        generate: Some(AES_KEY_GEN),
        source: String::new(),
    }
}

const AES_GCM: u64 = 0x1087;
const AES_CBC_PAD: u64 = 0x1085;
const AES_KEY_GEN: u64 = 0x1080;
const AES_KW: u64 = 0x2109;
/// RFC 5649 on some products, PKCS#7 padding on others: the length of a wrap tells.
const AES_KEY_WRAP_PAD: u64 = 0x210A;
const AES_KWP: u64 = 0x210B;
const RSA_PKCS_OAEP: u64 = 0x09;
const RSA_PKCS_KEY_PAIR_GEN: u64 = 0x00;
const RSA_BITS: u16 = 3072;
const SHA256_HMAC: u64 = 0x251;
const GENERIC_SECRET_KEY_GEN: u64 = 0x350;
const GENERIC_SECRET: u64 = 0x10;
const SHA256_HMAC_KEY: u64 = 0x2B;
const VENDOR_DEFINED: u64 = 0x8000_0000;
