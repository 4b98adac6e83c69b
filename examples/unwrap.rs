//! Opens a wrapped data key with the token alone, without keyward: its keys are not locked into it.
//!
//! `unwrap MODULE TOKEN_LABEL KEY_LABEL PIN_FILE BINDING_HEX BLOB_HEX` prints the SHA-256 of the data key, never the key.
//! Written against the `cryptoki` crate, so it is also a second opinion on the PKCS#11 calls of the sidecar.
#![allow(clippy::print_stdout, reason = "it prints its one line")]

use std::error::Error;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use secrecy::zeroize::Zeroizing;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, token, label, pin_file, binding, blob] = &arguments[..] else {
        return Err("usage: unwrap MODULE TOKEN_LABEL KEY_LABEL PIN_FILE BINDING_HEX BLOB_HEX".into());
    };
    let context = Pkcs11::new(module)?;
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let wanted = |slot: &_| context.get_token_info(*slot).is_ok_and(|info| info.label() == token);
    let slot = context.get_slots_with_token()?.into_iter().find(wanted).ok_or("no such token")?;
    let session = context.open_ro_session(slot)?;
    let pin = std::fs::read_to_string(pin_file)?;
    session.login(UserType::User, Some(&AuthPin::new(pin.trim_end().into())))?;
    let keys = session.find_objects(&[Attribute::Label(label.clone().into_bytes())])?;
    let key = *keys.first().ok_or("no such key")?;
    let (binding, blob) = (hex::decode(binding)?, hex::decode(blob)?);
    let (iv, sealed) = blob.split_at_checked(12).ok_or("the blob is too short")?;
    let mut iv = iv.to_vec();
    let parameters = GcmParams::new(&mut iv, &binding, 128.into())?;
    let opened = Zeroizing::new(session.decrypt(&Mechanism::AesGcm(parameters), key, sealed)?);
    println!("{}", hex::encode(ring::digest::digest(&ring::digest::SHA256, &opened)));
    Ok(())
}
