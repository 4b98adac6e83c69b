//! The metrics of witnesses: who has seen how much of the log.

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The handles.
pub struct Witnesses {
    up: IntGaugeVec,
    size: IntGaugeVec,
    /// Records that a quorum has cosigned.
    pub covered: IntGauge,
    /// When that was known, UTC in seconds.
    pub covered_at: IntGauge,
}

impl Witnesses {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let each = |name, help| -> Result<IntGaugeVec, prometheus::Error> {
            register(r, IntGaugeVec::new(opts(name, help), &["witness"])?)
        };
        Ok(Self {
            up: each("witness_up", "Whether the witness cosigned what it was last offered.")?,
            size: each(
                "witness_records",
                "Records of the newest checkpoint that the witness cosigned since the start.",
            )?,
            covered: register(
                r,
                IntGauge::with_opts(opts("witnessed_records", "Records that a quorum of witnesses has cosigned."))?,
            )?,
            covered_at: register(
                r,
                IntGauge::with_opts(opts(
                    "witnessed_timestamp_seconds",
                    "When a quorum of witnesses last cosigned, as seconds since 1970; 0 before the first time.",
                ))?,
            )?,
        })
    }

    /// Shows a witness.
    pub fn show(&self, witness: &str, up: bool, size: u64) {
        self.up.with_label_values(&[witness]).set(i64::from(up));
        self.size.with_label_values(&[witness]).set(i64::try_from(size).unwrap_or(i64::MAX));
    }
}
