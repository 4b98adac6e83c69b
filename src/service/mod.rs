//! How is a request answered? One page, the same for every verb: see [`Service::handle`].
//! This module never parses bytes and never chooses a status code.

mod account;
mod change;
mod custody;
mod data;
mod exceptions;
mod following;
mod keys;
mod lookups;
mod maker;
mod partitions;
mod reconcile;
mod refusal;
mod reload;
mod response;
mod rewrap;
mod wraps;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::audit::{Admission, AppendError, Event, IntentReceipt, Log};
use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::identity::{Authenticator, Credentials, Door, Principal};
use crate::keyring::{Keyrings, RevocationBound};
use crate::names::{KekName, KeyringName, RequestId, Tenant};
use crate::policy::{Authority, Policy};
use crate::telemetry::Metrics;

use account::Account;
use maker::Maker;
use reload::Reloading;

pub use crate::control::custody::{
    CustodyVerb, DraftProposal, FoundingSignature, NewMember, Parameters, SignedDecision,
};
pub use crate::control::locks::{Level, Locked};
pub use crate::control::{AskLookup, ConfigureKeyring, CreateKeyring, LookupVerb, RotateKeyring, StepKey};
pub use crate::keyring::{
    Escrow, Following, KekUse, KeyLimits, KeyState, KeyringView, RewrapReport, RewrapStep, Shredded, Suite, Tally,
    VersionView, life,
};
pub use crate::operations::ItemError;
pub use crate::operations::open::{Form, Open, OpenItem, Opened};
pub use crate::operations::rewrap::{Rewrap, RewrapItem};
pub use crate::operations::seal::{Seal, SealItem, Sealed};
pub use custody::{CustodyAnswer, CustodyHealth, CustodySettings, Unfit, Witnessing};
pub use partitions::{Certificate, ShredPartition};
pub use refusal::{Code, Refusal};
pub use reload::{PolicyLoaded, PolicySource};
pub use response::{Answer, Response};
pub use rewrap::RewrappedValue;

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The data Unix socket.
    DataSocket,
    /// Loopback TCP.
    DataTcp,
    /// Mutual TLS for data.
    DataTls,
    /// The control Unix socket.
    Control,
    /// Mutual TLS for control.
    ControlTls,
}

impl Surface {
    /// Which side it serves.
    pub const fn door(self) -> Door {
        match self {
            Self::DataSocket | Self::DataTcp | Self::DataTls => Door::Data,
            Self::Control | Self::ControlTls => Door::Control,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self.door(), Door::Control)
    }
}

/// One request, parsed and bounded.
pub struct Call {
    /// Where it came in.
    pub surface: Surface,
    /// What the connection or request offered as proof.
    pub credentials: Credentials,
    /// Its identifier.
    pub request: RequestId,
    /// When it must be answered.
    pub deadline: Deadline,
    /// What it asks, or why the bytes did not say anything.
    pub operation: Result<Operation, Refusal>,
}

/// Everything that can be asked. Data verbs come through the data surfaces, control verbs through the control surface;
/// routes keep them apart, and `handle` refuses a mix.
pub enum Operation {
    /// Seal values.
    Seal(Seal),
    /// Open values.
    Open(Open),
    /// Bring sealed values under the active version, and into another place if they are to be in one.
    Rewrap(Rewrap),
    /// Make a keyring (control).
    CreateKeyring(CreateKeyring),
    /// List keyrings (data and control).
    ListKeyrings {
        /// Keyrings whose name stands after this one.
        after: Option<KeyringName>,
        /// At most this many.
        limit: u32,
    },
    /// Show a keyring (data and control).
    ShowKeyring(KeyringName),
    /// Shred a partition of a keyring (control).
    ShredPartition(ShredPartition),
    /// Move a page of partitions to the active version (control).
    RewrapPartitions {
        /// Of which keyring.
        keyring: KeyringName,
        /// Why.
        trigger: life::Trigger,
    },
    /// Give a keyring a new active version (control).
    Rotate(RotateKeyring),
    /// Change the limits of a keyring (control).
    Configure(ConfigureKeyring),
    /// Take one step with one key version (control).
    Step(StepKey),
    /// Make, rotate or retire a look-up key (control).
    Lookup(AskLookup),
    /// By what keys are wrapped (control).
    ReadWraps,
    /// Since when versions of key-encryption keys wrap (control).
    ReadKeks,
    /// Which sidecars have not followed a change (control).
    ReadFollowing {
        /// The newest one without it.
        change: Option<u64>,
    },
    /// Wrap keys anew that are behind, from after a keyring on (control).
    RewrapKeys {
        /// Why.
        trigger: life::Trigger,
        /// What the last part said.
        after: Option<String>,
    },
    /// Record that a key-encryption key, or one version of it, wraps nothing any more (control).
    RetireKek {
        /// Which.
        kek: KekName,
        /// Which version; all of them without it.
        version: Option<u32>,
        /// Why.
        reason: life::Reason,
    },
    /// A page of the inventory (control).
    ReadInventory {
        /// Keyrings whose name stands after this one.
        after: Option<KeyringName>,
        /// At most this many.
        limit: u32,
    },
    /// About custodians, their ceremonies and grants (control).
    Custody(CustodyVerb),
    /// Put the policy files in force (control).
    ReloadPolicy,
    /// What the log has about a subject (control).
    LookUpSubject {
        /// Whose, and as applications name it: the value of a keyring's subject key.
        about: (Tenant, String),
        /// The first index that is looked at.
        from: u64,
    },
    /// Records of the log (control).
    ReadAudit {
        /// First index wanted; None means the newest `limit` records.
        from: Option<u64>,
        /// At most this many.
        limit: u32,
    },
}

/// Answers requests. Shared by all listeners.
pub struct Service {
    authenticator: Authenticator,
    policy: ArcSwap<Policy>,
    reloading: Reloading,
    keyrings: Arc<Keyrings>,
    log: Log,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    maker: Arc<Maker>,
    revocation: RevocationBound,
    custody_settings: CustodySettings,
    /// What was last read of custody.
    custody: ArcSwapOption<custody::Custody>,
    /// After which change of documents.
    custody_epoch: AtomicU64,
    /// What is locked, as it was last read, and after which change of documents.
    locks: ArcSwap<custody::Locks>,
    locks_epoch: AtomicU64,
    /// Why nothing but ceremonies goes on.
    held: ArcSwapOption<String>,
}

/// What a service answers with; `app` has built them.
pub struct Parts {
    /// Who is calling.
    pub authenticator: Authenticator,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// Where another set is read from.
    pub policies: PolicySource,
    /// The keys.
    pub keyrings: Arc<Keyrings>,
    /// The record.
    pub log: Log,
    /// How long a change of state takes to reach every sidecar, as a certificate says it.
    pub revocation: RevocationBound,
    /// What custody rests on beside the store.
    pub custody: CustodySettings,
}

impl Service {
    /// A service over its parts.
    pub fn new(parts: Parts, clock: SharedClock, metrics: Arc<Metrics>) -> Self {
        let Parts { authenticator, policy, policies, keyrings, log, revocation, custody: custody_settings } = parts;
        let maker = Arc::new(Maker::new(Arc::clone(&keyrings), log.clone(), clock.clone()));
        Self {
            authenticator,
            policy: ArcSwap::new(policy),
            reloading: Reloading::of(policies),
            keyrings,
            log,
            clock,
            metrics,
            maker,
            revocation,
            custody_settings,
            custody: ArcSwapOption::empty(),
            custody_epoch: AtomicU64::new(0),
            locks: ArcSwap::from_pointee(custody::Locks::default()),
            locks_epoch: AtomicU64::new(0),
            held: ArcSwapOption::empty(),
        }
    }

    /// Answers one request.
    ///
    /// 1. The bytes are an [`Operation`] already, or a refusal that is answered like any other.
    /// 2. Credentials become a Principal, or nobody is served.
    /// 3. The keyrings that the values belong to are located, in memory.
    /// 4. Policy gives one Permit per group of items that share keyring and policy-relevant context; a denied group
    ///    fails alone.
    /// 5. The operation unlocks keys with its permits; a change to keys makes its intent durable first.
    /// 6. The outcome is recorded; until the record is durable it belongs to the log. If the log cannot take it, it is
    ///    dropped and zeroised.
    /// 7. Only what was recorded becomes a [`Response`].
    pub async fn handle(&self, call: Call) -> Response {
        let (deadline, mut account) = (call.deadline, Account::of(&call));
        // One set from here to the answer, whatever is put in force meanwhile.
        let policy = self.policy.load_full();
        account.policy = Some(policy.digest());
        let door = call.surface.door();
        let principal = self.authenticator.authenticate(door, &call.credentials, self.clock.wall()); // 2
        account.known(&call.credentials, principal.as_ref());
        let answer = match (call.operation, principal) {
            (Err(refusal), _) => Err(refusal), // 1
            (_, Err(_)) => Err(Code::Unauthenticated.into()),
            (Ok(operation), Ok(principal)) => {
                let asker = Asker {
                    principal: &principal,
                    policy: &policy,
                    request: &call.request,
                    deadline,
                    sworn: Mutex::default(),
                    intent: Mutex::default(),
                };
                self.perform(operation, asker, &mut account).await // 3 to 5
            }
        };
        self.release(account, answer.unwrap_or_else(Answer::Refused), deadline).await // 6 and 7
    }

    /// Whether credentials are anybody's: asked before a body is read, and again by [`Self::handle`].
    pub fn knows(&self, surface: Surface, credentials: &Credentials) -> bool {
        self.authenticator.authenticate(surface.door(), credentials, self.clock.wall()).is_ok()
    }

    /// If credentials may be somebody's once the keys of their issuer were looked at again: resolves when they were.
    pub fn learn(&self, credentials: &Credentials) -> Option<BoxFuture<'static, ()>> {
        self.authenticator.learn(credentials, &self.clock)
    }

    async fn perform(&self, operation: Operation, asker: Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        let deadline = asker.deadline;
        if matches!(operation, Operation::Seal(_) | Operation::Open(_) | Operation::Rewrap(_)) {
            self.ready_for_data().await?;
        }
        self.not_held(&operation)?;
        self.not_locked(&operation, &asker).await?;
        match operation {
            Operation::Seal(_) | Operation::Open(_) | Operation::Rewrap(_) if account.surface.is_control() => {
                Err(Refusal::because(Code::NotFound, "data verbs are served on the data listener"))
            }
            Operation::CreateKeyring(_)
            | Operation::Rotate(_)
            | Operation::Configure(_)
            | Operation::Step(_)
            | Operation::Lookup(_)
            | Operation::ReadWraps
            | Operation::ReadKeks
            | Operation::ReadFollowing { .. }
            | Operation::RewrapKeys { .. }
            | Operation::RetireKek { .. }
            | Operation::ReadInventory { .. }
            | Operation::ShredPartition(_)
            | Operation::RewrapPartitions { .. }
            | Operation::ReloadPolicy
            | Operation::ReadAudit { .. }
            | Operation::LookUpSubject { .. }
            | Operation::Custody(_)
                if !account.surface.is_control() =>
            {
                Err(Refusal::because(Code::NotFound, "control verbs are served on the control listener"))
            }
            Operation::Seal(seal) => self.in_time(self.seal(seal, &asker, account), deadline).await,
            Operation::Open(open) => self.in_time(self.open(open, &asker, account), deadline).await,
            Operation::Rewrap(rewrap) => self.in_time(self.rewrap(rewrap, &asker, account), deadline).await,
            Operation::CreateKeyring(create) => self.create_keyring(create, &asker, account).await,
            Operation::ShredPartition(shred) => self.shred_partition(shred, &asker, account).await,
            Operation::RewrapPartitions { keyring, trigger } => {
                self.rewrap_partitions(keyring, trigger, &asker, account).await
            }
            Operation::ListKeyrings { after, limit } => self.list_keyrings(after, limit, &asker, account).await,
            Operation::ShowKeyring(name) => self.show_keyring(&name, &asker, account).await,
            Operation::Rotate(rotate) => self.rotate(rotate, &asker, account).await,
            Operation::Configure(configure) => self.configure(configure, &asker, account).await,
            Operation::Step(step) => self.step(step, &asker, account).await,
            Operation::Lookup(asked) => self.lookup(asked, &asker, account).await,
            Operation::ReadWraps => self.read_wraps(&asker, account).await,
            Operation::ReadKeks => self.read_keks(&asker, account),
            Operation::ReadFollowing { change } => self.read_following(change, &asker, account).await,
            Operation::RewrapKeys { trigger, after } => self.rewrap_keys(trigger, after, &asker, account).await,
            Operation::RetireKek { kek, version, reason } => {
                self.retire_kek((kek, version), reason, &asker, account).await
            }
            Operation::ReadInventory { after, limit } => self.read_inventory(after, limit, &asker, account).await,
            Operation::Custody(verb) => self.custody_verb(verb, &asker, account).await,
            Operation::ReloadPolicy => self.reload_policy(&asker, account).await,
            Operation::LookUpSubject { about, from } => self.look_up_subject(&about, from, &asker, account).await,
            Operation::ReadAudit { from, limit } => self.read_audit(from, limit, &asker, account).await,
        }
    }

    /// A sidecar with other settings than the custodians approved lets them decide about that, and does nothing else.
    fn not_held(&self, operation: &Operation) -> Result<(), Refusal> {
        match self.held() {
            Some(why) if !matches!(operation, Operation::Custody(_) | Operation::ReadAudit { .. }) => {
                Err(Refusal::because(Code::Unavailable, why.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Before policy: what it would say of keyrings that nobody can see yet is a refusal that a caller believes.
    async fn ready_for_data(&self) -> Result<(), Refusal> {
        self.keyrings.ready().map_err(|error| Refusal::because(Code::Unavailable, error.to_string()))?;
        // Grants may have changed. Where custody cannot be read there are none, and everything else goes on.
        if let Err(refusal) = self.custody_now().await {
            tracing::warn!(detail = refusal.detail.as_deref().unwrap_or_default(), "custody cannot be read");
        }
        Ok(())
    }

    /// Ends data work whose deadline has passed; what it held is dropped and zeroised. Changes to keys are not ended
    /// from outside: each of their steps has a deadline of its own.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
        deadline: Deadline,
    ) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.clock.sleep_until(deadline.0) => Err(Code::DeadlineExceeded.into()),
        }
    }

    /// Makes the record durable and only then gives the answer away. A flood of refusals is answered 429 and counted
    /// in a summary, whose durability is waited for just the same.
    async fn release(&self, account: Account, answer: Answer, deadline: Deadline) -> Response {
        let by = self.append_deadline(deadline);
        let (actor, reason) = (account.actor(), account.countable(&answer));
        let handed_over = self.clock.mono();
        let recorded = match reason {
            Some(reason) if self.log.admit_refusal(&actor, reason) == Admission::Coalesce => {
                let too_many = Answer::Refused(Refusal::because(Code::RateLimited, "too many refused requests"));
                self.log.append_summarised(&actor, reason, too_many, by).await
            }
            _ => self.log.append(account.into_record(&answer), answer, by).await,
        };
        self.metrics.audit_append_seconds.observe(self.clock.mono().since(handed_over).as_secs_f64());
        match recorded {
            Ok(recorded) => Response::release(recorded),
            Err(AppendError::Deadline) => Response::unrecorded(Code::DeadlineExceeded.into()),
            Err(error) => {
                tracing::error!(%error, "the audit log did not take a record");
                Response::unrecorded(Refusal::because(Code::Unavailable, NO_RECORD))
            }
        }
    }

    /// An append has until the request's deadline, and at least the log's two seconds: a refusal because the deadline
    /// passed still needs its record.
    fn append_deadline(&self, deadline: Deadline) -> Deadline {
        deadline.max(Deadline(self.clock.mono().plus(APPEND_TIME)))
    }

    /// Records something of the sidecar's own life.
    pub async fn note(&self, event: Event, facts: Vec<(&'static str, String)>) -> Result<(), AppendError> {
        note(&self.log, &self.clock, &self.policy.load(), event, facts).await
    }

    /// Puts another validated policy set in force, and gives the one before it back. Its decisions begin anew.
    pub fn replace_policy(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.policy.swap(policy)
    }
}

/// Records something of the life of a sidecar that has no service (yet).
pub async fn note(
    log: &Log,
    clock: &SharedClock,
    policy: &Policy,
    event: Event,
    facts: Vec<(&'static str, String)>,
) -> Result<(), AppendError> {
    let by = Deadline(clock.mono().plus(APPEND_TIME));
    log.append(account::own(event, facts, policy.digest()), (), by).await?.into_outcome();
    Ok(())
}

/// Who asks, for which request, until when.
struct Asker<'a> {
    principal: &'a Principal,
    /// By which set it is decided.
    policy: &'a Policy,
    request: &'a RequestId,
    deadline: Deadline,
    /// In whose name, where custodians decided it together: spent with the first change.
    sworn: Mutex<Option<Authority>>,
    /// The intent of it, which is recorded before the authority is spent.
    intent: Mutex<Option<IntentReceipt>>,
}

impl Asker<'_> {
    /// The intent that was recorded already.
    fn intent(&self) -> Option<IntentReceipt> {
        self.intent.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a caller hears when the log is the reason; the paths and codes are for the operator.
const NO_RECORD: &str = "the audit log cannot take a record";

/// How long the log may take for one record (design: append deadline).
const APPEND_TIME: std::time::Duration = std::time::Duration::from_secs(2);
