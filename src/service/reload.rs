//! How does another policy set come into force? Read and validated whole, compared with what is approved, intent, swap,
//! outcome; a set with any problem changes nothing. If we stop after the intent, the restart reads the files by itself and
//! closes it with what it found.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use crate::audit::{Actor, Dangling, Event, IntentReceipt, Outcome, Record, Source};
use crate::clock::Deadline;
use crate::names::RequestId;
use crate::policy::{Action, Policy, Settings};

use super::account::{Account, own};
use super::{Answer, Asker, Code, Refusal, Service};

/// Reads the policy files again, as they are now; the error says why it cannot.
pub type PolicySource = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// A set that was put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyLoaded {
    /// The digest of the set before.
    pub before: [u8; 32],
    /// The digest of the set that is in force.
    pub now: [u8; 32],
    /// How many files it has.
    pub files: usize,
}

/// What reloading needs.
pub(super) struct Reloading {
    source: PolicySource,
    approved: ArcSwapOption<[u8; 32]>,
    /// One at a time, so that the last record names the set that is in force.
    turn: Mutex<()>,
}

/// Who asks for it, as an intent tells it.
struct By<'a> {
    actor: Actor,
    source: Source,
    request: Option<&'a RequestId>,
    policy: [u8; 32],
    deadline: Deadline,
}

/// A set that has passed every check, and how many files it has.
struct Fresh {
    policy: Arc<Policy>,
    files: usize,
}

impl Reloading {
    pub(super) fn of(source: PolicySource) -> Self {
        Self { source, approved: ArcSwapOption::empty(), turn: Mutex::const_new(()) }
    }

    async fn read(&self, current: Arc<Policy>, now: crate::clock::Wall) -> Result<Fresh, Refusal> {
        let source = Arc::clone(&self.source);
        let read = tokio::task::spawn_blocking(move || fresh(&*source, &current, now)).await;
        let fresh = read.map_err(|_| Code::Internal)?.map_err(|why| Refusal::because(Code::PolicyRefused, why))?;
        match self.approved.load().as_deref() {
            Some(approved) if *approved != fresh.policy.digest() => Err(Refusal::because(
                Code::CeremonyRequired,
                format!(
                    "the policy files are set {}, and approved is set {}",
                    hex::encode(fresh.policy.digest()),
                    hex::encode(approved)
                ),
            )),
            _ => Ok(fresh),
        }
    }
}

/// Everything that is wrong with the files, a line each.
fn fresh(
    source: &dyn Fn() -> Result<Settings, String>,
    current: &Policy,
    now: crate::clock::Wall,
) -> Result<Fresh, String> {
    let settings = source()?;
    let policy = Policy::load(&settings).map_err(|error| error.problems.join("\n"))?;
    let lost = current.taken_from_everybody(&policy, now);
    if lost.is_empty() {
        return Ok(Fresh { policy, files: settings.documents.len() });
    }
    let lines = lost.iter().map(|action| format!("nobody would be permitted {} any more", action.name()));
    Err(lines.collect::<Vec<_>>().join("\n"))
}

impl Service {
    /// From now on only this set may be put in force, and none other without a ceremony; None lifts that.
    pub fn set_approved_policy(&self, digest: Option<[u8; 32]>) {
        self.reloading.approved.store(digest.map(Arc::new));
    }

    /// The digest of the set in force.
    pub fn policy_digest(&self) -> [u8; 32] {
        self.policy.load().digest()
    }

    pub(super) async fn reload_policy(&self, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let _permit = self.permit(Action::PolicyReload, None, asker, account)?;
        let by = By {
            actor: account.actor(),
            source: super::account::source_of(account.surface),
            request: Some(asker.request),
            policy: asker.policy.digest(),
            deadline: asker.deadline,
        };
        // What is approved, as far as the store says.
        drop(self.custody_now().await?);
        let turn = self.reloading.turn.lock().await;
        let fresh = self.reloading.read(self.policy.load_full(), self.clock.wall()).await?;
        account.facts = facts(&fresh);
        let intent = self.announce(&fresh, &by).await?;
        account.intent = Some(intent.index());
        account.intended = true;
        let loaded = self.put_in_force(fresh);
        drop(turn);
        Ok(Answer::PolicyLoaded(loaded))
    }

    /// The same without a request: whoever may signal the process asks for it. Recorded whatever comes out.
    pub async fn reload_policy_on_signal(&self) -> Result<PolicyLoaded, Refusal> {
        let _turn = self.reloading.turn.lock().await;
        let (policy, deadline) = (self.policy_digest(), Deadline(self.clock.mono().plus(super::APPEND_TIME)));
        let by = By { actor: Actor::Sidecar, source: Source::Internal, request: None, policy, deadline };
        let mut told = own(Event::PolicyLoaded, vec![("trigger", "signal".to_owned())], policy);
        let done = match self.reloading.read(self.policy.load_full(), self.clock.wall()).await {
            Ok(fresh) => {
                told.facts.extend(facts(&fresh));
                self.announce(&fresh, &by).await.map(|intent| {
                    told.intent = Some(intent.index());
                    self.put_in_force(fresh)
                })
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &done {
            told.outcome = Outcome::Failed;
            told.reason = Some(refusal.code.as_str());
        }
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME));
        match self.log.append(told, (), by).await {
            Ok(recorded) => recorded.into_outcome(),
            Err(error) => tracing::error!(%error, "the audit log did not take a record"),
        }
        done
    }

    async fn announce(&self, fresh: &Fresh, by: &By<'_>) -> Result<IntentReceipt, Refusal> {
        let record = Record {
            outcome: Outcome::Intent,
            actor: by.actor.clone(),
            source: by.source,
            request: by.request.cloned(),
            ..own(Event::PolicyLoaded, facts(fresh), by.policy)
        };
        let until = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(by.deadline);
        self.log.intent(record, until).await.map_err(|error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        })
    }

    /// Requests that have begun go on with the set that they began with.
    fn put_in_force(&self, Fresh { policy, files }: Fresh) -> PolicyLoaded {
        let now = policy.digest();
        let before = self.replace_policy(policy).digest();
        tracing::info!(before = hex::encode(before), now = hex::encode(now), files, "a policy set is in force");
        PolicyLoaded { before, now, files }
    }

    /// Whether what an intent announced is in force after a restart, which reads the files by itself; None if the intent
    /// was about something else.
    pub(super) fn is_in_force(&self, intent: &Dangling) -> Option<bool> {
        let digest = intent.facts.iter().find(|(name, _)| name == "policy_digest")?;
        (intent.event == Event::PolicyLoaded.name()).then(|| digest.1 == hex::encode(self.policy_digest()))
    }
}

fn facts(fresh: &Fresh) -> Vec<(&'static str, String)> {
    vec![("policy_digest", hex::encode(fresh.policy.digest())), ("policy_files", fresh.files.to_string())]
}
