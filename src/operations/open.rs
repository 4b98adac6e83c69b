//! `open`: sealed values become plaintext again, in the place where they were sealed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
            let mut keys = Keys { keyrings, permitted: group, unlocked: HashMap::new() };
            for place in &group.places {
                if let (Some(Ok(item)), Some(slot)) = (self.items.get(*place), results.get_mut(*place)) {
                    *slot = match keys.of(item).await {
                        Ok(key) => open_item(key, item),
                        Err(error) => Err(*error),
                    };
                }
            }
        }
        results
    }
}

/// The keys that a group needed so far, by version and partition: each is unlocked once a request.
struct Keys<'a> {
    keyrings: &'a Keyrings,
    permitted: &'a Permitted,
    unlocked: HashMap<(KeyVersionId, Option<&'a str>), Result<OpeningKey<'a>, ItemError>>,
}

impl<'a> Keys<'a> {
    async fn of(&mut self, item: &'a OpenItem) -> Result<&OpeningKey<'a>, &ItemError> {
        let unlocked = match self.unlocked.entry((item.version(), self.permitted.partition(&item.context))) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (version, partition) = *new.key();
                let key = self.keyrings.unlock_opening_in(&self.permitted.permit, version, partition).await;
                new.insert(key.map_err(|error| ItemError::from(&error)))
            }
        };
        unlocked.as_ref()
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
