//! Who wraps keys in production? A KEK in a PKCS#11 token, reached through a worker process that holds the vendor's library.
//! No vendor code runs in the sidecar itself: it may hang, crash or leak there without taking the keys along.

mod access;
mod attributes;
mod board;
mod descriptors;
mod frame;
mod keeper;
mod link;
mod login;
mod message;
mod module;
mod token;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::crypto::{self, DataKey};
use crate::durable::Disk;
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::profile::{AttributeName, Profile, ProfileChoice};
use super::{EventSink, Kek, KekError, KekFacts, KekHealth, Method, StartError, Wrap, WrapBinding};

use access::{Access, Setback};
use board::Board;
use keeper::{Job, Keeper, Work};
use message::Request;

pub use attributes::KeyAttributes;
pub use login::{PinSource, clear_login};
pub use worker::worker_main;

/// Which token, which key, and how to get at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Settings {
    /// The name in the configuration.
    pub name: KekName,
    /// The product's profile.
    pub profile: ProfileChoice,
    /// The vendor's library; None takes the first of the profile's paths that exists.
    pub module: Option<PathBuf>,
    /// The token's label.
    pub token_label: String,
    /// The key's label.
    pub key_label: String,
    /// The key's version, counted by the operator: 1, 2, ...
    pub key_version: u32,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// The program that runs [`worker_main`] when called with `kek-worker`: keyward itself.
    pub worker: PathBuf,
    /// An existing directory for the login latch.
    pub state_dir: PathBuf,
    /// The environment of the worker: names that the profile lists, with values.
    pub env: Vec<(String, String)>,
}

impl Pkcs11Settings {
    /// The first problem, in words.
    fn check(&self, profile: &Profile) -> Result<(), String> {
        let label_fits = |label: &str, max| !label.is_empty() && label.len() <= max;
        if !label_fits(&self.token_label, MAX_TOKEN_LABEL) {
            return Err(format!("token_label must have 1 to {MAX_TOKEN_LABEL} bytes"));
        }
        if !label_fits(&self.key_label, MAX_KEY_LABEL) {
            return Err(format!("key_label must have 1 to {MAX_KEY_LABEL} bytes"));
        }
        if self.key_version == 0 {
            return Err("key_version counts from 1".into());
        }
        if !self.state_dir.is_dir() {
            return Err(format!("the state directory {} does not exist", self.state_dir.display()));
        }
        match self.env.iter().find(|(name, _)| !profile.module.env.contains(name)) {
            Some((name, _)) => Err(format!("the profile {} does not let {name} reach the library", profile.id)),
            None => Ok(()),
        }
    }
}

/// A KEK in a token.
pub struct Pkcs11Kek {
    name: KekName,
    version: u32,
    method: Method,
    clock: SharedClock,
    board: Arc<Board>,
    jobs: mpsc::Sender<Job>,
}

/// What a token holds, for `keyward kek create` and `keyward kek show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The token.
    pub facts: KekFacts,
    /// The key, as the token reports it.
    pub attributes: KeyAttributes,
    /// Why it must not be used as a KEK; None if it may.
    pub objection: Option<String>,
}

impl Pkcs11Kek {
    /// Starts the keeper and admits the KEK: attributes, a canary wrapped and unwrapped, a wrong context refused. A token
    /// that is away is admitted later, by the first call that reaches it; what is wrong stops the start.
    pub async fn start(
        settings: Pkcs11Settings,
        clock: SharedClock,
        disk: Disk,
        events: EventSink,
    ) -> Result<Arc<Self>, StartError> {
        let (name, version) = (settings.name.clone(), settings.key_version);
        let access = Access::prepare(settings, clock.clone(), disk)?;
        let method = access.profile.chosen(None).map_err(|_| no_method(&name))?.method();
        let (mechanism, board) = (0x1087, Arc::new(Board::new()));
        let mut keeper = Keeper::new(access, mechanism, events, board.clone());
        match keeper.start().await {
            Ok(()) | Err(Setback::Away(_)) => {}
            Err(setback) => return Err(setback.as_start_error(&name)),
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(keeper.run(queue));
        Ok(Arc::new(Self { name, version, method, clock, board, jobs }))
    }

    /// Makes a KEK in the token; refuses a label that is taken. Not retried: whether a key was made is seen in the token.
    pub async fn create_key(settings: Pkcs11Settings, clock: SharedClock, disk: Disk) -> Result<TokenKey, StartError> {
        let access = Access::prepare(settings, clock, disk)?;
        let mut id = [0; 16];
        let problem = |problem: String| StartError::Setting { kek: access.settings.name.clone(), problem };
        crypto::random(&mut id).map_err(|error| problem(error.to_string()))?;
        let unmodifiable = access.profile.attributes.settable.contains(&AttributeName::Modifiable);
        let label = &access.settings.key_label;
        ask_for_key(&access, &Request::Create { label, id: &id, unmodifiable }).await
    }

    /// What the token holds under the configured label.
    pub async fn inspect(settings: Pkcs11Settings, clock: SharedClock, disk: Disk) -> Result<TokenKey, StartError> {
        let access = Access::prepare(settings, clock, disk)?;
        ask_for_key(&access, &Request::Find { label: &access.settings.key_label }).await
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
        let plain = SecretBytes::new(key.expose_for_wrapping().to_vec());
        let blob = self.ask(Work::Wrap { plain, aad: binding.encode(self.method) }, deadline).await?;
        let wrap = Wrap {
            kek: self.name.clone(),
            kek_version: self.version,
            method: self.method,
            blob: blob.expose().to_vec(),
            check_value: key.check_value(),
        };
        // A wrap that does not open is a lost key: it is not handed out before the token has opened it.
        self.unwrap_key(&wrap, binding, deadline).await?;
        Ok(wrap)
    }

    async fn unwrap_key(&self, wrap: &Wrap, binding: &WrapBinding, deadline: Deadline) -> Result<DataKey, KekError> {
        let ours = wrap.kek == self.name && binding.kek == self.name && wrap.kek_version == self.version;
        if !ours || wrap.method != self.method || wrap.blob.len() != BLOB_BYTES {
            return Err(KekError::BadWrap);
        }
        let work = Work::Unwrap { blob: wrap.blob.clone(), aad: binding.encode(wrap.method) };
        let secret = self.ask(work, deadline).await?;
        super::checked_key(&secret, wrap)
    }

    /// Queues work and waits for its answer, no longer than the deadline; the keeper's own limits are about the worker.
    async fn ask(&self, work: Work, deadline: Deadline) -> Result<SecretBytes, KekError> {
        let (answer, answered) = oneshot::channel();
        let gone = || KekError::Unreachable { kek: self.name.clone(), detail: "the sidecar is shutting down".into() };
        let asked = async {
            self.jobs.send(Job { work, deadline, answer }).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        };
        tokio::select! {
            biased;
            result = asked => result,
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
            Ok(bytes.expose().to_vec())
        })
    }

    fn health(&self) -> KekHealth {
        self.board.health()
    }
}

async fn ask_for_key(access: &Access, request: &Request<'_>) -> Result<TokenKey, StartError> {
    let name = &access.settings.name;
    let (mut link, token) = access.open().await.map_err(|setback| setback.as_start_error(name))?;
    let answer = link.key(request, access.profile.calls.start_after()).await;
    let attributes = answer.map_err(|trouble| access.setback(trouble).as_start_error(name))?;
    let objection = attributes.objection();
    Ok(TokenKey { facts: keeper::facts(&token), attributes, objection })
}

fn no_method(kek: &KekName) -> StartError {
    StartError::Setting { kek: kek.clone(), problem: "the profile lists no method of wrapping".into() }
}

/// CK_TOKEN_INFO has room for 32 bytes.
const MAX_TOKEN_LABEL: usize = 32;
/// Products differ; what is longer than this is a mistake.
const MAX_KEY_LABEL: usize = 128;
/// IV, data key, tag.
const BLOB_BYTES: usize = 12 + 32 + 16;
/// As many as a data key has.
const RANDOM_BYTES: u16 = 32;
/// Unwraps are single-flight per key and cached: more waiting than this means the token is far behind.
const QUEUE: usize = 256;
