//! TOML to the raw configuration, going on after each wrong field so that all of them are reported.

use serde::Deserialize;

use super::problems::Found;
use super::raw::RawConfig;

/// A file with more wrong fields than this is another file.
const MOST_PROBLEMS: usize = 50;

/// What could be read, and what could not. A field that is wrong is reported, taken out and left at its default.
pub(super) fn raw(text: &str) -> (RawConfig, Found) {
    let mut found = Found::default();
    let mut table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            found.add("keyward.toml", error.to_string().trim_end(), "correct the TOML syntax");
            return (RawConfig::default(), found);
        }
    };
    for _ in 0..MOST_PROBLEMS {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = toml::Value::Table(table.clone());
        match RawConfig::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track)) {
            Ok(raw) => return (raw, found),
            Err(error) => {
                let path = track.path();
                found.add(path.to_string(), message(&error), hint(&error));
                if !remove(&mut table, &path) {
                    break;
                }
            }
        }
    }
    (RawConfig::default(), found)
}

fn message(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

fn hint(error: &toml::de::Error) -> &'static str {
    if error.message().starts_with("unknown field") { "remove it or correct its spelling" } else { "" }
}

/// Takes the value at a path out of the table; false if it is not there.
fn remove(table: &mut toml::Table, path: &serde_path_to_error::Path) -> bool {
    use serde_path_to_error::Segment;
    let mut steps: Vec<&Segment> = path.iter().collect();
    let Some(Segment::Map { key: last }) = steps.pop() else {
        // A wrong element of an array: the whole array is taken out.
        return steps.iter().rev().find_map(|step| match step {
            Segment::Map { key } => Some(table.remove(key).is_some()),
            _ => None,
        }) == Some(true);
    };
    let mut at: Option<&mut toml::Value> = None;
    for step in steps {
        let next = match (step, at) {
            (Segment::Map { key }, None) => table.get_mut(key),
            (Segment::Map { key }, Some(value)) => value.get_mut(key.as_str()),
            (Segment::Seq { index }, Some(value)) => value.get_mut(*index),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = Some(next);
    }
    match at {
        None => table.remove(last).is_some(),
        Some(value) => value.as_table_mut().is_some_and(|inner| inner.remove(last).is_some()),
    }
}
