//! How does the log of a running sidecar learn of a backup? The command that made it leaves a notice in the state directory,
//! and the sidecar records it: a log has one writer. Whoever can write there can also stop the sidecar and record a backup
//! himself, so that a notice is believed as far as that, and never as the head of the store.
//!
//! Crash state: a notice is removed after its record is durable. If the sidecar stops in between, the backup is recorded
//! twice, which does no harm; if none runs, the next start records it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::ceremony::CeremonyId;
use crate::clock::SharedClock;
use crate::config::StateDir;
use crate::durable::{Disk, DurableError};
use crate::keyring::StoreHead;
use crate::service::Service;

/// How notices are called: `backed-up-DIGEST`.
const NAME: &str = "backed-up-";
/// How often a running sidecar looks.
const LOOK: Duration = Duration::from_secs(2);
/// Hexadecimal digits of a digest.
const DIGEST: usize = 64;
/// Notices are small; what is larger is none.
const MOST: u64 = 4_096;

/// What is recorded of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notice {
    /// Of the manifest, in hexadecimal.
    pub digest: String,
    /// Where the copied chain ends.
    pub head: String,
    pub keyrings: u64,
    pub keys: u64,
    pub records: u64,
    pub os_user: u32,
    /// The ceremony that let it be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceremony: Option<String>,
}

impl Notice {
    /// The facts of the record. The head has a name of its own: the sidecar itself knows where its store ends.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("backup_digest", self.digest.clone()),
            ("backup_head", self.head.clone()),
            ("keyrings", self.keyrings.to_string()),
            ("keys", self.keys.to_string()),
            ("os_user", self.os_user.to_string()),
            ("records", self.records.to_string()),
        ];
        facts.extend(self.ceremony.clone().map(|ceremony| ("ceremony", ceremony)));
        facts
    }

    pub(super) fn path(&self, state: &StateDir) -> PathBuf {
        state.0.join(format!("{NAME}{}", self.digest))
    }

    /// Leaves it for the sidecar.
    pub(super) fn leave(&self, state: &StateDir, disk: &Disk) -> Result<(), DurableError> {
        let text = serde_json::json!(self).to_string();
        disk.write_atomic(&self.path(state), text.as_bytes(), 0o600)
    }

    fn read(path: &Path) -> Option<Self> {
        let facts = std::fs::metadata(path).ok()?;
        let text = (facts.is_file() && facts.len() <= MOST).then(|| std::fs::read(path).ok())??;
        let notice: Self = serde_json::from_slice(&text).ok()?;
        let mut digest = [0; 32];
        let whole =
            hex::decode_to_slice(&notice.digest, &mut digest).is_ok() && notice.head.parse::<StoreHead>().is_ok();
        let named = notice.ceremony.as_ref().is_none_or(|id| id.parse::<CeremonyId>().is_ok());
        (whole && named).then_some(notice)
    }
}

/// Records the notices that are left in the state directory, for ever.
pub(in crate::app) async fn record_notices(service: Arc<Service>, state: StateDir, clock: SharedClock) {
    let disk = Disk::real();
    loop {
        for path in left(&state) {
            let Some(notice) = Notice::read(&path) else { continue };
            match service.note(Event::StoreBackedUp, notice.facts()).await {
                Ok(()) => {
                    if let Err(error) = disk.remove_file(&path) {
                        tracing::error!(%error, "a backup is recorded, but its notice stays and is recorded again");
                    }
                }
                Err(error) => tracing::error!(%error, "the audit log did not take the record of a backup"),
            }
        }
        clock.sleep_until(clock.mono().plus(LOOK)).await;
    }
}

fn left(state: &StateDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&state.0).into_iter().flatten().flatten();
    // No draft of one, which is not durable yet and is about to get its name.
    let is_notice = |name: &std::ffi::OsStr| {
        name.to_str().and_then(|name| name.strip_prefix(NAME)).is_some_and(|digest| digest.len() == DIGEST)
    };
    entries.filter(|entry| is_notice(&entry.file_name())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_backup_has_written_is_a_notice() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().to_owned());
        let head = StoreHead { changes: 3, digest: [7; 32] }.to_string();
        let notice =
            Notice { digest: "ab".repeat(32), head, keyrings: 1, keys: 2, records: 3, os_user: 4, ceremony: None };
        notice.leave(&state, &Disk::real()).unwrap();
        let draft = notice.path(&state).with_extension("draft");
        Disk::real().write_atomic(&draft, &std::fs::read(notice.path(&state)).unwrap(), 0o600).unwrap();
        assert_eq!(left(&state), [notice.path(&state)], "a draft is none yet");
        assert_eq!(Notice::read(&notice.path(&state)), Some(notice.clone()));
        assert!(
            notice.facts().iter().all(|(name, _)| *name != "store_head"),
            "a backup never says where the store ends"
        );
        for wrong in [
            Notice { digest: "ab".to_owned(), ..notice.clone() },
            Notice { digest: "x".repeat(64), ..notice.clone() },
            Notice { head: "3".to_owned(), ..notice.clone() },
            Notice { ceremony: Some("somebody said so".to_owned()), ..notice.clone() },
        ] {
            wrong.leave(&state, &Disk::real()).unwrap();
            assert_eq!(Notice::read(&wrong.path(&state)), None, "{wrong:?}");
        }
    }
}
