//! `open`: sealed values become plaintext again, in the place where they were sealed.

use crate::crypto::KeyClass;
use crate::envelope::{self, SealedValue};
use crate::keyring::{Keyrings, OpeningKey};
use crate::names::{Context, KeyVersionId, Purpose};
use crate::secret::SecretBytes;

use super::{ItemError, Permitted};

/// A request to open; items that the wire format already refused keep their place.
pub struct Open {
    /// Why; policy refuses an opening without one.
    pub purpose: Option<Purpose>,
    /// The items in the caller's order.
    pub items: Vec<Result<OpenItem, ItemError>>,
}

/// One sealed value with its complete context.
pub struct OpenItem {
    /// Where the value was sealed.
    pub context: Context,
    /// The sealed value, parsed from its text (`kw1.`...).
    pub sealed: SealedValue<'static>,
    /// How the caller wants it back.
    pub form: Form,
}

impl OpenItem {
    /// Parses the sealed text; what is not a sealed value is refused before anybody asks who the caller is.
    pub fn parse(context: Context, sealed: &str, form: Form) -> Result<Self, ItemError> {
        let sealed = SealedValue::parse_text(sealed).map_err(|_| ItemError::MalformedValue)?;
        Ok(Self { context, sealed, form })
    }

    /// The key version that the value names.
    pub fn version(&self) -> KeyVersionId {
        self.sealed.version()
    }
}

/// How a plaintext is given back: the caller says, keyward never sniffs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON text; it must be UTF-8.
    Text,
    /// As base64.
    Bytes,
}

/// An opened value.
pub struct Opened {
    /// The plaintext; UTF-8 if the form is text.
    pub plaintext: SecretBytes,
    /// The form that was asked for.
    pub form: Form,
}

impl Open {
    /// The binary forms of the well-formed items, in order.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().flatten().map(|item| item.sealed.as_binary())
    }

    /// Opens every permitted item; an item without a permit answers `Denied`.
    pub async fn execute(self, keyrings: &Keyrings, permitted: &[Permitted]) -> Vec<Result<Opened, ItemError>> {
        let mut results: Vec<Result<Opened, ItemError>> =
            self.items.iter().map(|item| Err(item.as_ref().err().copied().unwrap_or(ItemError::Denied))).collect();
        for group in permitted {
            let mut keys = Keys { keyrings, permitted: group, unlocked: Vec::new() };
            for place in &group.places {
                if let (Some(Ok(item)), Some(slot)) = (self.items.get(*place), results.get_mut(*place)) {
                    *slot = match keys.of(item.version()).await {
                        Ok(key) => open_item(key, item),
                        Err(error) => Err(*error),
                    };
                }
            }
        }
        results
    }
}

/// The versions that a group needed so far: each is unlocked once a request.
struct Keys<'a> {
    keyrings: &'a Keyrings,
    permitted: &'a Permitted,
    unlocked: Vec<(KeyVersionId, Result<OpeningKey<'a>, ItemError>)>,
}

impl<'a> Keys<'a> {
    async fn of(&mut self, version: KeyVersionId) -> Result<&OpeningKey<'a>, &ItemError> {
        let at = match self.unlocked.iter().position(|(known, _)| *known == version) {
            Some(at) => at,
            None => {
                let key = self.keyrings.unlock_opening(&self.permitted.permit, version).await;
                self.unlocked.push((version, key.map_err(|error| ItemError::from(&error))));
                self.unlocked.len() - 1
            }
        };
        self.unlocked.get(at).map_or(Err(&ItemError::CannotOpen), |(_, key)| key.as_ref())
    }
}

fn open_item(key: &OpeningKey<'_>, item: &OpenItem) -> Result<Opened, ItemError> {
    let parts = item.sealed.parts(key.suite(), KeyClass::Field).map_err(|_| ItemError::CannotOpen)?;
    let bound = key.bind(&item.context)?;
    let aad = envelope::aad(item.sealed.header(), bound.iter()).map_err(|_| ItemError::InvalidContext)?;
    let opened = key.open(parts.header, parts.nonce, &aad, parts.sealed);
    let plaintext = opened.map_err(|_| ItemError::CannotOpen)?;
    if item.form == Form::Text && std::str::from_utf8(plaintext.expose()).is_err() {
        return Err(ItemError::NotText);
    }
    Ok(Opened { plaintext, form: item.form })
}
