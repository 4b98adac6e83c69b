//! Which keys does a provider have now? Read from a file or fetched from a URL, again and again, and sooner when a token
//! names a key that nobody knows. A source that is away takes nothing back until its keys are too old.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::client;
use crate::clock::{BoxFuture, Mono, SharedClock};
use crate::names::Name;

use super::keys::{KeySet, MOST_BYTES};
use super::{KeySource, Provider, Providers};

/// A file costs a read of a page: often enough that a removed key is gone soon.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at a source, whoever asks: foreign tokens must not make us a burden to the issuer.
const PAUSE: Duration = Duration::from_secs(10);
/// An issuer answers within this time or is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a request waits for the keys that its token needs.
const LEARN: Duration = Duration::from_secs(3);

/// The keys of a provider.
pub(super) struct Held {
    keys: ArcSwap<Keys>,
    status: ArcSwap<Status>,
    wanted: Arc<Notify>,
    /// How often the source was looked at.
    looks: watch::Sender<u64>,
    /// When it was last looked at, in `Mono` microseconds and one; 0 is never.
    looked: AtomicU64,
}

/// A set and which one it is.
pub(super) struct Keys {
    pub(super) set: KeySet,
    pub(super) generation: u64,
}

#[derive(Clone, Default)]
struct Status {
    read: Option<Mono>,
    problem: Option<String>,
}

/// How it stands with a provider, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Which.
    pub name: Name,
    /// How many keys it has.
    pub keys: usize,
    /// When they were last read.
    pub read: Option<Mono>,
    /// Why they could not be read the last time.
    pub problem: Option<String>,
}

/// A provider has other keys than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub provider: Name,
    /// The ids of its keys; none if they became too old.
    pub ids: Vec<String>,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            keys: ArcSwap::from_pointee(Keys { set: KeySet::default(), generation: 0 }),
            status: ArcSwap::from_pointee(Status::default()),
            wanted: Arc::new(Notify::new()),
            looks: watch::Sender::new(0),
            looked: AtomicU64::new(0),
        }
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    pub(super) fn generation(&self) -> u64 {
        self.keys.load().generation
    }

    /// Asks for a look at the source, unless the last one was a moment ago; resolves after it, or when it takes too long.
    pub(super) fn ask(&self, clock: &SharedClock) -> Option<BoxFuture<'static, ()>> {
        let now = clock.mono();
        let looked = self.looked.load(Ordering::Relaxed);
        if looked != 0 && now.since(Mono(looked - 1)) < PAUSE {
            return None;
        }
        let mut looks = self.looks.subscribe();
        let before = *looks.borrow_and_update();
        self.wanted.notify_one();
        let clock = Arc::clone(clock);
        Some(Box::pin(async move {
            tokio::select! {
                _looked = looks.wait_for(|now| *now > before) => {}
                () = clock.sleep_until(clock.mono().plus(LEARN)) => {}
            }
        }))
    }
}

impl Providers {
    /// Keeps the keys fresh for ever; tells of each change.
    pub async fn keep(self: Arc<Self>, clock: SharedClock, changed: impl Fn(Changed) + Send + Sync + 'static) {
        let changed = Arc::new(changed);
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..self.all.len() {
            let (all, clock, changed) = (Arc::clone(&self), Arc::clone(&clock), Arc::clone(&changed));
            tasks.spawn(async move {
                if let Some(provider) = all.all.get(at) {
                    provider.keep(&clock, &*changed).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// How it stands with each.
    pub fn status(&self) -> Vec<ProviderStatus> {
        let one = |provider: &Provider| {
            let status = provider.held.status.load();
            ProviderStatus {
                name: provider.settings.name.clone(),
                keys: provider.held.keys.load().set.len(),
                read: status.read,
                problem: status.problem.clone(),
            }
        };
        self.all.iter().map(one).collect()
    }
}

impl Provider {
    async fn keep(&self, clock: &SharedClock, changed: &(impl Fn(Changed) + Send + Sync)) {
        loop {
            let began = clock.mono();
            let read = self.read().await;
            self.take(read, clock.mono(), changed);
            self.held.looked.store(clock.mono().0.saturating_add(1), Ordering::Relaxed);
            self.held.looks.send_modify(|looks| *looks += 1);
            let soon = began.plus(if matches!(self.settings.keys, KeySource::File(_)) { FILE_EVERY } else { PAUSE });
            let next = if self.held.status.load().problem.is_some() { soon } else { began.plus(self.every()) };
            tokio::select! {
                () = clock.sleep_until(next) => {}
                () = async {
                    self.held.wanted.notified().await;
                    clock.sleep_until(soon).await;
                } => {}
            }
        }
    }

    const fn every(&self) -> Duration {
        match self.settings.keys {
            KeySource::File(_) => FILE_EVERY,
            KeySource::Url(..) => self.settings.refresh,
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        let text = match &self.settings.keys {
            KeySource::File(path) => read_file(path).map_err(|problem| format!("{}: {problem}", path.display()))?,
            KeySource::Url(url, trust) => {
                client::fetch(url, trust, PATIENCE, MOST_BYTES).await.map_err(|error| error.to_string())?
            }
        };
        KeySet::parse(&text).map_err(|error| error.to_string())
    }

    /// Puts a set that was read in force. If it could not be read the last one stays, until it is too old.
    fn take(&self, read: Result<KeySet, String>, now: Mono, changed: &impl Fn(Changed)) {
        let status = self.held.status.load_full();
        let (name, stale_for) = (&self.settings.name, self.settings.stale_for);
        match read {
            Ok(set) => {
                self.put(set, changed);
                self.held.status.store(Arc::new(Status { read: Some(now), problem: None }));
            }
            Err(problem) => {
                if status.problem.as_ref() != Some(&problem) {
                    tracing::warn!(provider = %name, problem, "the keys of a token issuer cannot be read");
                }
                if status.read.is_some_and(|read| now.since(read) > stale_for) {
                    self.put(KeySet::default(), changed);
                }
                self.held.status.store(Arc::new(Status { read: status.read, problem: Some(problem) }));
            }
        }
    }

    fn put(&self, set: KeySet, changed: &impl Fn(Changed)) {
        let before = self.held.keys.load();
        if before.set == set {
            return;
        }
        let ids = set.ids().into_iter().map(str::to_owned).collect();
        self.held.keys.store(Arc::new(Keys { set, generation: before.generation + 1 }));
        changed(Changed { provider: self.settings.name.clone(), ids });
    }
}

/// A file that says whom to believe: nobody else may have written it.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| error.to_string();
    // Looked at before it is opened: opening a FIFO in its place would wait for ever.
    check(&std::fs::metadata(path).map_err(told)?)?;
    let file = std::fs::File::open(path).map_err(told)?;
    check(&file.metadata().map_err(told)?)?;
    let (mut text, most) = (Vec::new(), u64::try_from(MOST_BYTES).unwrap_or(u64::MAX));
    file.take(most.saturating_add(1)).read_to_end(&mut text).map_err(told)?;
    Ok(text)
}

fn check(facts: &std::fs::Metadata) -> Result<(), String> {
    let (me, mode) = (rustix::process::geteuid().as_raw(), facts.mode() & 0o7777);
    if !facts.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if facts.uid() != me && facts.uid() != 0 {
        return Err(format!("belongs to user {}: it must belong to user {me} or to root", facts.uid()));
    }
    if mode & 0o022 != 0 { Err(format!("has mode {mode:04o}: others may change it")) } else { Ok(()) }
}

#[cfg(test)]
impl Provider {
    pub(super) fn take_for_tests(&self, read: Result<KeySet, String>) {
        self.take_at_for_tests(read, Mono(0));
    }

    pub(super) fn take_at_for_tests(&self, read: Result<KeySet, String>, at: Mono) {
        self.take(read, at, &|_| {});
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes the file that the code under test refuses")]
    fn a_key_set_that_others_may_write_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        for (mode, read) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(super::read_file(file.path()).is_ok(), read, "{mode:o}");
        }
        assert_eq!(super::read_file(std::path::Path::new("/")), Err("is not a regular file".to_owned()));
    }
}
