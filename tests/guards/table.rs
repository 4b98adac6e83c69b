//! The architecture as data: who may import whom, and which door each library and effect has.

/// What one module may import of the crate: a module, or a path into it. Everything else is a breach.
pub struct Row {
    pub module: &'static str,
    pub may: &'static [&'static str],
}

const fn row(module: &'static str, may: &'static [&'static str]) -> Row {
    Row { module, may }
}

/// Metric handles; any part may use them.
pub const EVERYWHERE: &[&str] = &["telemetry"];

/// From the ground up: no module imports one of a later row. A single name (`crypto::Suite`) stands where data says
/// which cipher it means; the ciphers themselves stay out of reach.
pub const TABLE: &[Row] = &[
    row("secret", &[]),
    row("names", &[]),
    row("clock", &[]),
    row("durable", &[]),
    row("telemetry", &[]),
    row("crypto", &["secret"]),
    row("client", &["names", "secret"]),
    row("fields", &["names"]),
    row("envelope", &["names", "secret", "crypto"]),
    row("identity", &["names", "clock", "crypto", "secret", "client"]),
    row("kek", &["names", "clock", "secret", "crypto", "durable"]),
    row("store", &["names", "clock", "durable"]),
    row("policy", &["names", "clock", "crypto", "identity"]),
    row("audit", &["names", "clock", "secret", "crypto", "durable", "client", "identity", "policy"]),
    row("ceremony", &["names", "clock", "crypto", "identity", "policy"]),
    row("keyring", &["names", "clock", "secret", "crypto", "store", "kek", "policy", "audit::IntentReceipt"]),
    row("sinks", &["names", "clock", "secret", "durable", "client", "audit"]),
    row("witness", &["names", "clock", "secret", "crypto", "durable", "client", "audit"]),
    row("watch", &["names", "clock", "audit"]),
    row("reports", &["names", "clock", "crypto", "durable", "policy", "audit", "ceremony", "store::Reader"]),
    row("operations", &["names", "secret", "crypto", "envelope", "fields", "policy", "keyring"]),
    row("control", &["names", "clock", "secret", "crypto::Suite", "policy", "audit", "store", "keyring", "ceremony"]),
    row(
        "service",
        &[
            "names",
            "clock",
            "secret",
            "crypto::Suite",
            "identity",
            "policy",
            "audit",
            "store",
            "keyring",
            "operations",
            "control",
            "ceremony",
            "watch",
        ],
    ),
    row("jobs", &["names", "clock", "policy", "service", "keyring"]),
    // A stale socket file is removed through the door of files.
    row(
        "server",
        &["names", "clock", "secret", "durable::Disk", "durable::DurableError", "identity", "service", "app::health"],
    ),
    row("config", CONFIG),
    row("app", APP),
    row(
        "cli",
        &[
            "names",
            "clock",
            "secret",
            "durable",
            "config",
            "app",
            "client",
            "fields",
            "identity::PrincipalKind",
            "policy",
            "kek::probe",
            // What keyward ships is known of each product: text and data, nothing that acts.
            "kek::profile",
            "audit",
            "ceremony",
            "reports",
            // A witness needs no sidecar.
            "witness",
            "telemetry",
        ],
    ),
    row("main", &["cli", "kek::pkcs11::worker_main"]),
];

/// The settings of each part and the words that they are written in; nothing that acts.
const CONFIG: &[&str] = &[
    "names",
    "audit::Durability",
    "audit::Settings",
    // Where an issuer's keys are, and how its server is believed.
    "client::FetchUrl",
    "client::Settings",
    "client::Trust",
    "fields::Settings",
    // Checked by building one: two principals that claim one uid are a problem of the configuration.
    "identity::Authenticator::new",
    "identity::Door",
    "identity::JwtSubject",
    "identity::KnownPrincipal",
    "identity::PrincipalKind",
    "identity::jwt::Algorithm",
    "identity::jwt::KeySource",
    "identity::jwt::ProviderSettings",
    "identity::jwt::is_subject",
    "identity::Settings",
    "jobs::Settings",
    "kek::Settings",
    "kek::SoftwareSettings",
    "kek::pkcs11::PinSource",
    "kek::pkcs11::Pkcs11Settings",
    "kek::profile::ProfileChoice",
    "kek::transit::Address",
    "kek::transit::Auth",
    "kek::transit::TransitSettings",
    "keyring::Environment",
    "keyring::Settings",
    "keyring::UsageLimits",
    "policy::Settings",
    "secret::OnLockFailure",
    "secret::Settings",
    "server::Limits",
    "server::Settings",
    "server::tls::Settings",
    "service::Settings",
    "sinks::FileSettings",
    "sinks::Format",
    "sinks::HttpKind",
    "client::Address",
    "sinks::HttpSettings",
    "sinks::NatsSettings",
    "sinks::Settings",
    "sinks::SyslogSettings",
    "sinks::Target",
    "store::Settings",
    "store::postgres::Place",
    "store::postgres::Settings",
    "store::postgres::Tls",
    "store::sqlite::Settings",
    "telemetry::Settings",
    "witness::Settings",
];

/// The parts that it builds.
const APP: &[&str] = &[
    "names",
    "clock",
    "secret",
    "durable",
    "crypto",
    "client",
    "fields",
    "identity",
    "kek",
    "store",
    "policy",
    "audit",
    "ceremony",
    "keyring",
    "sinks",
    "witness",
    "watch",
    "reports",
    "operations",
    "control",
    "service",
    "jobs",
    "server",
    "config",
];

/// Plain data that the wire formats name and `service` hands on: `(importer, what it sees through another module)`.
/// Values that act (keys, permits, the log) must never stand here.
pub const SEEN_THROUGH: &[(&str, &str)] = &[
    ("server", "operations"),
    // What is asked of custody: texts that people signed, handed on.
    ("server", "control::custody::CustodyVerb"),
    ("server", "control::custody::DraftProposal"),
    ("server", "control::custody::FoundingSignature"),
    ("server", "control::custody::NewMember"),
    ("server", "control::custody::SignedDecision"),
    ("server", "control::locks::Level"),
    ("server", "control::locks::Locked"),
    ("server", "control::AskLookup"),
    ("server", "control::ConfigureKeyring"),
    ("server", "control::CreateKeyring"),
    ("server", "control::LookupVerb"),
    ("server", "control::RotateKeyring"),
    ("server", "control::StepKey"),
    ("server", "crypto::Suite"),
    ("server", "keyring::Escrow"),
    ("server", "keyring::KeyLimits"),
    ("server", "keyring::Following"),
    ("server", "keyring::KekUse"),
    ("server", "keyring::RewrapReport"),
    ("server", "keyring::RewrapStep"),
    ("cli", "keyring::ApplyError"),
    ("cli", "keyring::StoreHead"),
    ("server", "keyring::KeyState"),
    ("server", "keyring::KeyringView"),
    ("server", "keyring::Shredded"),
    ("server", "keyring::Suite"),
    ("server", "keyring::Tally"),
    ("server", "keyring::life"),
    ("server", "keyring::VersionView"),
    // How far a move of the store is, what it moved, and why it failed.
    ("cli", "store::CopyError"),
    ("cli", "store::Counts"),
    ("cli", "store::Progress"),
    // What a token or server says about its key, for people.
    ("cli", "kek::KekReport"),
    ("cli", "kek::Rotated"),
    ("cli", "kek::Uptake"),
];

/// A library or effect and the modules that may name it; the longest path that fits decides.
pub struct Door {
    pub path: &'static str,
    pub only: &'static [&'static str],
}

const fn door(path: &'static str, only: &'static [&'static str]) -> Door {
    Door { path, only }
}

pub const DOORS: &[Door] = &[
    door("ring", &["crypto"]),
    door("aes_gcm", &["crypto"]),
    door("aes", &["crypto"]),
    // Whoever holds key bytes before they reach the locked memory wipes them.
    door("zeroize", &["secret", "crypto", "identity", "kek", "keyring", "audit"]),
    door("secrecy", &["secret", "crypto"]),
    door("cryptoki", &["kek::pkcs11"]),
    door("cryptoki_sys", &["kek::pkcs11"]),
    // The client of Vault and OpenBao, and what it stands on; TLS for it alone.
    door("vaultrs", &["kek::transit"]),
    door("rustify", &["kek::transit"]),
    door("reqwest", &["kek::transit"]),
    // The database driver of a fleet, and TLS for it.
    door("tokio_postgres", &["store"]),
    door("tokio_postgres_rustls", &["store"]),
    // TLS of our own: the listeners, and the fetching of issuers' keys.
    door("rustls", &["kek::transit", "store", "server::tls", "client", "witness"]),
    door("tokio_rustls", &["server", "client", "witness"]),
    // Names and ends of certificates; it verifies nothing.
    door("x509_cert", &["identity"]),
    door("hyper", &["server", "client", "witness"]),
    door("hyper_util", &["server", "client", "witness"]),
    door("http_body_util", &["server", "client", "witness"]),
    // A receiver of records.
    door("async_nats", &["sinks"]),
    door("matchit", &["server"]),
    door("pdf_writer", &["reports"]),
    door("rusqlite", &["store"]),
    door("refinery", &["store"]),
    door("cedar_policy", &["policy"]),
    door("prometheus", &["telemetry", "app"]),
    door("tracing_subscriber", &["telemetry"]),
    door("clap", &["cli"]),
    door("indicatif", &["cli"]),
    door("comfy_table", &["cli"]),
    door("std::time::SystemTime", &["clock"]),
    door("std::time::Instant", &["clock"]),
    door("tokio::time", &["clock"]),
    door("rustix::time", &["clock"]),
    // `main` looks at its first argument only, to become the worker of a token.
    door("std::env", &["config", "cli", "main"]),
    door("std::env::temp_dir", &["durable", "cli"]),
    door("tokio::fs", &["durable"]),
    door("rustix::fs::OFlags::CREATE", WRITERS),
    door("rustix::fs::OFlags::RDWR", WRITERS),
    door("rustix::fs::OFlags::WRONLY", WRITERS),
    door("rustix::fs::fchmod", WRITERS),
    door("rustix::fs::fdatasync", WRITERS),
    door("rustix::fs::fsync", WRITERS),
    door("rustix::fs::ftruncate", WRITERS),
    door("rustix::fs::mkdir", WRITERS),
    door("rustix::fs::mkdirat", WRITERS),
    door("rustix::fs::rename", WRITERS),
    door("rustix::fs::renameat", WRITERS),
    door("rustix::fs::unlink", WRITERS),
    door("rustix::fs::unlinkat", WRITERS),
    // Locked memory: the slab, and the worker's copy of a PIN.
    door("rustix::mm", &["secret", "kek::pkcs11"]),
    door("rustix::rand", &["crypto"]),
    // Only the keyring changes rows.
    door("crate::store::Writer", &["store", "keyring"]),
];

/// The one writer of files, and the database driver, which syncs its own folder.
const WRITERS: &[&str] = &["durable", "store"];

/// Where `unsafe` may stand: a folder, and one file of another.
pub const UNSAFE_FOLDERS: &[&str] = &["kek::pkcs11"];
pub const UNSAFE_ONE_FILE: &[&str] = &["secret"];
/// Outside of `src`: what the tests load as a PKCS#11 library, which C calls.
pub const UNSAFE_TEST_LIBRARIES: &[&str] = &["examples/p11-shim/", "tests/tokens/kryoptic/"];

/// Who may call `unwrap` with arguments, which only a KEK has.
pub const UNWRAPS_KEYS: &[&str] = &["kek", "keyring"];
