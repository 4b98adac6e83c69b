//! Which versions of the KEK does the token hold, and may they be used? Found by their labels, judged by their attributes.
//! This module never takes a version that is not fit or not whole for the newest.

use crate::crypto::RsaPublicKey;
use crate::secret::SecretBytes;

use super::access::{Access, Setback};
use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::link::{Answer, Link, Trouble};
use super::message::Request;
use super::recipe::{KeyRole, Recipe};

impl Access {
    /// Which versions of the KEK are in the token, ascending, from one of them on; fit or not.
    pub(super) async fn versions(&self, link: &mut Link, from: u32, gap: u16) -> Result<Vec<u32>, Setback> {
        let (label, role) = (self.settings.key_label.as_str(), self.recipe.role());
        let asked = link.call(&Request::Versions { label, role, from, gap }, self.start_after()).await;
        match asked.map_err(|trouble| self.setback(trouble))? {
            Answer::Versions(versions) => Ok(versions),
            _ => Err(Setback::Away("the worker's answer makes no sense".into())),
        }
    }

    /// The version of new wraps: the configured one, or the newest fit one. One that is not fit or half made is passed
    /// over: `keyward kek show` tells why, and `keyward kek rotate` makes what is missing.
    pub(super) async fn newest(&self, link: &mut Link) -> Result<u32, Setback> {
        if let Some(pinned) = self.settings.pinned() {
            return Ok(pinned);
        }
        let mut objection = None;
        for version in self.versions(link, 1, GAP).await?.into_iter().rev() {
            match self.fit_key(link, version, self.recipe).await {
                Ok(_) => return Ok(version),
                Err(setback @ (Setback::Unfit(_) | Setback::Missing(_))) => objection = objection.or(Some(setback)),
                Err(other) => return Err(other),
            }
        }
        Err(objection.unwrap_or_else(|| self.setback(Trouble::Fault(Fault::NoKey(self.label_of(1))))))
    }

    /// A version of the KEK and its MAC key, if they are fit; the attributes of the KEK.
    pub(super) async fn fit_key(
        &self,
        link: &mut Link,
        version: u32,
        recipe: Recipe,
    ) -> Result<KeyAttributes, Setback> {
        let label = self.label_of(version);
        let attributes = self.fit(link, &label, recipe.role()).await?;
        if recipe.has_mac() {
            self.fit(link, &label, KeyRole::Mac).await?;
        }
        Ok(attributes)
    }

    async fn fit(&self, link: &mut Link, label: &str, role: KeyRole) -> Result<KeyAttributes, Setback> {
        let found = link.key(&Request::Find { label, role }, self.start_after()).await;
        let attributes = found.map_err(|trouble| self.setback(trouble))?;
        match self.objection(&attributes, role) {
            Some(objection) => Err(objection),
            None => Ok(attributes),
        }
    }

    /// Why a key must not be used; None if it may.
    pub(super) fn objection(&self, key: &KeyAttributes, role: KeyRole) -> Option<Setback> {
        let objection = key.objection(role, &self.profile)?;
        Some(Setback::Unfit(format!("the key {} in the token must not be used: {objection}", key.label)))
    }

    /// The public key of a version of an RSA KEK; None for the others.
    pub(super) async fn public_key(&self, link: &mut Link, version: u32) -> Result<Option<RsaPublicKey>, Setback> {
        if !matches!(self.recipe, Recipe::Oaep { .. }) {
            return Ok(None);
        }
        let label = self.label_of(version);
        let read = link.bytes(&Request::PublicKey { label: &label }, self.start_after()).await;
        let numbers = read.map_err(|trouble| self.setback(trouble))?;
        rsa_key(&numbers).map(Some).ok_or_else(|| Setback::Unfit(UNFIT_RSA.into()))
    }
}

/// The public key of two numbers as the worker sends them.
pub(super) fn rsa_key(numbers: &SecretBytes) -> Option<RsaPublicKey> {
    two_numbers(numbers.expose()).and_then(|(n, e)| RsaPublicKey::new(n, e).ok())
}

/// Each number with its length in two bytes before it.
fn two_numbers(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = number(bytes)?;
    let (second, rest) = number(rest)?;
    rest.is_empty().then_some((first, second))
}

fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// So many versions in a row that are not in the token end the search for the newest: old ones are removed one day.
pub(super) const GAP: u16 = 32;
pub(super) const UNFIT_RSA: &str = "its public key must have 2,048 to 4,096 bits and an exponent over 65,536";
