//! What do others call an event? One table: the class and activity of OCSF 1.8, the DICOM code that FHIR's AuditEvent takes,
//! the category and type of ECS, and how grave it is.

use crate::audit::Event;
use crate::audit::Event as E;

/// The classes of OCSF that are used (their `class_uid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Event Log Activity.
    Log = 1008,
    /// Entity Management.
    Entity = 3004,
    /// Application Lifecycle.
    Application = 6002,
    /// Datastore Activity.
    Data = 6005,
}

/// What an event is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes {
    pub(super) class: Class,
    pub(super) activity: u8,
    /// DICOM PS3.16 CID 400 and CID 401: type and subtype.
    pub(super) dicom: (&'static str, &'static str),
    /// What FHIR calls the action: C, R, U, D or E.
    pub(super) action: &'static str,
    pub(super) ecs: (&'static str, &'static str),
    /// From 0 to 10, if it was done.
    pub(super) weight: u8,
}

const ALERT: &str = "110113";
const APPLICATION: &str = "110100";
/// DICOM has no code for it.
pub(super) const NONE: &str = "";
/// Object security attributes changed, security configuration, security roles changed, user security attributes changed.
const OBJECT: (&str, &str) = (ALERT, "110135");
const CONFIGURATION: (&str, &str) = (ALERT, "110129");
const ROLES: (&str, &str) = (ALERT, "110136");
const DECISION: (&str, &str) = (ALERT, "110144");

const fn entity(
    activity: u8,
    dicom: (&'static str, &'static str),
    action: &'static str,
    ecs: (&'static str, &'static str),
    weight: u8,
) -> Codes {
    Codes { class: Class::Entity, activity, dicom, action, ecs, weight }
}

/// A key, or what it rests on.
const fn key(activity: u8, action: &'static str, kind: &'static str, weight: u8) -> Codes {
    entity(activity, OBJECT, action, ("configuration", kind), weight)
}

const fn person(activity: u8, weight: u8) -> Codes {
    entity(activity, ROLES, "U", ("iam", "user"), weight)
}

const fn setting(activity: u8, weight: u8) -> Codes {
    entity(activity, CONFIGURATION, "U", ("configuration", "change"), weight)
}

/// Something that befalls a part.
const fn befalls(weight: u8) -> Codes {
    entity(OTHER, (APPLICATION, "110132"), "E", ("host", "info"), weight)
}

const fn data(activity: u8, subtype: &'static str, weight: u8) -> Codes {
    Codes {
        class: Class::Data,
        activity,
        dicom: (APPLICATION, subtype),
        action: "E",
        ecs: ("database", "access"),
        weight,
    }
}

const fn application(activity: u8, subtype: &'static str, kind: &'static str, weight: u8) -> Codes {
    Codes {
        class: Class::Application,
        activity,
        dicom: (APPLICATION, subtype),
        action: "E",
        ecs: ("process", kind),
        weight,
    }
}

const fn log(activity: u8, dicom: (&'static str, &'static str), action: &'static str, weight: u8) -> Codes {
    Codes { class: Class::Log, activity, dicom, action, ecs: ("host", "info"), weight }
}

/// `Other` of every class.
pub(super) const OTHER: u8 = 99;

/// The codes of an event.
pub(super) const fn of(event: Event) -> Codes {
    match event {
        E::KeyCreated | E::LookupCreated | E::PartitionCreated => key(1, "C", "creation", 3),
        E::KeyRotated | E::LookupRotated | E::KeyRewrapped | E::KeyringConfigured => key(3, "U", "change", 4),
        E::KeySuspended => key(12, "U", "change", 6),
        E::KeyResumed => key(13, "U", "change", 6),
        E::KeyDeactivated | E::KekRetired => key(11, "U", "change", 4),
        E::KeyCompromised => key(9, "U", "change", 10),
        E::KeyDestroyScheduled => key(9, "D", "change", 9),
        E::KeyDestroyCancelled => key(8, "U", "change", 6),
        E::KeyDestroyed | E::PartitionShredded => key(4, "D", "deletion", 9),
        E::KeyringRead => key(2, "R", "access", 1),
        E::DataSealed => data(9, NONE, 1),
        E::DataOpened => data(10, NONE, 2),
        E::DataRewrapped => data(2, NONE, 1),
        E::DataDenied | E::DataDeniedSummary => data(OTHER, "110147", 6),
        E::KekAdmitted | E::KekApproved => key(8, "U", "change", 5),
        E::KekRefused => key(9, "U", "change", 9),
        E::KekUnreachable | E::CacheDegraded | E::StoreUnreachable => befalls(7),
        E::CacheExpired | E::StoreDamaged | E::WitnessConflict => befalls(10),
        E::KekRecovered
        | E::KekFailedOver
        | E::CacheHealthy
        | E::StoreRecovered
        | E::StoreMirrored
        | E::StoreFollowed
        | E::DrillDone => befalls(3),
        E::CustodyFounded => entity(1, ROLES, "C", ("iam", "creation"), 6),
        E::CustodianEnrolled => person(6, 6),
        E::CustodianRemoved | E::CustodianRevoked => person(7, 6),
        E::CustodianRecertified => person(3, 4),
        E::CeremonyRead => entity(2, DECISION, "R", ("iam", "access"), 1),
        E::CeremonyProposed => entity(1, DECISION, "E", ("iam", "info"), 4),
        E::CeremonyDecided | E::CeremonyExecuted | E::CeremonyMinuted => entity(3, DECISION, "E", ("iam", "change"), 5),
        E::SettingsApproved | E::PolicyLoaded | E::LogKeyRotated => setting(3, 7),
        E::SettingsStricter | E::TlsReloaded | E::TlsRefused | E::JwtKeysChanged => setting(3, 4),
        E::BackupApproved | E::RestoreApproved | E::LogKeyApproved => setting(8, 7),
        E::GrantGiven => entity(10, ROLES, "E", ("iam", "admin"), 5),
        E::GrantBroken => entity(10, (ALERT, "110127"), "E", ("iam", "admin"), 10),
        E::GrantEnded => entity(11, (ALERT, "110138"), "E", ("iam", "admin"), 4),
        E::GrantReviewed => entity(3, DECISION, "E", ("iam", "info"), 4),
        E::LockEngaged => entity(12, CONFIGURATION, "U", ("iam", "change"), 9),
        E::LockReleased => entity(13, CONFIGURATION, "U", ("iam", "change"), 6),
        E::StoreFounded => setting(1, 5),
        E::StoreBackedUp => entity(2, (ALERT, "110132"), "R", ("configuration", "access"), 8),
        E::StoreRestored | E::StoreRebased | E::StoreMoved | E::StoreJoined => setting(3, 8),
        E::AuditRead | E::AuditLookedUp => log(3, ("110101", "110132"), "R", 3),
        E::ReportExported => log(3, ("110106", "110132"), "R", 5),
        E::SinkFailed | E::WitnessFailed => log(10, (ALERT, "110133"), "E", 9),
        E::SinkRecovered | E::WitnessRecovered => log(9, (ALERT, "110134"), "E", 3),
        E::LogOpened => log(6, (ALERT, "110134"), "E", 3),
        E::LogRecovered => log(8, (ALERT, "110134"), "E", 7),
        E::LogHeartbeat => log(OTHER, (APPLICATION, NONE), "E", 0),
        E::SidecarStarted => application(3, "110120", "start", 4),
        E::SidecarReady => application(6, "110120", "start", 3),
        E::SidecarDraining => application(7, "110121", "end", 3),
        E::SidecarStopped => application(4, "110121", "end", 4),
        E::SidecarRefused => application(7, "110121", "error", 10),
    }
}

/// What DICOM says of a subtype (PS3.16, CID 400 to 403).
pub(super) fn dicom_words(code: &str) -> &'static str {
    match code {
        "110100" => "Application Activity",
        "110101" => "Audit Log Used",
        "110106" => "Export",
        "110113" => "Security Alert",
        "110120" => "Application Start",
        "110121" => "Application Stop",
        "110127" => "Emergency Override Started",
        "110129" => "Security Configuration",
        "110132" => "Use of Restricted Function",
        "110133" => "Audit Recording Stopped",
        "110134" => "Audit Recording Started",
        "110135" => "Object Security Attributes Changed",
        "110136" => "Security Roles Changed",
        "110138" => "Emergency Override Stopped",
        "110144" => "Authorization Decision",
        _ => "Access Control Decision",
    }
}
