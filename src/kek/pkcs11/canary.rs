//! Does the token live, and does it hold the admitted key? Something that this key wrapped opens, and nothing that was
//! changed does.
//! This module never looks at a session's or a token's own word for its state: those say OK on dead daemons.

use crate::crypto::{self, RsaPublicKey, canonical};
use crate::kek::profile::ErrorClass;
use crate::secret::SecretBytes;

use super::access::{Access, Setback};
use super::fault::Fault;
use super::link::{Link, Trouble};
use super::message::Request;

/// Random bytes and what the admitted KEK made of them.
pub(super) struct Canary {
    /// The version of the KEK: that of new wraps.
    pub(super) version: u32,
    plain: SecretBytes,
    blob: Vec<u8>,
}

impl Canary {
    /// A canary that opens, of a key that refuses what is wrong: the proof of an admission.
    pub(super) async fn admit(
        access: &Access,
        link: &mut Link,
        version: u32,
        public: Option<&RsaPublicKey>,
    ) -> Result<Self, Setback> {
        let canary = Self::make(access, link, version, public).await?;
        canary.refuses_what_is_wrong(access, link).await?;
        Ok(canary)
    }

    /// Wraps random bytes and opens them again.
    pub(super) async fn make(
        access: &Access,
        link: &mut Link,
        version: u32,
        public: Option<&RsaPublicKey>,
    ) -> Result<Self, Setback> {
        let mut plain = SecretBytes::zeroed(32);
        crypto::random(plain.expose_mut()).map_err(|error| Setback::Away(error.to_string()))?;
        let wrapped = access.wrap(link, version, public, &plain, &aad(access, "open")).await;
        let blob = wrapped.map_err(|trouble| access.setback(trouble))?.expose().to_vec();
        let canary = Self { version, plain, blob };
        match canary.opens(access, link).await {
            Ok(()) => Ok(canary),
            Err(Trouble::Fault(Fault::NotOurs)) => {
                Err(Setback::Unfit("the token does not give back what it was given".into()))
            }
            Err(trouble) => Err(access.setback(trouble)),
        }
    }

    /// Whether it opens; to other bytes counts as a foreign one.
    pub(super) async fn opens(&self, access: &Access, link: &mut Link) -> Result<(), Trouble> {
        let opened = self.unwrap(access, link, &self.blob, "open").await?;
        if opened == self.plain { Ok(()) } else { Err(Trouble::Fault(Fault::NotOurs)) }
    }

    /// A token that ignores the context, or a changed wrap, would open what was swapped in the database. After the
    /// refusal the canary must still open, or the token was merely dead.
    async fn refuses_what_is_wrong(&self, access: &Access, link: &mut Link) -> Result<(), Setback> {
        let (wrong, context) =
            if access.recipe.binds() { (self.blob.clone(), "refuse") } else { (self.changed(), "open") };
        match self.unwrap(access, link, &wrong, context).await {
            Ok(opened) if opened == self.plain || access.recipe.binds() => {
                return Err(Setback::Unfit("the token does not check the context of a wrap".into()));
            }
            Ok(_) | Err(Trouble::Fault(Fault::NotOurs)) => {}
            Err(Trouble::Fault(Fault::Code { call, code })) => match access.class(code) {
                ErrorClass::BadInput | ErrorClass::Ambiguous => {}
                _ => return Err(access.setback(Trouble::Fault(Fault::Code { call, code }))),
            },
            Err(trouble) => return Err(access.setback(trouble)),
        }
        self.opens(access, link).await.map_err(|trouble| access.setback(trouble))
    }

    fn changed(&self) -> Vec<u8> {
        let mut changed = self.blob.clone();
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        changed
    }

    async fn unwrap(
        &self,
        access: &Access,
        link: &mut Link,
        blob: &[u8],
        context: &str,
    ) -> Result<SecretBytes, Trouble> {
        let (label, aad) = (access.label_of(self.version), aad(access, context));
        let request = Request::Unwrap { recipe: access.recipe, label: &label, blob, aad: &aad };
        link.bytes(&request, access.hang_after()).await
    }
}

fn aad(access: &Access, context: &str) -> Vec<u8> {
    let kek = access.settings.name.as_str();
    let pairs = [(b"context".as_slice(), context.as_bytes()), (b"kek".as_slice(), kek.as_bytes())];
    canonical::encode(LABEL, &[], pairs).expect("two short pairs: the limits are 64 pairs and 4 GiB a value")
}

const LABEL: &str = "keyward/canary/v1";
