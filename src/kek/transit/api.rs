//! Which requests does a KEK make of a transit engine? Endpoints in the form that `vaultrs` sends, and their answers.
//! This module never builds a body in a buffer that grows: copies of a data key would be left behind.
//!
//! `vaultrs` has requests of its own for these; they copy the plaintext into several strings that nobody wipes, read no
//! `latest_version`, and fail on key types that they do not know.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError as RestError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

use super::ciphertext::Ciphertext;
use super::client::Caller;
use super::fault::Fault;
use super::settings::TransitSettings;

/// The key as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct KeyInfo {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) latest_version: u32,
    pub(super) min_decryption_version: u32,
    #[serde(default)]
    pub(super) min_encryption_version: u32,
    #[serde(default)]
    pub(super) min_available_version: u32,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
    pub(super) derived: bool,
    pub(super) deletion_allowed: bool,
    #[serde(default)]
    pub(super) imported_key: bool,
    #[serde(default)]
    pub(super) soft_deleted: bool,
    /// By their numbers; what stands behind them differs by the type of the key.
    #[serde(default)]
    pub(super) keys: BTreeMap<String, serde_json::Value>,
}

/// What the server says of itself to anybody.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ServerInfo {
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) cluster_name: String,
}

impl KeyInfo {
    /// Why this key must not wrap data keys; None if it may.
    pub(super) fn objection(&self) -> Option<&'static str> {
        let objections = [
            (self.kind != KIND, "its type is not aes256-gcm96"),
            (self.exportable, "it is exportable: whoever may export it can unwrap every data key elsewhere"),
            (self.allow_plaintext_backup, "it allows a plaintext backup, which holds the key readable"),
            (self.derived, "it is derived: it wants a context of its own beside the associated data"),
            (self.soft_deleted, "it is soft-deleted"),
        ];
        objections.into_iter().find_map(|(wrong, why)| wrong.then_some(why))
    }

    /// For the record of the admission.
    pub(super) fn lines(&self) -> Vec<String> {
        vec![
            format!("type={}", self.kind),
            format!("latest_version={}", self.latest_version),
            format!("min_decryption_version={}", self.min_decryption_version),
            format!("min_encryption_version={}", self.min_encryption_version),
            format!("min_available_version={}", self.min_available_version),
            format!("exportable={}", self.exportable),
            format!("allow_plaintext_backup={}", self.allow_plaintext_backup),
            format!("derived={}", self.derived),
            format!("deletion_allowed={}", self.deletion_allowed),
            format!("imported={}", self.imported_key),
        ]
    }
}

/// The key's description.
pub(super) async fn read_key(caller: &Caller, settings: &TransitSettings) -> Result<KeyInfo, Fault> {
    let path = format!("{}/keys/{}", settings.mount, settings.key);
    vaultrs::api::exec_with_result(caller.client(), Get::new(path)).await.map_err(Fault::of)
}

/// Version and cluster, as far as the server tells strangers.
pub(super) async fn read_server(caller: &Caller) -> Result<ServerInfo, Fault> {
    let endpoint = Get::new("sys/seal-status".into());
    vaultrs::api::exec_with_no_result(caller.client(), endpoint).await.map_err(Fault::of)
}

/// Makes the next version.
pub(super) async fn rotate(caller: &Caller, settings: &TransitSettings) -> Result<(), Fault> {
    let path = format!("{}/keys/{}/rotate", settings.mount, settings.key);
    let endpoint: Post<serde::de::IgnoredAny> = Post::new(path, b"{}");
    vaultrs::api::exec_with_empty(caller.client(), endpoint).await.map_err(Fault::of)
}

/// Wraps 32 bytes.
pub(super) async fn encrypt(
    caller: &Caller,
    settings: &TransitSettings,
    plain: &SecretBytes,
    aad: &[u8],
) -> Result<Ciphertext, Fault> {
    let path = format!("{}/encrypt/{}", settings.mount, settings.key);
    let endpoint = Post::new(path, &encrypt_body(plain, aad)?);
    let answer: Encrypted = vaultrs::api::exec_with_result(caller.client(), endpoint).await.map_err(Fault::of)?;
    Ciphertext::parse(answer.ciphertext.as_bytes()).ok_or_else(|| Fault::Away("the ciphertext makes no sense".into()))
}

/// Unwraps them.
pub(super) async fn decrypt(
    caller: &Caller,
    settings: &TransitSettings,
    ciphertext: &Ciphertext,
    aad: &[u8],
) -> Result<SecretBytes, Fault> {
    let path = format!("{}/decrypt/{}", settings.mount, settings.key);
    let aad = STANDARD.encode(aad);
    let body = format!(r#"{{"ciphertext":"{}","associated_data":"{aad}"}}"#, ciphertext.text());
    let answer: Decrypted =
        vaultrs::api::exec_with_result(caller.client(), Post::new(path, body.as_bytes())).await.map_err(Fault::of)?;
    decoded(&answer.plaintext.0)
}

/// The engine's randomness; nothing where the policies do not allow it, since it is only mixed in.
pub(super) async fn random(caller: &Caller, settings: &TransitSettings) -> Result<SecretBytes, Fault> {
    let path = format!("{}/random/{RANDOM_BYTES}", settings.mount);
    let answer: Result<Random, _> = vaultrs::api::exec_with_result(caller.client(), Post::new(path, b"")).await;
    match answer.map_err(Fault::of) {
        Ok(answer) => decoded(&answer.random_bytes.0),
        Err(Fault::Forbidden(_)) => Ok(SecretBytes::zeroed(0)),
        Err(fault) => Err(fault),
    }
}

/// A request without a body.
struct Get<R> {
    path: String,
    answer: std::marker::PhantomData<fn() -> R>,
}

/// A request with a body that is JSON already.
struct Post<R> {
    path: String,
    body: Zeroizing<Vec<u8>>,
    answer: std::marker::PhantomData<fn() -> R>,
}

impl<R> Get<R> {
    const fn new(path: String) -> Self {
        Self { path, answer: std::marker::PhantomData }
    }
}

impl<R> Post<R> {
    fn new(path: String, body: &[u8]) -> Self {
        Self { path, body: Zeroizing::new(body.to_vec()), answer: std::marker::PhantomData }
    }
}

impl<R: DeserializeOwned + Send + Sync> Endpoint for Get<R> {
    type Response = R;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

impl<R: DeserializeOwned + Send + Sync> Endpoint for Post<R> {
    type Response = R;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, RestError> {
        // This copy goes to the connection, which does not wipe it.
        Ok(Some(self.body.to_vec()))
    }
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Wiped,
}

#[derive(Deserialize)]
struct Random {
    random_bytes: Wiped,
}

/// A text that is wiped when it is dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Wiped(Zeroizing<String>);

impl From<String> for Wiped {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// `{"plaintext":"...","associated_data":"..."}` in one buffer of the right size; base64 needs no escapes.
fn encrypt_body(plain: &SecretBytes, aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let aad = STANDARD.encode(aad);
    let mut text = SecretBytes::zeroed(plain.len().div_ceil(3) * 4);
    let whole = STANDARD.encode_slice(plain.expose(), text.expose_mut());
    whole.map_err(|_| Fault::Away("a plaintext of no known length".into()))?;
    let parts: [&[u8]; 5] =
        [br#"{"plaintext":""#, text.expose(), br#"","associated_data":""#, aad.as_bytes(), br#""}"#];
    let mut body = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        body.extend_from_slice(part);
    }
    Ok(body)
}

fn decoded(text: &str) -> Result<SecretBytes, Fault> {
    // Three bytes more than there can be: the decoder wants room for whole groups.
    let mut room = SecretBytes::zeroed(text.len() / 4 * 3 + 3);
    let len = STANDARD.decode_slice(text, room.expose_mut());
    let len = len.map_err(|_| Fault::Away("the answer is not base64".into()))?;
    Ok(SecretBytes::copy_of(room.expose().get(..len).unwrap_or_default()))
}

/// The one type of key that this KEK knows: AES-256-GCM with associated data.
const KIND: &str = "aes256-gcm96";
/// As many as a data key has.
const RANDOM_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> KeyInfo {
        let text = r#"{"type":"aes256-gcm96","latest_version":3,"min_decryption_version":1,"exportable":false,
            "allow_plaintext_backup":false,"derived":false,"deletion_allowed":false,"keys":{"1":1,"2":2,"3":3}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_that_can_leave_the_server_or_ignores_the_context_is_objected_to() {
        assert_eq!(good().objection(), None);
        let bad = [
            KeyInfo { kind: "aes128-gcm96".into(), ..good() },
            KeyInfo { exportable: true, ..good() },
            KeyInfo { allow_plaintext_backup: true, ..good() },
            KeyInfo { derived: true, ..good() },
            KeyInfo { soft_deleted: true, ..good() },
        ];
        assert!(bad.iter().all(|key| key.objection().is_some()));
    }

    #[test]
    fn the_body_of_an_encryption_fills_its_buffer_exactly() {
        let body = encrypt_body(&SecretBytes::new(vec![0xff; 32]), b"context").unwrap();
        assert_eq!(body.len(), body.capacity(), "a buffer that grew has left a copy behind");
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["plaintext"], STANDARD.encode([0xff; 32]));
        assert_eq!(read["associated_data"], STANDARD.encode("context"));
        assert_eq!(decoded(read["plaintext"].as_str().unwrap()).unwrap().expose(), [0xff; 32]);
    }
}
