//! How does a sealed value come under the active version, or into another place, without being seen? What is opened here is
//! sealed here in one call and wiped: no function gives it away, and neither key is given out alone.
//!
//! Both keys come from the functions that opening and sealing use, so that whatever keeps a key from them keeps it from here.

use super::partition::Unlock;
use super::unlock::covered;
use super::{BindError, BoundContext, Keyrings, Load, OpeningKey, SealingKey, UnlockError};
use crate::crypto::{CryptoError, NONCE_BYTES, Suite};
use crate::names::{Context, KeyVersionId};
use crate::policy::{Action, Permit};

/// Where values are now.
#[derive(Debug, Clone, Copy)]
pub struct Source<'p, 'v> {
    /// To rewrap what is there.
    pub permit: &'p Permit,
    /// The version that they name.
    pub version: KeyVersionId,
    /// The value that names their partition, where the keyring has partitions.
    pub partition: Option<&'v str>,
}

/// Where they are to be.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'p, 'v> {
    /// In the same place, under the active version.
    Same,
    /// In another place of the same keyring.
    Other {
        /// To rewrap into that place.
        rewrap: &'p Permit,
        /// To seal there.
        seal: &'p Permit,
        /// The value that names the partition there.
        partition: Option<&'v str>,
    },
}

/// A sealed value as opening needs it.
#[derive(Debug, Clone, Copy)]
pub struct SealedParts<'a> {
    /// Its header.
    pub header: &'a [u8; 12],
    /// Its nonce.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// The canonical context of the place where it was sealed.
    pub aad: &'a [u8],
    /// `[commitment] || ciphertext || tag`.
    pub sealed: &'a [u8],
}

/// Why a value was not sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// It does not open in the place that was given: nothing is sealed.
    #[error("the value does not open")]
    NotOpened,
    /// It opened, and the key did not seal.
    #[error("the value could not be sealed anew")]
    NotSealed,
}

/// Opens values under one key and seals them under another, and shows nobody what they say.
#[must_use]
pub struct RewrapKey<'p> {
    source: OpeningKey<'p>,
    /// None where values are under the active version already, and stay where they are.
    target: Option<SealingKey<'p>>,
}

impl RewrapKey<'_> {
    /// The suite that the older version opens.
    pub fn suite(&self) -> Suite {
        self.source.suite()
    }

    /// The version and the suite of what is sealed anew; None where nothing is to be done.
    pub fn target(&self) -> Option<(KeyVersionId, Suite)> {
        self.target.as_ref().map(|key| (key.version(), key.suite()))
    }

    /// The complete pairs of the place where a value is.
    pub fn bind<'a>(&'a self, free: &'a Context) -> Result<BoundContext<'a>, BindError> {
        self.source.bind(free)
    }

    /// The complete pairs of the place where it is to be.
    pub fn bind_target<'a>(&'a self, free: &'a Context) -> Result<BoundContext<'a>, BindError> {
        self.target.as_ref().map_or_else(|| self.source.bind(free), |key| key.bind(free))
    }

    /// Whether a value opens where it is. What it says is wiped.
    pub fn opens(&self, value: &SealedParts<'_>) -> Result<(), TransferError> {
        let SealedParts { header, nonce, aad, sealed } = *value;
        self.source.open(header, nonce, aad, sealed).map(drop).map_err(|CryptoError| TransferError::NotOpened)
    }

    /// Appends `[commitment] || ciphertext || tag` to `out`: what the value says, under the other key, for this header,
    /// nonce and context. What stands between the two is wiped.
    pub fn rewrap(
        &self,
        value: &SealedParts<'_>,
        (header, nonce, aad): (&[u8; 12], &[u8; NONCE_BYTES], &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), TransferError> {
        let target = self.target.as_ref().ok_or(TransferError::NotSealed)?;
        let opened = self.source.open(value.header, value.nonce, value.aad, value.sealed);
        let plaintext = opened.map_err(|CryptoError| TransferError::NotOpened)?;
        let sealed = target.seal(header, nonce, aad, plaintext.expose(), out);
        sealed.map_err(|CryptoError| TransferError::NotSealed)
    }
}

impl Keyrings {
    /// The keys that take values from one place to another of the same keyring. What is to be sealed is counted before
    /// they are given; a partition that is not there is named and not made.
    pub async fn unlock_rewrapping<'p>(
        &self,
        source: Source<'p, '_>,
        destination: Destination<'p, '_>,
        load: Load,
    ) -> Result<Unlock<RewrapKey<'p>>, UnlockError> {
        let from = self.to_open(source.permit, Action::Rewrap, source.version, source.partition).await?;
        let target = match destination {
            Destination::Same => self.to_seal(source.permit, Action::Rewrap, source.partition).await?,
            Destination::Other { rewrap, seal, partition } => {
                let keyring = covered(source.permit, Action::Rewrap)?;
                if covered(rewrap, Action::Rewrap)? != keyring || covered(seal, Action::Seal)? != keyring {
                    return Err(UnlockError::NotCovered);
                }
                self.to_seal(seal, Action::Seal, partition).await?
            }
        };
        let target = match target {
            Unlock::Needs(new) => return Ok(Unlock::Needs(new)),
            Unlock::Ready(key) if is_there(&destination, &source, &key) => None,
            Unlock::Ready(key) => Some(self.counted(key, load).await?),
        };
        Ok(Unlock::Ready(RewrapKey { source: from, target }))
    }

    /// A key that says whether values open where they are, and does nothing else.
    pub async fn unlock_checking<'p>(&self, source: Source<'p, '_>) -> Result<RewrapKey<'p>, UnlockError> {
        let source = self.to_open(source.permit, Action::Rewrap, source.version, source.partition).await?;
        Ok(RewrapKey { source, target: None })
    }
}

fn is_there(destination: &Destination<'_, '_>, source: &Source<'_, '_>, active: &SealingKey<'_>) -> bool {
    matches!(destination, Destination::Same) && active.version() == source.version
}
