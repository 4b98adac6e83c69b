//! The metrics of sinks: who gets the log's records, and how far behind.

use prometheus::{IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The handles.
pub struct Sinks {
    lag: IntGaugeVec,
    unconfirmed: IntGaugeVec,
    sent: IntGaugeVec,
    up: IntGaugeVec,
}

impl Sinks {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| -> Result<IntGaugeVec, prometheus::Error> {
            register(r, IntGaugeVec::new(opts(name, help), &["sink"])?)
        };
        Ok(Self {
            lag: gauge("sink_lag_records", "Records of the log that were not sent to the sink.")?,
            unconfirmed: gauge(
                "sink_unconfirmed_records",
                "Records of the log that a restart would send to the sink.",
            )?,
            sent: gauge(
                "sink_sent_records",
                "Records that were sent to the sink since the start, repeated ones among them.",
            )?,
            up: gauge("sink_up", "Whether the sink takes records.")?,
        })
    }

    /// Shows a sink.
    pub fn show(&self, sink: &str, up: bool, lag: u64, unconfirmed: u64, sent: u64) {
        let set =
            |of: &IntGaugeVec, value: u64| of.with_label_values(&[sink]).set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.lag, lag);
        set(&self.unconfirmed, unconfirmed);
        set(&self.sent, sent);
        self.up.with_label_values(&[sink]).set(i64::from(up));
    }
}
