//! What does a report need of a record? The record was read strictly when the log was verified.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// A record.
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    pub(super) actor: Actor<'a>,
    pub(super) event: &'a str,
    #[serde(default, borrow)]
    pub(super) facts: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) groups: Vec<Group<'a>>,
    pub(super) index: u64,
    pub(super) outcome: &'a str,
    #[serde(default)]
    pub(super) purpose: Option<&'a str>,
    #[serde(default)]
    pub(super) reason: Option<&'a str>,
    pub(super) source: &'a str,
    #[serde(default, borrow)]
    pub(super) subjects: Vec<&'a str>,
    pub(super) time: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Actor<'a> {
    pub(super) kind: &'a str,
    #[serde(default)]
    pub(super) name: Option<&'a str>,
    #[serde(default)]
    pub(super) proof: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group<'a> {
    pub(super) keyring: &'a str,
    #[serde(default)]
    pub(super) version: Option<&'a str>,
    pub(super) done: u64,
    #[serde(default, borrow)]
    pub(super) failed: BTreeMap<&'a str, u64>,
}

pub(super) fn read(record: &[u8]) -> Result<Record<'_>, serde_json::Error> {
    serde_json::from_slice(record)
}

impl Actor<'_> {
    /// Name, or what it is if it has none.
    pub(super) fn named(&self) -> &str {
        self.name.unwrap_or(self.kind)
    }
}

impl Record<'_> {
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(AsRef::as_ref)
    }
}
