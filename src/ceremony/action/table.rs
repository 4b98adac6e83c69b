//! The table of actions, as data.

use super::{Action, Form, Parameter, Row};
use crate::policy::separation::Tier;

const fn need(name: &'static str, form: Form) -> Parameter {
    Parameter { name, required: true, form }
}

const fn may(name: &'static str, form: Form) -> Parameter {
    Parameter { name, required: false, form }
}

/// In the order of the enum.
pub(super) const ALL: &[Action] = &[
    Action::KeyringCreate,
    Action::KeyringRotate,
    Action::KeyringConfigure,
    Action::LookupCreate,
    Action::LookupRotate,
    Action::LookupRetire,
    Action::KeyActivate,
    Action::KeyDeactivate,
    Action::KeySuspend,
    Action::KeyResume,
    Action::KeyCompromise,
    Action::KeyDestroy,
    Action::PartitionShred,
    Action::KekRotate,
    Action::KekRetire,
    Action::EscrowChange,
    Action::CustodianEnrol,
    Action::CustodianRemove,
    Action::CustodianRecertify,
    Action::SettingsChange,
    Action::GrantGive,
    Action::GrantExtend,
    Action::BreakGlassOpen,
    Action::SidecarUnlock,
    Action::StoreBackup,
    Action::StoreRestore,
    Action::LogRotateKey,
    Action::SinkChange,
    Action::RetentionChange,
];

/// What a step with one key version takes.
const STEP: &[Parameter] = &[KEYRING, VERSION, REASON];

pub(super) const ROWS: &[Row] = &[
    Row {
        action: Action::KeyringCreate,
        name: "keyring.create",
        tier: Tier::One,
        parameters: &[
            KEYRING,
            may("required_context", Form::ContextKeys),
            may("subject_key", Form::ContextKey),
            may("partition_key", Form::ContextKey),
            may("suite", Form::Word(&["xaes-256-gcm", "xaes-256-gcm-committed"])),
            may("escrow", YES_OR_NO),
        ],
        effect: "Make the keyring {keyring}[, whose values all carry {required_context}][, of patients named by \
                 {subject_key}][, with a key of its own for each {partition_key}][, by the suite {suite}][, wrapped for the \
                 escrow: {escrow}].",
        concerns: &[],
    },
    Row {
        action: Action::KeyringRotate,
        name: "keyring.rotate",
        tier: Tier::One,
        parameters: &[KEYRING, TRIGGER, may("expect", Form::Version)],
        effect: "Give the keyring {keyring} a new active key version, because of: {trigger}[; its active version must be \
                 {expect}]. Older versions still open what they sealed.",
        concerns: &[],
    },
    Row {
        action: Action::KeyringConfigure,
        name: "keyring.configure",
        tier: Tier::Two,
        parameters: &[
            KEYRING,
            may("cryptoperiod_days", Form::Number(1, 730)),
            may("messages", Form::Number(1, MOST)),
            may("bytes", Form::Number(1, MOST)),
            may("offline_max_seconds", Form::Number(1, 604_800)),
            may("escrow", YES_OR_NO),
        ],
        effect: "Replace all limits of the keyring {keyring}[; days until rotation: {cryptoperiod_days}][; messages of a \
                 key: {messages}][; bytes of a key: {bytes}][; seconds without its key-encryption key: \
                 {offline_max_seconds}][; wrapped for the escrow: {escrow}]. What is not named is the configuration's.",
        concerns: &[],
    },
    Row {
        action: Action::LookupCreate,
        name: "lookup.create",
        tier: Tier::One,
        parameters: &[KEYRING, LOOKUP],
        effect: "Make the look-up key {lookup} of the keyring {keyring}.",
        concerns: &[],
    },
    Row {
        action: Action::LookupRotate,
        name: "lookup.rotate",
        tier: Tier::One,
        parameters: &[KEYRING, LOOKUP, TRIGGER, may("expect", NUMBERED)],
        effect: "Give the look-up key {lookup} of the keyring {keyring} a next version, because of: {trigger}[; its newest \
                 version must be {expect}].",
        concerns: &[],
    },
    Row {
        action: Action::LookupRetire,
        name: "lookup.retire",
        tier: Tier::Three,
        parameters: &[KEYRING, LOOKUP, REASON, may("version", NUMBERED)],
        effect: "DESTROY a version of the look-up key {lookup} of the keyring {keyring}[: number {version}], because of: \
                 {reason}. Without a number it is the oldest that is left. What was stored by it is found no more.",
        concerns: &[],
    },
    step(
        Action::KeyActivate,
        "key.activate",
        Tier::One,
        "Use version {version} of the keyring {keyring} from now on, because of: {reason}.",
    ),
    step(
        Action::KeyDeactivate,
        "key.deactivate",
        Tier::One,
        "Let version {version} of the keyring {keyring} only open from now on, because of: {reason}.",
    ),
    step(
        Action::KeySuspend,
        "key.suspend",
        Tier::One,
        "Suspend version {version} of the keyring {keyring}, because of: {reason}. It neither seals nor opens until it is \
         resumed.",
    ),
    step(
        Action::KeyResume,
        "key.resume",
        Tier::Two,
        "Resume version {version} of the keyring {keyring}, because of: {reason}.",
    ),
    step(
        Action::KeyCompromise,
        "key.compromise",
        Tier::Two,
        "Mark version {version} of the keyring {keyring} as compromised, because of: {reason}. It opens only where policy \
         says so, and is never active again.",
    ),
    Row {
        action: Action::KeyDestroy,
        name: "key.destroy",
        tier: Tier::Three,
        parameters: &[
            KEYRING,
            VERSION,
            REASON,
            need("after_days", Form::Number(7, 30)),
            need("statement", Form::Digest),
        ],
        effect: "DESTROY version {version} of the keyring {keyring} after {after_days} days, because of: {reason}. What it \
                 sealed and nobody rewrapped is lost for good. The owner's statement has the SHA-256 {statement}.",
        concerns: &[],
    },
    Row {
        action: Action::PartitionShred,
        name: "partition.shred",
        tier: Tier::Two,
        parameters: &[KEYRING, need("partition", Form::Partition), REASON, may("backup_retention", Form::Days)],
        effect: "DESTROY the key of the partition {partition} of the keyring {keyring}, because of: {reason}. Its values are \
                 lost for good[, in backups after {backup_retention}].",
        concerns: &[],
    },
    Row {
        action: Action::KekRotate,
        name: "kek.rotate",
        tier: Tier::Two,
        parameters: &[KEK, need("to_version", NUMBERED)],
        effect: "Make version {to_version} of the key-encryption key {kek}, which wraps new keys from then on.",
        concerns: &[],
    },
    Row {
        action: Action::KekRetire,
        name: "kek.retire",
        tier: Tier::Three,
        parameters: &[KEK, need("version", NUMBERED), REASON],
        effect: "Retire version {version} of the key-encryption key {kek}, because of: {reason}. It may then be destroyed in \
                 its token.",
        concerns: &[],
    },
    Row {
        action: Action::EscrowChange,
        name: "escrow.change",
        tier: Tier::Three,
        parameters: &[
            need("change", Form::Word(&["set", "remove"])),
            KEK,
            may("to_version", NUMBERED),
            CHANGES,
            SETTINGS,
        ],
        effect: "Change who can recover all keys: {change} the escrow {kek}[, whose version {to_version} may wrap keys]. Of \
                 the guarded settings this changes {changes}; they then have the digest {settings}.",
        concerns: &[],
    },
    Row {
        action: Action::CustodianEnrol,
        name: "custodian.enrol",
        tier: Tier::Two,
        parameters: &[
            PERSON,
            need("key", Form::SshKey),
            need("proof", Form::Proof),
            may("second_key", Form::SshKey),
            may("second_proof", Form::Proof),
            need("acknowledgement", Form::Digest),
        ],
        effect: "Enrol {person} with the key {key}[ and the key {second_key}], each of which signed that it is in their hands. The duties that {person} acknowledged have \
                 the SHA-256 {acknowledgement}.",
        concerns: &["person"],
    },
    Row {
        action: Action::CustodianRemove,
        name: "custodian.remove",
        tier: Tier::Two,
        parameters: &[PERSON, need("reason", Form::Word(&["leaving", "for-cause", "role-change", "lost-token"]))],
        effect: "Remove {person} and all keys of that person from the roster, because of: {reason}.",
        concerns: &["person"],
    },
    Row {
        action: Action::CustodianRecertify,
        name: "custodian.recertify",
        tier: Tier::One,
        parameters: &[PERSON],
        effect: "Confirm that {person} still belongs on the roster, for one more period.",
        concerns: &["person"],
    },
    Row {
        action: Action::SettingsChange,
        name: "settings.change",
        tier: Tier::Three,
        parameters: &[CHANGES, SETTINGS, may("separation", Form::Digest), may("rules", Form::Rules)],
        effect: "Change of the guarded settings {changes}; they then have the digest {settings}[, and the separation of \
                 duties is the one with the digest {separation}].",
        concerns: &[],
    },
    Row {
        action: Action::GrantGive,
        name: "grant.give",
        tier: Tier::One,
        parameters: &[PRINCIPAL, KEYRING, PURPOSE, need("minutes", Form::Number(1, 60)), need("reason", Form::Code)],
        effect: "Let {principal} open values of the keyring {keyring} for the purpose {purpose} for {minutes} minutes, \
                 because of: {reason}.",
        concerns: &["principal"],
    },
    Row {
        action: Action::GrantExtend,
        name: "grant.extend",
        tier: Tier::Two,
        parameters: &[PRINCIPAL, KEYRING, PURPOSE, need("minutes", Form::Number(1, 1_440)), need("reason", Form::Code)],
        effect: "Let {principal} open values of the keyring {keyring} for the purpose {purpose} for {minutes} minutes, \
                 because of: {reason}.",
        concerns: &["principal"],
    },
    Row {
        action: Action::BreakGlassOpen,
        name: "break-glass.open",
        tier: Tier::BreakGlass,
        parameters: &[
            PRINCIPAL,
            KEYRING,
            need("minutes", Form::Number(1, 60)),
            need("reason", Form::Code),
            need("ticket", Form::Label),
        ],
        effect: "BREAK THE GLASS: let {principal} open values of the keyring {keyring} for {minutes} minutes, because of: \
                 {reason}, ticket {ticket}. Somebody else reviews it afterwards.",
        concerns: &["principal"],
    },
    Row {
        action: Action::SidecarUnlock,
        name: "sidecar.unlock",
        tier: Tier::Two,
        parameters: &[may("principal", Form::Principal), may("keyring", Form::Keyring)],
        effect: "End the lock[ of {principal}][ of the keyring {keyring}] that a person or a rule set.",
        concerns: &["principal"],
    },
    Row {
        action: Action::StoreBackup,
        name: "store.backup",
        tier: Tier::Three,
        parameters: &[need("place", Form::Label), need("days", Form::Number(1, 400))],
        effect: "Let the store, with all wrapped keys, be copied to {place} for {days} days.",
        concerns: &[],
    },
    Row {
        action: Action::StoreRestore,
        name: "store.restore",
        tier: Tier::Two,
        parameters: &[need("backup", Form::Digest)],
        effect: "Serve the store that was restored from the backup with the digest {backup}. What happened since that backup \
                 is given up, and every ceremony and grant of before ends.",
        concerns: &[],
    },
    Row {
        action: Action::LogRotateKey,
        name: "log.rotate-key",
        tier: Tier::Three,
        parameters: &[need("log", Form::Label)],
        effect: "Give the audit log {log} another signing key. Both keys sign for 30 days; everybody who keeps its public \
                 key needs the new one by then.",
        concerns: &[],
    },
    Row {
        action: Action::SinkChange,
        name: "sink.change",
        tier: Tier::Three,
        parameters: &[
            need("sink", Form::Label),
            need("change", Form::Word(&["add", "replace", "remove"])),
            CHANGES,
            SETTINGS,
        ],
        effect: "Change where the audit log is copied to: {change} {sink}. Of the guarded settings this changes {changes}; \
                 they then have the digest {settings}.",
        concerns: &[],
    },
    Row {
        action: Action::RetentionChange,
        name: "retention.change",
        tier: Tier::Three,
        parameters: &[need("keep", Form::Days), CHANGES, SETTINGS],
        effect: "Keep audit records for {keep}. Of the guarded settings this changes {changes}; they then have the digest \
                 {settings}.",
        concerns: &[],
    },
];

const fn step(action: Action, name: &'static str, tier: Tier, effect: &'static str) -> Row {
    Row { action, name, tier, parameters: STEP, effect, concerns: &[] }
}

const KEYRING: Parameter = need("keyring", Form::Keyring);
const KEK: Parameter = need("kek", Form::Kek);
const CHANGES: Parameter = need("changes", Form::Changes);
const SETTINGS: Parameter = need("settings", Form::Digest);
const VERSION: Parameter = need("version", Form::Version);
const LOOKUP: Parameter = need("lookup", Form::Lookup);
const PERSON: Parameter = need("person", Form::Principal);
const PRINCIPAL: Parameter = need("principal", Form::Principal);
const PURPOSE: Parameter = need("purpose", Form::Purpose);
const REASON: Parameter = need(
    "reason",
    Form::Word(&[
        "schedule",
        "usage",
        "personnel",
        "architecture",
        "incident",
        "policy",
        "suspicion",
        "disclosure",
        "cleared",
        "mistake",
        "retired",
    ]),
);
const TRIGGER: Parameter = need("trigger", Form::Word(&["schedule", "usage", "personnel", "architecture", "incident"]));
const YES_OR_NO: Form = Form::Word(&["yes", "no"]);
/// Versions that are counted.
const NUMBERED: Form = Form::Number(1, 4_294_967_295);
/// Whole numbers of JSON are exact up to here.
const MOST: u64 = (1 << 53) - 1;
