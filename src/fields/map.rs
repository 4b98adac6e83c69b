//! Which fields does a team call PHI? The field map: a TOML file of rules and profiles, parsed strictly (FLD-25).

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;

use super::plan::Plan;
use super::selector::Selector;

/// The map for FHIR R4 that ships with keyward.
pub const FHIR_R4: &str = include_str!("../../policies/fields/fhir-r4.toml");
/// The schema number that this version reads.
pub const MAP_SCHEMA: u32 = 1;

/// A parsed field map.
#[derive(Debug, Clone)]
pub struct FieldMap {
    pub(super) rules: Vec<Rule>,
    pub(super) profiles: Vec<Profile>,
    pub(super) reviewed: BTreeSet<String>,
    pub(super) not_about_patients: BTreeSet<String>,
}

/// One line of the map.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) selector: Selector,
    /// The selector as written; it names the rule.
    pub path: String,
    /// How the value is sealed.
    pub mode: Mode,
    /// The identifier of 45 CFR 164.514(b)(2)(i) that the element holds or may hold.
    pub hipaa: Hipaa,
    /// The profiles that contain the rule.
    pub profiles: Vec<String>,
    /// Why, or what to know.
    pub note: String,
}

/// A named set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub note: String,
}

/// How a selected value is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Randomised: equal values give different sealed values.
    Rand,
}

/// A letter `A` to `R` of 45 CFR 164.514(b)(2)(i).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hipaa(char);

/// Why a map or profile was refused; whoever writes the map must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Not TOML, or with unknown, missing or mistyped keys.
    #[error("the field map does not parse: {0}")]
    Toml(String),
    /// Written for a later version.
    #[error("the field map has schema {found}; this version reads schema {MAP_SCHEMA}")]
    Schema {
        /// The schema of the map.
        found: u32,
    },
    /// A mode other than `rand`.
    #[error("rule {path}: this version implements the mode rand; {mode} is not available")]
    ModeUnavailable {
        /// The rule.
        path: String,
        /// The mode it asks for.
        mode: String,
    },
    /// The path is not a selector.
    #[error("rule {path}: {reason}")]
    Selector {
        /// The rule.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Not a letter from A to R.
    #[error("rule {path}: hipaa is one letter from A to R")]
    Hipaa {
        /// The rule.
        path: String,
    },
    /// Two rules that mean the same elements, perhaps written with and without `[]`: the second would never count.
    #[error("rule {path} is there twice")]
    RuleTwice {
        /// The rule.
        path: String,
    },
    /// A rule in no profile would never seal anything.
    #[error("rule {path} belongs to no profile")]
    NoProfile {
        /// The rule.
        path: String,
    },
    /// A profile that the map does not have.
    #[error("there is no profile {profile}; the map has: {known}")]
    UnknownProfile {
        /// The name asked for.
        profile: String,
        /// The names there are.
        known: String,
    },
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    #[serde(rename = "schema")]
    _schema: u32,
    #[serde(default)]
    not_about_patients: BTreeSet<String>,
    #[serde(default)]
    reviewed: BTreeSet<String>,
    profile: Vec<Profile>,
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    path: String,
    mode: String,
    hipaa: String,
    profiles: Vec<String>,
    #[serde(default)]
    note: String,
}

impl FieldMap {
    /// Parses a map.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let toml = |e: toml::de::Error| MapError::Toml(e.to_string());
        let SchemaOnly { schema } = toml::from_str(text).map_err(toml)?;
        if schema != MAP_SCHEMA {
            return Err(MapError::Schema { found: schema });
        }
        let raw: RawMap = toml::from_str(text).map_err(toml)?;
        let RawMap { _schema, not_about_patients, reviewed, profile: profiles, rule } = raw;
        let mut map = Self { rules: Vec::new(), profiles, reviewed, not_about_patients };
        for rule in rule {
            let rule = map.check(rule)?;
            map.rules.push(rule);
        }
        Ok(map)
    }

    /// The profiles in the map's order.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The rules in the map's order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules of a profile, made ready for documents.
    pub fn plan(&self, profile: &str) -> Result<Plan, MapError> {
        self.require_profile(profile)?;
        Ok(Plan::compile(self, profile))
    }

    fn check(&self, raw: RawRule) -> Result<Rule, MapError> {
        let RawRule { path, mode, hipaa, profiles, note } = raw;
        if profiles.is_empty() {
            return Err(MapError::NoProfile { path });
        }
        for profile in &profiles {
            self.require_profile(profile)?;
        }
        if mode != "rand" {
            return Err(MapError::ModeUnavailable { path, mode });
        }
        let hipaa = Hipaa::parse(&hipaa).ok_or_else(|| MapError::Hipaa { path: path.clone() })?;
        match Selector::parse(&path) {
            Ok(selector) if self.rules.iter().any(|rule| rule.selector == selector) => {
                Err(MapError::RuleTwice { path })
            }
            Ok(selector) => Ok(Rule { selector, path, mode: Mode::Rand, hipaa, profiles, note }),
            Err(reason) => Err(MapError::Selector { path, reason }),
        }
    }

    fn require_profile(&self, profile: &str) -> Result<(), MapError> {
        if self.profiles.iter().any(|known| known.name == profile) {
            return Ok(());
        }
        let known = self.profiles.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(MapError::UnknownProfile { profile: profile.to_owned(), known })
    }
}

impl Hipaa {
    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let letter = letters.next().filter(|c| ('A'..='R').contains(c))?;
        letters.next().is_none().then_some(Self(letter))
    }

    /// The letter.
    pub const fn letter(self) -> char {
        self.0
    }
}

impl fmt::Display for Hipaa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rand => f.write_str("rand"),
        }
    }
}
