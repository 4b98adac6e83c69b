//! What does a request to seal say? `{context, text|bytes}` or `{items:[{context?, text|bytes}...], context?}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::names::{Context, KeyringName};
use crate::secret::SecretBytes;
use crate::service::{Code, ItemError, Refusal, Seal, SealItem};

use super::batch::{self, Draft};
use super::json::{Fault, Token, once};
use super::{MAX_PLAINTEXT_BYTES, Shape, context};

const ALLOWED: &str = "context, text or bytes, and items";

#[derive(Default)]
struct Fields<'a> {
    text: Option<Token<'a>>,
    bytes: Option<Token<'a>>,
}

/// Reads a request to seal under the keyring of the path.
pub fn parse_seal(keyring: KeyringName, body: &[u8]) -> Result<(Seal, Shape), Refusal> {
    let batch = batch::read(
        body,
        ALLOWED,
        |fields: &mut Fields<'_>, reader, key| {
            match &*key.text() {
                "text" => {
                    let token = reader.string()?;
                    once(&mut fields.text, bounded(token, token.len()).map_err(|fault| fault.within("text"))?, key)?;
                }
                "bytes" => {
                    let token = reader.string()?;
                    let checked = bounded(token, decoded_len(token)).map_err(|fault| fault.within("bytes"))?;
                    once(&mut fields.bytes, checked, key)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        },
        |_, _| Ok(false),
    )?;
    let shared = batch.shared.as_ref();
    let items = batch.items.into_iter().map(|draft| item(draft, shared)).collect();
    Ok((Seal { keyring, items }, batch.shape))
}

fn item(draft: Draft<Fields<'_>>, shared: Option<&Context>) -> Result<SealItem, ItemError> {
    let plaintext = match (draft.fields.text, draft.fields.bytes) {
        (Some(text), None) => text.secret(),
        (None, Some(bytes)) => decode(bytes)?,
        (None, None) | (Some(_), Some(_)) => return Err(ItemError::MalformedItem),
    };
    Ok(SealItem { context: context::complete(draft.context, shared)?, plaintext })
}

/// Strict base64: the standard alphabet, padded, no stray bits.
fn decode(token: Token<'_>) -> Result<SecretBytes, ItemError> {
    // Encoders that escape the slash are the reason for the second form.
    let unescaped = token.plain().is_none().then(|| token.secret());
    let encoded = match &unescaped {
        Some(secret) => secret.expose(),
        None => token.plain().unwrap_or_default().as_bytes(),
    };
    let mut bytes = Vec::with_capacity(encoded.len().div_ceil(4) * 3);
    let decoded = STANDARD.decode_vec(encoded, &mut bytes);
    // A failure leaves what was decoded so far in the buffer: it is wiped like a success.
    let secret = SecretBytes::new(bytes);
    decoded.map(|()| secret).map_err(|_| ItemError::MalformedItem)
}

/// The token, if the plaintext that it stands for is within the limit.
fn bounded(token: Token<'_>, plaintext: usize) -> Result<Token<'_>, Fault> {
    if plaintext <= MAX_PLAINTEXT_BYTES {
        return Ok(token);
    }
    let what = format!("one plaintext takes at most {MAX_PLAINTEXT_BYTES} bytes");
    Err(Fault::of(Code::TooLarge, what, token.at()))
}

/// Bytes that padded base64 of this length decodes to.
fn decoded_len(token: Token<'_>) -> usize {
    let padding = token.plain().map_or(0, |text| text.bytes().rev().take(2).filter(|b| *b == b'=').count());
    (token.len() / 4 * 3).saturating_sub(padding)
}
