//! Does a profile hold? Each of its statements beside what the token did, and what to change where they differ.
//! This module never touches a token.

use crate::kek::pkcs11::{Fault, KeyAttributes, KeyRole, Trouble};
use crate::kek::profile::{self, AttributeName, ErrorClass, IvMode, Profile, WrapMethod};

use super::names::{self, hexadecimal, truly};
use super::report::{Finding, Mechanism, Random, Sessions};
use super::trial::{Outcome, Refused, Stage, Tried, Why};

/// Contradictions, and what is worth knowing besides.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
}

impl Verdict {
    fn finding(&mut self, table: &str, found: String, change: String) {
        let finding = Finding { table: table.into(), found, change };
        let same = |other: &Finding| other.table == finding.table && other.found == finding.found;
        if !self.findings.iter().any(same) {
            self.findings.push(finding);
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The number of sessions.
    pub(super) fn sessions(&mut self, profile: &Profile, seen: &Sessions) {
        let max = profile.session.max;
        match &seen.refused {
            Some(answer) if max != seen.open => self.finding(
                "session",
                format!("the token gives {} sessions, then {}", seen.open, answer.text),
                format!("set max = {}", seen.open),
            ),
            None if max != 0 && seen.open > max => self.finding(
                "session",
                format!("the token gives more than {max} sessions"),
                "set max to what the vendor says, or to 0 if there is no limit".into(),
            ),
            Some(_) | None => {}
        }
        if seen.refused.is_some() && profile.session.pool >= seen.open {
            let change = format!("set pool to at most {}", seen.open.saturating_sub(1));
            self.finding(
                "session",
                format!("a pool of {} leaves no session for the login", profile.session.pool),
                change,
            );
        }
    }

    /// The token's randomness.
    pub(super) fn random(&mut self, drawn: &[Random]) {
        for Random { bytes, refused } in drawn {
            if let Some(answer) = refused {
                let found = format!("C_GenerateRandom of {bytes} bytes: {}", answer.text);
                let change = "nothing in a profile helps: keyward mixes the token's randomness into IVs and keys";
                if NEEDED.contains(bytes) { self.finding("random", found, change.into()) } else { self.note(found) }
            }
        }
    }

    /// One table: `named` if it was tried on a key of the token's; `instead` is the sibling that works where it does not.
    pub(super) fn table(&mut self, profile: &Profile, tried: &Tried, named: bool, instead: Option<&WrapMethod>) {
        let table = format!("wrap {}", tried.table.full_name());
        match &tried.outcome {
            Outcome::Works => {}
            Outcome::NotTried(why) => self.note(format!("{table} was not tried: {why}")),
            Outcome::Fails(Stage::Key(role), why) => self.no_key(&table, *role, why, named),
            Outcome::Fails(_, why) => {
                let change = instead
                    .map_or_else(|| what_to_change(&tried.table, why), |sibling| instead_of(&tried.table, sibling));
                self.finding(&table, told(why), change);
            }
        }
        for refused in [&tried.context, &tried.changed].into_iter().flatten() {
            self.refusal(profile, refused);
        }
        for (role, key) in &tried.keys {
            self.attributes(profile, *role, key, named);
        }
        if tried.unmodifiable == Some(false) {
            let found = "MODIFIABLE=false in the template of a new key is refused".into();
            self.finding("attributes", found, "take MODIFIABLE out of settable".into());
        }
        if !tried.gone {
            self.finding(
                &table,
                "temporary keys were left in the token".into(),
                "remove the keys named keyward-probe-*".into(),
            );
        }
    }

    /// Whether the token lists the mechanisms that a table names; the list is a hint, the trial decides.
    pub(super) fn listed(&mut self, table: &WrapMethod, listed: &[Mechanism]) {
        let number = hexadecimal(table.mechanism());
        if !listed.is_empty() && !listed.iter().any(|mechanism| mechanism.number == number) {
            self.note(format!("the token does not list {number}, the mechanism of {}", table.full_name()));
        }
    }

    fn no_key(&mut self, table: &str, role: KeyRole, why: &Why, named: bool) {
        let what = if role == KeyRole::Mac { "MAC key" } else { "key" };
        match why {
            Why::Trouble(Trouble::Fault(Fault::Code { code: MECHANISM_INVALID, .. })) if !named => self.finding(
                table,
                format!("the {what} cannot be made: {}", told(why)),
                "correct or leave out the mechanism that makes it".into(),
            ),
            _ if named => self.note(format!("{table} was not tried: {}", told(why))),
            _ => self.note(format!(
                "{table} was not tried: the token makes no temporary {what}: {}; name a key-encryption key by --key-label",
                told(why)
            )),
        }
    }

    fn refusal(&mut self, profile: &Profile, refused: &Refused) {
        let Refused::With(Trouble::Fault(Fault::Code { call, code })) = refused else { return };
        let (class, number) = (profile.errors.class(*code), hexadecimal(*code));
        let unlisted = class == ErrorClass::Ambiguous && !profile.errors.ambiguous.contains(code);
        match class {
            ErrorClass::Ambiguous if unlisted => {
                self.note(format!(
                    "{number} of {call} for a changed wrap stands in no class, so it counts as ambiguous"
                ));
            }
            ErrorClass::BadInput | ErrorClass::Ambiguous => {}
            other => self.finding(
                "errors",
                format!(
                    "a changed wrap or a wrong context is refused by {}",
                    Fault::Code { call: call.clone(), code: *code }
                ),
                format!(
                    "move {number} from {} to ambiguous, or to bad_input if it never means anything else",
                    names::class(other)
                ),
            ),
        }
    }

    fn attributes(&mut self, profile: &Profile, role: KeyRole, key: &KeyAttributes, named: bool) {
        // A temporary key goes with its session: that is no objection to one that stays.
        let lasting = KeyAttributes { token: Some(true), ..key.clone() };
        let listed = |name: &AttributeName| profile.reports(*name);
        if named {
            if let Some(objection) = key.objection(role, profile) {
                self.finding(
                    "attributes",
                    format!("the key {} must not be used: {objection}", key.label),
                    MAKE_ANOTHER.into(),
                );
            }
            return;
        }
        for (name, written) in names::ATTRIBUTES {
            match (listed(&name), truly(name, key)) {
                (true, false) => self.finding(
                    "attributes",
                    format!("the token does not truly report {written} of a key that it has just made"),
                    format!("take {written} out of reported"),
                ),
                (false, true) => self.note(format!("the token reports {written}, which the profile does not list")),
                _ => {}
            }
        }
        if let Some(objection) =
            lasting.objection(role, &Profile { attributes: unreported(profile), ..profile.clone() })
        {
            let found = format!("a new key would be refused as a key-encryption key: {objection}");
            self.finding("attributes", found, "this table cannot be used: take it out".into());
        }
    }
}

/// What a token says of a key's history is held against the profile elsewhere.
fn unreported(profile: &Profile) -> profile::Attributes {
    profile::Attributes { reported: Vec::new(), ..profile.attributes.clone() }
}

/// Why something failed, in words.
pub(super) fn told(why: &Why) -> String {
    match why {
        Why::Trouble(trouble) => names::answer(trouble).text,
        Why::Other(what) => (*what).to_owned(),
    }
}

/// Tables that differ in the one thing that is most often wrong: who makes the IV, which hash.
pub(super) fn siblings(table: &WrapMethod) -> Vec<WrapMethod> {
    use crate::kek::profile::OaepHash;
    match table {
        WrapMethod::AesGcm { iv, .. } => MODES
            .into_iter()
            .filter(|mode| mode != iv)
            .map(|mode| {
                let mut sibling = table.clone();
                if let WrapMethod::AesGcm { iv, .. } = &mut sibling {
                    *iv = mode;
                }
                sibling
            })
            .collect(),
        WrapMethod::RsaOaep { .. } => {
            let mut sibling = table.clone();
            if let WrapMethod::RsaOaep { hash, .. } = &mut sibling {
                *hash = if *hash == OaepHash::Sha1 { OaepHash::Sha256 } else { OaepHash::Sha1 };
            }
            vec![sibling]
        }
        _ => Vec::new(),
    }
}

fn instead_of(table: &WrapMethod, sibling: &WrapMethod) -> String {
    let field = if matches!(table, WrapMethod::AesGcm { .. }) { "iv" } else { "hash" };
    format!("set {field} = \"{}\", which works", sibling.variant().unwrap_or_default())
}

fn what_to_change(table: &WrapMethod, why: &Why) -> String {
    match (table, why) {
        (WrapMethod::AesGcm { .. }, Why::Trouble(Trouble::Fault(Fault::IvMode))) => {
            "set iv to what the vendor documents; a probe without --profile shows what works".into()
        }
        _ => "take this table out, or correct its mechanism".into(),
    }
}

/// In the order of preference.
pub(super) const MODES: [IvMode; 4] = [IvMode::Caller, IvMode::HsmWriteback, IvMode::HsmAppended, IvMode::HsmPrepended];
/// An IV and a key.
const NEEDED: [u16; 2] = [12, 32];
/// CKR_MECHANISM_INVALID.
const MECHANISM_INVALID: u64 = 0x70;
const MAKE_ANOTHER: &str = "make another with `keyward kek create`";
