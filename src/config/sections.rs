//! The raw configuration, section by section, becomes the parts' settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::keyring::Environment;
use crate::{audit, secret, server, telemetry};

use super::problems::Found;
use super::raw::{RawAudit, RawConfig, RawListen};
use super::units;
use super::{Config, PolicyFiles, SCHEMA, StateDir, callers, custody, keks, lifetimes, sinks, store, tls, witness};

pub(super) fn config(raw: &RawConfig, text: &str, worker: &Path, found: &mut Found) -> Option<Config> {
    schema(raw.schema, found);
    let environment = environment(raw.environment.as_deref(), found);
    let state = found.need("state_dir", raw.state_dir.as_ref(), "name the directory that `keyward init` makes");
    let state = state.map(|dir| StateDir(absolute("state_dir", dir, found)));
    let server = listeners(raw, environment, found);
    let policy = policy(raw, found);
    let custody = custody::custody(raw, environment, found);
    let identity = callers::callers(raw, environment, found);
    let rotation = lifetimes::rotation(&raw.rotation, found);
    let keyring = lifetimes::cache(&raw.cache, environment, rotation.as_ref(), found);
    let audit = state.as_ref().and_then(|state| audit_log(&raw.audit, state, found));
    let sinks = sinks::sinks(&raw.sink, found);
    let witness = witness::witness(raw.witness.as_ref(), found);
    let store = state.as_ref().and_then(|state| store::store(&raw.store, environment, state, found));
    lifetimes::heard_in_time(keyring.as_ref(), store.as_ref(), found);
    let store_key_check = store_key_check(raw.keyring.store_key_check.as_deref(), found);
    let store_key_pinned = raw.keyring.store_key_check.is_some();
    let place = |state| keks::Place { environment, state, worker, store_key_pinned };
    let keks = state.as_ref().and_then(|state| keks::keks(raw, &place(state), found));
    let memory = memory(raw, found);
    let drain = time("limits.drain_timeout", raw.limits.drain_timeout.as_deref(), DRAIN, found);
    let tracing = tracing(raw, found);
    Some(Config {
        environment: environment?,
        state: state?,
        server: server?,
        keks: keks?,
        store: store?,
        store_key_check: store_key_check?,
        policy: policy?,
        custody: custody?,
        identity: identity?,
        keyring: keyring?,
        rotation: rotation?,
        audit: audit?,
        sinks: sinks?,
        witness: witness?,
        memory: memory?,
        drain: drain?,
        tracing: tracing?,
        text: text.to_owned(),
    })
}

const DRAIN: Duration = Duration::from_secs(20);

fn schema(schema: Option<u64>, found: &mut Found) {
    match found.need("schema", schema, "write schema = 1") {
        Some(newer) if newer > SCHEMA => found.add(
            "schema",
            format!("is {newer}, this version of keyward reads {SCHEMA}"),
            "use a keyward that knows this schema",
        ),
        Some(0) => found.add("schema", "is 0", "write schema = 1"),
        _ => {}
    }
}

fn environment(text: Option<&str>, found: &mut Found) -> Option<Environment> {
    const HINT: &str = "write environment = \"development\" or \"production\"";
    match found.need("environment", text, HINT)? {
        "development" => Some(Environment::Development),
        "production" => Some(Environment::Production),
        _ => {
            found.add("environment", "is neither development nor production", HINT);
            None
        }
    }
}

/// Relative paths would depend on who starts the sidecar from where.
pub(super) fn absolute(path: &str, text: &str, found: &mut Found) -> PathBuf {
    let given = PathBuf::from(text);
    if !given.is_absolute() {
        found.add(path, "is not an absolute path", "write the whole path, from /");
    }
    given
}

pub(super) fn time(path: &str, text: Option<&str>, default: Duration, found: &mut Found) -> Option<Duration> {
    match text {
        None => Some(default),
        Some(text) => found.check(path, units::duration(text), "write a number and ms, s, m, h or d, as in \"30s\""),
    }
}

pub(super) fn count<T: TryFrom<i64>>(path: &str, given: Option<i64>, default: T, found: &mut Found) -> Option<T> {
    let Some(number) = given else { return Some(default) };
    let fits = if number > 0 { T::try_from(number).ok() } else { None };
    if fits.is_none() {
        found.add(path, "is not a positive number of a sensible size", "");
    }
    fits
}

fn listeners(raw: &RawConfig, environment: Option<Environment>, found: &mut Found) -> Option<server::Settings> {
    let RawListen { data, data_mode, tcp, control, control_mode, health, tls } = &raw.listen;
    let data = found.need("listen.data", data.as_ref(), "name the application's socket");
    let control = found.need("listen.control", control.as_ref(), "name the operators' socket");
    let data = data.map(|path| absolute("listen.data", path, found));
    let control = control.map(|path| absolute("listen.control", path, found));
    let mode = data_mode.as_deref().unwrap_or("0660");
    let mode = found.check("listen.data_mode", units::mode(mode), "write an octal mode, as in \"0660\"");
    let control_mode = control_mode.as_deref().unwrap_or("0600");
    let control_mode =
        found.check("listen.control_mode", units::mode(control_mode), "write an octal mode, as in \"0660\"");
    let tcp = loopback("listen.tcp", tcp.as_deref(), found);
    let health = loopback("listen.health", health.as_deref(), found);
    if tcp.flatten().is_some() && environment == Some(Environment::Production) {
        found.add("listen.tcp", "plain TCP is for development", "use the Unix socket in production, or [listen.tls]");
    }
    let tls = tls.as_ref().map(|tls| tls::tls(tls, found));
    let concurrent = count("limits.concurrent_requests", raw.limits.concurrent_requests, 256, found);
    let timeout = time("limits.request_timeout", raw.limits.request_timeout.as_deref(), REQUEST, found);
    Some(server::Settings {
        data_socket: data?,
        data_socket_mode: mode?,
        data_tcp: tcp?,
        control_socket: control?,
        control_socket_mode: control_mode?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        health: health?,
        limits: server::Limits { concurrency: concurrent?, request_timeout: timeout?, ..server::Limits::default() },
    })
}

const REQUEST: Duration = Duration::from_secs(10);

#[expect(clippy::option_option, reason = "None is a problem, Some(None) is a listener that is off")]
fn loopback(path: &str, text: Option<&str>, found: &mut Found) -> Option<Option<SocketAddr>> {
    let Some(text) = text else { return Some(None) };
    let address: SocketAddr =
        found.check(path, text.parse(), "write an address and a port, as in \"127.0.0.1:8200\"")?;
    if !address.ip().is_loopback() {
        found.add(path, "is not a loopback address", "use 127.0.0.1 or [::1]");
        return None;
    }
    Some(Some(address))
}

fn policy(raw: &RawConfig, found: &mut Found) -> Option<PolicyFiles> {
    let dir = found.need("policy.dir", raw.policy.dir.as_ref(), "name the directory of the *.cedar files")?;
    let dir = absolute("policy.dir", dir, found);
    Some(PolicyFiles { dir, context_keys: raw.policy.context_keys.clone() })
}

#[expect(clippy::option_option, reason = "None is a problem, Some(None) is a store key that is not pinned")]
fn store_key_check(text: Option<&str>, found: &mut Found) -> Option<Option<[u8; 16]>> {
    let Some(text) = text else { return Some(None) };
    let mut check = [0; 16];
    let decoded = hex::decode_to_slice(text, &mut check).map(|()| Some(check));
    found.check("keyring.store_key_check", decoded, "the 32 hexadecimal digits that `keyward init` printed")
}

fn audit_log(raw: &RawAudit, state: &StateDir, found: &mut Found) -> Option<audit::Settings> {
    const HINT: &str = "write \"synced\" or \"written\"";
    let durability = match raw.durability.as_deref() {
        None | Some("synced") => Some(audit::Durability::Synced),
        Some("written") => Some(audit::Durability::Written),
        Some(_) => {
            found.add("audit.durability", "is not a durability", HINT);
            None
        }
    };
    let budget = raw.disk_budget.as_deref().unwrap_or("10GiB");
    let budget = found.check("audit.disk_budget", units::bytes(budget), "write a size, as in \"10GiB\"");
    let heartbeat = time("audit.heartbeat", raw.heartbeat.as_deref(), Duration::from_secs(60), found);
    let refusals = count("audit.refusals_per_second", raw.refusals_per_second, 10, found);
    Some(audit::Settings {
        dir: state.log(),
        durability: durability?,
        disk_budget: budget?,
        heartbeat: heartbeat?,
        refusals_per_second: refusals?,
    })
}

fn memory(raw: &RawConfig, found: &mut Found) -> Option<secret::Settings> {
    let keys: usize = count("cache.keys", raw.cache.keys, 1024, &mut Found::default())?;
    let on_lock_failure = match raw.memory.on_lock_failure.as_deref() {
        None | Some("refuse") => secret::OnLockFailure::Refuse,
        Some("warn") => secret::OnLockFailure::Warn,
        Some(_) => {
            found.add("memory.on_lock_failure", "is not a choice", "write \"refuse\" or \"warn\"");
            return None;
        }
    };
    Some(secret::Settings { slots: keys.saturating_mul(SLOTS_A_KEY).saturating_add(SYSTEM_SLOTS), on_lock_failure })
}

/// A cached key holds its data key while it is unwrapped and its schedules afterwards; in-use keys outlive eviction. And
/// as many keys of partitions are cached beside the data keys.
const SLOTS_A_KEY: usize = 3;
/// Store key, pseudonym key, KEK, PIN and what is in flight.
const SYSTEM_SLOTS: usize = 128;

fn tracing(raw: &RawConfig, found: &mut Found) -> Option<telemetry::Settings> {
    let format = match raw.log.format.as_deref() {
        None | Some("text") => telemetry::Format::Text,
        Some("json") => telemetry::Format::Json,
        Some(_) => {
            found.add("log.format", "is not a format", "write \"text\" or \"json\"");
            return None;
        }
    };
    Some(telemetry::Settings { filter: raw.log.level.clone().unwrap_or_else(|| "info".to_owned()), format })
}
