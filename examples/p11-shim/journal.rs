//! Which calls reached the library? A line for each, with its code and no data.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The log, if one is wanted.
pub struct Journal(Option<File>);

impl Journal {
    /// Opens the log for appending.
    pub fn open(path: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path);
        let file = path.map(|path| open(path).map_err(|error| format!("{}: {error}", path.display()))).transpose()?;
        Ok(Self(file))
    }

    /// One line in one write, so that lines of several threads and processes never mix.
    pub fn note(&self, name: &str, outcome: &str) {
        if let Some(mut file) = self.0.as_ref() {
            // A log that cannot be written shows in the test that counts its lines.
            let _written = file.write_all(format!("{name} {outcome}\n").as_bytes());
        }
    }
}
