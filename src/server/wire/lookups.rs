//! What does a request about a look-up key say? `{keyring, lookup}`, and what its verb wants beside them.

use crate::names::{KeyringName, LookupName};
use crate::service::life::{Reason, Trigger};
use crate::service::{AskLookup, LookupVerb, Refusal};

use super::batch::unknown;
use super::json::{Fault, Reader, once};
use super::keys::{REASONS, TRIGGERS, code, read};

/// What a path asks of a look-up key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupPath {
    /// That it be made.
    Create,
    /// A next version.
    Rotate,
    /// The end of a version.
    Retire,
}

#[derive(Default)]
struct Fields {
    keyring: Option<KeyringName>,
    lookup: Option<LookupName>,
    trigger: Option<Trigger>,
    expect: Option<u32>,
    reason: Option<Reason>,
    version: Option<u32>,
}

/// Reads `{keyring, lookup}`, `{keyring, lookup, trigger, expect?}` or `{keyring, lookup, reason, version?}`.
pub fn parse_lookup(path: LookupPath, body: &[u8]) -> Result<AskLookup, Refusal> {
    read(body, |reader| {
        let start = reader.at();
        let fields = Fields::read(path, reader)?;
        let missing = |field: &str| Fault::malformed(format!("the field {field} is missing"), start);
        let keyring = fields.keyring.ok_or_else(|| missing("keyring"))?;
        let name = fields.lookup.ok_or_else(|| missing("lookup"))?;
        let verb = match path {
            LookupPath::Create => LookupVerb::Create,
            LookupPath::Rotate => {
                LookupVerb::Rotate { trigger: fields.trigger.ok_or_else(|| missing("trigger"))?, expect: fields.expect }
            }
            LookupPath::Retire => {
                LookupVerb::Retire { reason: fields.reason.ok_or_else(|| missing("reason"))?, version: fields.version }
            }
        };
        Ok(AskLookup { keyring, name, verb })
    })
}

impl Fields {
    fn read(path: LookupPath, reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        reader.object(|reader, key| match (&*key.text(), path) {
            ("keyring", _) => once(&mut fields.keyring, name(reader).map_err(|fault| fault.within("keyring"))?, key),
            ("lookup", _) => once(&mut fields.lookup, name(reader).map_err(|fault| fault.within("lookup"))?, key),
            ("trigger", LookupPath::Rotate) => {
                once(&mut fields.trigger, code(reader, "trigger", Trigger::of, &TRIGGERS)?, key)
            }
            ("expect", LookupPath::Rotate) => once(&mut fields.expect, number(reader, "expect")?, key),
            ("reason", LookupPath::Retire) => {
                once(&mut fields.reason, code(reader, "reason", Reason::given, &REASONS)?, key)
            }
            ("version", LookupPath::Retire) => once(&mut fields.version, number(reader, "version")?, key),
            _ => Err(unknown(known(path), key)),
        })?;
        Ok(fields)
    }
}

const fn known(path: LookupPath) -> &'static str {
    match path {
        LookupPath::Create => "keyring and lookup",
        LookupPath::Rotate => "keyring, lookup, trigger and expect",
        LookupPath::Retire => "keyring, lookup, reason and version",
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(reader: &mut Reader<'_>) -> Result<T, Fault> {
    let token = reader.string()?;
    token.text().parse().map_err(|error| Fault::malformed(format!("{error}"), token.at()))
}

/// The number of a version.
fn number(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, Fault> {
    let number = reader.number(u32::MAX.into()).map_err(|fault| fault.within(field))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Code;

    const NAMED: &str = r#""keyring":"acme/p","lookup":"index/mrn""#;

    fn parse(path: LookupPath, more: &str) -> Result<LookupVerb, String> {
        parse_lookup(path, format!("{{{NAMED}{more}}}").as_bytes()).map(|asked| asked.verb).map_err(|refusal| {
            assert_eq!(refusal.code, Code::MalformedRequest);
            refusal.detail.unwrap_or_default().into_owned()
        })
    }

    #[test]
    fn each_verb_of_a_look_up_key_takes_its_fields_and_no_other() {
        use LookupPath::{Create, Retire, Rotate};
        let (trigger, reason) = (Trigger::Incident, Reason::Retired);
        assert_eq!(parse(Create, ""), Ok(LookupVerb::Create));
        assert_eq!(parse(Rotate, r#","trigger":"incident""#), Ok(LookupVerb::Rotate { trigger, expect: None }));
        let expected = parse(Rotate, r#","trigger":"incident","expect":3"#);
        assert_eq!(expected, Ok(LookupVerb::Rotate { trigger, expect: Some(3) }));
        assert_eq!(parse(Retire, r#","reason":"retired""#), Ok(LookupVerb::Retire { reason, version: None }));
        for (path, more, detail) in [
            (Create, r#","trigger":"incident""#, "a field is unknown; there are keyring and lookup"),
            (Rotate, "", "the field trigger is missing"),
            (Rotate, r#","trigger":"whim""#, "there are schedule, usage"),
            (Rotate, r#","trigger":"usage","expect":0"#, "a whole number"),
            (Rotate, r#","trigger":"usage","expect":"1""#, "a whole number"),
            (Rotate, r#","trigger":"usage","version":1"#, "a field is unknown"),
            (Retire, "", "the field reason is missing"),
            (Retire, r#","reason":"retired","version":4294967296"#, "a whole number"),
            (Retire, r#","reason":"retired","reason":"retired""#, "a field is given twice"),
        ] {
            let said = parse(path, more).unwrap_err();
            assert!(said.contains(detail), "{more}: {said}");
        }
    }

    #[test]
    fn a_look_up_key_of_an_unknown_use_or_without_a_name_is_refused_without_repeating_it() {
        for lookup in ["mrn", "data/mrn", "index/", "index/SECRET", "index/a/b"] {
            let body = format!(r#"{{"keyring":"p","lookup":"{lookup}"}}"#);
            let refusal = parse_lookup(LookupPath::Create, body.as_bytes()).unwrap_err();
            let said = refusal.detail.unwrap_or_default();
            assert!(
                said.contains("deterministic/NAME, index/NAME or token/NAME") && !said.contains("SECRET"),
                "{said}"
            );
            assert!(said.contains("at $.lookup"), "{said}");
        }
        assert!(parse_lookup(LookupPath::Create, br#"{"lookup":"index/mrn"}"#).is_err());
        assert!(parse_lookup(LookupPath::Create, br#"{"keyring":"P","lookup":"index/mrn"}"#).is_err());
    }
}
