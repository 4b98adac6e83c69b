//! The metrics of what ends by itself: leases on keys and on the store's word, and the times of rotations.

use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The states of `keyward_unlocking_state`, in the order of [`Lifetimes::state`].
pub const UNLOCKING: [&str; 4] = ["healthy", "degraded", "expired", "refused"];

/// The handles.
pub struct Lifetimes {
    /// How long a key may go on working after it was revoked, at worst: computed from the configuration.
    pub revocation_bound: Gauge,
    /// While cached keys alone serve: how long the last of them still does; otherwise 0.
    pub offline_expiry: Gauge,
    /// 1 for the state that unlocking is in, by [`UNLOCKING`].
    pub state: [IntGauge; 4],
    /// Unlocks past a key's time to live, while its KEK was out of reach.
    pub offline: IntCounter,
    /// Keys that were fetched anew before their time was over.
    pub renewals: IntCounter,
    /// How long the store's last word may still be believed.
    pub state_lease: Gauge,
    /// Keyrings whose rotation is due.
    pub rotation_due: IntGauge,
    /// Keyrings whose rotation should have happened.
    pub rotation_overdue: IntGauge,
    /// When the next rotation is due, in seconds since 1970; 0 if none is known.
    pub rotation_next: IntGauge,
}

impl Lifetimes {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let family = IntGaugeVec::new(opts("unlocking_state", "1 for the state that unlocking is in."), &["state"])?;
        let family = register(r, family)?;
        let [healthy, degraded, expired, refused] = UNLOCKING.map(|name| family.get_metric_with_label_values(&[name]));
        let bound = "How long a revoked key may go on working, at worst, by this configuration.";
        let expiry = "While cached keys alone serve: how long the last of them still does.";
        let offline = "Unlocks past a key's time to live, while its KEK was out of reach.";
        let lease = "How long the store's last word may still be believed.";
        let next = "When the next rotation is due, in seconds since 1970; 0 if none is known.";
        Ok(Self {
            revocation_bound: float(r, "revocation_bound_seconds", bound)?,
            offline_expiry: float(r, "offline_expiry_seconds", expiry)?,
            state: [healthy?, degraded?, expired?, refused?],
            offline: counter(r, "key_cache_offline_total", offline)?,
            renewals: counter(r, "key_cache_renewals_total", "Keys fetched anew before their time was over.")?,
            state_lease: float(r, "state_lease_seconds", lease)?,
            rotation_due: gauge(r, "rotation_due", "Keyrings whose rotation is due.")?,
            rotation_overdue: gauge(r, "rotation_overdue", "Keyrings whose rotation should have happened.")?,
            rotation_next: gauge(r, "rotation_next_timestamp_seconds", next)?,
        })
    }

    /// Marks the state with this name as the one that holds.
    pub fn show_state(&self, name: &str) {
        for (gauge, known) in self.state.iter().zip(UNLOCKING) {
            gauge.set(i64::from(known == name));
        }
    }
}

fn float(r: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    register(r, Gauge::with_opts(opts(name, help))?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(r, IntGauge::with_opts(opts(name, help))?)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(r, IntCounter::with_opts(opts(name, help))?)
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Build, Metrics};

    #[test]
    fn one_state_holds_at_a_time() {
        let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
        for state in super::UNLOCKING {
            metrics.lifetimes.show_state(state);
            let text = metrics.text().unwrap();
            let held = text.lines().filter(|line| line.starts_with("keyward_unlocking_state") && line.ends_with(" 1"));
            assert_eq!(held.collect::<Vec<_>>(), [format!(r#"keyward_unlocking_state{{state="{state}"}} 1"#)]);
        }
    }
}
