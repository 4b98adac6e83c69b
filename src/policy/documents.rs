//! Is a policy set right? Parses and validates every file and reports all problems at once, each with file and line.
//! A set with any problem is refused: a rule that can never apply protects nobody, whatever its author believes.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use super::{PolicyError, Settings, lint};

/// The policies of all files, each under the id `file:line`.
pub(super) struct Documents {
    pub(super) set: PolicySet,
    pub(super) files: Vec<File>,
}

/// What one file holds.
pub(super) struct File {
    pub(super) name: String,
    pub(super) permits: usize,
    pub(super) forbids: usize,
}

pub(super) fn load(settings: &Settings, schema: &Schema) -> Result<Documents, PolicyError> {
    let mut loader =
        Loader { settings, set: PolicySet::new(), files: Vec::new(), homes: HashMap::new(), problems: Vec::new() };
    let mut seen = HashSet::new();
    for (name, text) in &settings.documents {
        if seen.insert(name) {
            loader.file(name, text);
        } else {
            loader.problems.push(format!("{name}: two policy files have this name"));
        }
    }
    loader.validate(schema);
    loader.finish()
}

struct Loader<'a> {
    settings: &'a Settings,
    set: PolicySet,
    files: Vec<File>,
    homes: HashMap<PolicyId, Home<'a>>,
    problems: Vec<String>,
}

/// Where a policy stands.
#[derive(Clone, Copy)]
pub(super) struct Home<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    /// The byte at which the policy begins.
    pub(super) start: usize,
}

impl Home<'_> {
    /// `file:line` of a byte of the file.
    pub(super) fn at(&self, offset: usize) -> String {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        format!("{}:{}", self.file, 1 + before.iter().filter(|b| **b == b'\n').count())
    }

    /// `file:line` of the policy's first mention of a text, or of the policy itself.
    pub(super) fn mention(&self, what: &str) -> String {
        let found = self.text.get(self.start..).and_then(|rest| rest.find(what)).unwrap_or(0);
        self.at(self.start.saturating_add(found))
    }
}

impl<'a> Loader<'a> {
    fn file(&mut self, name: &'a str, text: &'a str) {
        let parsed = match PolicySet::from_str(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                let home = Home { file: name, text, start: 0 };
                self.problems.extend(errors.iter().map(|error| describe(&DetailedError::from(error), &home)));
                return;
            }
        };
        for _template in parsed.templates() {
            self.problems.push(format!("{name}: templates (?principal, ?resource) are not supported"));
        }
        let mut file = File { name: name.to_owned(), permits: 0, forbids: 0 };
        for policy in parsed.policies() {
            match policy.effect() {
                Effect::Permit => file.permits += 1,
                Effect::Forbid => file.forbids += 1,
            }
            self.policy(policy, Home { file: name, text, start: policy.as_ref().loc().map_or(0, |loc| loc.start()) });
        }
        self.files.push(file);
    }

    fn policy(&mut self, policy: &Policy, home: Home<'a>) {
        self.problems.extend(lint::problems(policy, &home, &self.settings.principals));
        let line = home.at(home.start);
        // Two policies may stand on one line.
        let mut id = PolicyId::new(&line);
        let mut nth = 1;
        while self.homes.contains_key(&id) {
            nth += 1;
            id = PolicyId::new(format!("{line}#{nth}"));
        }
        self.homes.insert(id.clone(), home);
        if let Err(error) = self.set.add(policy.new_id(id)) {
            self.problems.push(format!("{line}: {error}"));
        }
    }

    /// Warnings count: they name rules that can never apply and letters that look like others.
    fn validate(&mut self, schema: &Schema) {
        let result = Validator::new(schema.clone()).validate(&self.set, ValidationMode::Strict);
        let errors = result.validation_errors().map(|e| (e.policy_id(), DetailedError::from(e)));
        let warnings = result.validation_warnings().map(|w| (w.policy_id(), DetailedError::from(w)));
        for (id, mut error) in errors.chain(warnings) {
            // The place says it already.
            error.message = error.message.replace(&format!("for policy `{id}`, "), "");
            let problem = match self.homes.get(id) {
                Some(home) => describe(&error, home),
                None => error.message,
            };
            self.problems.push(problem);
        }
    }

    fn finish(mut self) -> Result<Documents, PolicyError> {
        if self.problems.is_empty() {
            return Ok(Documents { set: self.set, files: self.files });
        }
        // Cedar reports in no particular order; people compare two runs.
        self.problems.sort_unstable();
        self.problems.dedup();
        Err(PolicyError { problems: self.problems })
    }
}

/// `file:line: message (hint)`.
fn describe(error: &DetailedError, home: &Home<'_>) -> String {
    let at = error.source_locations.first().map_or(home.start, |label| label.loc.start);
    let hint = error.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}: {}{hint}", home.at(at), error.message)
}
