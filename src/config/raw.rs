//! The configuration as it is typed: every field optional, unknown keys refused, no meaning yet.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `keyward.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub schema: Option<u64>,
    pub environment: Option<String>,
    pub state_dir: Option<String>,
    pub listen: RawListen,
    pub limits: RawLimits,
    pub kek: BTreeMap<String, RawKek>,
    pub keyring: RawKeyring,
    pub store: RawStore,
    pub policy: RawPolicy,
    pub custody: RawCustody,
    pub principal: Vec<RawPrincipal>,
    pub jwt: BTreeMap<String, RawJwt>,
    pub cache: RawCache,
    pub rotation: RawRotation,
    pub audit: RawAudit,
    pub sink: Vec<RawSink>,
    pub witness: Option<RawWitness>,
    pub memory: RawMemory,
    pub log: RawLog,
}

/// `[listen]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawListen {
    pub data: Option<String>,
    pub data_mode: Option<String>,
    pub tcp: Option<String>,
    pub control: Option<String>,
    pub control_mode: Option<String>,
    pub health: Option<String>,
    pub tls: Option<RawTls>,
}

/// `[listen.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    pub data: Option<String>,
    pub control: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub trust_bundle: Option<String>,
    pub trust_domain: Option<String>,
}

/// `[custody]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCustody {
    pub separation: Option<String>,
    pub clock_check: Option<String>,
    pub clock: Option<String>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    pub concurrent_requests: Option<i64>,
    pub request_timeout: Option<String>,
    pub drain_timeout: Option<String>,
}

/// `[kek.NAME]`: one key-encryption key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawKek {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub file: Option<String>,
    pub insecure_software_kek_for_development: Option<bool>,
    pub profile: Option<String>,
    pub module: Option<String>,
    pub reserved: Option<String>,
    pub token_label: Option<String>,
    pub token_serial: Option<String>,
    pub key_label: Option<String>,
    pub key_version: Option<i64>,
    pub method: Option<String>,
    pub sessions: Option<i64>,
    pub certificate: Option<String>,
    pub pin_file: Option<String>,
    pub pin_fd: Option<i64>,
    pub env: BTreeMap<String, String>,
    pub address: Option<String>,
    pub mount: Option<String>,
    pub key: Option<String>,
    pub namespace: Option<String>,
    pub ca_file: Option<String>,
    pub auth: Option<String>,
    pub auth_mount: Option<String>,
    pub token_file: Option<String>,
    pub role_id: Option<String>,
    pub secret_id_file: Option<String>,
    pub role: Option<String>,
    pub jwt_file: Option<String>,
}

/// `[keyring]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawKeyring {
    pub primary: Option<String>,
    pub escrow: Option<String>,
    pub retiring: Vec<String>,
    pub store_key_check: Option<String>,
}

/// `[store]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStore {
    pub kind: Option<String>,
    pub host: Option<String>,
    pub socket: Option<String>,
    pub port: Option<i64>,
    pub dbname: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<String>,
    pub tls: Option<String>,
    pub ca_file: Option<String>,
    pub connect_timeout: Option<String>,
    pub statement_timeout: Option<String>,
    pub connections: Option<i64>,
    pub poll: Option<String>,
}

/// `[policy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicy {
    pub dir: Option<String>,
    pub context_keys: Vec<String>,
}

/// `[[principal]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrincipal {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub uids: Vec<i64>,
    pub token_sha256: Vec<String>,
    pub spiffe: Vec<String>,
    pub jwt: Vec<RawSubject>,
}

/// A subject of a token in `[[principal]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSubject {
    pub provider: Option<String>,
    pub subject: Option<String>,
}

/// `[jwt.NAME]`: one issuer of tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawJwt {
    pub issuer: Option<String>,
    pub audience: Vec<String>,
    pub algorithms: Vec<String>,
    pub jwks_file: Option<String>,
    pub jwks_url: Option<String>,
    pub ca_file: Option<String>,
    pub token_file: Option<String>,
    pub refresh: Option<String>,
    pub stale_for: Option<String>,
    pub clock_skew: Option<String>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCache {
    pub ttl: Option<String>,
    pub offline_max: Option<String>,
    pub store_offline_max: Option<String>,
    pub keys: Option<i64>,
}

/// `[rotation]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRotation {
    pub enabled: Option<bool>,
    pub data_key: Option<String>,
    pub kek: Option<String>,
    pub hard_limit: Option<String>,
    pub messages: Option<i64>,
    pub bytes: Option<String>,
    pub check: Option<String>,
}

/// `[audit]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAudit {
    pub durability: Option<String>,
    pub disk_budget: Option<String>,
    pub heartbeat: Option<String>,
    pub refusals_per_second: Option<i64>,
}

/// `[[sink]]`: who else gets the log's records.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSink {
    pub name: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub format: Option<String>,
    pub path: Option<String>,
    pub rotate: Option<String>,
    pub keep: Option<u32>,
    pub address: Option<String>,
    pub subject: Option<String>,
    pub settle: Option<String>,
    pub url: Option<String>,
    pub acknowledge: Option<bool>,
    pub ca_file: Option<String>,
    pub token_file: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
}

/// `[witness]`: who cosigns checkpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawWitness {
    pub policy: Option<String>,
    pub ca_file: Option<String>,
    pub every: Option<String>,
    pub within: Option<String>,
    pub at_start: Option<String>,
    pub tier3: Option<String>,
}

/// `[memory]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMemory {
    pub on_lock_failure: Option<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    pub level: Option<String>,
    pub format: Option<String>,
}
