//! Everything that is wrong with a configuration, at once: where, what, and what to do.

use std::fmt;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file, as a dotted path (`listen.data`, `principal[2].uids`).
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// All problems of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        for Problem { path, message, hint } in &self.0 {
            write!(f, "\n  {path}: {message}")?;
            if !hint.is_empty() {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// Collects problems while the parts of a configuration are read.
#[derive(Debug, Default)]
pub(super) struct Found {
    problems: Vec<Problem>,
}

impl Found {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into(), hint: hint.into() });
    }

    /// The value, or a problem and None.
    pub(super) fn need<T>(&mut self, path: &str, value: Option<T>, hint: &str) -> Option<T> {
        if value.is_none() {
            self.add(path, "is missing", hint);
        }
        value
    }

    /// The parsed value, or a problem and None.
    pub(super) fn check<T, E: fmt::Display>(&mut self, path: &str, value: Result<T, E>, hint: &str) -> Option<T> {
        value.map_err(|error| self.add(path, error.to_string(), hint)).ok()
    }

    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problems(self.problems)),
        }
    }
}
