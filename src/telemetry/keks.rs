//! The metrics of key-encryption keys: one family a fact, labelled with the KEK's name, each handle resolved once.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The families, before a KEK has a name.
pub(super) struct KekFamilies {
    calls: HistogramVec,
    failures: IntCounterVec,
    failovers: IntCounterVec,
    reachable: IntGaugeVec,
    last_canary: IntGaugeVec,
    breaker: IntGaugeVec,
    sessions: IntGaugeVec,
    recoveries: IntCounterVec,
    missing: IntGaugeVec,
    version: IntGaugeVec,
}

/// The handles of one KEK.
#[derive(Debug, Clone)]
pub struct KekMetrics {
    /// Calls to wrap a data key.
    pub wrap_seconds: Histogram,
    /// Calls to unwrap a data key.
    pub unwrap_seconds: Histogram,
    /// Calls that failed.
    pub failures: IntCounter,
    /// Unwraps that another KEK answered because this one was away.
    pub failovers: IntCounter,
    /// Whether the last call or canary reached it and was not refused.
    pub reachable: IntGauge,
    /// When a canary last opened, in seconds since 1970; 0 for never.
    pub last_canary: IntGauge,
    /// 1 for the state that the breaker has: closed, open, half open.
    pub breaker: [IntGauge; 3],
    /// Sessions that are open, and in use.
    pub sessions: IntGauge,
    /// Sessions in use.
    pub sessions_in_use: IntGauge,
    /// Sessions that were replaced.
    pub renewed_sessions: IntCounter,
    /// Logins after the first.
    pub logins: IntCounter,
    /// Workers after the first.
    pub workers: IntCounter,
    /// Keys that it does not wrap.
    pub missing: IntGauge,
    /// The version of new wraps; 0 while it is not known.
    pub version: IntGauge,
}

impl KekFamilies {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let calls = HistogramOpts::from(opts("kek_call_duration_seconds", "Calls to a KEK.")).buckets(SLOW.to_vec());
        let canary = "When a canary last opened, in seconds since 1970; 0 for never.";
        let breaker = "1 for the state of the circuit breaker.";
        let recoveries = "What was renewed to keep a KEK going: its sessions, its login, its worker.";
        let failovers = "Unwraps that another KEK answered because this one was away.";
        Ok(Self {
            calls: register(r, HistogramVec::new(calls, &["kek", "call"])?)?,
            failures: counters(r, "kek_failures_total", "Calls to a KEK that failed.", &["kek"])?,
            failovers: counters(r, "kek_failovers_total", failovers, &["kek"])?,
            reachable: gauges(r, "kek_reachable", "Whether a KEK answers and does not refuse.", &["kek"])?,
            last_canary: gauges(r, "kek_last_canary_timestamp_seconds", canary, &["kek"])?,
            breaker: gauges(r, "kek_breaker_state", breaker, &["kek", "state"])?,
            sessions: gauges(r, "kek_sessions", "Sessions of a KEK.", &["kek", "state"])?,
            recoveries: counters(r, "kek_recoveries_total", recoveries, &["kek", "kind"])?,
            missing: gauges(r, "kek_missing_wraps", "Keys of the store that a KEK does not wrap.", &["kek"])?,
            version: gauges(r, "kek_version", "The version of a KEK that makes new wraps; 0: not known.", &["kek"])?,
        })
    }

    pub(super) fn of(&self, kek: &str) -> Result<KekMetrics, prometheus::Error> {
        let call = |call| self.calls.get_metric_with_label_values(&[kek, call]);
        let breaker = |state| self.breaker.get_metric_with_label_values(&[kek, state]);
        let sessions = |state| self.sessions.get_metric_with_label_values(&[kek, state]);
        let recoveries = |kind| self.recoveries.get_metric_with_label_values(&[kek, kind]);
        Ok(KekMetrics {
            wrap_seconds: call("wrap")?,
            unwrap_seconds: call("unwrap")?,
            failures: self.failures.get_metric_with_label_values(&[kek])?,
            failovers: self.failovers.get_metric_with_label_values(&[kek])?,
            reachable: self.reachable.get_metric_with_label_values(&[kek])?,
            last_canary: self.last_canary.get_metric_with_label_values(&[kek])?,
            breaker: [breaker("closed")?, breaker("open")?, breaker("half_open")?],
            sessions: sessions("open")?,
            sessions_in_use: sessions("in_use")?,
            renewed_sessions: recoveries("session")?,
            logins: recoveries("login")?,
            workers: recoveries("worker")?,
            missing: self.missing.get_metric_with_label_values(&[kek])?,
            version: self.version.get_metric_with_label_values(&[kek])?,
        })
    }
}

/// Seconds of a call to a token or a KMS.
const SLOW: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    register(r, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(opts(name, help), labels)?)
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Build, Metrics};

    #[test]
    fn every_metric_of_a_kek_carries_its_name() {
        let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
        let (primary, escrow) = (metrics.kek("primary").unwrap(), metrics.kek("backup").unwrap());
        primary.failovers.inc();
        primary.failures.inc_by(3);
        escrow.reachable.set(1);
        escrow.breaker[0].set(1);
        escrow.sessions_in_use.set(2);
        escrow.workers.inc();
        escrow.missing.set(7);
        escrow.last_canary.set(1_780_315_200);
        let text = metrics.text().unwrap();
        for line in [
            r#"keyward_kek_failovers_total{kek="primary"} 1"#,
            r#"keyward_kek_failovers_total{kek="backup"} 0"#,
            r#"keyward_kek_failures_total{kek="primary"} 3"#,
            r#"keyward_kek_reachable{kek="primary"} 0"#,
            r#"keyward_kek_reachable{kek="backup"} 1"#,
            r#"keyward_kek_breaker_state{kek="backup",state="closed"} 1"#,
            r#"keyward_kek_breaker_state{kek="backup",state="half_open"} 0"#,
            r#"keyward_kek_sessions{kek="backup",state="in_use"} 2"#,
            r#"keyward_kek_recoveries_total{kek="backup",kind="worker"} 1"#,
            r#"keyward_kek_recoveries_total{kek="primary",kind="session"} 0"#,
            r#"keyward_kek_missing_wraps{kek="backup"} 7"#,
            r#"keyward_kek_last_canary_timestamp_seconds{kek="backup"} 1780315200"#,
            r#"keyward_kek_call_duration_seconds_count{call="unwrap",kek="primary"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
