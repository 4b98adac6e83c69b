//! What is asked of custody, and what does an approved proposal bring about? The parameters of a proposal become the same
//! requests that one person made before there were custodians. This module never decides who may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::ceremony::action::form::rules;
use crate::keyring::life::{Reason, Statement, Step, Trigger};
use crate::keyring::{Escrow, KeyLimits, Suite};
use crate::names::{KekName, KeyVersionId, KeyringName, LookupName, PrincipalName, Purpose};
use crate::policy::separation::Separation;

use super::guarded::Changes;
use super::locks::{Level, Locked};
use super::{AskLookup, ConfigureKeyring, CreateKeyring, LookupVerb, RotateKeyring, StepKey};

/// Parameters of a proposal, as its text has them.
pub type Parameters = BTreeMap<String, String>;

/// A person with the keys that are to count as theirs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// Who.
    pub person: String,
    /// Public keys, a line each.
    pub keys: Vec<String>,
    /// The duties that the person acknowledged; only their digest is kept.
    pub acknowledgement: String,
}

/// A founding member's signature over the roster's digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundingSignature {
    /// Who.
    pub person: String,
    /// Armoured SSHSIG.
    pub signature: String,
}

/// A decision as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDecision {
    /// The text of the decision.
    pub decision: String,
    /// Armoured SSHSIG over it.
    pub signature: String,
}

/// What is asked for in a proposal, before keyward has written it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftProposal {
    /// An action of the closed list.
    pub action: String,
    /// What it takes.
    #[serde(default)]
    pub parameters: Parameters,
    /// A code.
    pub reason: String,
    /// A reference into somebody else's system.
    #[serde(default)]
    pub ticket: String,
    /// Who proposes and will sign it.
    pub initiator: String,
}

/// What is asked of custody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustodyVerb {
    /// Who is on the roster, and how custody stands.
    Show,
    /// The roster in all its generations, for whoever verifies minutes.
    Roster,
    /// The roster that these people would be.
    DraftGenesis(Vec<NewMember>),
    /// The first custodians.
    Found {
        /// The canonical roster.
        roster: String,
        /// One of each member.
        signatures: Vec<FoundingSignature>,
    },
    /// The proposal that this would be.
    Draft(DraftProposal),
    /// A ceremony begins.
    Propose {
        /// The canonical proposal.
        proposal: String,
        /// The initiator's.
        signed: SignedDecision,
    },
    /// Ceremonies.
    List {
        /// Also those that have ended.
        all: bool,
    },
    /// One ceremony.
    Look(String),
    /// An approval, a denial or a withdrawal.
    Decide {
        /// Of which ceremony.
        ceremony: String,
        /// What was signed.
        signed: SignedDecision,
    },
    /// The effect.
    Execute(String),
    /// What happened, to be verified without us.
    Minutes(String),
    /// A person's keys, or one of them, count no more: one person is enough.
    Revoke {
        /// Whose.
        person: PrincipalName,
        /// Only this one.
        fingerprint: Option<String>,
        /// A code.
        reason: String,
    },
    /// The clock of a rehearsal goes forward by so many seconds.
    Advance(u64),
    /// Grants.
    Grants,
    /// A grant ends before its time.
    EndGrant(String),
    /// Locks.
    Locks,
    /// Something stops at once: one person is enough.
    Lock {
        /// What.
        what: Locked,
        /// How far.
        level: Level,
        /// A code.
        reason: String,
    },
    /// A lock is lifted, where there are no custodians.
    Unlock(Locked),
    /// Somebody else looked at a use of break-glass.
    Review {
        /// Of which ceremony.
        ceremony: String,
        /// What was signed.
        signed: SignedDecision,
    },
}

/// Guarded settings as they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSettings {
    /// Their digest.
    pub digest: [u8; 32],
    /// What is different of them.
    pub changes: Changes,
    /// The separation of duties that comes with them.
    pub rules: Option<Arc<Separation>>,
    /// The version of an escrow that may wrap keys from then on.
    pub admits: Option<(KekName, u32)>,
}

/// What a ceremony brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A new keyring.
    Create(CreateKeyring),
    /// A new active version.
    Rotate(RotateKeyring),
    /// Other limits.
    Configure(ConfigureKeyring),
    /// A step of a key version.
    Step(StepKey),
    /// Of a look-up key.
    Lookup(AskLookup),
    /// A partition's key is destroyed.
    Shred {
        /// Of which keyring.
        keyring: KeyringName,
        /// Its name in the store.
        partition: [u8; 16],
        /// How long backups with the key are kept, for the certificate.
        backup_retention: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// A version of a key-encryption key may wrap.
    AdmitKek {
        /// Which.
        kek: KekName,
        /// Which version.
        version: u32,
    },
    /// A version of a key-encryption key, or all of it, may wrap no more.
    RetireKek {
        /// Which.
        kek: KekName,
        /// Which version.
        version: Option<u32>,
        /// Why.
        reason: Reason,
    },
    /// A person joins the roster, or gets further keys.
    Enrol {
        /// Who.
        person: PrincipalName,
        /// Public keys, each with its own signature that it is in the person's hands.
        keys: Vec<(String, String)>,
        /// Digest of the duties that were acknowledged.
        acknowledgement: [u8; 32],
    },
    /// A person leaves.
    Remove {
        /// Who.
        person: PrincipalName,
        /// A code.
        reason: String,
    },
    /// A person still belongs there.
    Recertify(PrincipalName),
    /// Other guarded settings.
    Settings(NewSettings),
    /// Another key signs the log of this origin.
    LogKey(String),
    /// A lock is lifted.
    Unlock(Locked),
    /// Backups may be made for a time.
    Backup {
        /// What custodians call where they go.
        place: String,
        /// For how long.
        days: u32,
    },
    /// A store that was put back is served: the digest of what it was restored from.
    Restore([u8; 32]),
    /// A time-bound exception.
    Grant {
        /// For whom.
        principal: PrincipalName,
        /// On which keyring.
        keyring: KeyringName,
        /// For which purpose.
        purpose: Purpose,
        /// For how long.
        minutes: u32,
        /// Whether somebody has to look at it afterwards.
        break_glass: bool,
    },
}

/// Reads what a proposal brings about. The error says which parameter is wrong.
pub fn effect(action: &str, given: &Parameters) -> Result<Effect, String> {
    let read = Read(given);
    // What no quorum could be sworn for nobody is asked to sign.
    if !crate::policy::carries_out(action) {
        return Err(format!("this keyward does not carry out {action}"));
    }
    Ok(match action {
        "keyring.create" => Effect::Create(read.create()?),
        "keyring.rotate" => Effect::Rotate(RotateKeyring {
            keyring: read.one("keyring")?,
            trigger: read.code("trigger", Trigger::of)?,
            expect: read.some("expect")?,
        }),
        "keyring.configure" => Effect::Configure(read.configure()?),
        "lookup.create" | "lookup.rotate" | "lookup.retire" => Effect::Lookup(read.lookup(action)?),
        "partition.shred" => Effect::Shred {
            keyring: read.one("keyring")?,
            partition: read.hexadecimal("partition")?,
            backup_retention: read.days("backup_retention")?,
            reason: read.code("reason", Reason::given)?,
        },
        "kek.rotate" => Effect::AdmitKek { kek: read.one("kek")?, version: read.number("to_version")? },
        "kek.retire" => Effect::RetireKek {
            kek: read.one("kek")?,
            version: read.some("version")?,
            reason: read.code("reason", Reason::given)?,
        },
        "custodian.enrol" => Effect::Enrol {
            person: read.one("person")?,
            keys: [("key", "proof"), ("second_key", "second_proof")]
                .iter()
                .filter_map(|(key, proof)| Some((given.get(*key)?.clone(), given.get(*proof)?.clone())))
                .collect(),
            acknowledgement: read.hexadecimal("acknowledgement")?,
        },
        "custodian.remove" => Effect::Remove { person: read.one("person")?, reason: read.text("reason")?.to_owned() },
        "custodian.recertify" => Effect::Recertify(read.one("person")?),
        "settings.change" | "escrow.change" | "sink.change" | "retention.change" => {
            Effect::Settings(read.settings(action)?)
        }
        "log.rotate-key" => Effect::LogKey(read.text("log")?.to_owned()),
        "sidecar.unlock" => Effect::Unlock(Locked::of(read.some("principal")?, read.some("keyring")?)?),
        "store.backup" => Effect::Backup { place: read.text("place")?.to_owned(), days: read.number("days")? },
        "store.restore" => Effect::Restore(read.hexadecimal("backup")?),
        "grant.give" | "grant.extend" | "break-glass.open" => read.grant(action)?,
        key if key.starts_with("key.") => Effect::Step(read.step(key)?),
        other => return Err(format!("this keyward does not carry out {other}")),
    })
}

/// The guarded setting that holds the digest of the separation file.
pub const SEPARATION: &str = "custody.separation";

struct Read<'a>(&'a Parameters);

impl Read<'_> {
    fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("the parameter {name} is missing"))
    }

    fn one<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, String> {
        self.text(name)?.parse().map_err(|error| format!("{name}: {error}"))
    }

    fn some<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, String> {
        if self.0.contains_key(name) { self.one(name).map(Some) } else { Ok(None) }
    }

    /// As in `35d`.
    fn days(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        let days = days.ok_or_else(|| format!("{name}: days are expected, as in 35d"))?;
        Ok(Some(Duration::from_secs(u64::from(days).saturating_mul(86_400))))
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        self.one(name)
    }

    fn code<T>(&self, name: &str, of: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let text = self.text(name)?;
        of(text).ok_or_else(|| format!("{name}: there is no {text}"))
    }

    fn hexadecimal<const N: usize>(&self, name: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        let wrong = |_| format!("{name}: {} hexadecimal digits are expected", 2 * N);
        hex::decode_to_slice(self.text(name)?, &mut bytes).map_err(wrong)?;
        Ok(bytes)
    }

    fn words(&self, name: &str) -> Vec<String> {
        let text = self.0.get(name).map(String::as_str).unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn settings(&self, action: &str) -> Result<NewSettings, String> {
        let changes = Changes::parse(self.text("changes")?)?;
        let about = match action {
            "escrow.change" => format!("kek.{}.", self.text("kek")?),
            "sink.change" => format!("sink.{}.", self.text("sink")?),
            "retention.change" => "audit.retention".to_owned(),
            _ => String::new(),
        };
        if let Some(other) = changes.names().find(|name| !name.starts_with(&about)) {
            return Err(format!("{action} does not change {other}: that is a settings.change"));
        }
        let rules = self.0.get("rules").and_then(|text| rules(text));
        let separation = rules.as_ref().map(|rules| hex::encode(rules.digest()));
        if changes.names().any(|name| name == SEPARATION) && changes.value(SEPARATION) != separation.as_deref() {
            return Err(format!("{SEPARATION} changes with the parameters separation and rules, and to nothing else"));
        }
        if separation.is_some() && changes.value(SEPARATION).is_none() {
            return Err(format!("changes does not name {SEPARATION}"));
        }
        let admits = match (action, self.0.get("change").map(String::as_str)) {
            ("escrow.change", Some("set")) => Some((self.one("kek")?, self.number("to_version")?)),
            ("escrow.change", _) if self.0.contains_key("to_version") => {
                return Err("an escrow that is removed has no to_version".to_owned());
            }
            _ => None,
        };
        Ok(NewSettings { digest: self.hexadecimal("settings")?, changes, rules, admits })
    }

    fn create(&self) -> Result<CreateKeyring, String> {
        let suite = match self.0.get("suite").map(String::as_str) {
            None | Some("xaes-256-gcm-committed") => Suite::XaesCommitted,
            Some("xaes-256-gcm") => Suite::Xaes,
            Some(other) => return Err(format!("suite: there is no {other}")),
        };
        Ok(CreateKeyring {
            name: self.one("keyring")?,
            required_context: self.words("required_context"),
            subject_key: self.0.get("subject_key").cloned(),
            partition_key: self.0.get("partition_key").cloned(),
            suite,
            escrow: self.escrow()?.unwrap_or_default(),
        })
    }

    fn escrow(&self) -> Result<Option<Escrow>, String> {
        if self.0.contains_key("escrow") { self.code("escrow", Escrow::of).map(Some) } else { Ok(None) }
    }

    fn configure(&self) -> Result<ConfigureKeyring, String> {
        let seconds = |name: &str, unit: u64| {
            self.some::<u32>(name).map(|n| n.map(|n| Duration::from_secs(u64::from(n).saturating_mul(unit))))
        };
        let limits = KeyLimits {
            cryptoperiod: seconds("cryptoperiod_days", 86_400)?,
            messages: self.some("messages")?,
            bytes: self.some("bytes")?,
            offline_max: seconds("offline_max_seconds", 1)?,
            escrow: self.escrow()?,
        };
        Ok(ConfigureKeyring { keyring: self.one("keyring")?, limits })
    }

    fn lookup(&self, action: &str) -> Result<AskLookup, String> {
        let name: LookupName = self.one("lookup")?;
        let verb = match action {
            "lookup.create" => LookupVerb::Create,
            "lookup.rotate" => {
                LookupVerb::Rotate { trigger: self.code("trigger", Trigger::of)?, expect: self.some("expect")? }
            }
            _ => LookupVerb::Retire { reason: self.code("reason", Reason::given)?, version: self.some("version")? },
        };
        Ok(AskLookup { keyring: self.one("keyring")?, name, verb })
    }

    fn step(&self, action: &str) -> Result<StepKey, String> {
        let step = match action {
            "key.activate" => Step::Activate,
            "key.suspend" => Step::Suspend,
            "key.resume" => Step::Resume,
            "key.deactivate" => Step::Deactivate,
            "key.compromise" => Step::Compromise,
            "key.destroy" => Step::ScheduleDestroy {
                days: self.number("after_days")?,
                statement: Statement(self.hexadecimal("statement")?),
            },
            other => return Err(format!("there is no step {other}")),
        };
        let version: KeyVersionId = self.one("version")?;
        Ok(StepKey { keyring: self.one("keyring")?, version, step, reason: self.code("reason", Reason::given)? })
    }

    fn grant(&self, action: &str) -> Result<Effect, String> {
        let break_glass = action == "break-glass.open";
        let purpose = if break_glass { "BTG" } else { self.text("purpose")? };
        Ok(Effect::Grant {
            principal: self.one("principal")?,
            keyring: self.one("keyring")?,
            purpose: purpose.parse().map_err(|error| format!("purpose: {error}"))?,
            minutes: self.number("minutes")?,
            break_glass,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceremony::Action;

    #[test]
    fn what_can_be_drafted_can_be_sworn_and_read() {
        for action in Action::ALL {
            let refused = effect(action.name(), &Parameters::new()).err().unwrap_or_default();
            assert!(!refused.contains("does not carry out"), "{action}: {refused}");
        }
        assert!(effect("keyring.forget", &Parameters::new()).unwrap_err().contains("does not carry out"));
    }
}
