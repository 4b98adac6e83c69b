//! A directory that goes away again, for demonstrations.

use std::path::{Path, PathBuf};

use super::{Disk, DurableError};

/// A directory of mode 0700 under the system's temporary directory; removed with everything in it when dropped.
#[derive(Debug)]
pub struct TemporaryDir {
    path: PathBuf,
    keep: bool,
}

impl TemporaryDir {
    /// Makes a directory whose name begins with `name` and ends with something that no other has.
    pub fn make(name: &str) -> Result<Self, DurableError> {
        let mut attempt = 0_u32;
        loop {
            let path = std::env::temp_dir().join(format!("{name}-{}-{attempt}", std::process::id()));
            match Disk::real().create_dir(&path, 0o700) {
                Ok(()) => return Ok(Self { path, keep: false }),
                Err(_) if path.exists() && attempt < MOST_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for TemporaryDir {
    #[expect(clippy::disallowed_methods, reason = "durable is the door")]
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left to the system, which empties the place anyway.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Names left by processes that died; more of them mean that something else is wrong.
const MOST_ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_goes_with_its_content_unless_it_is_kept() {
        let gone = TemporaryDir::make("keyward-test").unwrap();
        let path = gone.path().to_owned();
        Disk::real().write_new(&path.join("file"), b"x", 0o600).unwrap();
        let other = TemporaryDir::make("keyward-test").unwrap();
        assert_ne!(other.path(), path);
        drop(gone);
        assert!(!path.exists() && other.path().exists());
    }
}
