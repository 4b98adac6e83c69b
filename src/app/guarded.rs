//! Which of the settings in force are guarded? Where people decide them by a ceremony, a start with others is refused.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::{Config, PolicyReadError};
use crate::control::custody::SEPARATION;
use crate::control::guarded::Guarded;
use crate::crypto::sha256;
use crate::kek;
use crate::policy::separation::Separation;
use crate::policy::{Policy, PolicyError};

use super::custody::SeparationRefused;

/// The guarded settings of a configuration with what it names.
pub(super) fn settings(config: &Config, separation: Option<&Separation>, policy: &Policy) -> Guarded {
    let mut guarded = Guarded::default();
    guarded.note("environment", config.environment.name());
    guarded.note("policy", hex::encode(policy.digest()));
    guarded.note(SEPARATION, separation.map_or_else(|| "-".to_owned(), |rules| hex::encode(rules.digest())));
    guarded.note("custody.clock_check", shown(config.custody.clock_check.as_deref()));
    guarded.note("custody.clock", if config.custody.rehearsal_clock { "rehearsal" } else { "-" });
    guarded.note("audit.durability", format!("{:?}", config.audit.durability));
    guarded.note("audit.refusals_per_second", config.audit.refusals_per_second);
    let keys = &config.keyring;
    for (name, time) in [
        ("cache.ttl", keys.cache_ttl),
        ("cache.offline_max", keys.offline_max),
        ("cache.store_offline_max", keys.store_offline_max),
        ("rotation.data_key_period", keys.data_key_period),
        ("rotation.hard_limit", keys.hard_limit),
        ("rotation.kek_period", keys.kek_period),
    ] {
        guarded.note(name, format!("{}s", time.as_secs()));
    }
    let server = &config.server;
    guarded.note("listen.data", server.data_socket.display());
    guarded.note("listen.data_mode", format!("{:04o}", server.data_socket_mode));
    guarded.note("listen.tcp", server.data_tcp.map_or_else(|| "off".to_owned(), |at| at.to_string()));
    guarded.note("listen.control", server.control_socket.display());
    guarded.note("listen.control_mode", format!("{:04o}", server.control_socket_mode));
    callers(&mut guarded, config);
    principals(&mut guarded, config);
    sinks(&mut guarded, config);
    witness(&mut guarded, config);
    for (role, settings) in roles(config) {
        kek(&mut guarded, role, settings);
    }
    guarded
}

/// Where the log is copied to: whoever could change that alone could keep records from whoever watches.
fn sinks(guarded: &mut Guarded, config: &Config) {
    for sink in &config.sinks {
        let name = &sink.name;
        guarded.note(format!("sink.{name}.type"), sink.target.kind());
        guarded.note(format!("sink.{name}.format"), sink.format.name());
        guarded.note(format!("sink.{name}.target"), sink.target.to_string());
        if let Some(trust) = sink.target.trust() {
            guarded.note(format!("sink.{name}.ca_file"), shown(trust.ca_file.as_deref()));
        }
    }
}

/// Whose word the log rests on.
fn witness(guarded: &mut Guarded, config: &Config) {
    let Some(witness) = &config.witness else { return };
    guarded.note("witness.policy", file_digest(&witness.policy));
    guarded.note("witness.ca_file", shown(witness.trust.ca_file.as_deref()));
    guarded.note("witness.at_start", if witness.required_at_start { "require" } else { "ask" });
    guarded.note("witness.tier3", if witness.required_for_tier3 { "require" } else { "go-on" });
}

/// By what callers are believed. The files behind it are rotated by others, as certificates are.
fn callers(guarded: &mut Guarded, config: &Config) {
    if let Some(tls) = &config.server.tls {
        let address = |at: Option<std::net::SocketAddr>| at.map_or_else(|| "off".to_owned(), |at| at.to_string());
        guarded.note("listen.tls.data", address(tls.data));
        guarded.note("listen.tls.control", address(tls.control));
        guarded.note("listen.tls.trust_bundle", tls.trust_bundle.display());
        guarded.note("listen.tls.trust_domain", &tls.trust_domain);
    }
    for provider in &config.identity.jwt {
        let (name, issuer) = (&provider.name, &provider.issuer);
        guarded.note(format!("jwt.{name}.issuer"), issuer);
        guarded.note(format!("jwt.{name}.audience"), format!("{:?}", provider.audience));
        guarded.note(format!("jwt.{name}.algorithms"), format!("{:?}", provider.algorithms));
        guarded.note(format!("jwt.{name}.keys"), format!("{:?}", provider.keys));
        guarded.note(format!("jwt.{name}.stale_for"), format!("{}s", provider.stale_for.as_secs()));
        guarded.note(format!("jwt.{name}.clock_skew"), format!("{}s", provider.skew.as_secs()));
    }
}

/// Who is behind a name, since policies name them. Tokens are changed by whoever runs the sidecar; a first one is another way
/// in.
fn principals(guarded: &mut Guarded, config: &Config) {
    for known in &config.identity.principals {
        let name = &known.name;
        let mut note = |what: &str, value: String| {
            if !value.is_empty() {
                guarded.note(format!("principal.{name}.{what}"), value);
            }
        };
        note("kind", format!("{:?}", known.kind));
        note("uids", listed(&known.uids));
        note("tokens", if known.token_sha256.is_empty() { String::new() } else { "some".to_owned() });
        note("spiffe", listed(&known.spiffe.iter().map(|id| id.as_str()).collect::<Vec<_>>()));
        note("jwt", listed(&known.jwt.iter().map(|subject| format!("{subject:?}")).collect::<Vec<_>>()));
    }
}

fn listed<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Guarded settings as a ceremony proposes them.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// By name.
    pub all: BTreeMap<String, String>,
    /// Their digest, hexadecimal.
    pub digest: String,
    /// What differs from those that were approved; None where nothing does.
    pub changes: Option<String>,
    /// The separation file, if it is another one: its digest, and its text in base64.
    pub rules: Option<(String, String)>,
}

/// Why a configuration is none to propose.
#[derive(Debug, thiserror::Error)]
pub enum ProposedError {
    /// The policies cannot be read.
    #[error("cannot read the policies")]
    Policies(#[from] PolicyReadError),
    /// They are no set.
    #[error("the policies are refused")]
    Policy(#[from] PolicyError),
    /// The rules of separation cannot be used.
    #[error("the separation file is refused")]
    Separation(#[from] SeparationRefused),
}

/// The guarded settings of a configuration beside those that were approved. Reads, never writes.
pub fn proposed(config: &Config, approved: &BTreeMap<String, String>) -> Result<Proposed, ProposedError> {
    let policy = Policy::load(&super::policy_settings(config)?)?;
    let separation = super::custody::separation(config)?;
    let guarded = settings(config, separation.as_deref(), &policy);
    let changes = guarded.changes_from(approved);
    let changed = changes.names().next().is_some();
    let rules = separation.filter(|_| changes.value(SEPARATION).is_some());
    Ok(Proposed {
        all: guarded.all().clone(),
        digest: hex::encode(guarded.digest()),
        changes: changed.then(|| changes.text()),
        rules: rules.map(|rules| (hex::encode(rules.digest()), STANDARD.encode(rules.text()))),
    })
}

fn roles(config: &Config) -> impl Iterator<Item = (&'static str, &kek::Settings)> {
    let retiring = config.keks.retiring.iter().map(|kek| ("retiring", kek));
    std::iter::once(("primary", &config.keks.primary))
        .chain(config.keks.escrow.iter().map(|kek| ("escrow", kek)))
        .chain(retiring)
}

fn kek(guarded: &mut Guarded, role: &str, settings: &kek::Settings) {
    let name = settings.name();
    guarded.note(format!("kek.{name}.role"), role);
    match settings {
        kek::Settings::Software(software) => {
            guarded.note(format!("kek.{name}.type"), "software");
            guarded.note(format!("kek.{name}.file"), software.file.display());
        }
        kek::Settings::Transit(transit) => {
            guarded.note(format!("kek.{name}.type"), "transit");
            guarded.note(format!("kek.{name}.address"), format!("{:?}", transit.address));
            guarded.note(format!("kek.{name}.mount"), &transit.mount);
            guarded.note(format!("kek.{name}.key"), &transit.key);
            guarded.note(format!("kek.{name}.namespace"), transit.namespace.as_deref().unwrap_or("-"));
            guarded.note(format!("kek.{name}.ca_file"), shown(transit.ca_file.as_deref()));
        }
        kek::Settings::Pkcs11(token) => {
            guarded.note(format!("kek.{name}.type"), "pkcs11");
            if let Some(module) = &token.module {
                guarded.note(format!("kek.{name}.module"), module.display());
                guarded.note(format!("kek.{name}.module_digest"), file_digest(module));
            }
            guarded.note(format!("kek.{name}.profile"), format!("{:?}", token.profile));
            guarded.note(format!("kek.{name}.key_label"), &token.key_label);
            guarded.note(format!("kek.{name}.token_label"), &token.token_label);
            guarded.note(format!("kek.{name}.token_serial"), token.token_serial.as_deref().unwrap_or("-"));
            guarded.note(format!("kek.{name}.method"), token.method.as_deref().unwrap_or("-"));
            guarded.note(format!("kek.{name}.reserved"), token.reserved.as_deref().unwrap_or("-"));
            // Values of a vendor's variables are nobody else's to read.
            let env = sha256(&[format!("{:?}", token.env).as_bytes()]);
            guarded.note(format!("kek.{name}.env_digest"), hex::encode(env));
        }
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

fn file_digest(path: &Path) -> String {
    std::fs::read(path).map_or_else(|_| "unreadable".to_owned(), |bytes| hex::encode(sha256(&[&bytes])))
}
