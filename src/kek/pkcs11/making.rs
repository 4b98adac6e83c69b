//! How do keys come into a token, and what is there? A KEK of one version with its MAC key, made, completed and shown.
//! This module never replaces and never removes a key: what stands under a label is used if it is fit, or named.
//!
//! Crash states: a version is whole once all its keys are there. If we stop between the KEK and its MAC key, nobody wraps
//! by that version yet, since it is not fit; the next run finds the first and makes the second.

use crate::clock::SharedClock;
use crate::crypto;
use crate::durable::Disk;
use crate::kek::profile::{AttributeName, WrapMethod};
use crate::kek::{Deployment, KekFacts, KekVersion, StartError};

use super::access::{Access, Setback, facts};
use super::attributes::KeyAttributes;
use super::canary::Canary;
use super::fault::Fault;
use super::fitness::GAP;
use super::link::{Link, Process, Trouble};
use super::message::{NewKey, Request, TokenFacts};
use super::recipe::KeyRole;
use super::seat::label_of;
use super::{Pkcs11Kek, Pkcs11Settings};

/// What a token holds, for `keyward kek create` and `keyward kek show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The token.
    pub facts: KekFacts,
    /// The version of new wraps.
    pub version: u32,
    /// Its key, as the token reports it.
    pub attributes: KeyAttributes,
    /// Why it must not be used as a KEK; None if it may.
    pub objection: Option<String>,
    /// Every version that is there, ascending.
    pub versions: Vec<KekVersion>,
}

/// A version that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The key.
    pub key: TokenKey,
    /// The labels of what was made; empty if all of it was there.
    pub labels: Vec<String>,
}

impl Pkcs11Kek {
    /// Makes a KEK in the token, with its MAC key where the method has one, or adds what an earlier run did not come to;
    /// refuses a label that is taken. Not retried: whether a key was made is seen in the token.
    pub async fn create_key(
        settings: Pkcs11Settings,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<TokenKey, StartError> {
        let mut bench = Bench::open(settings, deployment, clock, disk).await?;
        let version = match bench.access.settings.pinned() {
            Some(pinned) => pinned,
            None => bench.versions().await?.into_iter().max().unwrap_or(1),
        };
        if bench.complete(version).await?.is_empty() {
            return Err(bench.error(&Setback::Unfit(Fault::KeyExists.to_string())));
        }
        bench.shown(version).await
    }

    /// Makes the version after the current one, or `to`; what an earlier run made of it is kept. The new version is proven
    /// before this says so: attributes, a canary wrapped and unwrapped, a wrong context refused.
    pub async fn rotate_key(
        settings: Pkcs11Settings,
        to: Option<u32>,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<Made, StartError> {
        let mut bench = Bench::open(settings, deployment, clock, disk).await?;
        if !bench.access.settings.has_versions() {
            return Err(bench.wrong(UNVERSIONED.into()));
        }
        let current = bench.newest().await?;
        let next = current.checked_add(1).ok_or_else(|| bench.wrong("there is no version after the last".into()))?;
        let version = to.unwrap_or(next);
        if version == 0 || version > next {
            return Err(bench.wrong(format!("version {current} is current, so the next one is {next}, not {version}")));
        }
        let labels = bench.complete(version).await?;
        bench.prove(version).await?;
        Ok(Made { key: bench.shown(version).await?, labels })
    }

    /// What the token holds under the configured label.
    pub async fn inspect(
        settings: Pkcs11Settings,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<TokenKey, StartError> {
        let mut bench = Bench::open(settings, deployment, clock, disk).await?;
        let version = match bench.newest().await {
            // None is fit: the newest is shown with what is wrong with it.
            Err(StartError::Unfit { .. }) => bench.versions().await?.into_iter().max().unwrap_or(1),
            found => found?,
        };
        bench.shown(version).await
    }
}

/// The token, open for whoever makes keys.
struct Bench {
    access: Access,
    token: TokenFacts,
    link: Link,
    _process: Process,
}

impl Bench {
    async fn open(
        settings: Pkcs11Settings,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<Self, StartError> {
        let access = Access::prepare(settings, deployment, clock, disk)?;
        let opened = access.open().await;
        let (process, link, token) = opened.map_err(|setback| setback.as_start_error(&access.settings.name))?;
        Ok(Self { access, token, link, _process: process })
    }

    async fn newest(&mut self) -> Result<u32, StartError> {
        let newest = self.access.newest(&mut self.link).await;
        newest.map_err(|setback| self.error(&setback))
    }

    /// Every version that is there, fit or not.
    async fn versions(&mut self) -> Result<Vec<u32>, StartError> {
        if !self.access.settings.has_versions() {
            return Ok(vec![1]);
        }
        let versions = self.access.versions(&mut self.link, 1, GAP).await;
        versions.map_err(|setback| self.error(&setback))
    }

    /// The keys of a version: those that are not there are made. The labels of what was made.
    async fn complete(&mut self, version: u32) -> Result<Vec<String>, StartError> {
        let label = self.access.label_of(version);
        let mut missing = Vec::new();
        for role in roles(&self.access.table) {
            if self.fit(&label, role).await?.is_none() {
                // Before anything is made: a version that cannot become whole is not begun.
                let numbers = new_key(&self.access.table, role);
                missing.push((role, numbers.ok_or_else(|| self.wrong(self.by_hand(&label_of(role, &label))))?));
            }
        }
        let mut made = Vec::new();
        for (role, numbers) in missing {
            self.make(&label, role, numbers).await?;
            // Looked at again by its label: somebody else may have made one at the same time, and then neither is used.
            let key = self.fit(&label, role).await?;
            made.push(key.ok_or_else(|| self.wrong(format!("the token did not keep the key {label}")))?.label);
        }
        Ok(made)
    }

    /// The key of a role if it is there; an error if it must not be used.
    async fn fit(&mut self, label: &str, role: KeyRole) -> Result<Option<KeyAttributes>, StartError> {
        match self.find(label, role).await? {
            Some(key) => match self.access.objection(&key, role) {
                Some(objection) => Err(self.error(&objection)),
                None => Ok(Some(key)),
            },
            None => Ok(None),
        }
    }

    async fn find(&mut self, label: &str, role: KeyRole) -> Result<Option<KeyAttributes>, StartError> {
        match self.link.key(&Request::Find { label, role }, self.access.start_after()).await {
            Ok(key) => Ok(Some(key)),
            Err(Trouble::Fault(Fault::NoKey(_))) => Ok(None),
            Err(trouble) => Err(self.error(&self.access.setback(trouble))),
        }
    }

    async fn make(&mut self, label: &str, role: KeyRole, numbers: [u64; 3]) -> Result<(), StartError> {
        // Of its own for each: some tokens take a second secret key with the same id for the first.
        let mut id = [0; 16];
        crypto::random(&mut id).map_err(|error| self.wrong(error.to_string()))?;
        let unmodifiable = self.access.profile.attributes.settable.contains(&AttributeName::Modifiable);
        let [mechanism, key_type, bits] = numbers;
        let new = NewKey { role, mechanism, key_type, bits, label, id: &id, unmodifiable };
        let made = self.link.key(&Request::Create(new), self.access.start_after()).await;
        made.map(drop).map_err(|trouble| self.error(&self.access.setback(trouble)))
    }

    async fn prove(&mut self, version: u32) -> Result<(), StartError> {
        let Self { access, link, .. } = self;
        let proven = async {
            let public = access.public_key(link, version).await?;
            Canary::admit(access, link, version, public.as_ref()).await.map(drop)
        };
        let proven = proven.await;
        proven.map_err(|setback| self.error(&setback))
    }

    async fn shown(&mut self, version: u32) -> Result<TokenKey, StartError> {
        let (label, role) = (self.access.label_of(version), self.access.recipe.role());
        let missing = Setback::Missing(Fault::NoKey(label.clone()).to_string());
        let attributes = self.find(&label, role).await?.ok_or_else(|| self.error(&missing))?;
        let objection = attributes.objection(role, &self.access.profile);
        let mut versions = Vec::new();
        for number in self.versions().await? {
            let fit = self.access.fit_key(&mut self.link, number, self.access.recipe).await;
            let objection = match fit {
                Ok(_) => None,
                Err(setback @ (Setback::Unfit(_) | Setback::Missing(_))) => Some(setback.detail().to_owned()),
                Err(setback) => return Err(self.error(&setback)),
            };
            versions.push(KekVersion { number, about: self.access.label_of(number), objection });
        }
        Ok(TokenKey { facts: facts(&self.access, &self.token), version, attributes, objection, versions })
    }

    /// What the operator does where keyward cannot make keys.
    fn by_hand(&self, label: &str) -> String {
        let profile = &self.access.profile;
        let steps = profile.setup.steps.join("; ");
        format!(
            "there is no key {label}, and the keys of {} are made with the vendor's tools: {steps}",
            profile.product
        )
    }

    fn wrong(&self, problem: String) -> StartError {
        StartError::Setting { kek: self.access.settings.name.clone(), problem }
    }

    fn error(&self, setback: &Setback) -> StartError {
        setback.as_start_error(&self.access.settings.name)
    }
}

/// Which keys a method needs.
fn roles(table: &WrapMethod) -> Vec<KeyRole> {
    match table {
        WrapMethod::AesGcm { .. } | WrapMethod::AesKwp { .. } | WrapMethod::AesKw { .. } => vec![KeyRole::Cipher],
        WrapMethod::UnwrapGetattr { .. } => vec![KeyRole::Wrapper],
        WrapMethod::AesCbcHmac { .. } => vec![KeyRole::Cipher, KeyRole::Mac],
        WrapMethod::RsaOaep { mac_mechanism: None, .. } => vec![KeyRole::Private],
        WrapMethod::RsaOaep { mac_mechanism: Some(_), .. } => vec![KeyRole::Private, KeyRole::Mac],
    }
}

/// How a key is made: generating mechanism, type, bits; None if keyward cannot.
fn new_key(table: &WrapMethod, role: KeyRole) -> Option<[u64; 3]> {
    let aes = |generate: Option<u64>| Some([generate?, cryptoki_sys::CKK_AES, 256]);
    let mac = |generate: Option<u64>, key_type: Option<u64>| Some([generate?, key_type?, 256]);
    match (table, role) {
        (
            WrapMethod::AesGcm { generate, .. }
            | WrapMethod::AesKwp { generate, .. }
            | WrapMethod::AesKw { generate, .. }
            | WrapMethod::AesCbcHmac { generate, .. },
            KeyRole::Cipher,
        )
        | (WrapMethod::UnwrapGetattr { generate, .. }, KeyRole::Wrapper) => aes(*generate),
        (WrapMethod::AesCbcHmac { mac_generate, mac_key_type, .. }, KeyRole::Mac) => {
            mac(*mac_generate, Some(*mac_key_type))
        }
        (WrapMethod::RsaOaep { generate, bits, .. }, KeyRole::Private) => {
            Some([(*generate)?, cryptoki_sys::CKK_RSA, u64::from(*bits)])
        }
        (WrapMethod::RsaOaep { mac_generate, mac_key_type, .. }, KeyRole::Mac) => mac(*mac_generate, *mac_key_type),
        _ => None,
    }
}

/// Every key that a method needs with how it is made; None if keyward cannot make them all.
pub(super) fn new_keys(table: &WrapMethod) -> Option<Vec<(KeyRole, u64, u64, u64)>> {
    let key = |role| new_key(table, role).map(|[mechanism, key_type, bits]| (role, mechanism, key_type, bits));
    roles(table).into_iter().map(key).collect()
}

const UNVERSIONED: &str = "key_label has no {version} in it, so there is one version only: configure a new key whose label \
     has it, name it as primary (or escrow) in [keyring] and this one in `retiring`";
