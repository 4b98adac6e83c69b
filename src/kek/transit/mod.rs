//! Who wraps keys where there is a Vault or OpenBao server? A key of its transit engine, which never leaves the server.
//! This module never lets a wrap out by a key that is not the admitted one, and never sends a token to another server.
//!
//! The binding travels as `associated_data`; a server that ignores it is refused at the admission. The data key itself
//! travels as base64 in JSON. It is held in buffers that are wiped as far as they are ours: the request's body, the text
//! of the answer, the decoded bytes. Not wiped, and not in locked memory, are the copies that belong to the HTTP client:
//! the body handed to the connection, its write and read buffers with the TLS records, and the raw answer; the same holds
//! for the token in the request's head and for the secret of a login. They lie on the heap until it is used again. Core
//! dumps and swapping are switched off for the process; a KEK in a PKCS#11 token does not have these copies.
//!
//! Which version of the key wrapped a data key stands in its ciphertext and in the wrap, and the two must agree. Older
//! versions open until an operator raises `min_decryption_version`, which is a revocation: cached keys are evicted.

mod api;
mod board;
mod canary;
mod ciphertext;
mod client;
mod fault;
mod keeper;
mod login;
mod offline;
mod session;
mod settings;
mod versions;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::crypto::DataKey;
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::{
    Deployment, EventSink, Kek, KekError, KekFacts, KekHealth, KekStatus, Method, StartError, Wrap, WrapBinding,
};

use ciphertext::Ciphertext;
use client::Connections;
use fault::Setback;
use keeper::{Keeper, Work};

pub use settings::{Address, Auth, TransitSettings};

/// A KEK in a transit engine.
pub struct TransitKek {
    name: KekName,
    clock: SharedClock,
    keeper: Arc<Keeper>,
    calls: Arc<Semaphore>,
    /// The keeper's task; it ends with the KEK.
    _task: JoinSet<()>,
}

impl TransitKek {
    /// Logs in and admits the KEK: the key's properties, a canary wrapped and unwrapped, a wrong context refused. A server
    /// that is away is asked again until it answers; what is wrong stops the start.
    pub async fn start(
        settings: TransitSettings,
        deployment: Deployment,
        clock: SharedClock,
        events: EventSink,
    ) -> Result<Arc<Self>, StartError> {
        let name = settings.name.clone();
        let wrong = |problem: String| StartError::Setting { kek: name.clone(), problem };
        settings.check(deployment).map_err(wrong)?;
        login::check_files(&settings.auth).map_err(wrong)?;
        let connections = Connections::prepare(&settings).map_err(wrong)?;
        let keeper = Arc::new(Keeper::new(settings, connections, clock.clone(), events));
        match keeper.start().await {
            Ok(()) | Err(Setback::Away(_)) => {}
            Err(setback) => return Err(setback.as_start_error(&name)),
        }
        let mut task = JoinSet::new();
        task.spawn(keeper.clone().run());
        Ok(Arc::new(Self { name, clock, keeper, calls: Arc::new(Semaphore::new(MOST_CALLS)), _task: task }))
    }

    async fn wrap_key(&self, key: &DataKey, binding: &WrapBinding, deadline: Deadline) -> Result<Wrap, KekError> {
        if binding.kek != self.name {
            let detail = "the binding names another key-encryption key".into();
            return Err(KekError::Denied { kek: self.name.clone(), detail });
        }
        let plain = SecretBytes::copy_of(key.expose_for_wrapping());
        let blob = self.ask(Work::Wrap { plain, aad: binding.encode(Method::Transit) }, deadline).await?;
        let blob = blob.expose().to_vec();
        let kek_version = Ciphertext::parse(&blob).ok_or(KekError::BadWrap)?.version();
        let (kek, check_value) = (self.name.clone(), key.check_value());
        Ok(Wrap { kek, kek_version, method: Method::Transit, blob, check_value })
    }

    async fn unwrap_key(&self, wrap: &Wrap, binding: &WrapBinding, deadline: Deadline) -> Result<DataKey, KekError> {
        if wrap.kek != self.name || binding.kek != self.name || wrap.method != Method::Transit {
            return Err(KekError::BadWrap);
        }
        let blob = Ciphertext::parse(&wrap.blob).ok_or(KekError::BadWrap)?;
        if blob.version() != wrap.kek_version {
            return Err(KekError::BadWrap);
        }
        let secret = self.ask(Work::Unwrap { blob, aad: binding.encode(Method::Transit) }, deadline).await?;
        super::checked_key(&secret, wrap)
    }

    /// Has the work done and waits for it, no longer than the deadline. The work itself goes on to its own limit, so that
    /// what it shows of the server is not lost when a caller has no time.
    async fn ask(&self, work: Work, deadline: Deadline) -> Result<SecretBytes, KekError> {
        let gone = || KekError::Unreachable { kek: self.name.clone(), detail: "the sidecar is shutting down".into() };
        let asked = async {
            let permit = self.calls.clone().acquire_owned().await.map_err(|_| gone())?;
            let keeper = self.keeper.clone();
            let done = tokio::spawn(async move {
                let _released_at_the_end = permit;
                keeper.serve(&work, deadline).await
            });
            done.await.unwrap_or_else(|_| Err(gone()))
        };
        tokio::select! {
            biased;
            result = asked => result,
            () = self.clock.sleep_until(deadline.0) => Err(KekError::Deadline(self.name.clone())),
        }
    }
}

impl Kek for TransitKek {
    fn name(&self) -> &KekName {
        &self.name
    }

    fn facts(&self) -> KekFacts {
        self.keeper.board.facts()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(self.wrap_key(key, binding, deadline))
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(self.unwrap_key(wrap, binding, deadline))
    }

    /// The engine's randomness; empty where the token's policies do not allow `update` on `random/32` of the mount.
    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>> {
        Box::pin(async move { Ok(self.ask(Work::Random, deadline).await?.expose().to_vec()) })
    }

    fn health(&self) -> KekHealth {
        self.keeper.board.health()
    }

    fn status(&self) -> KekStatus {
        KekStatus { most_calls: u32::try_from(MOST_CALLS).unwrap_or(u32::MAX), ..self.keeper.status() }
    }

    fn current_version(&self) -> Option<u32> {
        self.keeper.board.latest_version()
    }
}

/// Unwraps are single-flight per key and cached: more at once than this means the server is far behind.
const MOST_CALLS: usize = 32;
