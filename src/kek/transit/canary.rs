//! Does the admitted key still open what it wrapped? Random bytes that it encrypted under a context of their own.
//! This module never uses a data key for a test.

use crate::crypto::{self, canonical};
use crate::secret::SecretBytes;

use super::api;
use super::ciphertext::Ciphertext;
use super::client::Caller;
use super::fault::{Fault, Setback};
use super::settings::TransitSettings;

/// As long as it opens, the server lives and the key is the same.
pub(super) struct Canary {
    plain: SecretBytes,
    pub(super) blob: Ciphertext,
}

/// A canary that opens, and that does not open under another context.
pub(super) async fn make(caller: &Caller, settings: &TransitSettings) -> Result<Canary, Setback> {
    let mut plain = SecretBytes::zeroed(32);
    crypto::random(plain.expose_mut()).map_err(|error| Setback::Away(error.to_string()))?;
    let blob = api::encrypt(caller, settings, &plain, &aad(settings, "open")).await.map_err(Fault::setback)?;
    let canary = Canary { plain, blob };
    match check(caller, settings, &canary).await {
        Ok(()) => {}
        Err(Fault::Input(_)) => return Err(Setback::Unfit("the server does not give back what it was given".into())),
        Err(fault) => return Err(fault.setback()),
    }
    match api::decrypt(caller, settings, &canary.blob, &aad(settings, "refuse")).await {
        Err(Fault::Input(_)) => Ok(canary),
        // A server that ignores the context would open a wrap that was swapped in the database.
        Ok(_) => Err(Setback::Unfit("the server does not check the context of a wrap".into())),
        Err(fault) => Err(fault.setback()),
    }
}

/// Opens it; another plaintext counts as wrong input.
pub(super) async fn check(caller: &Caller, settings: &TransitSettings, canary: &Canary) -> Result<(), Fault> {
    let plain = api::decrypt(caller, settings, &canary.blob, &aad(settings, "open")).await?;
    if crypto::constant_time_eq(plain.expose(), canary.plain.expose()) {
        return Ok(());
    }
    Err(Fault::Input("the canary opens to something else".into()))
}

fn aad(settings: &TransitSettings, context: &str) -> Vec<u8> {
    let kek = settings.name.as_str();
    let pairs = [(b"context".as_slice(), context.as_bytes()), (b"kek".as_slice(), kek.as_bytes())];
    canonical::encode(LABEL, &[], pairs).expect("two short pairs: the limits are 64 pairs and 4 GiB a value")
}

const LABEL: &str = "keyward/canary/v1";
