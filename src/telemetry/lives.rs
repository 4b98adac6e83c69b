//! The metrics of what the life of keys asks of people: key-encryption keys that nobody rotates unattended, versions
//! that must stop sealing, work that a rotation leaves behind.

use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The handles.
pub struct Lives {
    kek_left: GaugeVec,
    kek_due: IntGaugeVec,
    kek_overdue: IntGaugeVec,
    /// When the first active version may seal no longer, in seconds since 1970; 0 if none is near.
    pub hard_limit_next: IntGauge,
    /// Keyrings whose active version may seal no longer.
    pub hard_limit_past: IntGauge,
    /// Partitions whose keys are wrapped by a version that is not the active one.
    pub partitions_behind: IntGauge,
    /// Whether the mirror stands in for the store.
    pub mirror_serves: IntGauge,
    /// Whether the mirror is written to.
    pub mirror_kept: IntGauge,
    /// Reads that it answered.
    pub mirror_served: IntCounter,
}

impl Lives {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let left = "What is left of the cryptoperiod of a version of a KEK; below 0 once it is over.";
        let due = "Whether the version of a KEK that wraps is to be rotated: its cryptoperiod ends within a month.";
        let next = "When the first active version may seal no longer, in seconds since 1970; 0 if none is near.";
        let behind = "Partitions whose keys are wrapped by a version that is not the active one.";
        Ok(Self {
            kek_left: register(r, GaugeVec::new(opts("kek_cryptoperiod_left_seconds", left), &["kek", "version"])?)?,
            kek_due: flags(r, "kek_rotation_due", due)?,
            kek_overdue: flags(r, "kek_rotation_overdue", "Whether that cryptoperiod is over.")?,
            hard_limit_next: gauge(r, "rotation_hard_limit_timestamp_seconds", next)?,
            hard_limit_past: gauge(r, "rotation_past_hard_limit", "Keyrings whose active version seals no longer.")?,
            partitions_behind: gauge(r, "partitions_to_rewrap", behind)?,
            mirror_kept: gauge(r, "store_mirror_kept", "Whether there is a local mirror, and it is written to.")?,
            mirror_served: register(
                r,
                IntCounter::with_opts(opts("store_mirror_served_total", "Reads that the local mirror answered."))?,
            )?,
            mirror_serves: gauge(r, "store_mirror_serves", "Whether the local mirror stands in for the store.")?,
        })
    }

    /// Shows the versions that there are, and no other.
    pub fn show_periods<'a>(&self, versions: impl Iterator<Item = (&'a str, u32, f64)>) {
        self.kek_left.reset();
        for (kek, version, left) in versions {
            self.kek_left.with_label_values(&[kek, &version.to_string()]).set(left);
        }
    }

    /// How the version that wraps stands.
    pub fn show_kek(&self, kek: &str, due: bool, overdue: bool) {
        self.kek_due.with_label_values(&[kek]).set(i64::from(due));
        self.kek_overdue.with_label_values(&[kek]).set(i64::from(overdue));
    }
}

fn flags(r: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(opts(name, help), &["kek"])?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(r, IntGauge::with_opts(opts(name, help))?)
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Build, Metrics};

    #[test]
    fn a_version_that_is_gone_leaves_the_metrics() {
        let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
        metrics.lives.show_periods([("primary", 1, -5.0), ("primary", 2, 7.5)].into_iter());
        metrics.lives.show_kek("primary", true, false);
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"keyward_kek_cryptoperiod_left_seconds{kek="primary",version="1"} -5"#), "{text}");
        assert!(text.contains(r#"keyward_kek_rotation_due{kek="primary"} 1"#));
        assert!(text.contains(r#"keyward_kek_rotation_overdue{kek="primary"} 0"#));
        metrics.lives.show_periods([("primary", 2, 7.5)].into_iter());
        let text = metrics.text().unwrap();
        assert!(!text.contains(r#"version="1""#) && text.contains(r#"kek="primary",version="2"} 7.5"#), "{text}");
    }
}
