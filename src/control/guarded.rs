//! Which settings may nobody change alone? Those that decide who may do what, what is recorded and how long keys live: by
//! name, so that a start that refuses them says which differ.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::keyring::documents::digest;

/// Guarded settings, by their names in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded(BTreeMap<String, String>);

impl Guarded {
    /// Adds a setting.
    pub fn note(&mut self, name: impl Into<String>, value: impl std::fmt::Display) {
        self.0.insert(name.into(), value.to_string());
    }

    /// Its digest: SHA-256 over "keyward/settings/v1" 00 and a line `name=value` each, by name.
    pub fn digest(&self) -> [u8; 32] {
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Writing to a String does not fail.
            let _written = writeln!(text, "{name}={value}");
        }
        digest(&["keyward/settings/v1\0", &text])
    }

    /// By name.
    pub const fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// What differs from settings that were approved: `name: approved -> found`.
    pub fn differences(&self, approved: &BTreeMap<String, String>) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(approved.keys()).collect();
        let of = |map: &BTreeMap<String, String>, name: &String| map.get(name).cloned().unwrap_or_else(|| "-".to_owned());
        let differs = |name: &&&String| self.0.get(**name) != approved.get(**name);
        names.iter().filter(differs).map(|name| format!("{name}: {} -> {}", of(approved, name), of(&self.0, name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_with_both_values() {
        let (mut approved, mut found) = (Guarded::default(), Guarded::default());
        approved.note("audit.durability", "synced");
        approved.note("listen.tcp", "off");
        found.note("audit.durability", "written");
        found.note("listen.tcp", "off");
        assert_eq!(found.differences(approved.all()), ["audit.durability: synced -> written"]);
        assert_ne!(found.digest(), approved.digest());
        assert!(found.differences(found.all()).is_empty());
    }
}
