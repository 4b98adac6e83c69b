//! What does keyward tell operators about itself? The names of all metrics, and the subscriber of its log lines.
//! This module never sees a patient, a record, a name of a caller or a value: every label comes from a closed list or the configuration.

mod custody;
mod keks;
mod lifetimes;
mod lives;
mod logs;
mod metrics;
mod sinks;
mod trust;
mod witnesses;

pub use keks::KekMetrics;
pub use logs::{Format, Logs, Settings, TelemetryError, start_logs};
pub use metrics::{Build, Grid, Metrics, Verb};
