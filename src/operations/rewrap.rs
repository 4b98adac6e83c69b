//! `rewrap`: sealed values come under the active version of their keyring, in the place where they are or in another one.
//! This module never sees what they say: it hands sealed bytes to a key and gets sealed bytes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::{CryptoError, KeyClass};
use crate::envelope::{self, Header, Nonce, Nonces, SealedValue};
use crate::keyring::{
    Destination, Keyrings, Load, NewPartition, RewrapKey, SealedParts, Source, TransferError, Unlock,
};
use crate::names::{Context, KeyVersionId, Purpose};
use crate::policy::Permit;

use super::ItemError;

/// A request to rewrap; items that the wire format already refused keep their place.
pub struct Rewrap {
    /// Why, if the caller says so.
    pub purpose: Option<Purpose>,
    /// The items in the caller's order.
    pub items: Vec<Result<RewrapItem, ItemError>>,
}

/// One sealed value with its complete context, and the complete context that it is to take.
pub struct RewrapItem {
    /// Where the value was sealed.
    pub context: Context,
    /// Where it is to be; None if it stays.
    pub new_context: Option<Context>,
    /// The sealed value, parsed from its text (`kw1.`...).
    pub sealed: SealedValue<'static>,
}

impl RewrapItem {
    /// Parses the sealed text. A new context that is the old one is none.
    pub fn parse(context: Context, new_context: Option<Context>, sealed: &str) -> Result<Self, ItemError> {
        let sealed = SealedValue::parse_text(sealed).map_err(|_| ItemError::MalformedValue)?;
        let new_context = new_context.filter(|new| *new != context);
        Ok(Self { context, new_context, sealed })
    }

    /// The key version that the value names.
    pub fn version(&self) -> KeyVersionId {
        self.sealed.version()
    }
}

/// What became of a value.
pub enum Rewrapped {
    /// It opens where it is, under the active version: the same text again.
    Unchanged(String),
    /// It was sealed anew.
    Anew {
        /// `kw1.`...
        text: String,
        /// The key version.
        version: KeyVersionId,
    },
}

impl Rewrapped {
    /// The sealed text.
    pub fn text(&self) -> &str {
        match self {
            Self::Unchanged(text) | Self::Anew { text, .. } => text,
        }
    }
}

/// The items of a request that the same permits cover, by their place in the request.
pub struct PermittedRewrap {
    /// To rewrap what is in the old place.
    pub permit: Permit,
    /// For values that take a new context.
    pub into: Option<IntoPlace>,
    /// Places of the items, ascending.
    pub places: Vec<usize>,
    /// The context key that names the partition, where the keyring has partitions.
    pub partition_key: Option<String>,
}

/// What taking a new context needs.
pub struct IntoPlace {
    /// To rewrap into the new place.
    pub rewrap: Permit,
    /// To seal there.
    pub seal: Permit,
}

/// What items share that need the same keys: the version and partition they come from, and the partition they go to.
type Lane<'a> = (KeyVersionId, Option<&'a str>, Option<&'a str>);

impl Rewrap {
    /// The binary forms of the well-formed items, in order.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().flatten().map(|item| item.sealed.as_binary())
    }

    /// Rewraps every permitted item; an item without a permit answers `Denied`. One call for randomness a request.
    pub async fn execute(
        &self,
        keyrings: &Keyrings,
        permitted: &[PermittedRewrap],
    ) -> Vec<Result<Rewrapped, ItemError>> {
        let mut results: Vec<Result<Rewrapped, ItemError>> =
            self.items.iter().map(|item| Err(item.as_ref().err().copied().unwrap_or(ItemError::Denied))).collect();
        let Ok(mut nonces) = Nonces::draw(permitted.iter().map(|group| group.places.len()).sum()) else {
            return results.into_iter().map(|_| Err(ItemError::Unavailable)).collect();
        };
        for group in permitted {
            for (lane, places) in self.lanes(group) {
                let key = group.unlock(keyrings, lane, self.load(&places)).await;
                for place in places {
                    if let (Some(Ok(item)), Some(slot), Some(nonce)) =
                        (self.items.get(place), results.get_mut(place), nonces.next())
                    {
                        *slot = key.as_ref().map_err(|error| *error).and_then(|key| key.work(item, nonce));
                    }
                }
            }
        }
        results
    }

    /// The partitions that are to be made first, by the permit that asks for them. Only for values that open where they
    /// are: a patient whom nothing is moved to gets no key.
    pub async fn needs<'p>(
        &self,
        keyrings: &Keyrings,
        permitted: &'p [PermittedRewrap],
    ) -> Vec<(&'p Permit, Vec<NewPartition>)> {
        let mut needs = Vec::new();
        for group in permitted {
            let (Some(into), true) = (&group.into, group.partition_key.is_some()) else { continue };
            let (mut seen, mut new) = (BTreeSet::new(), Vec::new());
            for (lane @ (_, _, to), places) in self.lanes(group) {
                let Some(value) = to.filter(|value| !seen.contains(value)) else { continue };
                let Ok(Some(missing)) = keyrings.missing_partition(&into.seal, value).await else { continue };
                if self.any_opens(keyrings, group, lane, &places).await {
                    seen.insert(value);
                    new.push(missing);
                }
            }
            if !new.is_empty() {
                needs.push((&into.seal, new));
            }
        }
        needs
    }

    async fn any_opens(
        &self,
        keyrings: &Keyrings,
        group: &PermittedRewrap,
        (version, partition, _): Lane<'_>,
        places: &[usize],
    ) -> bool {
        let source = Source { permit: &group.permit, version, partition };
        let Ok(key) = keyrings.unlock_checking(source).await else { return false };
        let items = places.iter().filter_map(|place| self.items.get(*place)?.as_ref().ok());
        items.into_iter().any(|item| in_place(&key, item, |value| Ok(key.opens(value)?)).is_ok())
    }

    fn lanes<'a>(&'a self, group: &PermittedRewrap) -> BTreeMap<Lane<'a>, Vec<usize>> {
        let mut lanes: BTreeMap<Lane<'a>, Vec<usize>> = BTreeMap::new();
        for place in &group.places {
            let Some(Ok(item)) = self.items.get(*place) else { continue };
            let from = group.partition(&item.context);
            let to = item.new_context.as_ref().map_or(from, |new| group.partition(new));
            lanes.entry((item.version(), from, to)).or_default().push(*place);
        }
        lanes
    }

    /// What the items at these places come to.
    fn load(&self, places: &[usize]) -> Load {
        let items = places.iter().filter_map(|place| self.items.get(*place)?.as_ref().ok());
        items.fold(Load { messages: 0, bytes: 0 }, |Load { messages, bytes }, item| Load {
            messages: messages.saturating_add(1),
            bytes: bytes.saturating_add(u64::try_from(item.sealed.plaintext_bytes()).unwrap_or(u64::MAX)),
        })
    }
}

impl PermittedRewrap {
    async fn unlock(
        &self,
        keyrings: &Keyrings,
        (version, from, to): Lane<'_>,
        load: Load,
    ) -> Result<Lent<'_>, ItemError> {
        let source = Source { permit: &self.permit, version, partition: from };
        let destination = match &self.into {
            None => Destination::Same,
            Some(IntoPlace { rewrap, seal }) => Destination::Other { rewrap, seal, partition: to },
        };
        match keyrings.unlock_rewrapping(source, destination, load).await {
            Ok(Unlock::Ready(key)) => Ok(Lent::Moves(key)),
            Ok(Unlock::Needs(_)) => keyrings.unlock_checking(source).await.map(Lent::Looks),
            Err(error) => Err(error),
        }
        .map_err(|error| ItemError::from(&error))
    }

    /// The value that names the partition of a place.
    fn partition<'a>(&self, context: &'a Context) -> Option<&'a str> {
        context.get(self.partition_key.as_deref()?)
    }
}

/// The key of a lane.
enum Lent<'p> {
    /// It takes values where they are to be.
    Moves(RewrapKey<'p>),
    /// The partition there is missing: it was not made because nothing opens that would go there, or could not be made.
    Looks(RewrapKey<'p>),
}

impl Lent<'_> {
    fn work(&self, item: &RewrapItem, nonce: Nonce) -> Result<Rewrapped, ItemError> {
        match self {
            Self::Moves(key) => rewrap_item(key, item, nonce),
            Self::Looks(key) => in_place(key, item, |value| Ok(key.opens(value)?)).and(Err(ItemError::Unavailable)),
        }
    }
}

fn rewrap_item(key: &RewrapKey<'_>, item: &RewrapItem, nonce: Nonce) -> Result<Rewrapped, ItemError> {
    in_place(key, item, |value| {
        let Some((version, suite)) = key.target() else {
            key.opens(value)?;
            return Ok(Rewrapped::Unchanged(item.sealed.to_text()));
        };
        let header = Header::field(version, suite);
        let bound = key.bind_target(item.new_context.as_ref().unwrap_or(&item.context))?;
        let aad = envelope::aad(&header, bound.iter()).map_err(|_| ItemError::InvalidContext)?;
        let mut failed = ItemError::Unavailable;
        let text = envelope::seal_text(&header, nonce, item.sealed.plaintext_bytes(), |header, nonce, out| {
            key.rewrap(value, (header, nonce, &aad), out).map_err(|error| {
                failed = error.into();
                CryptoError
            })
        });
        text.map(|text| Rewrapped::Anew { text, version }).map_err(|_| failed)
    })
}

/// Takes a value apart as it lies in its place.
fn in_place<T>(
    key: &RewrapKey<'_>,
    item: &RewrapItem,
    work: impl FnOnce(&SealedParts<'_>) -> Result<T, ItemError>,
) -> Result<T, ItemError> {
    let parts = item.sealed.parts(key.suite(), KeyClass::Field).map_err(|_| ItemError::CannotOpen)?;
    let bound = key.bind(&item.context)?;
    let aad = envelope::aad(item.sealed.header(), bound.iter()).map_err(|_| ItemError::InvalidContext)?;
    work(&SealedParts { header: parts.header, nonce: parts.nonce, aad: &aad, sealed: parts.sealed })
}

impl From<TransferError> for ItemError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotOpened => Self::CannotOpen,
            TransferError::NotSealed => Self::Unavailable,
        }
    }
}
