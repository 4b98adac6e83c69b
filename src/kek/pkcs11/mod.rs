//! Who wraps keys in production? A KEK in a PKCS#11 token, reached through a worker process that holds the vendor's library.
//! No vendor code runs in the sidecar itself: it may hang, crash or leak there without taking the keys along.

mod access;
mod attend;
mod attributes;
mod board;
mod bound;
mod canary;
mod cipher;
mod descriptors;
mod fault;
mod finishing;
mod fitness;
mod frame;
mod keeper;
mod link;
mod login;
mod making;
mod message;
mod methods;
mod module;
mod opening;
mod recipe;
mod seat;
mod settings;
mod survey;
mod token;
mod workbench;
mod worker;

use std::sync::Arc;

use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::crypto::{self, DataKey};
use crate::durable::Disk;
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::{
    Deployment, EventSink, Kek, KekError, KekFacts, KekHealth, KekStatus, Method, StartError, Wrap, WrapBinding,
};

use access::{Access, Setback};
use board::Board;
use finishing::Finishing;
use keeper::{Done, Keeper, Work};

pub use attributes::KeyAttributes;
pub use login::{PinSource, clear_login};
pub use making::{Made, TokenKey};
pub use settings::Pkcs11Settings;
pub use worker::worker_main;

// For the probe, which tries what a profile says with keys of its own.
pub(in crate::kek) use fault::{Fault, code_name};
pub(in crate::kek) use link::Trouble;
pub(in crate::kek) use recipe::{KeyRole, Recipe};
pub(in crate::kek) use survey::{LibraryFacts, MechanismFacts, SlotFacts};
pub(in crate::kek) use workbench::{Lane, Module, Workbench};

/// A KEK in a token.
pub struct Pkcs11Kek {
    name: KekName,
    clock: SharedClock,
    board: Arc<Board>,
    keeper: Arc<Keeper>,
}

impl Pkcs11Kek {
    /// Starts the keeper and admits the KEK: attributes, a canary wrapped and unwrapped, a wrong context refused. A token
    /// that is away is admitted later, by itself or by the first call that reaches it; what is wrong stops the start.
    pub async fn start(
        settings: Pkcs11Settings,
        deployment: Deployment,
        clock: SharedClock,
        disk: Disk,
        events: EventSink,
    ) -> Result<Arc<Self>, StartError> {
        let name = settings.name.clone();
        let access = Access::prepare(settings, deployment, clock.clone(), disk)?;
        access.trusted()?;
        let board = Arc::new(Board::new());
        let keeper = Arc::new(Keeper::new(access, events, board.clone()));
        match keeper.start().await {
            Ok(()) | Err(Setback::Away(_) | Setback::Stuck(_)) => {}
            Err(setback) => return Err(setback.as_start_error(&name)),
        }
        tokio::spawn(attend::attend(Arc::downgrade(&keeper), clock.clone()));
        Ok(Arc::new(Self { name, clock, board, keeper }))
    }

    /// Every problem that shows without a token.
    pub fn problems(settings: &Pkcs11Settings, deployment: Deployment) -> Vec<StartError> {
        Access::problems(settings, deployment)
    }

    /// The key's attributes as the token reported them at the last admission; None before the first.
    pub fn attributes(&self) -> Option<KeyAttributes> {
        self.board.attributes()
    }

    /// The worker's process, while there is one.
    pub fn worker(&self) -> Option<u32> {
        self.board.worker()
    }

    async fn wrap_key(&self, key: &DataKey, binding: &WrapBinding, deadline: Deadline) -> Result<Wrap, KekError> {
        if binding.kek != self.name {
            let detail = "the binding names another key-encryption key".into();
            return Err(KekError::Denied { kek: self.name.clone(), detail });
        }
        let access = &self.keeper.access;
        let method = access.method();
        let aad = binding.encode(method);
        let (blob, kek_version) = if access.recipe.binds() {
            let plain = SecretBytes::copy_of(key.expose_for_wrapping());
            let done = self.ask(Work::Wrap { plain, aad }, deadline).await?;
            (done.bytes.expose().to_vec(), done.version)
        } else {
            self.wrap_bound(key, &aad, deadline).await?
        };
        Ok(Wrap { kek: self.name.clone(), kek_version, method, blob, check_value: key.check_value() })
    }

    /// One trip where the token wraps the key itself; else two.
    async fn wrap_and_open_key(
        &self,
        key: &DataKey,
        binding: &WrapBinding,
        deadline: Deadline,
    ) -> Result<(Wrap, DataKey), KekError> {
        let access = &self.keeper.access;
        let method = access.method();
        // The trip proves the wrap as it will be opened later: by the same recipe and under the same label.
        let as_later = access.recipe_of(method) == Some(access.recipe);
        if binding.kek != self.name || !access.recipe.binds() || !as_later {
            let wrap = self.wrap_key(key, binding, deadline).await?;
            let opened = self.unwrap_key(&wrap, binding, deadline).await?;
            return Ok((wrap, opened));
        }
        let (plain, aad) = (SecretBytes::copy_of(key.expose_for_wrapping()), binding.encode(method));
        let done = self.ask(Work::WrapAndOpen { plain, aad }, deadline).await?;
        let (blob, kek_version) = (done.bytes.expose().to_vec(), done.version);
        let wrap = Wrap { kek: self.name.clone(), kek_version, method, blob, check_value: key.check_value() };
        // What is not a wrap's length would be refused when it is to be opened.
        let opened = done.opened.filter(|_| access.recipe.fits(wrap.blob.len())).ok_or(KekError::BadWrap)?;
        let opened = super::checked_key(&opened, &wrap)?;
        Ok((wrap, opened))
    }

    /// The token wraps a fresh key, of its randomness and the operating system's; the data key is sealed under that.
    async fn wrap_bound(&self, key: &DataKey, binding: &[u8], deadline: Deadline) -> Result<(Vec<u8>, u32), KekError> {
        let failed = |_| KekError::Unreachable { kek: self.name.clone(), detail: "no memory or randomness".into() };
        let mut fresh = self.ask(Work::Random { len: RANDOM_BYTES }, deadline).await?.bytes;
        let mut ours = SecretBytes::zeroed(usize::from(RANDOM_BYTES));
        crypto::random(ours.expose_mut()).map_err(failed)?;
        fresh.expose_mut().iter_mut().zip(ours.expose()).for_each(|(byte, other)| *byte ^= other);
        let sealed = bound::seal(&fresh, binding, key).map_err(failed)?;
        let aad = Self::authenticated(self.keeper.access.recipe, binding, &sealed);
        let done = self.ask(Work::Wrap { plain: fresh, aad }, deadline).await?;
        Ok((bound::join(done.bytes.expose(), &sealed).ok_or(KekError::BadWrap)?, done.version))
    }

    /// What the MAC beside an RSA wrap covers: the sealed key too, since anybody can make the rest.
    fn authenticated(recipe: Recipe, binding: &[u8], sealed: &[u8]) -> Vec<u8> {
        if recipe.has_mac() { [binding, sealed].concat() } else { Vec::new() }
    }

    async fn unwrap_key(&self, wrap: &Wrap, binding: &WrapBinding, deadline: Deadline) -> Result<DataKey, KekError> {
        let access = &self.keeper.access;
        if wrap.kek != self.name || binding.kek != self.name {
            return Err(KekError::BadWrap);
        }
        if wrap.kek_version > 1 && !access.settings.has_versions() {
            return Err(KekError::Unsupported(format!(
                "wrapped by version {} of the key-encryption key {}, and key_label {} has no {VERSION_MARK} in it",
                wrap.kek_version, self.name, access.settings.key_label
            )));
        }
        if matches!(wrap.method, Method::Software | Method::Transit) {
            return Err(KekError::BadWrap);
        }
        let Some(recipe) = access.recipe_of(wrap.method) else {
            let what = format!("the profile {} has no method for a wrap of {:?}", access.profile.id, wrap.method);
            return Err(KekError::Unsupported(what));
        };
        if matches!(recipe, Recipe::Oaep { mac: None, .. }) && !access.settings.store_key_pinned {
            return Err(KekError::Unsupported(
                "a wrap by a public key, which anybody can make: pin the store key".into(),
            ));
        }
        let (version, bytes) = (wrap.kek_version, binding.encode(wrap.method));
        let secret = if recipe.binds() {
            if !recipe.fits(wrap.blob.len()) {
                return Err(KekError::BadWrap);
            }
            let work = Work::Unwrap { recipe, version, blob: wrap.blob.clone(), aad: bytes };
            self.ask(work, deadline).await?.bytes
        } else {
            let parts = bound::split(&wrap.blob).filter(|(by_token, _)| recipe.fits(by_token.len()));
            let (by_token, sealed) = parts.ok_or(KekError::BadWrap)?;
            let aad = Self::authenticated(recipe, &bytes, sealed);
            let work = Work::Unwrap { recipe, version, blob: by_token.to_vec(), aad };
            let fresh = self.ask(work, deadline).await?.bytes;
            bound::open(&fresh, &bytes, sealed).map_err(|_| KekError::BadWrap)?
        };
        super::checked_key(&secret, wrap)
    }

    /// Does work and waits for its answer, no longer than the deadline. The work goes on without us: a lane must not be
    /// left in the middle of a call, and a token that hangs is noticed by the keeper's own limits.
    async fn ask(&self, work: Work, deadline: Deadline) -> Result<Done, KekError> {
        let keeper = self.keeper.clone();
        let working = Finishing::new(async move { keeper.serve(&work, deadline).await });
        tokio::select! {
            biased;
            result = working => result,
            () = self.clock.sleep_until(deadline.0) => Err(KekError::Deadline(self.name.clone())),
        }
    }
}

impl Kek for Pkcs11Kek {
    fn name(&self) -> &KekName {
        &self.name
    }

    fn facts(&self) -> KekFacts {
        self.board.facts()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(self.wrap_key(key, binding, deadline))
    }

    fn wrap_and_open<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<(Wrap, DataKey), KekError>> {
        Box::pin(self.wrap_and_open_key(key, binding, deadline))
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(self.unwrap_key(wrap, binding, deadline))
    }

    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>> {
        Box::pin(async move {
            let bytes = self.ask(Work::Random { len: RANDOM_BYTES }, deadline).await?;
            Ok(bytes.bytes.expose().to_vec())
        })
    }

    fn health(&self) -> KekHealth {
        self.board.health()
    }

    fn status(&self) -> KekStatus {
        self.keeper.status()
    }

    fn current_version(&self) -> Option<u32> {
        self.keeper.current_version()
    }
}

/// Where a label names the KEK's version.
const VERSION_MARK: &str = "{version}";
/// As many as a data key has.
const RANDOM_BYTES: u16 = 32;
