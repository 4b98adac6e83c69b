//! Does a policy set answer as its authors wrote down? Table tests in TOML, kept beside the policies.
//! A table asks the same judge as a request, but there is no Principal in it and no Permit comes out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::value::{Datetime, Offset};

use crate::clock::Wall;
use crate::identity::{JwtSubject, PrincipalKind, Proof};
use crate::names::{KeyringName, PrincipalName, Purpose};

use super::judge::Query;
use super::{Action, DenialReason, GrantKind, Policy};

/// The table format that this version reads.
const SCHEMA: u32 = 1;
/// The uid of a case's peer: no policy can see it.
const SOME_UID: u32 = 1000;

/// How a table went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReport {
    /// How many cases there are.
    pub cases: usize,
    /// Those that were answered otherwise than expected.
    pub failures: Vec<CaseFailure>,
    /// Policies (`file:line`) that decided no case: nothing would notice if they were gone.
    pub undecided: Vec<String>,
}

/// A case that was answered otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFailure {
    /// The case's name.
    pub name: String,
    /// What the table expects: `permit`, or the reason of the denial.
    pub expected: &'static str,
    /// What policy said.
    pub found: &'static str,
    /// The policies (`file:line`) that decided.
    pub by: Vec<String>,
}

/// Why a table could not be run: its author must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not the TOML of a table.
    #[error("not a policy table: {0}")]
    Syntax(String),
    /// Written for a newer keyward.
    #[error("the table has schema {0}, this version reads schema {SCHEMA}")]
    Schema(u32),
    /// Cases that make no sense; all of them.
    #[error("{}", .0.join("; "))]
    Cases(Vec<String>),
}

/// Runs a table against a loaded set.
pub fn run_table(policy: &Policy, text: &str) -> Result<TableReport, TableError> {
    let raw: RawTable = toml::from_str(text).map_err(|error| TableError::Syntax(error.to_string()))?;
    if raw.schema != SCHEMA {
        return Err(TableError::Schema(raw.schema));
    }
    let cases = parse(policy, &raw.case)?;
    let mut decided = BTreeSet::new();
    let failures = cases.iter().filter_map(|case| case.run(policy, &mut decided)).collect();
    let ids = policy.documents.set.policies().map(|policy| policy.id().to_string());
    let undecided = ids.filter(|id| !decided.contains(id)).collect::<BTreeSet<_>>().into_iter().collect();
    Ok(TableReport { cases: cases.len(), failures, undecided })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    schema: u32,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    principal: String,
    kind: String,
    #[serde(default)]
    proof: Option<String>,
    action: String,
    keyring: Option<String>,
    purpose: Option<String>,
    grant: Option<String>,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    now: Option<Datetime>,
    expect: Expect,
    reason: Option<String>,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Permit,
    Deny,
}

/// A case as meant.
struct Case<'a> {
    label: &'a str,
    name: PrincipalName,
    kind: PrincipalKind,
    proof: Proof,
    action: Action,
    keyring: Option<KeyringName>,
    purpose: Option<Purpose>,
    grant: Option<GrantKind>,
    pairs: Vec<(&'a str, &'a str)>,
    now: Option<Wall>,
    expected: Result<(), DenialReason>,
}

fn parse<'a>(policy: &Policy, raw: &'a [RawCase]) -> Result<Vec<Case<'a>>, TableError> {
    let mut cases = Vec::with_capacity(raw.len());
    let mut problems = Vec::new();
    for (at, each) in raw.iter().enumerate() {
        if raw.iter().take(at).any(|earlier| earlier.name == each.name) {
            problems.push(format!("case {:?}: the name is used twice", each.name));
        }
        match Case::parse(policy, each) {
            Ok(case) => cases.push(case),
            Err(problem) => problems.push(format!("case {:?}: {problem}", each.name)),
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(TableError::Cases(problems)) }
}

impl<'a> Case<'a> {
    fn parse(policy: &Policy, raw: &'a RawCase) -> Result<Self, String> {
        if let Some(key) = raw.fields.keys().find(|key| !policy.context_keys.contains(key)) {
            return Err(format!("{key:?} is not one of the configured context keys"));
        }
        let case = Self {
            label: &raw.name,
            name: parsed(&raw.principal)?,
            kind: parsed(&raw.kind)?,
            proof: proof(raw.proof.as_deref())?,
            action: parsed(&raw.action)?,
            keyring: raw.keyring.as_deref().map(parsed).transpose()?,
            purpose: raw.purpose.as_deref().map(parsed).transpose()?,
            grant: raw.grant.as_deref().map(parsed).transpose()?,
            pairs: raw.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            now: raw.now.as_ref().map(utc).transpose()?,
            expected: expected(raw.expect, raw.reason.as_deref())?,
        };
        // A case without a time could not say what a policy that looks at it should answer.
        let timed = policy.judge.looks_at_time(&case.query());
        if timed && case.now.is_none() { Err("needs `now`: a policy looks at the time".to_owned()) } else { Ok(case) }
    }

    fn query(&self) -> Query<'_> {
        Query {
            name: &self.name,
            kind: self.kind,
            proof: &self.proof,
            action: self.action,
            keyring: self.keyring.as_ref(),
            pairs: &self.pairs,
            purpose: self.purpose,
            grant: self.grant,
            now: self.now.unwrap_or(Wall(0)),
        }
    }

    fn run(&self, policy: &Policy, decided: &mut BTreeSet<String>) -> Option<CaseFailure> {
        let mut by = Vec::new();
        let found = policy.judge.explain(&self.query(), |id| by.push(id.to_string()));
        decided.extend(by.iter().cloned());
        by.sort_unstable();
        let word = |answer: Result<(), DenialReason>| answer.map_or_else(DenialReason::code, |()| "permit");
        let failed = CaseFailure { name: self.label.to_owned(), expected: word(self.expected), found: word(found), by };
        (found != self.expected).then_some(failed)
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// A UTC date and time such as 2026-01-31T08:00:00Z.
pub fn time_of(text: &str) -> Result<Wall, String> {
    let at = text.parse().map_err(|_| format!("{text:?} is not a UTC date and time such as 2026-01-31T08:00:00Z"))?;
    utc(&at)
}

pub(super) fn proof(text: Option<&str>) -> Result<Proof, String> {
    match text {
        None | Some("peer") => Ok(Proof::Peer { uid: SOME_UID }),
        Some("token") => Ok(Proof::Token),
        Some("mtls") => Ok(Proof::Mtls { spiffe: parsed("spiffe://example.org/some/workload")? }),
        Some("jwt") => Ok(Proof::Jwt { who: JwtSubject { provider: parsed("some")?, subject: "somebody".into() } }),
        Some(other) => Err(format!("{other:?} is not a proof: peer, token, mtls or jwt")),
    }
}

fn expected(expect: Expect, reason: Option<&str>) -> Result<Result<(), DenialReason>, String> {
    match (expect, reason) {
        (Expect::Permit, None) => Ok(Ok(())),
        (Expect::Permit, Some(_)) => Err("a permit has no reason".to_owned()),
        (Expect::Deny, None) => Err("a denial needs its reason".to_owned()),
        (Expect::Deny, Some(code)) => {
            let known = DenialReason::ALL.iter().copied().find(|reason| reason.code() == code);
            Ok(Err(known.ok_or_else(|| format!("{code:?} is not a reason"))?))
        }
    }
}

fn utc(at: &Datetime) -> Result<Wall, String> {
    let (Some(date), Some(time), Some(Offset::Z)) = (at.date, at.time, at.offset) else {
        return Err("the time must be a UTC date and time such as 2026-01-31T08:00:00Z".to_owned());
    };
    let seconds = u64::from(time.hour) * 3_600 + u64::from(time.minute) * 60 + u64::from(time.second.unwrap_or(0));
    let wall = Wall::from_civil(u64::from(date.year), u64::from(date.month), u64::from(date.day), seconds);
    wall.ok_or_else(|| "the time must not be before 1970".to_owned())
}
