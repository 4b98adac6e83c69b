//! What was cut short here? The marker in the state directory says it; nothing serves or is backed up while it is there,
//! and what is to be done about it differs.

use std::path::PathBuf;

use crate::config::StateDir;

/// What the marker of a joining says; that of a restore names the backup.
pub(super) const JOINING: &str = "init --join";

/// What was begun in the state directory and did not end.
#[derive(Debug, thiserror::Error)]
pub enum CutShort {
    /// Store and log are not whole.
    #[error("{} is there: a restore was cut short", .0.display())]
    Restore(PathBuf),
    /// The log holds nothing yet.
    #[error("{} is there: an `init --join` was cut short", .0.display())]
    Join(PathBuf),
}

impl CutShort {
    /// Err if something was. A marker that cannot be read is taken for a restore's: its hint removes nothing.
    pub(super) fn check(state: &StateDir) -> Result<(), Self> {
        let marker = state.restoring();
        match std::fs::read_to_string(&marker) {
            Ok(text) if text == JOINING => Err(Self::Join(marker)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(Self::Restore(marker)),
        }
    }

    /// What the operator should do.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Restore(_) => "run the same `keyward restore` again: it begins anew and finishes",
            Self::Join(_) => "its log holds nothing yet: remove the state directory and join again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::Disk;

    #[test]
    fn nobody_who_has_an_interrupted_restore_is_told_to_remove_anything() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().to_owned());
        CutShort::check(&state).unwrap();
        for (marker, advice) in [(JOINING, "remove the state directory"), ("--digest ab", "`keyward restore` again")] {
            Disk::real().write_atomic(&state.restoring(), marker.as_bytes(), 0o600).unwrap();
            let hint = CutShort::check(&state).unwrap_err().hint();
            assert!(hint.contains(advice), "{hint}");
            assert_eq!(hint.contains("remove"), marker == JOINING, "{hint}");
        }
    }
}
