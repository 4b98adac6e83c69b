//! What does a request to change the keys of a keyring say? One shape for each verb, every field known and given once.

use std::time::Duration;

use crate::names::{KeyVersionId, KeyringName};
use crate::service::life::{MAX_WAIT_DAYS, Reason, Statement, Step, Trigger};
use crate::service::{ConfigureKeyring, KeyLimits, Refusal, RotateKeyring, StepKey};

use super::batch::unknown;
use super::json::{Fault, Reader, Token, once};

/// What a path asks of one key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyVerb {
    /// Neither seals nor opens for now.
    Suspend,
    /// Is used again.
    Resume,
    /// Only opens from now on.
    Deactivate,
    /// May be known to somebody else.
    Compromise,
    /// Is to be destroyed.
    ScheduleDestroy,
    /// Is not, after all.
    CancelDestroy,
    /// Is destroyed, now that the wait is over.
    FinishDestroy,
}

impl KeyVerb {
    /// Every verb.
    pub const ALL: &[Self] = &[
        Self::Suspend,
        Self::Resume,
        Self::Deactivate,
        Self::Compromise,
        Self::ScheduleDestroy,
        Self::CancelDestroy,
        Self::FinishDestroy,
    ];

    /// The last part of the path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Deactivate => "deactivate",
            Self::Compromise => "compromise",
            Self::ScheduleDestroy => "destroy",
            Self::CancelDestroy => "cancel-destroy",
            Self::FinishDestroy => "finish-destroy",
        }
    }

    /// Reads the last part of a path.
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.path() == path)
    }
}

/// Reads `{trigger, expect?}`.
pub fn parse_rotate(keyring: KeyringName, body: &[u8]) -> Result<RotateKeyring, Refusal> {
    read(body, |reader| {
        let (mut trigger, mut expect) = (None, None);
        let start = reader.at();
        reader.object(|reader, key| match &*key.text() {
            "trigger" => once(&mut trigger, code(reader, "trigger", Trigger::of, &TRIGGERS)?, key),
            "expect" => once(&mut expect, version(reader).map_err(|fault| fault.within("expect"))?, key),
            _ => Err(unknown("trigger and expect", key)),
        })?;
        let trigger = trigger.ok_or_else(|| Fault::malformed("the field trigger is missing", start))?;
        Ok(RotateKeyring { keyring, trigger, expect })
    })
}

/// Reads `{reason}`, `{reason, after_days, statement}` or `{}`, as the verb wants it.
pub fn parse_step(verb: KeyVerb, keyring: KeyringName, version: KeyVersionId, body: &[u8]) -> Result<StepKey, Refusal> {
    read(body, |reader| {
        let start = reader.at();
        let fields = Fields::read(verb, reader)?;
        let missing = |field: &str| Fault::malformed(format!("the field {field} is missing"), start);
        let step = match verb {
            KeyVerb::Suspend => Step::Suspend,
            KeyVerb::Resume => Step::Resume,
            KeyVerb::Deactivate => Step::Deactivate,
            KeyVerb::Compromise => Step::Compromise,
            KeyVerb::CancelDestroy => Step::CancelDestroy,
            KeyVerb::FinishDestroy => Step::Destroy,
            KeyVerb::ScheduleDestroy => Step::ScheduleDestroy {
                days: fields.after_days.ok_or_else(|| missing("after_days"))?,
                statement: fields.statement.ok_or_else(|| missing("statement"))?,
            },
        };
        let reason = match (verb, fields.reason) {
            (_, Some(reason)) => reason,
            // Carrying out is no new decision: the reason is that of the plan.
            (KeyVerb::FinishDestroy, None) => Reason::Retired,
            (_, None) => return Err(missing("reason")),
        };
        Ok(StepKey { keyring, version, step, reason })
    })
}

/// Reads `{cryptoperiod_days?, messages?, bytes?, offline_max_seconds?}`: all limits at once, so that two requests do not
/// mix; one that is not given is the configuration's.
pub fn parse_configure(keyring: KeyringName, body: &[u8]) -> Result<ConfigureKeyring, Refusal> {
    read(body, |reader| limits(reader).map(|limits| ConfigureKeyring { keyring, limits }))
}

#[derive(Default)]
struct Fields {
    reason: Option<Reason>,
    after_days: Option<u32>,
    statement: Option<Statement>,
}

impl Fields {
    fn read(verb: KeyVerb, reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        let destroys = verb == KeyVerb::ScheduleDestroy;
        reader.object(|reader, key| match (&*key.text(), verb) {
            ("reason", verb) if verb != KeyVerb::FinishDestroy => {
                once(&mut fields.reason, code(reader, "reason", Reason::given, &REASONS)?, key)
            }
            ("after_days", _) if destroys => {
                let days = reader.number(MAX_WAIT_DAYS.into()).map_err(|fault| fault.within("after_days"))?;
                once(&mut fields.after_days, u32::try_from(days).unwrap_or(MAX_WAIT_DAYS), key)
            }
            ("statement", _) if destroys => {
                once(&mut fields.statement, statement(reader).map_err(|fault| fault.within("statement"))?, key)
            }
            _ => Err(unknown(known(verb), key)),
        })?;
        Ok(fields)
    }
}

const fn known(verb: KeyVerb) -> &'static str {
    match verb {
        KeyVerb::ScheduleDestroy => "reason, after_days and statement",
        KeyVerb::FinishDestroy => "none",
        _ => "reason",
    }
}

pub(super) fn read<T>(body: &[u8], parse: impl FnOnce(&mut Reader<'_>) -> Result<T, Fault>) -> Result<T, Refusal> {
    let whole = |mut reader: Reader<'_>| {
        let value = parse(&mut reader)?;
        reader.end().map(|()| value)
    };
    Reader::new(body).and_then(whole).map_err(|fault| fault.refusal(body))
}

fn limits(reader: &mut Reader<'_>) -> Result<KeyLimits, Fault> {
    let (mut days, mut messages, mut bytes, mut offline) = (None, None, None, None);
    let number = |reader: &mut Reader<'_>, field, most| reader.number(most).map_err(|fault| fault.within(field));
    reader.object(|reader, key| match &*key.text() {
        "cryptoperiod_days" => once(&mut days, number(reader, "cryptoperiod_days", MAX_CRYPTOPERIOD_DAYS)?, key),
        "messages" => once(&mut messages, number(reader, "messages", MAX_COUNT)?, key),
        "bytes" => once(&mut bytes, number(reader, "bytes", MAX_COUNT)?, key),
        "offline_max_seconds" => once(&mut offline, number(reader, "offline_max_seconds", MAX_OFFLINE_SECONDS)?, key),
        _ => Err(unknown("cryptoperiod_days, messages, bytes and offline_max_seconds", key)),
    })?;
    Ok(KeyLimits {
        cryptoperiod: days.map(|days| Duration::from_secs(days * 86_400)),
        messages,
        bytes,
        offline_max: offline.map(Duration::from_secs),
    })
}

/// A closed code; the fault lists those that there are.
pub(super) fn code<T>(
    reader: &mut Reader<'_>,
    field: &'static str,
    of: impl Fn(&str) -> Option<T>,
    all: &dyn Fn() -> String,
) -> Result<T, Fault> {
    let read = |reader: &mut Reader<'_>| -> Result<T, Fault> {
        let token = reader.string()?;
        of(&token.text()).ok_or_else(|| Fault::malformed(format!("there are {}", all()), token.at()))
    };
    read(reader).map_err(|fault| fault.within(field))
}

/// SP 800-57 part 1 gives a key that seals data two years at most.
const MAX_CRYPTOPERIOD_DAYS: u64 = 730;
/// Whole numbers of JSON are exact up to here.
const MAX_COUNT: u64 = (1 << 53) - 1;
/// Longer than a week without its KEK nothing should serve.
const MAX_OFFLINE_SECONDS: u64 = 7 * 86_400;

pub(super) const TRIGGERS: fn() -> String =
    || Trigger::ALL.iter().map(|trigger| trigger.code()).collect::<Vec<_>>().join(", ");
pub(super) const REASONS: fn() -> String = || {
    let given = Reason::ALL.iter().filter(|reason| Reason::given(reason.code()).is_some());
    given.map(|reason| reason.code()).collect::<Vec<_>>().join(", ")
};

fn version(reader: &mut Reader<'_>) -> Result<KeyVersionId, Fault> {
    let token = reader.string()?;
    token.text().parse().map_err(|error| Fault::malformed(format!("{error}"), token.at()))
}

fn statement(reader: &mut Reader<'_>) -> Result<Statement, Fault> {
    let token: Token<'_> = reader.string()?;
    let wrong = || {
        Fault::malformed(
            format!("the owner's statement has 10 to {} bytes: why no value needs the version", Statement::MAX_BYTES),
            token.at(),
        )
    };
    Statement::of(&token.text()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Code;

    fn name() -> KeyringName {
        "patients".parse().unwrap()
    }

    fn step(verb: KeyVerb, body: &str) -> Result<StepKey, String> {
        let read = parse_step(verb, name(), KeyVersionId([7; 8]), body.as_bytes());
        read.map_err(|refusal| {
            assert_eq!(refusal.code, Code::MalformedRequest, "{body}");
            refusal.detail.unwrap_or_default().into_owned()
        })
    }

    #[test]
    fn each_verb_takes_its_fields_and_no_other() {
        for verb in KeyVerb::ALL {
            assert_eq!(KeyVerb::of(verb.path()), Some(*verb));
            let body = match verb {
                KeyVerb::ScheduleDestroy => r#"{"reason":"retired","after_days":30,"statement":"all are rewrapped"}"#,
                KeyVerb::FinishDestroy => "{}",
                _ => r#"{"reason":"retired"}"#,
            };
            let read = step(*verb, body).unwrap();
            assert_eq!((read.version, read.reason), (KeyVersionId([7; 8]), Reason::Retired));
            let more = body.replacen('{', "{\"SECRET\":\"SECRET\",", 1).replace(",}", "}");
            let said = step(*verb, &more).unwrap_err();
            assert!(said.contains("a field is unknown") && !said.contains("SECRET"), "{said}");
        }
        let Step::ScheduleDestroy { days, statement } =
            step(KeyVerb::ScheduleDestroy, r#"{"after_days":7,"reason":"policy","statement":"all are rewrapped"}"#)
                .unwrap()
                .step
        else {
            panic!("another step")
        };
        assert_eq!((days, Some(statement)), (7, Statement::of("all are rewrapped")));
    }

    #[test]
    fn a_step_without_a_reason_a_wait_or_a_statement_is_refused_with_its_place() {
        let destroy = KeyVerb::ScheduleDestroy;
        for (verb, body, detail) in [
            (KeyVerb::Suspend, "{}", "the field reason is missing, at $ (line 1, column 1)"),
            (KeyVerb::Suspend, r#"{"reason":"because"}"#, "there are schedule, usage, personnel"),
            (KeyVerb::Suspend, r#"{"reason":"created"}"#, "retired, at $.reason (line 1, column 12)"),
            (KeyVerb::Suspend, r#"{"reason":"policy","reason":"policy"}"#, "a field is given twice"),
            (KeyVerb::FinishDestroy, r#"{"reason":"policy"}"#, "a field is unknown; there are none"),
            (destroy, r#"{"reason":"retired","statement":"all are rewrapped"}"#, "the field after_days is missing"),
            (destroy, r#"{"reason":"retired","after_days":7}"#, "the field statement is missing"),
            (destroy, r#"{"statement":"done"}"#, "has 10 to 1024 bytes"),
            (destroy, r#"{"after_days":31}"#, "a whole number from 1 to 30 is expected, at $.after_days"),
            (destroy, r#"{"after_days":0}"#, "a whole number"),
            (destroy, r#"{"after_days":-7}"#, "a whole number"),
            (destroy, r#"{"after_days":7.5}"#, "a whole number"),
            (destroy, r#"{"after_days":7e0}"#, "a whole number"),
            (destroy, r#"{"after_days":07}"#, "a whole number"),
            (destroy, r#"{"after_days":"7"}"#, "a whole number"),
            (destroy, r#"{"after_days":99999999999999999999999}"#, "a whole number"),
        ] {
            let said = step(verb, body).unwrap_err();
            assert!(said.contains(detail), "{body}: {said}");
        }
    }

    #[test]
    fn a_rotation_names_its_trigger_and_limits_are_all_given_at_once() {
        let rotate = |body: &str| parse_rotate(name(), body.as_bytes()).map_err(|refusal| refusal.detail);
        let read = rotate(r#"{"trigger":"incident","expect":"abababababababab"}"#).unwrap();
        assert_eq!((read.trigger, read.expect), (Trigger::Incident, Some(KeyVersionId([0xab; 8]))));
        for bad in ["{}", r#"{"trigger":"whim"}"#, r#"{"trigger":"usage","expect":"ab"}"#, r#"{"trigger":"usage"} 1"#] {
            assert!(rotate(bad).is_err(), "{bad}");
        }
        let limits = |body: &str| parse_configure(name(), body.as_bytes()).map(|asked| asked.limits);
        assert_eq!(limits("{}").unwrap(), KeyLimits::default());
        let some = limits(r#"{"cryptoperiod_days":30,"messages":5,"bytes":9,"offline_max_seconds":60}"#).unwrap();
        assert_eq!((some.messages, some.bytes), (Some(5), Some(9)));
        assert_eq!(some.cryptoperiod, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(some.offline_max, Some(Duration::from_secs(60)));
        for bad in [r#"{"cryptoperiod_days":731}"#, r#"{"messages":0}"#, r#"{"messages":1,"messages":1}"#] {
            assert!(limits(bad).is_err(), "{bad}");
        }
    }
}
