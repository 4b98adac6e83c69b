//! `[witness]` becomes whoever must cosign checkpoints.

use std::time::Duration;

use crate::client::Trust;
use crate::witness::Settings;

use super::problems::Found;
use super::raw::RawWitness;
use super::sections::{absolute, time};

const EVERY: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(5);
/// The log makes no checkpoints closer to each other.
const CLOSEST: Duration = Duration::from_secs(1);

/// None where something is wrong; without the section there are no witnesses.
#[expect(clippy::option_option, reason = "a section that is not there is not one that is wrong")]
pub(super) fn witness(raw: Option<&RawWitness>, found: &mut Found) -> Option<Option<Settings>> {
    let Some(raw) = raw else { return Some(None) };
    let policy = found.need("witness.policy", raw.policy.as_ref(), "name the file that says who must cosign");
    let policy = policy.map(|file| absolute("witness.policy", file, found));
    let ca_file = raw.ca_file.as_ref().map(|file| absolute("witness.ca_file", file, found));
    let every = time("witness.every", raw.every.as_deref(), EVERY, found);
    let within = time("witness.within", raw.within.as_deref(), WITHIN, found);
    for (name, given) in [("witness.every", every), ("witness.within", within)] {
        if given.is_some_and(|given| given < CLOSEST) {
            found.add(name, "is less than 1 s", "checkpoints are made each second");
        }
    }
    let required_at_start = choice("witness.at_start", raw.at_start.as_deref(), ["ask", "require"], found);
    let required_for_tier3 = choice("witness.tier3", raw.tier3.as_deref(), ["go-on", "require"], found);
    let trust = Trust { ca_file, token_file: None, identity: None };
    Some(Some(Settings {
        policy: policy?,
        trust,
        every: every?,
        within: within?,
        required_at_start: required_at_start?,
        required_for_tier3: required_for_tier3?,
    }))
}

/// Whether the second of two words was written; the first is meant where none is.
fn choice(name: &str, given: Option<&str>, [first, second]: [&str; 2], found: &mut Found) -> Option<bool> {
    match given {
        None => Some(false),
        Some(word) if word == first => Some(false),
        Some(word) if word == second => Some(true),
        Some(_) => {
            found.add(name, "is not one of its words", format!("write \"{first}\" or \"{second}\""));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::RawConfig;

    fn read(text: &str) -> Result<Option<Settings>, String> {
        let raw: RawConfig = toml::from_str(text).unwrap();
        let mut found = Found::default();
        let settings = witness(raw.witness.as_ref(), &mut found);
        found.finish(settings).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_section_is_read_and_each_problem_names_its_setting() {
        assert_eq!(read(""), Ok(None));
        let good = "[witness]\npolicy = \"/w\"\nevery = \"2s\"\nat_start = \"require\"\n";
        let settings = read(good).unwrap().unwrap();
        assert!(settings.required_at_start && !settings.required_for_tier3);
        assert_eq!((settings.every, settings.within), (Duration::from_secs(2), WITHIN));
        for (text, problem) in [
            ("[witness]\n", "witness.policy: is missing"),
            ("[witness]\npolicy = \"w\"\n", "witness.policy: is not an absolute path"),
            ("[witness]\npolicy = \"/w\"\nevery = \"10ms\"\n", "witness.every: is less than 1 s"),
            ("[witness]\npolicy = \"/w\"\ntier3 = \"never\"\n", "witness.tier3: is not one of its words"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(problem), "{problem}: {said}");
        }
    }
}
