//! How does custody begin? Everybody on the first roster signs its digest; one change puts it into the store, and from then
//! on one person changes no keys.

use serde_json::json;

use crate::audit::Event;
use crate::clock::Wall;
use crate::control::custody::{FoundingSignature, NewMember};
use crate::identity::sshsig::SshKey;
use crate::keyring::documents::{DocumentWrite, GENESIS, Leave, SETTINGS, digest, roster_name, separation_name};
use crate::names::PrincipalName;
use crate::policy::Permit;
use crate::policy::approval;
use crate::policy::roster::{Credential, Member, Roster};
use crate::policy::separation::Separation;

use super::super::data::{refused, unavailable};
use super::super::{Code, Refusal, Service};
use super::Asked;
use super::course::done;
use super::desk::settings_body;
use super::view::{CustodyAnswer, DraftView};

/// How long a drafted roster can be signed: the people are in one room, and fetching a token takes a day at most.
const SIGNED_WITHIN: u64 = 24 * 3_600 * 1_000_000;

impl Service {
    /// The roster that these people would be, to be read aloud and signed by each of them.
    pub(super) async fn draft_genesis(&self, members: Vec<NewMember>) -> Result<CustodyAnswer, Refusal> {
        let separation = self.founding_rules()?;
        let now = self.wall()?;
        let members =
            members.into_iter().map(|member| self.member(member, separation, now)).collect::<Result<Vec<_>, _>>()?;
        let roster = self.first_roster(members, separation)?;
        check(separation.check_genesis(&roster))?;
        let keyrings = self.keyrings_there()?;
        Ok(CustodyAnswer::Draft(DraftView::of_roster(&roster, keyrings)))
    }

    /// Puts the first roster into the store.
    pub(super) async fn found(
        &self,
        text: &str,
        signatures: &[FoundingSignature],
        permit: Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let (asker, account) = asked;
        let separation = self.founding_rules()?;
        let malformed = |error: String| Refusal::because(Code::MalformedRequest, error);
        let roster = Roster::parse(text).map_err(|error| malformed(error.to_string()))?;
        self.is_ours(&roster)?;
        check(separation.check_genesis(&roster))?;
        let mut signed: Vec<(PrincipalName, String)> = Vec::new();
        for one in signatures {
            let person = one.person.parse().map_err(|error| malformed(format!("{error}")))?;
            signed.push((person, one.signature.clone()));
        }
        let namespace = approval::namespace(!roster.is_rehearsal());
        approval::verify_founding(&roster, &signed, namespace)
            .map_err(|problems| Refusal::because(Code::NotApproved, problems.join("; ")))?;
        let keyrings = self.keyrings_there()?;
        let authority = self.policy.load().founding(permit).map_err(|denial| refused(&denial, account))?;
        let roster_digest = hex::encode(roster.digest());
        let facts = vec![
            ("authority", authority.code().to_owned()),
            ("keyrings", keyrings.to_string()),
            ("roster", roster_digest),
            ("separation", hex::encode(separation.digest())),
        ];
        let writes = vec![
            DocumentWrite { name: roster_name(1), expect: 0, body: roster.canonical() },
            DocumentWrite {
                name: SETTINGS.to_owned(),
                expect: 0,
                body: settings_body(&self.custody_settings.guarded, "genesis"),
            },
            DocumentWrite { name: GENESIS.to_owned(), expect: 0, body: signed_by(&signed)? },
            DocumentWrite {
                name: separation_name(&separation.digest()),
                expect: 0,
                body: separation.text().to_owned(),
            },
        ];
        let leave = Leave::Authority(&authority);
        self.write_documents(writes, leave, (Event::CustodyFounded, facts), (asker, account)).await?;
        // The set in force is among what was approved.
        self.set_approved_policy(Some(self.policy_digest()));
        Ok(done("genesis", self.show_custody().await))
    }

    fn founding_rules(&self) -> Result<&Separation, Refusal> {
        if self.keyrings.in_custody() == Some(true) {
            return Err(Refusal::because(Code::Conflict, "the custodians have had their genesis: enrol by a ceremony"));
        }
        let missing = "write policies/separation.toml and name it in [custody] separation";
        let separation = self.custody_settings.separation.as_deref();
        separation.ok_or_else(|| Refusal::because(Code::NoCustody, missing))
    }

    fn first_roster(&self, mut members: Vec<Member>, separation: &Separation) -> Result<Roster, Refusal> {
        members.sort_by(|one, other| one.person.cmp(&other.person));
        Ok(Roster {
            store: self.keyrings.store().ok_or(Code::Unavailable)?.to_string(),
            environment: self.custody_settings.environment.name().to_owned(),
            generation: 1,
            previous: None,
            separation: separation.digest(),
            made_by: "genesis".to_owned(),
            members,
        })
    }

    /// Whether a roster that comes back is one that this store could have drafted lately.
    fn is_ours(&self, roster: &Roster) -> Result<(), Refusal> {
        let rules = self.founding_rules()?;
        let expected = self.first_roster(roster.members.clone(), rules)?;
        let now = self.wall()?;
        let lately = |at: Wall| at <= now && now.0 - at.0 <= SIGNED_WITHIN;
        let dated = roster.members.iter().all(|member| {
            let keys = member.credentials.iter().all(|key| lately(key.enrolled) && key.revoked.is_none());
            keys && lately(member.since) && member.recertify_by == recertify_by(rules, member.since)
        });
        if expected == *roster && dated {
            return Ok(());
        }
        Err(Refusal::because(
            Code::NotApproved,
            "this roster was not drafted here within a day, or the separation file has changed since: draft it again",
        ))
    }

    fn member(&self, member: NewMember, rules: &Separation, now: Wall) -> Result<Member, Refusal> {
        let malformed = |why: String| Refusal::because(Code::MalformedRequest, why);
        let NewMember { person, keys, acknowledgement } = member;
        let name: PrincipalName = person.parse().map_err(|error| malformed(format!("{error}")))?;
        if acknowledgement.trim().is_empty() {
            return Err(malformed(format!("{name} has not acknowledged any duties")));
        }
        let read = |line: &String| {
            let key = SshKey::parse(line).map_err(|error| malformed(format!("a key of {name}: {error}")))?;
            Ok(Credential { key, enrolled: now, revoked: None })
        };
        let credentials = keys.iter().map(read).collect::<Result<Vec<_>, Refusal>>()?;
        Ok(Member {
            person: name,
            since: now,
            recertify_by: recertify_by(rules, now),
            acknowledgement: digest(&[&acknowledgement]),
            credentials,
        })
    }

    /// The time by which custody counts.
    pub(super) fn wall(&self) -> Result<Wall, Refusal> {
        self.keyrings.time().map(|time| time.wall).ok_or_else(|| Code::Unavailable.into())
    }

    fn keyrings_there(&self) -> Result<usize, Refusal> {
        self.keyrings.count().map_err(|error| unavailable(&error))
    }
}

/// When somebody who is confirmed now has to be confirmed again.
pub(super) fn recertify_by(rules: &Separation, since: Wall) -> Wall {
    Wall(since.0.saturating_add(u64::try_from(rules.recertify_every().as_micros()).unwrap_or(u64::MAX)))
}

/// The founding signatures, for whoever verifies minutes.
fn signed_by(signed: &[(PrincipalName, String)]) -> Result<String, Refusal> {
    let all: Vec<_> = signed
        .iter()
        .map(|(person, signature)| json!({ "person": person.to_string(), "signature": signature }))
        .collect();
    serde_json::to_string(&all).map_err(|_| Code::Internal.into())
}

/// All problems at once.
pub(super) fn check(problems: Vec<String>) -> Result<(), Refusal> {
    if problems.is_empty() { Ok(()) } else { Err(Refusal::because(Code::Separation, problems.join("; "))) }
}
