//! The metrics of custody: what somebody has to look at.

use prometheus::{IntGauge, Registry};

use super::metrics::{opts, register};

/// The handles.
pub struct Custody {
    /// Active custodians beyond the largest quorum; below 1 the next loss locks everybody out.
    pub margin: IntGauge,
    /// Grants in force, broken glasses among them.
    pub grants: IntGauge,
    /// Broken glasses that nobody reviewed in time.
    pub overdue_reviews: IntGauge,
    /// Locks in force.
    pub locks: IntGauge,
}

impl Custody {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let margin = "Active custodians beyond the largest quorum; 0 where there are none.";
        let overdue = "Broken glasses that nobody reviewed in time.";
        let gauge = |name: &str, help: &str| register(r, IntGauge::with_opts(opts(name, help))?);
        Ok(Self {
            margin: gauge("custody_margin", margin)?,
            grants: gauge("grants_in_force", "Grants in force, broken glasses among them.")?,
            overdue_reviews: gauge("reviews_overdue", overdue)?,
            locks: gauge("locks_in_force", "Locks of principals, keyrings and the sidecar.")?,
        })
    }
}
