//! What do others call an event? One table: the class and activity of OCSF 1.8, the DICOM code that FHIR's AuditEvent takes,
//! the category and type of ECS, and how grave it is.

use crate::audit::Event;

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
        Event::KeyCreated | Event::LookupCreated | Event::PartitionCreated => key(1, "C", "creation", 3),
        Event::KeyRotated | Event::LookupRotated => key(3, "U", "change", 4),
        Event::KeyRewrapped | Event::KeyringConfigured => key(3, "U", "change", 3),
        Event::KeySuspended => key(12, "U", "change", 6),
        Event::KeyResumed => key(13, "U", "change", 6),
        Event::KeyDeactivated => key(11, "U", "change", 4),
        Event::KeyCompromised => key(9, "U", "change", 10),
        Event::KeyDestroyScheduled => key(9, "D", "change", 9),
        Event::KeyDestroyCancelled => key(8, "U", "change", 6),
        Event::KeyDestroyed | Event::PartitionShredded => key(4, "D", "deletion", 9),
        Event::KeyringRead => key(2, "R", "access", 1),
        Event::DataSealed => data(9, NONE, 1),
        Event::DataOpened => data(10, NONE, 2),
        Event::DataRewrapped => data(2, NONE, 1),
        Event::DataDenied | Event::DataDeniedSummary => data(OTHER, "110147", 6),
        Event::KekAdmitted | Event::KekApproved => key(8, "U", "change", 5),
        Event::KekRefused => key(9, "U", "change", 9),
        Event::KekRetired => key(11, "U", "change", 5),
        Event::KekUnreachable | Event::CacheDegraded | Event::StoreUnreachable => befalls(7),
        Event::CacheExpired | Event::StoreDamaged | Event::WitnessConflict => befalls(10),
        Event::KekRecovered
        | Event::KekFailedOver
        | Event::CacheHealthy
        | Event::StoreRecovered
        | Event::StoreMirrored
        | Event::StoreFollowed
        | Event::DrillDone => befalls(3),
        Event::CustodyFounded => entity(1, ROLES, "C", ("iam", "creation"), 6),
        Event::CustodianEnrolled => person(6, 6),
        Event::CustodianRemoved | Event::CustodianRevoked => person(7, 6),
        Event::CustodianRecertified => person(3, 4),
        Event::CeremonyRead => entity(2, DECISION, "R", ("iam", "access"), 1),
        Event::CeremonyProposed => entity(1, DECISION, "E", ("iam", "info"), 4),
        Event::CeremonyDecided | Event::CeremonyExecuted | Event::CeremonyMinuted => {
            entity(3, DECISION, "E", ("iam", "change"), 5)
        }
        Event::SettingsApproved | Event::PolicyLoaded => setting(3, 7),
        Event::SettingsStricter | Event::TlsReloaded | Event::TlsRefused | Event::JwtKeysChanged => setting(3, 4),
        Event::BackupApproved | Event::RestoreApproved | Event::LogKeyApproved => setting(8, 7),
        Event::GrantGiven => entity(10, ROLES, "E", ("iam", "admin"), 5),
        // Emergency override started, and stopped.
        Event::GrantBroken => entity(10, (ALERT, "110127"), "E", ("iam", "admin"), 10),
        Event::GrantEnded => entity(11, (ALERT, "110138"), "E", ("iam", "admin"), 4),
        Event::GrantReviewed => entity(3, DECISION, "E", ("iam", "info"), 4),
        Event::LockEngaged => entity(12, CONFIGURATION, "U", ("iam", "change"), 9),
        Event::LockReleased => entity(13, CONFIGURATION, "U", ("iam", "change"), 6),
        Event::StoreFounded => setting(1, 5),
        Event::StoreBackedUp => entity(2, (ALERT, "110132"), "R", ("configuration", "access"), 8),
        Event::StoreRestored | Event::StoreRebased | Event::StoreMoved | Event::StoreJoined => setting(3, 8),
        // Audit log used; export.
        Event::AuditRead => log(3, ("110101", "110132"), "R", 3),
        Event::ReportExported => log(3, ("110106", "110132"), "R", 5),
        // Audit recording stopped, and started.
        Event::SinkFailed | Event::WitnessFailed => log(10, (ALERT, "110133"), "E", 9),
        Event::SinkRecovered | Event::WitnessRecovered => log(9, (ALERT, "110134"), "E", 3),
        Event::LogOpened => log(6, (ALERT, "110134"), "E", 3),
        Event::LogRecovered => log(8, (ALERT, "110134"), "E", 7),
        Event::LogKeyRotated => setting(3, 6),
        Event::LogHeartbeat => log(OTHER, (APPLICATION, NONE), "E", 0),
        Event::SidecarStarted => application(3, "110120", "start", 4),
        Event::SidecarReady => application(6, "110120", "start", 3),
        Event::SidecarDraining => application(7, "110121", "end", 3),
        Event::SidecarStopped => application(4, "110121", "end", 4),
        Event::SidecarRefused => application(7, "110121", "error", 10),
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
