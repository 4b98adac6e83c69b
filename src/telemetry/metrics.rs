//! The metrics: names, labels and buckets in one list, each handle resolved once, so that counting takes no lock.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::keks::{KekFamilies, KekMetrics};
use super::lifetimes::Lifetimes;
use super::lives::Lives;
use super::sinks::Sinks;
use super::trust::Trust;
use super::witnesses::Witnesses;

/// The verbs that requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Seal values.
    Seal,
    /// Open values.
    Open,
    /// Bring values under the active version.
    Rewrap,
    /// Make a keyring.
    KeyringCreate,
    /// List keyrings.
    KeyringList,
    /// Show a keyring.
    KeyringShow,
    /// Shred a partition.
    PartitionShred,
    /// Move partitions to the active version.
    PartitionRewrap,
    /// Give a keyring a new active version.
    KeyringRotate,
    /// Change the limits of a keyring.
    KeyringConfigure,
    /// Make a look-up key.
    LookupCreate,
    /// Give a look-up key its next version.
    LookupRotate,
    /// Retire a version of a look-up key.
    LookupRetire,
    /// Suspend a key version.
    KeySuspend,
    /// Resume a key version.
    KeyResume,
    /// Deactivate a key version.
    KeyDeactivate,
    /// Mark a key version as compromised.
    KeyCompromise,
    /// Schedule the destruction of a key version.
    KeyDestroy,
    /// Cancel it.
    KeyDestroyCancel,
    /// Carry it out.
    KeyDestroyFinish,
    /// Read the inventory.
    InventoryRead,
    /// Read by what keys are wrapped.
    KeysWraps,
    /// Wrap keys anew.
    KeysRewrap,
    /// Retire a version of a key-encryption key.
    KekRetire,
    /// Look at custody, ceremonies and grants.
    CustodyRead,
    /// Found custody.
    CustodyFound,
    /// Propose.
    CeremonyPropose,
    /// Decide about a proposal.
    CeremonyDecide,
    /// Carry out what was decided.
    CeremonyExecute,
    /// Revoke a custodian's keys.
    CustodianRevoke,
    /// End a grant.
    GrantEnd,
    /// Lock something, or lift the lock.
    Lock,
    /// Put the policy files in force.
    PolicyReload,
    /// Read the log.
    AuditRead,
    /// Ask the log about a subject.
    AuditLookup,
    /// No route was recognised.
    None,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Self] = &[
        Self::Seal,
        Self::Open,
        Self::Rewrap,
        Self::KeyringCreate,
        Self::KeyringList,
        Self::KeyringShow,
        Self::PartitionShred,
        Self::PartitionRewrap,
        Self::KeyringRotate,
        Self::KeyringConfigure,
        Self::LookupCreate,
        Self::LookupRotate,
        Self::LookupRetire,
        Self::KeySuspend,
        Self::KeyResume,
        Self::KeyDeactivate,
        Self::KeyCompromise,
        Self::KeyDestroy,
        Self::KeyDestroyCancel,
        Self::KeyDestroyFinish,
        Self::InventoryRead,
        Self::KeysWraps,
        Self::KeysRewrap,
        Self::KekRetire,
        Self::CustodyRead,
        Self::CustodyFound,
        Self::CeremonyPropose,
        Self::CeremonyDecide,
        Self::CeremonyExecute,
        Self::CustodianRevoke,
        Self::GrantEnd,
        Self::Lock,
        Self::PolicyReload,
        Self::AuditRead,
        Self::AuditLookup,
        Self::None,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Rewrap => "rewrap",
            Self::KeyringCreate => "keyring_create",
            Self::KeyringList => "keyring_list",
            Self::KeyringShow => "keyring_show",
            Self::PartitionShred => "partition_shred",
            Self::PartitionRewrap => "partition_rewrap",
            Self::KeyringRotate => "keyring_rotate",
            Self::KeyringConfigure => "keyring_configure",
            Self::LookupCreate => "lookup_create",
            Self::LookupRotate => "lookup_rotate",
            Self::LookupRetire => "lookup_retire",
            Self::KeySuspend => "key_suspend",
            Self::KeyResume => "key_resume",
            Self::KeyDeactivate => "key_deactivate",
            Self::KeyCompromise => "key_compromise",
            Self::KeyDestroy => "key_destroy",
            Self::KeyDestroyCancel => "key_destroy_cancel",
            Self::KeyDestroyFinish => "key_destroy_finish",
            Self::InventoryRead => "inventory_read",
            Self::KeysWraps => "keys_wraps",
            Self::KeysRewrap => "keys_rewrap",
            Self::KekRetire => "kek_retire",
            Self::CustodyRead => "custody_read",
            Self::CustodyFound => "custody_found",
            Self::CeremonyPropose => "ceremony_propose",
            Self::CeremonyDecide => "ceremony_decide",
            Self::CeremonyExecute => "ceremony_execute",
            Self::CustodianRevoke => "custodian_revoke",
            Self::GrantEnd => "grant_end",
            Self::Lock => "lock",
            Self::PolicyReload => "policy_reload",
            Self::AuditRead => "audit_read",
            Self::AuditLookup => "audit_lookup",
            Self::None => "none",
        }
    }
}

/// Counters by verb and result, all resolved when the registry was made.
pub struct Grid {
    results: &'static [&'static str],
    cells: Vec<IntCounter>,
}

impl Grid {
    /// Adds to the cell of a verb and a result of the list given at the start; an unknown result counts nowhere.
    pub fn add(&self, verb: Verb, result: &str, by: u64) {
        let column = self.results.iter().position(|known| *known == result);
        if let Some(cell) = column.and_then(|column| self.cells.get(verb as usize * self.results.len() + column)) {
            cell.inc_by(by);
        }
    }
}

/// Every metric of the process. Made once, shared by reference.
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by verb and result (`ok` or the code of the problem).
    pub requests: Grid,
    /// Items answered, by verb and result.
    pub items: Grid,
    /// From the first byte of a request's head to its answer, by verb.
    pub request_seconds: Vec<Histogram>,
    /// Requests being answered.
    pub requests_in_flight: IntGauge,
    /// Connections that are open on the data and control listeners.
    pub connections: IntGauge,
    keks: KekFamilies,
    /// Unlocks that found the key in the cache.
    pub key_cache_hits: IntCounter,
    /// Unlocks that had to ask the KEK.
    pub key_cache_misses: IntCounter,
    /// Keys in the cache.
    pub key_cache_keys: IntGauge,
    /// Keys of partitions in the cache.
    pub key_cache_partitions: IntGauge,
    /// From handing a record to the log until it is durable.
    pub audit_append_seconds: Histogram,
    /// Records in the log.
    pub audit_records: IntGauge,
    /// Bytes that the log takes on the disk.
    pub audit_bytes: IntGauge,
    /// Slots of locked memory there are and in use.
    pub locked_slots: IntGauge,
    /// Slots in use.
    pub locked_slots_used: IntGauge,
    /// Whether the kernel locked the memory (1) or refused (0).
    pub memory_locked: IntGauge,
    /// Leases and times of rotations.
    pub lifetimes: Lifetimes,
    /// What the life of keys asks of people.
    pub lives: Lives,
    /// What callers are believed by.
    pub trust: Trust,
    /// Who else gets the log's records.
    pub sinks: Sinks,
    /// Who has seen how much of the log.
    pub witnesses: Witnesses,
    /// How custody stands.
    pub custody: super::custody::Custody,
}

impl Metrics {
    /// Registers everything. `results` are the codes of all problems; `ok` is added to them by the caller.
    /// Errors only if two names collide, which a test excludes.
    pub fn new(results: &'static [&'static str], build: &Build) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let r = &registry;
        build_info(r, build)?;
        let keys = counters(r, "key_cache_lookups_total", "Unlocks of data keys.", "result", &["hit", "miss"])?;
        let [key_cache_hits, key_cache_misses] = pair(keys)?;
        let verbs: Vec<_> = Verb::ALL.iter().map(|verb| verb.name()).collect();
        let durations = "Time from the head of a request to its answer.";
        Ok(Self {
            requests: grid(r, "requests_total", "Requests answered.", results)?,
            items: grid(r, "items_total", "Items of requests answered.", results)?,
            request_seconds: histograms(r, "request_duration_seconds", durations, "operation", &verbs, FAST)?,
            requests_in_flight: gauge(r, "requests_in_flight", "Requests being answered.")?,
            connections: gauge(r, "connections", "Open connections of the data and control listeners.")?,
            keks: KekFamilies::new(r)?,
            key_cache_hits,
            key_cache_misses,
            key_cache_keys: gauge(r, "key_cache_keys", "Data keys in the cache.")?,
            key_cache_partitions: gauge(r, "key_cache_partitions", "Keys of partitions in the cache.")?,
            audit_append_seconds: histogram(r, "audit_append_duration_seconds", "Until a record is durable.", FAST)?,
            audit_records: gauge(r, "audit_records", "Records in the log.")?,
            audit_bytes: gauge(r, "audit_bytes", "Bytes of the log on the disk.")?,
            locked_slots: gauge(r, "locked_memory_slots", "Slots of locked memory for keys.")?,
            locked_slots_used: gauge(r, "locked_memory_slots_used", "Slots of locked memory in use.")?,
            memory_locked: gauge(r, "memory_locked", "Whether the kernel keeps key memory off the swap device.")?,
            lifetimes: Lifetimes::new(r)?,
            lives: Lives::new(r)?,
            trust: Trust::new(r)?,
            sinks: Sinks::new(r)?,
            witnesses: Witnesses::new(r)?,
            custody: super::custody::Custody::new(r)?,
            registry,
        })
    }

    /// The handles of one KEK. Errors only if the families have other labels than this module thinks.
    pub fn kek(&self, name: &str) -> Result<KekMetrics, prometheus::Error> {
        self.keks.of(name)
    }

    /// A request was answered.
    pub fn answered(&self, verb: Verb, result: &str, seconds: f64) {
        self.requests.add(verb, result, 1);
        if let Some(histogram) = self.request_seconds.get(verb as usize) {
            histogram.observe(seconds);
        }
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What was built, for `keyward_build_info`.
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
}

/// Seconds of work in memory and one sync: 50 microseconds (a small seal) to the deadline of a route.
const FAST: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("keyward")
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::with_opts(opts(name, help))?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    let options = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
    buckets: &[f64],
) -> Result<Vec<Histogram>, prometheus::Error> {
    let options = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    let family = register(registry, HistogramVec::new(options, &[label])?)?;
    values.iter().map(|value| family.get_metric_with_label_values(&[value])).collect()
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<Vec<IntCounter>, prometheus::Error> {
    let family = register(registry, IntCounterVec::new(opts(name, help), &[label])?)?;
    values.iter().map(|value| family.get_metric_with_label_values(&[value])).collect()
}

fn pair<T>(handles: Vec<T>) -> Result<[T; 2], prometheus::Error> {
    handles.try_into().map_err(|_| prometheus::Error::Msg("two label values give two handles".to_owned()))
}

fn grid(
    registry: &Registry,
    name: &str,
    help: &str,
    results: &'static [&'static str],
) -> Result<Grid, prometheus::Error> {
    let family = register(registry, IntCounterVec::new(opts(name, help), &["operation", "result"])?)?;
    let mut cells = Vec::with_capacity(Verb::ALL.len() * results.len());
    for verb in Verb::ALL {
        for result in results {
            cells.push(family.get_metric_with_label_values(&[verb.name(), result])?);
        }
    }
    Ok(Grid { results, cells })
}

fn build_info(registry: &Registry, build: &Build) -> Result<(), prometheus::Error> {
    let family = register(registry, IntGaugeVec::new(opts("build_info", "What was built."), &["version"])?)?;
    family.get_metric_with_label_values(&[build.version])?.set(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_registered_under_the_namespace_and_counts_where_it_says() {
        let metrics = Metrics::new(&["ok", "denied"], &Build { version: "1.2.3" }).unwrap();
        metrics.answered(Verb::Open, "denied", 0.002);
        metrics.items.add(Verb::Seal, "ok", 7);
        metrics.items.add(Verb::Seal, "not in the list", 7);
        let text = metrics.text().unwrap();
        for line in [
            r#"keyward_requests_total{operation="open",result="denied"} 1"#,
            r#"keyward_requests_total{operation="open",result="ok"} 0"#,
            r#"keyward_items_total{operation="seal",result="ok"} 7"#,
            r#"keyward_request_duration_seconds_bucket{operation="open",le="0.001"} 0"#,
            r#"keyward_request_duration_seconds_bucket{operation="open",le="0.0025"} 1"#,
            r#"keyward_build_info{version="1.2.3"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[test]
    fn verbs_index_their_own_cells() {
        for (at, verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(*verb as usize, at);
        }
    }
}
