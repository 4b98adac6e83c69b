//! How far has a sink come? A small file for each, replaced as a whole, never ahead of what the sink confirmed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::Disk;
use crate::names::SinkName;

use super::Problem;

/// Where a sink goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Of which log.
    pub(super) origin: String,
    /// The first record that the sink has not confirmed.
    pub(super) next: u64,
}

/// The file of a sink's position.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    disk: Disk,
}

impl Place {
    pub(super) fn new(dir: &Path, name: &SinkName, disk: Disk) -> Self {
        Self { path: dir.join(format!("{name}.position")), disk }
    }

    /// The saved position; None before the first.
    pub(super) fn load(&self) -> Result<Option<Position>, Problem> {
        let bad = |why: String| {
            Problem::new("position", format!("{}: {why}; remove it to send the whole log again", self.path.display()))
        };
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// Saves it durably.
    pub(super) fn save(&self, position: &Position) -> Result<(), Problem> {
        let text = serde_json::to_vec(position).map_err(|error| Problem::new("position", error))?;
        self.disk.write_atomic(&self.path, &text, 0o600).map_err(|error| Problem::new("position", error))
    }
}
