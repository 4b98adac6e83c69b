//! How does somebody's key stop counting at once? One authorised person is enough to take away; the way back is an
//! enrolment by a ceremony. What the keys had approved counts no more, since every count verifies again.

use crate::audit::Event;
use crate::keyring::documents::{DocumentWrite, Leave, roster_name};
use crate::names::PrincipalName;
use crate::policy::Permit;
use crate::policy::roster::{Revocation, Roster};

use super::super::{Code, Refusal, Service};
use super::Asked;
use super::course::done;
use super::found::check;
use super::view::CustodyAnswer;

impl Service {
    pub(super) async fn revoke(
        &self,
        (person, fingerprint, reason): (&PrincipalName, Option<&str>, &str),
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        if !REASONS.contains(&reason) {
            let why = format!("reason is one of {}", REASONS.join(", "));
            return Err(Refusal::because(Code::MalformedRequest, why));
        }
        let at = self.wall()?;
        let by = permit.principal().clone();
        let revocation = Revocation { at, reason: reason.to_owned(), by };
        let next = without(&custody.roster, person, fingerprint, &revocation)
            .ok_or_else(|| Refusal::because(Code::NoSuchKey, format!("{person} has no such key that still counts")))?;
        check(custody.separation.check_way_back(&next))?;
        let mut facts = vec![
            ("key_reason", reason.to_owned()),
            ("person", person.to_string()),
            ("roster", hex::encode(next.digest())),
        ];
        facts.extend(fingerprint.map(|fingerprint| ("fingerprint", fingerprint.to_owned())));
        let write = DocumentWrite { name: roster_name(next.generation), expect: 0, body: next.canonical() };
        self.write_documents(vec![write], Leave::Permit(permit), (Event::CustodianRevoked, facts), asked).await?;
        Ok(done(person.as_str(), self.show_custody().await))
    }
}

/// Why somebody's keys stop counting.
const REASONS: &[&str] = &["lost-token", "leaving", "for-cause", "role-change", "suspicion"];

/// The next roster, in which these keys count no more; None if there is none of them.
pub(super) fn without(
    roster: &Roster,
    person: &PrincipalName,
    fingerprint: Option<&str>,
    revocation: &Revocation,
) -> Option<Roster> {
    let mut next = next(roster, "revocation");
    let member = next.members.iter_mut().find(|member| member.person == *person)?;
    let mut any = false;
    for held in &mut member.credentials {
        let meant = fingerprint.is_none_or(|wanted| held.key.fingerprint() == wanted);
        if meant && held.revoked.is_none() {
            held.revoked = Some(revocation.clone());
            any = true;
        }
    }
    any.then_some(next)
}

/// The roster after this one, as yet the same.
pub(super) fn next(roster: &Roster, made_by: &str) -> Roster {
    Roster {
        generation: roster.generation.saturating_add(1),
        previous: Some(roster.digest()),
        made_by: made_by.to_owned(),
        ..roster.clone()
    }
}
