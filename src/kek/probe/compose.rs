//! How is what was seen told? The report's parts, and the draft of a profile.
//! This module never touches a token.

use crate::clock::SharedClock;
use crate::kek::pkcs11::{Fault, KeyRole, LibraryFacts, MechanismFacts, Module, SlotFacts, Trouble};
use crate::kek::profile::{Errors, Profile, WrapMethod};

use super::draft::Draft;
use super::names::{self, hexadecimal};
use super::report::{Answer, Library, Mechanism, Report, SCHEMA, Slot, Token, Trial};
use super::trial::{Outcome, Refused, Stage, Tried, Why};

/// The library and its slots.
pub(super) fn report(
    clock: &SharedClock,
    module: &Module,
    os_locking: bool,
    seen: (LibraryFacts, Vec<(SlotFacts, Vec<MechanismFacts>)>),
) -> Report {
    let (path, sha256) = module.file();
    let (LibraryFacts { manufacturer, description, version, cryptoki, .. }, slots) = seen;
    Report {
        schema: SCHEMA,
        date: clock.wall().rfc3339_millis().chars().take(DATE_LEN).collect(),
        library: Library {
            path: path.into(),
            sha256: sha256.into(),
            manufacturer,
            description,
            version,
            cryptoki,
            os_locking,
        },
        slots: slots.into_iter().map(|(slot, mechanisms)| self::slot(slot, &mechanisms)).collect(),
        token: None,
    }
}

fn slot(facts: SlotFacts, mechanisms: &[MechanismFacts]) -> Slot {
    let SlotFacts { description, label, manufacturer, model, serial, firmware, .. } = facts;
    let SlotFacts { initialized, wants_login, pin_min, pin_max, sessions, .. } = facts;
    let mechanisms = mechanisms.iter().map(|facts| Mechanism {
        number: hexadecimal(facts.number),
        name: names::mechanism(facts.number),
        key_min: facts.min,
        key_max: facts.max,
        does: names::does(facts.flags),
    });
    let mechanisms = mechanisms.collect();
    Slot {
        description,
        label,
        manufacturer,
        model,
        serial,
        firmware,
        initialized,
        wants_login,
        pin_min,
        pin_max,
        sessions,
        mechanisms,
    }
}

/// One trial; with the classes of a profile where there is one.
pub(super) fn trial(tried: &Tried, errors: Option<&Errors>) -> Trial {
    let (result, stage, answer) = match &tried.outcome {
        Outcome::Works => ("works", None, None),
        Outcome::NotTried(why) => ("not-tried", None, Some(names::plain(why.clone()))),
        Outcome::Fails(stage, why) => {
            let result = if matches!(stage, Stage::Key(_)) { "not-tried" } else { "fails" };
            (result, Some(stage_name(*stage)), Some(why_answer(why)))
        }
    };
    Trial {
        mechanism: hexadecimal(tried.table.mechanism()),
        name: names::mechanism(tried.table.mechanism()),
        method: tried.table.name(),
        variant: tried.table.variant(),
        result,
        stage,
        answer,
        wrong_context: tried.context.as_ref().map(|refused| refusal(refused, errors)),
        changed: tried.changed.as_ref().map(|refused| refusal(refused, errors)),
        rates: tried.rates.clone(),
    }
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Key(KeyRole::Mac) => "mac-key",
        Stage::Key(_) => "key",
        Stage::Wrap => "wrap",
        Stage::Unwrap => "unwrap",
        Stage::Context => "context",
        Stage::Changed => "changed",
    }
}

fn why_answer(why: &Why) -> Answer {
    match why {
        Why::Trouble(trouble) => names::answer(trouble),
        Why::Other(what) => names::plain((*what).into()),
    }
}

fn refusal(refused: &Refused, errors: Option<&Errors>) -> Answer {
    match refused {
        Refused::Opened => names::plain("it opens".into()),
        Refused::OtherBytes => names::plain("other bytes, which keyward refuses".into()),
        Refused::With(trouble) => {
            let mut answer = names::answer(trouble);
            if let (Some(errors), Trouble::Fault(Fault::Code { code, .. })) = (errors, trouble) {
                answer.text = format!("{}: {}", answer.text, names::class(errors.class(*code)));
            }
            answer
        }
    }
}

/// What the token truly reports of every key that was made.
pub(super) fn reported(all: &[Tried]) -> Vec<&'static str> {
    let keys: Vec<_> = all.iter().flat_map(|tried| &tried.keys).collect();
    let truly = |name| !keys.is_empty() && keys.iter().all(|(_, key)| names::truly(name, key));
    names::ATTRIBUTES.into_iter().filter(|(name, _)| truly(*name)).map(|(_, written)| written).collect()
}

/// A profile of what works.
pub(super) fn draft(token: &mut Token, all: &[Tried], begun: &Profile, seen: &Report, named: bool) {
    let works: Vec<&Tried> = all.iter().filter(|tried| matches!(tried.outcome, Outcome::Works)).collect();
    if works.is_empty() {
        token.notes.push("nothing works, so there is no draft".into());
        return;
    }
    if all.iter().any(|tried| !tried.gone) {
        token.notes.push("temporary keys were left in the token: remove the keys named keyward-probe-*".into());
    }
    let Report { library, .. } = seen;
    let slot = seen.slots.iter().find(|slot| slot.label == token.label && slot.serial == token.serial);
    let (product, model, pins) = slot.map_or_else(Default::default, |slot| {
        let firmware = &slot.firmware;
        let version = &library.version;
        let product = format!("{} {}, firmware {firmware}, library {version}", slot.manufacturer, slot.model);
        (product, slot.model.clone(), format!("{} to {} bytes", slot.pin_min, slot.pin_max))
    });
    let source = format!("probed on {}", seen.date);
    let (bad_input, ambiguous) = codes(&works, &begun.errors);
    let settable = works.iter().all(|tried| tried.unmodifiable == Some(true));
    let max = if token.sessions.refused.is_some() { token.sessions.open } else { 0 };
    let draft = Draft {
        id: format!("{}-draft", slug(&model)),
        product,
        library: library.path.clone(),
        os_locking: begun.module.os_locking,
        reserved: begun.module.reserved.clone(),
        env: begun.module.env.clone(),
        pin_source: format!("{source}: the PIN was accepted; the token says {pins}; when it locks is not known"),
        max,
        session_source: match &token.sessions.refused {
            Some(answer) => format!("{source}: {} sessions, then {}", token.sessions.open, answer.text),
            None => format!(
                "{source}: {} sessions open at once, no limit found; idle sessions: not known",
                token.sessions.open
            ),
        },
        hang_after_ms: hang_after(&works),
        calls_source: format!("{source}: 20 times the slowest unwrap, at least 3 s; loading and login: not known"),
        tables: one_a_method(&works, named, &source),
        bad_input,
        ambiguous,
        reported: token.reported.clone(),
        settable: if settable { vec!["MODIFIABLE"] } else { Vec::new() },
        source,
    };
    token.draft = Some(draft.text());
}

/// A profile opens a stored wrap by the first table of its method.
fn one_a_method(works: &[&Tried], named: bool, source: &str) -> Vec<(WrapMethod, String)> {
    let mut tables: Vec<(WrapMethod, String)> = Vec::new();
    for tried in works {
        if tables.iter().all(|(table, _)| table.method() != tried.table.method()) {
            let kind = if named { "on a key of the token" } else { "on temporary keys" };
            tables.push((as_found(tried, named), format!("{source} {kind}")));
        }
    }
    tables
}

/// What a named key says of itself stands where a candidate only guessed.
fn as_found(tried: &Tried, named: bool) -> WrapMethod {
    let mut table = tried.table.clone();
    if let (true, WrapMethod::RsaOaep { bits, mac_key_type, .. }) = (named, &mut table) {
        let of_mac = tried.keys.iter().find(|(role, _)| *role == KeyRole::Mac);
        if let Some((_, key)) = of_mac {
            *mac_key_type = key.key_type.or(*mac_key_type);
        }
        let bytes = tried.len.saturating_sub(if of_mac.is_some() { MAC_BYTES } else { 0 });
        *bits = u16::try_from(bytes * 8).unwrap_or(*bits);
    }
    table
}

/// Codes of refusals: those whose name says so are bad input, the rest could mean something else too.
fn codes(works: &[&Tried], begun: &Errors) -> (Vec<u64>, Vec<u64>) {
    let refusals = works.iter().flat_map(|tried| [&tried.context, &tried.changed]).flatten();
    let mut codes: Vec<u64> = refusals
        .filter_map(|refused| match refused {
            Refused::With(Trouble::Fault(Fault::Code { code, .. })) => Some(*code),
            _ => None,
        })
        .filter(|code| !others(begun).contains(code))
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes.into_iter().partition(|code| BAD_INPUT.contains(code))
}

fn others(errors: &Errors) -> Vec<u64> {
    [&errors.session, &errors.reinit, &errors.denied, &errors.gone, &errors.pin_stop]
        .into_iter()
        .flatten()
        .copied()
        .collect()
}

fn hang_after(works: &[&Tried]) -> u32 {
    let slowest = works.iter().flat_map(|tried| &tried.rates).map(|rate| 1e3 / rate.raw_per_second).fold(0.0, f64::max);
    let steps = [LEAST_HANG_MS, 5_000, 10_000, 20_000, 30_000];
    steps.into_iter().find(|step| f64::from(*step) >= slowest * 20.0).unwrap_or(MOST_HANG_MS)
}

/// Letters and digits of a model, as ids have them.
fn slug(model: &str) -> String {
    let words = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "token".into() } else { slug }
}

/// `YYYY-MM-DD`.
const DATE_LEN: usize = 10;
const MAC_BYTES: usize = 32;
const LEAST_HANG_MS: u32 = 3_000;
const MOST_HANG_MS: u32 = 60_000;
/// CKR_DATA_INVALID, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE,
/// CKR_WRAPPED_KEY_INVALID, CKR_WRAPPED_KEY_LEN_RANGE.
const BAD_INPUT: [u64; 6] = [0x20, 0x21, 0x40, 0x41, 0x110, 0x112];
