//! The closed lists: events, the facts that a record may carry, and how much of the disk each kind of record may use.
//! Adding a line here means adding one to FORMAT.md and record.schema.json (LOG-22).

macro_rules! events {
    ($($variant:ident = $name:literal, $share:ident;)+) => {
        /// Events of the closed list in FORMAT.md (LOG-22); add one there first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Event {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
        }

        impl Event {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that stands in records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(super) const fn share(self) -> Share {
                match self { $(Self::$variant => Share::$share),+ }
            }
        }
    };
}

events! {
    KeyCreated = "key.created", Control;
    KeyRotated = "key.rotated", Control;
    KeyRewrapped = "key.rewrapped", Control;
    KeySuspended = "key.suspended", Control;
    KeyResumed = "key.resumed", Control;
    KeyDeactivated = "key.deactivated", Control;
    KeyCompromised = "key.compromised", Control;
    KeyDestroyScheduled = "key.destroy_scheduled", Control;
    KeyDestroyCancelled = "key.destroy_cancelled", Control;
    KeyDestroyed = "key.destroyed", Control;
    KeyringConfigured = "keyring.configured", Control;
    LookupCreated = "lookup.created", Control;
    LookupRotated = "lookup.rotated", Control;
    PartitionCreated = "partition.created", Data;
    PartitionShredded = "partition.shredded", Control;
    DataSealed = "data.sealed", Data;
    DataOpened = "data.opened", Data;
    DataRewrapped = "data.rewrapped", Data;
    DataDenied = "data.denied", Refusal;
    DataDeniedSummary = "data.denied_summary", Refusal;
    KeyringRead = "keyring.read", Data;
    KekAdmitted = "kek.admitted", Control;
    KekRefused = "kek.refused", Control;
    KekUnreachable = "kek.unreachable", Control;
    KekRecovered = "kek.recovered", Control;
    KekFailedOver = "kek.failed_over", Control;
    KekRetired = "kek.retired", Control;
    CacheHealthy = "cache.healthy", Control;
    CacheDegraded = "cache.degraded", Control;
    CacheExpired = "cache.expired", Control;
    CustodyFounded = "custody.founded", Control;
    CustodianEnrolled = "custodian.enrolled", Control;
    CustodianRemoved = "custodian.removed", Control;
    CustodianRecertified = "custodian.recertified", Control;
    CustodianRevoked = "custodian.revoked", Control;
    CeremonyRead = "ceremony.read", Data;
    CeremonyProposed = "ceremony.proposed", Control;
    CeremonyDecided = "ceremony.decided", Control;
    CeremonyExecuted = "ceremony.executed", Control;
    CeremonyMinuted = "ceremony.minuted", Control;
    SettingsApproved = "settings.approved", Control;
    SettingsStricter = "settings.stricter", Control;
    KekApproved = "kek.approved", Control;
    BackupApproved = "backup.approved", Control;
    RestoreApproved = "restore.approved", Control;
    GrantGiven = "grant.given", Control;
    GrantBroken = "grant.break_glass", Control;
    GrantEnded = "grant.ended", Control;
    GrantReviewed = "grant.reviewed", Control;
    LockEngaged = "lock.engaged", Control;
    LockReleased = "lock.released", Control;
    PolicyLoaded = "policy.loaded", Control;
    AuditRead = "audit.read", Data;
    AuditLookedUp = "audit.looked_up", Data;
    ReportExported = "report.exported", Control;
    TlsReloaded = "tls.reloaded", Control;
    TlsRefused = "tls.refused", Control;
    JwtKeysChanged = "jwt.keys_changed", Control;
    StoreFounded = "store.founded", Control;
    StoreUnreachable = "store.unreachable", Control;
    StoreRecovered = "store.recovered", Control;
    StoreMirrored = "store.mirrored", Control;
    StoreBackedUp = "store.backed_up", Control;
    StoreRestored = "store.restored", Control;
    StoreJoined = "store.joined", Control;
    StoreFollowed = "store.followed", Control;
    StoreDamaged = "store.damaged", Control;
    StoreRebased = "store.rebased", Control;
    StoreMoved = "store.moved", Control;
    DrillDone = "drill.done", Control;
    SinkFailed = "sink.failed", Control;
    SinkRecovered = "sink.recovered", Control;
    WitnessFailed = "witness.failed", Control;
    WitnessRecovered = "witness.recovered", Control;
    WitnessConflict = "witness.conflict", Control;
    SidecarStarted = "sidecar.started", Control;
    SidecarReady = "sidecar.ready", Control;
    SidecarDraining = "sidecar.draining", Control;
    SidecarStopped = "sidecar.stopped", Control;
    SidecarRefused = "sidecar.refused", Control;
    LogOpened = "log.opened", Own;
    LogRecovered = "log.recovered", Own;
    LogKeyApproved = "log.key_approved", Control;
    LogKeyRotated = "log.key_rotated", Control;
    LogHeartbeat = "log.heartbeat", Own;
}

/// How much of the disk budget a record may use (LOG-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Refused requests: while the log is below 50 %, so that nobody without rights can use up what the others need.
    Refusal,
    /// Use of data keys: up to 85 %, so that a tenth of the budget is left when everything else stops at 95 %.
    Data,
    /// Changes to keys, KEK, life cycle, and the outcome of every intent: up to 95 %.
    Control,
    /// What the log says about itself: all of it.
    Own,
}

impl Share {
    /// The bytes that may be used before a record of this kind is refused.
    pub(super) const fn of(self, budget: u64) -> u64 {
        let hundredth = budget / 100;
        match self {
            Self::Refusal => hundredth * 50,
            Self::Data => hundredth * 85,
            Self::Control => hundredth * 95,
            Self::Own => budget,
        }
    }
}

/// The names that a record's facts may have (LOG-10), sorted.
pub const FACTS: &[&str] = &[
    "abandoned_head",
    "action",
    "authority",
    "backup_digest",
    "backup_head",
    "binary_digest",
    "bundle_expires",
    "caller_exe",
    "caller_gid",
    "caller_spiffe",
    "canaries",
    "ceremony",
    "certificate_expires",
    "checkpoint_cut",
    "config_digest",
    "context_keys",
    "decision",
    "destroy_at",
    "durability",
    "duration_ms",
    "environment",
    "error",
    "failed",
    "fingerprint",
    "from_state",
    "generation",
    "grant_kind",
    "identity_error",
    "jwt_keys",
    "jwt_provider",
    "kek",
    "kek_attributes",
    "kek_certificate",
    "kek_check",
    "kek_detail",
    "kek_escrow",
    "kek_key_version",
    "kek_kind",
    "kek_manufacturer",
    "kek_missing",
    "kek_model",
    "kek_module",
    "kek_old_version",
    "kek_serial",
    "kek_version",
    "key_reason",
    "key_state",
    "key_version",
    "keyring",
    "keyrings",
    "keys",
    "keys_opened",
    "limits",
    "listener",
    "lock",
    "lock_level",
    "log_key",
    "lookup",
    "lookup_version",
    "lost_events",
    "mended",
    "minutes",
    "module_digest",
    "moved",
    "moved_to",
    "not_after",
    "offline_seconds",
    "old_log_key",
    "old_origin",
    "old_records",
    "old_root",
    "origin",
    "os_user",
    "overlap_seconds",
    "partition",
    "partitions",
    "people",
    "person",
    "place",
    "policy_digest",
    "policy_files",
    "program_version",
    "proposal",
    "range",
    "records",
    "remaining",
    "report_digest",
    "required_context",
    "retired_version",
    "revocation_seconds",
    "rewrapped",
    "roster",
    "sealed_digest",
    "self_test",
    "separation",
    "settings",
    "sidecars_behind",
    "signal",
    "signed_off_by",
    "sink",
    "sink_error",
    "sink_lag",
    "statement_digest",
    "store",
    "store_head",
    "store_key_check",
    "subject_key",
    "suite",
    "ticket",
    "tier",
    "tls_detail",
    "to_state",
    "to_version",
    "torn_bytes",
    "torn_file",
    "torn_sha256",
    "trigger",
    "unchanged",
    "unescrowed",
    "uptime_seconds",
    "verdict",
    "volume",
    "why",
    "witness",
    "witness_error",
    "witness_size",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_sorted_and_distinct() {
        assert!(FACTS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_tenth_of_the_budget_is_kept_for_control_records() {
        assert_eq!(Share::Control.of(1000) - Share::Data.of(1000), 100);
        assert_eq!(Share::Own.of(1000), 1000);
    }
}
