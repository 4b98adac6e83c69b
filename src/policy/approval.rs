//! Did a person decide this? A signed text of seven lines becomes a VerifiedDecision here and nowhere else.
//! This module never decides whether a decision counts: that is `quorum`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Wall;
use crate::crypto;
use crate::identity::sshsig::{Presence, SshError, SshKey, SshSignature};
use crate::names::PrincipalName;

use super::roster::Roster;
use super::separation::Separation;

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// To lay it before the others.
    Propose,
    /// Yes.
    Approve,
    /// No, for everybody.
    Deny,
    /// Not any more; the initiator's.
    Withdraw,
    /// What a reviewer says afterwards of a broken glass.
    Review,
}

impl Word {
    /// All words.
    pub const ALL: &[Self] = &[Self::Propose, Self::Approve, Self::Deny, Self::Withdraw, Self::Review];

    /// The word in the text.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Propose => "propose",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Withdraw => "withdraw",
            Self::Review => "review",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is none of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decision: it must be propose, approve, deny, withdraw or review")]
pub struct UnknownWord;

impl FromStr for Word {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|word| word.code() == text).ok_or(UnknownWord)
    }
}

/// What a person signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The id of the ceremony, `[A-Za-z0-9_-]{1,64}`.
    pub ceremony: String,
    /// The digest of the proposal.
    pub digest: [u8; 32],
    /// What is decided.
    pub word: Word,
    /// Who decides.
    pub person: PrincipalName,
    /// A code `[a-z0-9_-]{1,64}`, or `-`.
    pub reason: String,
    /// Until when the text may be used, in seconds since 1970.
    pub expires_s: u64,
}

impl Decision {
    /// Seven lines, each with its end.
    pub fn text(&self) -> String {
        let expires = Wall(self.expires_s.saturating_mul(1_000_000)).rfc3339_millis();
        format!(
            "{HEAD}\n{}\n{}\n{}\n{}\n{}\n{}Z\n",
            self.ceremony,
            hex::encode(self.digest),
            self.word,
            self.person,
            self.reason,
            expires.split('.').next().unwrap_or_default()
        )
    }

    /// Reads the seven lines; only what [`Decision::text`] writes is read.
    pub fn parse(text: &str) -> Result<Self, ApprovalError> {
        let malformed = ApprovalError::Malformed;
        if text.len() > MOST_TEXT {
            return Err(malformed("it is longer than 1 KiB"));
        }
        let lines: Vec<_> = text.split('\n').collect();
        let [HEAD, ceremony, digest, word, person, reason, expires, ""] = lines.as_slice() else {
            return Err(malformed("it is not seven lines of which the first is keyward/decision/v1"));
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(digest, &mut bytes).map_err(|_| malformed("its digest is not 64 hexadecimal digits"))?;
        let decision = Self {
            ceremony: (*ceremony).to_owned(),
            digest: bytes,
            word: word.parse().map_err(|_| malformed("its fourth line is none of the five words"))?,
            person: person.parse().map_err(|_| malformed("its fifth line is not the name of a person"))?,
            reason: (*reason).to_owned(),
            expires_s: seconds(expires).ok_or(malformed("its expiry is not YYYY-MM-DDThh:mm:ssZ"))?,
        };
        if !is_code(ceremony, |byte| byte.is_ascii_alphanumeric()) {
            return Err(malformed("its second line is not the id of a ceremony"));
        }
        if !is_code(reason, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(malformed("its reason is neither a code of [a-z0-9_-] nor -"));
        }
        if decision.text() == text { Ok(decision) } else { Err(malformed("it is not written as decisions are")) }
    }
}

/// A decision whose signature is by a key of the person that it names. Not whether it counts. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedDecision {
    decision: Decision,
    fingerprint: String,
    since: Wall,
    presence: Presence,
}

impl VerifiedDecision {
    const fn mint(decision: Decision, fingerprint: String, since: Wall, presence: Presence) -> Self {
        Self { decision, fingerprint, since, presence }
    }

    /// What was decided.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Who decided.
    pub const fn person(&self) -> &PrincipalName {
        &self.decision.person
    }

    /// With which key.
    pub fn key_fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Since when that key has been on the roster.
    pub const fn credential_since(&self) -> Wall {
        self.since
    }

    /// Whether the key lies in a token that was touched and saw a PIN or a fingerprint.
    pub const fn hardware(&self) -> bool {
        matches!(self.presence, Presence::Token { touched: true, verified: true, .. })
    }

    /// The token's counter; None of a key outside of tokens.
    pub const fn counter(&self) -> Option<u32> {
        match self.presence {
            Presence::Token { counter, .. } => Some(counter),
            Presence::Unknown => None,
        }
    }
}

/// Why a decision is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The text is not a decision: whoever made it makes it anew.
    #[error("not a decision: {0}")]
    Malformed(&'static str),
    /// The signature or its key is not believed.
    #[error("the signature is not believed: {0}")]
    Key(SshError),
    /// Nobody on the roster has the key.
    #[error("nobody on the roster has the key {fingerprint}: sign with a key that is enrolled")]
    UnknownKey {
        /// Of the key.
        fingerprint: String,
    },
    /// Somebody signed in another's name.
    #[error("the text names {claimed} and the key is {holder}'s: everybody signs in their own name")]
    WrongPerson {
        /// Whom the text names.
        claimed: PrincipalName,
        /// Whose key it is.
        holder: PrincipalName,
    },
    /// Two people have the key: whoever keeps the roster must act.
    #[error("the key {fingerprint} stands on the roster more than once, so that it proves nobody: revoke it")]
    SharedKey {
        /// Of the key.
        fingerprint: String,
    },
    /// The key was revoked.
    #[error("the key {fingerprint} of {person} was revoked: what it signed is void")]
    Revoked {
        /// Whose it was.
        person: PrincipalName,
        /// Of the key.
        fingerprint: String,
    },
    /// On the roster, and not a person of the separation file with a role that signs.
    #[error("{person} holds no role that signs: the separation file must say otherwise first")]
    NotActive {
        /// Who.
        person: PrincipalName,
    },
    /// Its time is over.
    #[error("the decision expired: sign a new one")]
    Expired,
    /// It would outlive what it is for.
    #[error("the decision expires more than 7 days from now: sign one that expires sooner")]
    ExpiresTooLate,
    /// A token that nobody touched.
    #[error("the token was not touched: sign again and touch it (a key made with no-touch-required is not believed)")]
    TouchMissing,
    /// A copy of the token, or a signature that was kept back.
    #[error(
        "the counter {seen} of the token {fingerprint} is not above {last}, its last one: it may have been copied; sign again, \
         and if that does not help revoke it"
    )]
    CounterNotRisen {
        /// Of the key.
        fingerprint: String,
        /// Of this signature.
        seen: u32,
        /// Of the one before.
        last: u32,
    },
}

impl ApprovalError {
    /// The closed code for records.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Key(SshError::Namespace { .. }) => "namespace",
            Self::Key(_) => "signature",
            Self::UnknownKey { .. } => "unknown_key",
            Self::WrongPerson { .. } => "wrong_person",
            Self::SharedKey { .. } => "shared_key",
            Self::Revoked { .. } => "revoked",
            Self::NotActive { .. } => "not_active",
            Self::Expired => "expired",
            Self::ExpiresTooLate => "expires_too_late",
            Self::TouchMissing => "touch_missing",
            Self::CounterNotRisen { .. } => "counter_not_risen",
        }
    }
}

/// What a decision is looked at with.
pub struct Desk<'a> {
    /// Who signs.
    pub roster: &'a Roster,
    /// Who may be what.
    pub separation: &'a Separation,
    /// Of the signature: [`namespace`].
    pub namespace: &'a str,
    /// The last counter of the key with this fingerprint. None when a kept decision is verified again: it rose then.
    pub last_counter: &'a dyn Fn(&str) -> Option<u32>,
}

/// Verifies a signed decision, as of now.
pub fn verify(desk: &Desk<'_>, text: &str, armoured: &str, now: Wall) -> Result<VerifiedDecision, ApprovalError> {
    let decision = Decision::parse(text)?;
    let signature = SshSignature::parse(armoured).map_err(ApprovalError::Key)?;
    let since = held(desk.roster, signature.key(), &decision.person)?;
    let presence = signature.verify(desk.namespace, text.as_bytes()).map_err(ApprovalError::Key)?;
    let entry = desk.separation.person(&decision.person);
    if !entry.is_some_and(|person| person.roles.iter().any(|role| role.signs())) {
        return Err(ApprovalError::NotActive { person: decision.person });
    }
    let fingerprint = signature.key().fingerprint();
    present(&fingerprint, presence, (desk.last_counter)(&fingerprint))?;
    in_time(decision.expires_s, now)?;
    Ok(VerifiedDecision::mint(decision, fingerprint, since, presence))
}

/// Whether everybody on a founding roster signed it, each with a key of their own that is on it.
pub fn verify_founding(
    roster: &Roster,
    signatures: &[(PrincipalName, String)],
    namespace: &str,
) -> Result<(), Vec<String>> {
    let digest = roster.digest();
    let mut problems = Vec::new();
    for (person, armoured) in signatures {
        if let Err(error) = founder(roster, &digest, person, armoured, namespace) {
            problems.push(format!("the signature of {person}: {error}"));
        }
    }
    for member in &roster.members {
        if !signatures.iter().any(|(person, _)| *person == member.person) {
            problems.push(format!("{} has not signed the roster", member.person));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What a person signs with each key that is to count as theirs (CER-25): for this store, with the duties that they
/// acknowledged.
pub fn enrolment(store: &str, person: &PrincipalName, acknowledgement: &[u8; 32]) -> String {
    format!("keyward/enrolment/v1\n{store}\n{person}\n{}\n", hex::encode(acknowledgement))
}

/// SHA-256 of the duties that somebody acknowledges.
pub fn duties_digest(text: &str) -> [u8; 32] {
    crypto::sha256(&[text.as_bytes()])
}

/// Whether a key is in the hands of whoever accepted: its own signature over that, in base64 without the armour.
pub fn verify_enrolment(key: &SshKey, proof: &str, text: &str, namespace: &str) -> Result<(), ApprovalError> {
    let wrong = ApprovalError::Key(SshError::Malformed("it is not base64"));
    let blob = STANDARD.decode(proof).map_err(|_| wrong)?;
    let signature = SshSignature::of_blob(&blob).map_err(ApprovalError::Key)?;
    if signature.key() != key {
        return Err(ApprovalError::UnknownKey { fingerprint: signature.key().fingerprint() });
    }
    let presence = signature.verify(namespace, text.as_bytes()).map_err(ApprovalError::Key)?;
    present(&key.fingerprint(), presence, None)
}

/// The namespace of what is signed, so that a rehearsal's signature is none in production.
pub const fn namespace(production: bool) -> &'static str {
    if production { "keyward-ceremony" } else { "keyward-rehearsal" }
}

fn founder(
    roster: &Roster,
    digest: &[u8; 32],
    person: &PrincipalName,
    armoured: &str,
    namespace: &str,
) -> Result<(), ApprovalError> {
    let signature = SshSignature::parse(armoured).map_err(ApprovalError::Key)?;
    held(roster, signature.key(), person)?;
    let statement = Roster::statement(digest, person);
    let presence = signature.verify(namespace, statement.as_bytes()).map_err(ApprovalError::Key)?;
    present(&signature.key().fingerprint(), presence, None)
}

/// Since when the key has been this person's, and nobody else's.
fn held(roster: &Roster, key: &SshKey, person: &PrincipalName) -> Result<Wall, ApprovalError> {
    let mut holders = roster.holders(key);
    let fingerprint = key.fingerprint();
    let Some((member, credential)) = holders.next() else { return Err(ApprovalError::UnknownKey { fingerprint }) };
    if holders.next().is_some() {
        return Err(ApprovalError::SharedKey { fingerprint });
    }
    if member.person != *person {
        return Err(ApprovalError::WrongPerson { claimed: person.clone(), holder: member.person.clone() });
    }
    // Whatever the time of the revocation: a clock that is set back brings no key back.
    match credential.revoked {
        Some(_) => Err(ApprovalError::Revoked { person: person.clone(), fingerprint }),
        None => Ok(credential.enrolled),
    }
}

/// A token is touched, and its counter rises where it has one (WebAuthn level 3, 6.1.1: both zero is none).
fn present(fingerprint: &str, presence: Presence, last: Option<u32>) -> Result<(), ApprovalError> {
    let Presence::Token { touched, counter: seen, .. } = presence else { return Ok(()) };
    if !touched {
        return Err(ApprovalError::TouchMissing);
    }
    match last {
        Some(last) if (seen, last) != (0, 0) && seen <= last => {
            Err(ApprovalError::CounterNotRisen { fingerprint: fingerprint.to_owned(), seen, last })
        }
        _ => Ok(()),
    }
}

fn in_time(expires_s: u64, now: Wall) -> Result<(), ApprovalError> {
    let expires = expires_s.saturating_mul(1_000_000);
    if expires <= now.0 {
        return Err(ApprovalError::Expired);
    }
    if expires - now.0 > LONGEST { Err(ApprovalError::ExpiresTooLate) } else { Ok(()) }
}

/// Seconds of `YYYY-MM-DDThh:mm:ssZ`; whether it is a real date is seen when it is written again.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let numbers: Vec<u64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || day > 31
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    Some(Wall::from_civil(year, month, day, hour * 3_600 + minute * 60 + second)?.0 / 1_000_000)
}

/// 1 to 64 of what is allowed, `_` and `-`.
fn is_code(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let all = text.bytes().all(|byte| allowed(byte) || matches!(byte, b'_' | b'-'));
    (1..=64).contains(&text.len()) && all
}

const HEAD: &str = "keyward/decision/v1";
const MOST_TEXT: usize = 1_024;
/// 7 days, the longest life of a proposal, and 10 minutes for clocks that differ; in microseconds.
const LONGEST: u64 = (7 * 86_400 + 600) * 1_000_000;
