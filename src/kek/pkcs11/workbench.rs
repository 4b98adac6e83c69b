//! How does a probe work on a token? Through a worker of its own, with keys that go with their session.
//! This module never takes a wrap from outside: what is unwrapped here was wrapped here, of random bytes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::SharedClock;
use crate::crypto::{self, RsaPublicKey};
use crate::durable::Disk;
use crate::kek::profile::{Profile, WrapMethod};
use crate::kek::{Deployment, StartError};
use crate::secret::SecretBytes;

use super::Pkcs11Settings;
use super::access::{Access, Library};
use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::fitness::{UNFIT_RSA, rsa_key};
use super::link::{Answer, Link, Process, Trouble};
use super::making::new_keys;
use super::message::{NewKey, Request, TokenFacts};
use super::recipe::{KeyRole, Recipe};
use super::survey::{LibraryFacts, MechanismFacts, SlotFacts};

/// A library on the disk and how it is started, for a look without a login.
pub(in crate::kek) struct Module {
    vendors: Library,
    reserved: String,
    worker: PathBuf,
    env: Vec<(String, String)>,
    limit: Duration,
    clock: SharedClock,
}

/// A token, logged in.
pub(in crate::kek) struct Workbench {
    access: Access,
    running: Option<(Process, Link)>,
    public: Option<RsaPublicKey>,
}

/// A session of its own at the same token and key.
pub(in crate::kek) struct Lane {
    link: Link,
    recipe: Recipe,
    label: String,
    limit: Duration,
}

impl Module {
    /// Checks the library's file. Runs nothing of it.
    pub(in crate::kek) fn prepare(
        named: Option<&Path>,
        reserved: Option<&str>,
        profile: &Profile,
        worker: PathBuf,
        env: Vec<(String, String)>,
        clock: SharedClock,
    ) -> Result<Self, String> {
        if let Some((name, _)) = env.iter().find(|(name, _)| !profile.module.env.contains(name)) {
            return Err(format!("the profile {} does not let {name} reach the library", profile.id));
        }
        let library = Library::find(named, profile, Deployment::Production)?;
        let reserved = reserved.unwrap_or(&profile.module.reserved).to_owned();
        Ok(Self { vendors: library, reserved, worker, env, limit: profile.calls.start_after(), clock })
    }

    /// Where it lies, and the SHA-256 of its file.
    pub(in crate::kek) fn file(&self) -> (&str, &str) {
        (&self.vendors.path, &self.vendors.sha256)
    }

    /// Loads the library in a worker that does nothing else, looks, and lets it leave in order.
    pub(in crate::kek) async fn look(
        &self,
        os_locking: bool,
    ) -> Result<(LibraryFacts, Vec<(SlotFacts, Vec<MechanismFacts>)>), Trouble> {
        let process = Process::start(&self.worker, &self.env, self.clock.clone())?;
        let mut link = process.lane(self.limit).await?;
        let seen = self.look_through(&mut link, os_locking).await;
        process.leave().await;
        seen
    }

    async fn look_through(
        &self,
        link: &mut Link,
        os_locking: bool,
    ) -> Result<(LibraryFacts, Vec<(SlotFacts, Vec<MechanismFacts>)>), Trouble> {
        let survey = Request::Survey { module: &self.vendors.path, reserved: &self.reserved, os_locking };
        let Answer::Library(library) = link.call(&survey, self.limit).await? else { return Err(nonsense()) };
        let LibraryFacts { slots: count, .. } = library;
        let mut slots = Vec::new();
        for index in 0..count {
            let slot = match link.call(&Request::Slot { index }, self.limit).await {
                Ok(Answer::Slot(slot)) => slot,
                // A neighbour that is broken must not hide the others.
                Err(Trouble::Fault(_)) => continue,
                Ok(_) => return Err(nonsense()),
                Err(lost) => return Err(lost),
            };
            slots.push((slot, mechanisms(link, index, self.limit).await?));
        }
        Ok((library, slots))
    }
}

async fn mechanisms(link: &mut Link, index: u16, limit: Duration) -> Result<Vec<MechanismFacts>, Trouble> {
    let mut all = Vec::new();
    loop {
        let from = u16::try_from(all.len()).unwrap_or(u16::MAX);
        match link.call(&Request::Mechanisms { index, from }, limit).await? {
            Answer::Mechanisms(some) if some.is_empty() => return Ok(all),
            Answer::Mechanisms(some) => all.extend(some),
            _ => return Err(nonsense()),
        }
    }
}

impl Workbench {
    /// Checks the settings and reads the PIN. Touches no token.
    pub(in crate::kek) fn prepare(
        settings: Pkcs11Settings,
        profile: Profile,
        clock: SharedClock,
        disk: Disk,
    ) -> Result<Self, StartError> {
        let access = Access::with_profile(settings, profile, Deployment::Production, clock, disk)?;
        Ok(Self { access, running: None, public: None })
    }

    /// The profile.
    pub(in crate::kek) const fn profile(&self) -> &Profile {
        &self.access.profile
    }

    /// The clock by which rates are measured.
    pub(in crate::kek) fn clock(&self) -> SharedClock {
        self.access.clock.clone()
    }

    /// Starts a worker and logs in, unless one runs. A PIN that was refused is not tried again: its latch forbids it.
    pub(in crate::kek) async fn open(&mut self) -> Result<Option<TokenFacts>, StartError> {
        if self.running.is_some() {
            return Ok(None);
        }
        let opened = self.access.open().await;
        let (process, link, facts) = opened.map_err(|setback| setback.as_start_error(&self.access.settings.name))?;
        self.running = Some((process, link));
        Ok(Some(facts))
    }

    /// Which table is tried next, and on which key.
    pub(in crate::kek) fn aim(&mut self, table: &WrapMethod, label: &str) {
        self.access.recipe = Recipe::of(table);
        self.access.table = table.clone();
        label.clone_into(&mut self.access.settings.key_label);
        self.public = None;
    }

    /// Whether a MAC key stands beside the KEK.
    pub(in crate::kek) const fn has_mac(&self) -> bool {
        self.access.recipe.has_mac()
    }

    /// Whether the token itself authenticates the context, or our MAC beside it does.
    pub(in crate::kek) const fn checks_context(&self) -> bool {
        self.access.recipe.binds() || self.access.recipe.has_mac()
    }

    /// Whether a wrap of this length could be stored.
    pub(in crate::kek) const fn fits(&self, len: usize) -> bool {
        self.access.recipe.fits(len)
    }

    /// Makes the keys of the table, to go with their session; None if the table names no mechanism that makes them.
    pub(in crate::kek) async fn make(
        &mut self,
        unmodifiable: bool,
    ) -> Option<Result<Vec<(KeyRole, KeyAttributes)>, (KeyRole, Trouble)>> {
        let recipes = new_keys(&self.access.table)?;
        let mut made = Vec::new();
        // The MAC key first: it is quickly made, and where it cannot be there is no waiting for a key pair.
        for (role, mechanism, key_type, bits) in recipes.into_iter().rev() {
            match self.make_one(role, [mechanism, key_type, bits], unmodifiable).await {
                Ok(attributes) => made.push((role, attributes)),
                Err(trouble) => return Some(Err((role, trouble))),
            }
        }
        Some(Ok(made))
    }

    async fn make_one(
        &mut self,
        role: KeyRole,
        numbers: [u64; 3],
        unmodifiable: bool,
    ) -> Result<KeyAttributes, Trouble> {
        let mut id = [0; 16];
        crypto::random(&mut id).map_err(|error| Trouble::Lost(error.to_string()))?;
        let [mechanism, key_type, bits] = numbers;
        let label = self.access.settings.key_label.clone();
        let new = NewKey { role, mechanism, key_type, bits, label: &label, id: &id, unmodifiable };
        match self.call(&Request::Temporary(new), GENERATE).await? {
            Answer::Key(attributes) => Ok(attributes),
            _ => Err(nonsense()),
        }
    }

    /// Removes the keys that [`Self::make`] made and looks whether they are gone: true if they are.
    pub(in crate::kek) async fn discard(&mut self) -> Result<bool, Trouble> {
        let limit = self.access.start_after();
        self.call(&Request::Discard, limit).await?;
        match self.find(self.access.recipe.role()).await {
            Err(Trouble::Fault(Fault::NoKey(_))) => Ok(true),
            Err(lost @ Trouble::Lost(_)) => Err(lost),
            Ok(_) | Err(Trouble::Fault(_)) => Ok(false),
        }
    }

    /// The key of a role, as the token reports it.
    pub(in crate::kek) async fn find(&mut self, role: KeyRole) -> Result<KeyAttributes, Trouble> {
        let (label, limit) = (self.access.settings.key_label.clone(), self.access.start_after());
        match self.call(&Request::Find { label: &label, role }, limit).await? {
            Answer::Key(attributes) => Ok(attributes),
            _ => Err(nonsense()),
        }
    }

    /// What the KEK of the table is for.
    pub(in crate::kek) const fn role(&self) -> KeyRole {
        self.access.recipe.role()
    }

    /// Wraps random bytes.
    pub(in crate::kek) async fn wrap(&mut self, plain: &SecretBytes, aad: &[u8]) -> Result<Vec<u8>, Trouble> {
        if self.public.is_none() && self.access.recipe.role() == KeyRole::Private {
            self.public = Some(self.public_key().await?);
        }
        let Some((_, link)) = &mut self.running else { return Err(away()) };
        let wrapped = self.access.wrap(link, 1, self.public.as_ref(), plain, aad).await;
        Ok(self.seen(wrapped).await?.expose().to_vec())
    }

    async fn public_key(&mut self) -> Result<RsaPublicKey, Trouble> {
        let (label, limit) = (self.access.settings.key_label.clone(), self.access.start_after());
        match self.call(&Request::PublicKey { label: &label }, limit).await? {
            Answer::Bytes(numbers) => {
                rsa_key(&numbers).ok_or_else(|| Trouble::Fault(Fault::Protocol(UNFIT_RSA.into())))
            }
            _ => Err(nonsense()),
        }
    }

    /// Unwraps what [`Self::wrap`] made, or what was made of it.
    pub(in crate::kek) async fn unwrap(&mut self, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Trouble> {
        let (recipe, limit) = (self.access.recipe, self.access.hang_after());
        let label = self.access.settings.key_label.clone();
        match self.call(&Request::Unwrap { recipe, label: &label, blob, aad }, limit).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(nonsense()),
        }
    }

    /// How many sessions can be opened beside those that are, and the code of the one too many (0: there was none).
    pub(in crate::kek) async fn sessions(&mut self, most: u16) -> Result<(u16, u64), Trouble> {
        let limit = self.access.start_after();
        match self.call(&Request::Sessions { most }, limit).await? {
            Answer::Sessions { opened, code } => Ok((opened, code)),
            _ => Err(nonsense()),
        }
    }

    /// Randomness of the token.
    pub(in crate::kek) async fn random(&mut self, len: u16) -> Result<SecretBytes, Trouble> {
        let limit = self.access.hang_after();
        match self.call(&Request::Random { len }, limit).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(nonsense()),
        }
    }

    /// One more session at the same key.
    pub(in crate::kek) async fn lane(&self) -> Result<Lane, Trouble> {
        let Some((process, _)) = &self.running else { return Err(away()) };
        let link = process.lane(self.access.start_after()).await?;
        let (label, limit) = (self.access.settings.key_label.clone(), self.access.hang_after());
        Ok(Lane { link, recipe: self.access.recipe, label, limit })
    }

    /// Lets the worker leave in order.
    pub(in crate::kek) async fn leave(self) {
        if let Some((process, link)) = self.running {
            drop(link);
            process.leave().await;
        }
    }

    async fn call(&mut self, request: &Request<'_>, limit: Duration) -> Result<Answer, Trouble> {
        let Some((_, link)) = &mut self.running else { return Err(away()) };
        let answer = link.call(request, limit).await;
        self.seen(answer).await
    }

    /// A worker that is lost is dropped, and how it ended is told.
    async fn seen<T>(&mut self, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        match (answer, self.running.take()) {
            (Err(Trouble::Lost(detail)), Some((process, _link))) => {
                Err(Trouble::Lost(process.last_words().await.unwrap_or(detail)))
            }
            (answer, running) => {
                self.running = running;
                answer
            }
        }
    }
}

impl Lane {
    /// One unwrap, through the worker.
    pub(in crate::kek) async fn unwrap(&mut self, blob: &[u8], aad: &[u8]) -> Result<(), Trouble> {
        let Self { link, recipe, label, limit } = self;
        link.bytes(&Request::Unwrap { recipe: *recipe, label, blob, aad }, *limit).await.map(drop)
    }

    /// How long `times` unwraps take in the worker.
    pub(in crate::kek) async fn repeat(&mut self, blob: &[u8], aad: &[u8], times: u16) -> Result<Duration, Trouble> {
        let Self { link, recipe, label, limit } = self;
        let request = Request::Repeat { recipe: *recipe, label, blob, aad, times };
        match link.call(&request, limit.saturating_mul(u32::from(times))).await? {
            Answer::Took(time) => Ok(time),
            _ => Err(nonsense()),
        }
    }
}

fn nonsense() -> Trouble {
    Trouble::Lost("the worker's answer makes no sense".into())
}

fn away() -> Trouble {
    Trouble::Lost("the worker is gone".into())
}

/// RSA keys are made by trying primes: on small devices for minutes.
const GENERATE: Duration = Duration::from_secs(180);
