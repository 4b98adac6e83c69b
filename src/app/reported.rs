//! How does the log of a running sidecar learn that reports were taken away? Whoever made them leaves a notice in the state
//! directory, and the sidecar records it, as it does for backups: a log has one writer.
//!
//! Crash state: a notice is removed after its record is durable; if the sidecar stops in between it is recorded twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::clock::SharedClock;
use crate::config::{Config, StateDir};
use crate::durable::{Disk, DurableError};
use crate::service::Service;

/// How notices are called: `reported-DIGEST`.
const NAME: &str = "reported-";
/// How often a running sidecar looks.
const LOOK: Duration = Duration::from_secs(2);
/// Notices are small; what is larger is none.
const MOST: u64 = 4_096;

/// What is recorded of a package of reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// SHA-256 of its digests, in hexadecimal.
    pub digest: String,
    /// Records of the log that it holds.
    pub records: u64,
    /// Who made it.
    pub os_user: u32,
}

impl Reported {
    /// Leaves it for the sidecar of a configuration.
    pub fn leave(&self, config: &Config) -> Result<(), DurableError> {
        let text = serde_json::json!(self).to_string();
        Disk::real().write_atomic(&config.state.0.join(format!("{NAME}{}", self.digest)), text.as_bytes(), 0o600)
    }

    fn read(path: &Path) -> Option<Self> {
        let facts = std::fs::metadata(path).ok()?;
        let text = (facts.is_file() && facts.len() <= MOST).then(|| std::fs::read(path).ok())??;
        let notice: Self = serde_json::from_slice(&text).ok()?;
        let mut digest = [0; 32];
        let named = path.file_name()?.to_str()? == format!("{NAME}{}", notice.digest);
        (named && hex::decode_to_slice(&notice.digest, &mut digest).is_ok()).then_some(notice)
    }
}

/// Records the notices that are left in the state directory, for ever.
pub(super) async fn record(service: Arc<Service>, state: StateDir, clock: SharedClock) {
    loop {
        let entries = std::fs::read_dir(&state.0).into_iter().flatten().flatten();
        let left = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME)));
        for path in left.map(|entry| entry.path()).collect::<Vec<PathBuf>>() {
            let Some(notice) = Reported::read(&path) else { continue };
            let facts = vec![
                ("os_user", notice.os_user.to_string()),
                ("records", notice.records.to_string()),
                ("report_digest", notice.digest),
            ];
            match service.note(Event::ReportExported, facts).await {
                Ok(()) => {
                    if let Err(error) = Disk::real().remove_file(&path) {
                        tracing::error!(%error, "a report is recorded, but its notice stays and is recorded again");
                    }
                }
                Err(error) => tracing::error!(%error, "the audit log did not take the record of a report"),
            }
        }
        clock.sleep_until(clock.mono().plus(LOOK)).await;
    }
}
