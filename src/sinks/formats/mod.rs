//! In which words does a receiver read a record? In the log's own, or in those of others, one line each. Whatever the words,
//! the line holds the record's name (`origin#index`) and its leaf hash, by which it is proven from the log.

mod cef;
mod codes;
mod ecs;
mod fhir;
mod ocsf;

use std::str::FromStr;

use serde_json::Value;

use crate::audit::Event;

use codes::Codes;

/// How records are written for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"id":"ORIGIN#INDEX","leaf":"...","record":{...}}`, the record as it stands in the log.
    Native,
    /// Open Cybersecurity Schema Framework, 1.8.0.
    Ocsf,
    /// Common Event Format, version 0.
    Cef,
    /// Elastic Common Schema, 9.0.
    Ecs,
    /// FHIR R4 `AuditEvent`.
    Fhir,
}

/// A record as it leaves.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The log's name.
    pub origin: &'a str,
    /// Its place there.
    pub index: u64,
    /// The hash that the log's tree has for it.
    pub leaf: [u8; 32],
    /// Canonical JSON of the log.
    pub record: &'a [u8],
}

/// Why a text names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a format of records")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.iter().copied().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

impl Format {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Native, Self::Ocsf, Self::Cef, Self::Ecs, Self::Fhir];

    /// What it is called in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
            Self::Ecs => "ecs",
            Self::Fhir => "fhir",
        }
    }

    /// Appends the record as one line without its end. Gives why not, where the record is none of the log.
    pub fn write(self, leaving: &Leaving<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let Leaving { origin, index, leaf, record } = leaving;
        if self == Self::Native {
            let head = format!(r#"{{"id":"{origin}#{index}","leaf":"{}","record":"#, hex::encode(leaf));
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(record);
            out.push(b'}');
            return Ok(());
        }
        let record = Told::read(leaving)?;
        let line = match self {
            Self::Native | Self::Ocsf => ocsf::line(&record).to_string(),
            Self::Cef => cef::line(&record),
            Self::Ecs => ecs::line(&record).to_string(),
            Self::Fhir => fhir::line(&record).to_string(),
        };
        out.extend_from_slice(line.as_bytes());
        Ok(())
    }
}

/// A record taken apart, with what others call it.
struct Told<'a> {
    origin: &'a str,
    index: u64,
    leaf: String,
    event: Event,
    codes: Codes,
    record: Value,
}

/// What keyward calls itself to others.
const PRODUCT: &str = "keyward";
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl<'a> Told<'a> {
    fn read(leaving: &Leaving<'a>) -> Result<Self, String> {
        let record: Value = serde_json::from_slice(leaving.record).map_err(|error| error.to_string())?;
        let name = record.get("event").and_then(Value::as_str).unwrap_or_default();
        let event = Event::ALL.iter().copied().find(|event| event.name() == name);
        let event = event.ok_or_else(|| format!("{name} is no event"))?;
        let (origin, index, leaf) = (leaving.origin, leaving.index, hex::encode(leaving.leaf));
        Ok(Self { origin, index, leaf, event, codes: codes::of(event), record })
    }

    fn id(&self) -> String {
        format!("{}#{}", self.origin, self.index)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.record.get(field).and_then(Value::as_str)
    }

    fn fact(&self, name: &str) -> Option<&str> {
        self.record.get("facts").and_then(|facts| facts.get(name)).and_then(Value::as_str)
    }

    /// UTC, microseconds.
    fn time(&self) -> u64 {
        self.record.get("time").and_then(Value::as_u64).unwrap_or(0)
    }

    fn rfc3339(&self) -> String {
        crate::clock::Wall(self.time()).rfc3339_micros()
    }

    /// Who acted: a name, and what kind of a one.
    fn actor(&self) -> (&str, &str) {
        let actor = |field: &str| self.record.get("actor").and_then(|actor| actor.get(field)).and_then(Value::as_str);
        let kind = actor("kind").unwrap_or("unknown");
        (actor("name").unwrap_or(kind), kind)
    }

    fn outcome(&self) -> &str {
        self.text("outcome").unwrap_or_default()
    }

    /// Whether it was done; None of what is only about to be tried.
    fn done(&self) -> Option<bool> {
        match self.outcome() {
            "intent" => None,
            "done" => Some(true),
            _ => Some(false),
        }
    }

    /// The keyring that it is about: of a request over several the first.
    fn keyring(&self) -> Option<&str> {
        let first = self.record.get("groups").and_then(|groups| groups.get(0));
        first.and_then(|group| group.get("keyring")).and_then(Value::as_str).or_else(|| self.fact("keyring"))
    }

    /// The key version likewise.
    fn key_version(&self) -> Option<&str> {
        let first = self.record.get("groups").and_then(|groups| groups.get(0));
        first.and_then(|group| group.get("version")).and_then(Value::as_str).or_else(|| self.fact("key_version"))
    }

    /// What joins records of one thing: a ceremony, or a request.
    fn correlation(&self) -> Option<&str> {
        self.fact("ceremony").or_else(|| self.text("request"))
    }

    /// From 0 to 10, more where it was refused or failed.
    fn weight(&self) -> u8 {
        match self.done() {
            Some(false) => self.codes.weight.max(6),
            _ => self.codes.weight,
        }
    }
}
