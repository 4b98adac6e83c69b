//! What is in a policy set, for a person who checks it before it is used?

use crate::identity::PrincipalKind;
use crate::names::PrincipalName;

use super::{Action, Policy, PolicyError, Settings};

/// What a set holds; only a set without problems has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The digest that stands in every record, as lower-case hexadecimal.
    pub digest: String,
    /// The files in the order given.
    pub files: Vec<FileReport>,
    /// Each action with the configured principals that some policy may permit it to.
    pub actions: Vec<(Action, Vec<PrincipalName>)>,
    /// Configured principals that no policy permits anything: probably a forgotten rule.
    pub unused: Vec<(PrincipalName, PrincipalKind)>,
}

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// How many `permit` policies.
    pub permits: usize,
    /// How many `forbid` policies.
    pub forbids: usize,
}

/// Loads a set and says what is in it; touches nothing else.
pub fn check(settings: &Settings) -> Result<Report, PolicyError> {
    Ok(Policy::load(settings)?.report())
}

impl Policy {
    /// What this set holds.
    pub fn report(&self) -> Report {
        let files = self.documents.files.iter();
        let file =
            |f: &super::documents::File| FileReport { name: f.name.clone(), permits: f.permits, forbids: f.forbids };
        let used = |(name, kind): &&(PrincipalName, PrincipalKind)| {
            Action::ALL.iter().any(|action| self.judge.may_permit(*kind, name, *action))
        };
        Report {
            digest: hex::encode(self.digest),
            files: files.map(file).collect(),
            actions: Action::ALL.iter().map(|action| (*action, self.permitted(*action))).collect(),
            unused: self.principals.iter().filter(|p| !used(p)).cloned().collect(),
        }
    }

    fn permitted(&self, action: Action) -> Vec<PrincipalName> {
        let may = |(name, kind): &&(PrincipalName, PrincipalKind)| self.judge.may_permit(*kind, name, action);
        self.principals.iter().filter(may).map(|(name, _)| name.clone()).collect()
    }
}
