//! Which settings may nobody change alone? Those that decide who may do what, what is recorded and how long keys live: by
//! name, so that a start that refuses them says which differ, and a proposal what it changes.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::keyring::documents::digest;

/// Guarded settings, by their names in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded(BTreeMap<String, String>);

/// What becomes of settings: a new value, or none any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<String, Option<String>>);

impl Guarded {
    /// Settings that were noted before.
    pub const fn of(known: BTreeMap<String, String>) -> Self {
        Self(known)
    }

    /// Adds a setting.
    pub fn note(&mut self, name: impl Into<String>, value: impl std::fmt::Display) {
        // People sign texts of printable ASCII: a setting that is none could never be approved.
        let plain = |c: char| if matches!(c, ' '..='~') { c.to_string() } else { c.escape_unicode().to_string() };
        self.0.insert(name.into(), value.to_string().chars().map(plain).collect());
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

    /// What makes these settings of those that were approved.
    pub fn changes_from(&self, approved: &BTreeMap<String, String>) -> Changes {
        let new = self.0.iter().filter(|(name, value)| approved.get(*name) != Some(value));
        let gone = approved.keys().filter(|name| !self.0.contains_key(*name));
        let new = new.map(|(name, value)| (name.clone(), Some(value.clone())));
        Changes(new.chain(gone.map(|name| (name.clone(), None))).collect())
    }

    /// These settings with some changed.
    pub fn with(&self, changes: &Changes) -> Self {
        let mut next = self.0.clone();
        for (name, value) in &changes.0 {
            match value {
                Some(value) => drop(next.insert(name.clone(), value.clone())),
                None => drop(next.remove(name)),
            }
        }
        Self(next)
    }

    /// What differs from settings that were approved: `name: approved -> found`.
    pub fn differences(&self, approved: &BTreeMap<String, String>) -> Vec<String> {
        let or_none = |value: Option<&String>| value.map_or("-", String::as_str).to_owned();
        let told = |(name, found): (&String, &Option<String>)| {
            format!("{name}: {} -> {}", or_none(approved.get(name)), or_none(found.as_ref()))
        };
        self.changes_from(approved).0.iter().map(told).collect()
    }
}

impl Changes {
    /// Reads what [`Self::text`] writes: one text of each.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "changes is a JSON object from names to texts, or to null for what goes".to_owned();
        let read: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        let value = |value: Value| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong()),
        };
        let read = read.into_iter().map(|(name, found)| value(found).map(|found| (name, found)));
        let changes = Self(read.collect::<Result<_, _>>()?);
        if changes.0.is_empty() {
            return Err("changes names no setting".to_owned());
        }
        if changes.text() == text { Ok(changes) } else { Err(format!("changes is spelt {}", changes.text())) }
    }

    /// A JSON object, by name and without spaces.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The names that are changed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The new value of a setting.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// Whether each of them lets less happen, for less long, or records more: that needs nobody's leave. What this does not
    /// know for sure is none of it.
    pub fn only_tighten(&self, approved: &BTreeMap<String, String>) -> bool {
        let tightens = |(name, found): (&String, &Option<String>)| match (approved.get(name), found) {
            (Some(before), Some(now)) => tightened(name, before, now),
            // Callers of an issuer that is believed no more are nobody, and so is a principal that is not configured.
            (Some(_), None) => name.starts_with("jwt.") || name.starts_with("principal."),
            (None, _) => false,
        };
        self.0.iter().all(tightens)
    }
}

fn tightened(name: &str, before: &str, now: &str) -> bool {
    let seconds = |text: &str| text.strip_suffix('s').and_then(|number| number.parse::<u64>().ok());
    let mode = |text: &str| u32::from_str_radix(text, 8).ok();
    let shorter = matches!((seconds(before), seconds(now)), (Some(before), Some(now)) if now < before);
    match name {
        "audit.durability" => (before, now) == ("Written", "Synced"),
        "cache.ttl" | "cache.offline_max" | "cache.store_offline_max" => shorter,
        "rotation.data_key_period" | "rotation.hard_limit" | "rotation.kek_period" => shorter,
        "listen.tcp" | "listen.tls.data" | "listen.tls.control" => now == "off",
        "listen.data_mode" | "listen.control_mode" => {
            matches!((mode(before), mode(now)), (Some(before), Some(now)) if now & !before == 0)
        }
        name if name.starts_with("jwt.") && (name.ends_with(".stale_for") || name.ends_with(".clock_skew")) => shorter,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> Guarded {
        Guarded(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_difference_is_named_with_both_values_and_leads_from_one_to_the_other() {
        let approved = settings(&[("audit.durability", "Synced"), ("listen.tcp", "off"), ("jwt.a.issuer", "a")]);
        let found = settings(&[("audit.durability", "Written"), ("listen.tcp", "off"), ("cache.ttl", "9s")]);
        let told = ["audit.durability: Synced -> Written", "cache.ttl: - -> 9s", "jwt.a.issuer: a -> -"];
        assert_eq!(found.differences(approved.all()), told);
        assert_ne!(found.digest(), approved.digest());
        assert!(found.differences(found.all()).is_empty());
        let changes = found.changes_from(approved.all());
        assert_eq!(changes.text(), r#"{"audit.durability":"Written","cache.ttl":"9s","jwt.a.issuer":null}"#);
        assert_eq!(Changes::parse(&changes.text()), Ok(changes.clone()));
        assert_eq!(approved.with(&changes), found);
    }

    #[test]
    fn changes_have_one_spelling() {
        for text in ["{}", "[]", "{\"a\":1}", "{ \"a\":null}", "{\"b\":null,\"a\":null}", "{\"a\":null,\"a\":null}", ""]
        {
            assert!(Changes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_lets_less_happen_is_told_from_what_lets_more_and_from_what_nobody_knows() {
        for (name, before, now, tightens) in [
            ("audit.durability", "Written", "Synced", true),
            ("audit.durability", "Synced", "Written", false),
            ("cache.ttl", "300s", "60s", true),
            ("cache.ttl", "60s", "300s", false),
            ("cache.ttl", "300s", "soon", false),
            ("rotation.hard_limit", "100s", "90s", true),
            ("listen.tcp", "127.0.0.1:8200", "off", true),
            ("listen.tcp", "off", "127.0.0.1:8200", false),
            ("listen.data_mode", "0660", "0600", true),
            ("listen.data_mode", "0600", "0606", false),
            ("jwt.a.clock_skew", "60s", "30s", true),
            ("jwt.a.audience", "[\"a\"]", "[]", false),
            ("policy", "aa", "bb", false),
        ] {
            let (approved, found) = (settings(&[(name, before)]), settings(&[(name, now)]));
            assert_eq!(
                found.changes_from(approved.all()).only_tighten(approved.all()),
                tightens,
                "{name} {before} {now}"
            );
        }
        let two = settings(&[("cache.ttl", "60s"), ("policy", "b")]);
        let approved = settings(&[("cache.ttl", "300s"), ("policy", "a")]);
        assert!(!two.changes_from(approved.all()).only_tighten(approved.all()), "one that tightens excuses no other");
        assert!(
            settings(&[])
                .changes_from(settings(&[("jwt.a.issuer", "x")]).all())
                .only_tighten(settings(&[("jwt.a.issuer", "x")]).all())
        );
    }
}
