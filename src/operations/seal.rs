//! `seal`: plaintext fields become sealed values under the active version of a keyring.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::envelope::{self, Header, Nonce, Nonces};
use crate::keyring::{Keyrings, Load, NewPartition, SealingKey, Unlock};
use crate::names::{Context, KeyVersionId, KeyringName};
use crate::policy::Permit;
use crate::secret::SecretBytes;

use super::{ItemError, Permitted};

/// A request to seal; items that the wire format already refused keep their place.
pub struct Seal {
    /// The keyring to seal under.
    pub keyring: KeyringName,
    /// The items in the caller's order.
    pub items: Vec<Result<SealItem, ItemError>>,
}

/// One plaintext with its complete context (the request's shared pairs merged in).
pub struct SealItem {
    /// Where the value will live.
    pub context: Context,
    /// The plaintext.
    pub plaintext: SecretBytes,
}

impl Seal {
    /// Seals every permitted item; an item without a permit answers `Denied`. One call for randomness a request.
    pub async fn execute(self, keyrings: &Keyrings, permitted: &[Permitted]) -> Vec<Result<Sealed, ItemError>> {
        let mut results: Vec<Result<Sealed, ItemError>> =
            self.items.iter().map(|item| Err(item.as_ref().err().copied().unwrap_or(ItemError::Denied))).collect();
        let Ok(mut nonces) = Nonces::draw(permitted.iter().map(|group| group.places.len()).sum()) else {
            return results.into_iter().map(|_| Err(ItemError::Unavailable)).collect();
        };
        for group in permitted {
            for (partition, places) in self.partitions(group) {
                let key = keyrings.unlock_sealing_in(&group.permit, partition, self.load(&places)).await;
                for place in places.iter() {
                    if let (Some(Ok(item)), Some(slot), Some(nonce)) =
                        (self.items.get(*place), results.get_mut(*place), nonces.next())
                    {
                        *slot = match &key {
                            Ok(Unlock::Ready(key)) => seal_item(key, item, nonce),
                            // It was to be made before; whoever could not make it said why.
                            Ok(Unlock::Needs(_)) => Err(ItemError::Unavailable),
                            Err(error) => Err(error.into()),
                        };
                    }
                }
            }
        }
        results
    }

    /// The partitions that are to be made first, by the permit that asks for them.
    pub async fn needs<'p>(
        &self,
        keyrings: &Keyrings,
        permitted: &'p [Permitted],
    ) -> Vec<(&'p Permit, Vec<NewPartition>)> {
        let mut needs = Vec::new();
        for group in permitted.iter().filter(|group| group.partition_key.is_some()) {
            let mut new = Vec::new();
            for value in self.partitions(group).into_iter().filter_map(|(value, _)| value) {
                new.extend(keyrings.missing_partition(&group.permit, value).await.ok().flatten());
            }
            if !new.is_empty() {
                needs.push((&group.permit, new));
            }
        }
        needs
    }

    /// The places of a group by the value that names their partition; all of them together where there are none.
    fn partitions<'a>(&'a self, group: &'a Permitted) -> Vec<(Option<&'a str>, Cow<'a, [usize]>)> {
        if group.partition_key.is_none() {
            return vec![(None, Cow::Borrowed(&group.places))];
        }
        let mut by_value: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for place in &group.places {
            if let Some(Ok(item)) = self.items.get(*place) {
                by_value.entry(group.partition(&item.context)).or_default().push(*place);
            }
        }
        by_value.into_iter().map(|(value, places)| (value, Cow::Owned(places))).collect()
    }

    /// What the items at these places come to.
    fn load(&self, places: &[usize]) -> Load {
        let items = places.iter().filter_map(|place| self.items.get(*place)?.as_ref().ok());
        items.fold(Load { messages: 0, bytes: 0 }, |Load { messages, bytes }, item| Load {
            messages: messages.saturating_add(1),
            bytes: bytes.saturating_add(u64::try_from(item.plaintext.expose().len()).unwrap_or(u64::MAX)),
        })
    }
}

/// A sealed value and the version that sealed it.
pub struct Sealed {
    /// `kw1.`...
    pub text: String,
    /// The key version.
    pub version: KeyVersionId,
}

fn seal_item(key: &SealingKey<'_>, item: &SealItem, nonce: Nonce) -> Result<Sealed, ItemError> {
    let header = Header::field(key.version(), key.suite());
    let bound = key.bind(&item.context)?;
    let aad = envelope::aad(&header, bound.iter()).map_err(|_| ItemError::InvalidContext)?;
    let plaintext = item.plaintext.expose();
    let text = envelope::seal_text(&header, nonce, plaintext.len(), |header, nonce, out| {
        key.seal(header, nonce, &aad, plaintext, out)
    });
    let text = text.map_err(|_| ItemError::Unavailable)?;
    Ok(Sealed { text, version: key.version() })
}
