//! `[[principal]]` becomes who may call.

use crate::identity;
use crate::identity::JwtSubject;
use crate::identity::jwt::{ProviderSettings, is_subject};
use crate::keyring::Environment;

use super::jwt;
use super::problems::Found;
use super::raw::{RawConfig, RawPrincipal, RawSubject};

pub(super) fn callers(
    raw: &RawConfig,
    environment: Option<Environment>,
    found: &mut Found,
) -> Option<identity::Settings> {
    let providers: Vec<Option<ProviderSettings>> =
        raw.jwt.iter().map(|(name, one)| jwt::provider(name, one, found)).collect();
    let raw = &raw.principal;
    if raw.is_empty() {
        found.add("principal", "nobody may call", "add a [[principal]] for the application");
    }
    let mut principals = Vec::with_capacity(raw.len());
    for (index, one) in raw.iter().enumerate() {
        principals.extend(principal(&format!("principal[{index}]"), one, found));
    }
    if environment == Some(Environment::Production) {
        one_account_one_side(&principals, found);
    }
    let jwt = providers.into_iter().collect::<Option<Vec<_>>>()?;
    let settings = identity::Settings { principals, jwt };
    let hint = "give each uid, token, SPIFFE id and subject to one principal, and each issuer to one [jwt.NAME]";
    found.check("principal", identity::Authenticator::new(&settings), hint)?;
    Some(settings)
}

/// Whoever operates keyward in production is not the application: an account that is both could open what it keeps.
fn one_account_one_side(principals: &[identity::KnownPrincipal], found: &mut Found) {
    let is_service = |known: &&identity::KnownPrincipal| identity::Door::of(known.kind) == identity::Door::Data;
    let (services, people): (Vec<_>, Vec<_>) = principals.iter().partition(is_service);
    for (service, person) in services.iter().flat_map(|service| people.iter().map(move |person| (service, person))) {
        if let Some(uid) = service.uids.iter().find(|uid| person.uids.contains(uid)) {
            let message =
                format!("uid {uid} is both the service {} and the {} {}", service.name, person.kind, person.name);
            found.add("principal", message, "run the application and the operators under accounts of their own");
        }
    }
}

fn principal(path: &str, raw: &RawPrincipal, found: &mut Found) -> Option<identity::KnownPrincipal> {
    const KINDS: &str = "write kind = \"service\", \"operator\", \"auditor\" or \"custodian\"";
    let name = found.need(&format!("{path}.name"), raw.name.as_ref(), "name the principal as the policies do");
    let name = name.and_then(|name| found.check(&format!("{path}.name"), name.parse(), ""));
    let kind = found.need(&format!("{path}.kind"), raw.kind.as_ref(), KINDS);
    let kind = kind.and_then(|kind| found.check(&format!("{path}.kind"), kind.parse(), KINDS));
    let mut uids = Vec::new();
    for uid in &raw.uids {
        uids.extend(found.check(&format!("{path}.uids"), u32::try_from(*uid), "a uid is a number from 0"));
    }
    let mut token_sha256 = Vec::new();
    for hash in &raw.token_sha256 {
        let mut bytes = [0; 32];
        let decoded = hex::decode_to_slice(hash, &mut bytes).map(|()| bytes);
        token_sha256.extend(found.check(&format!("{path}.token_sha256"), decoded, "64 hexadecimal digits"));
    }
    let mut spiffe = Vec::new();
    for id in &raw.spiffe {
        spiffe.extend(found.check(
            &format!("{path}.spiffe"),
            id.parse(),
            "as in \"spiffe://example.org/ns/clinic/sa/portal\"",
        ));
    }
    let mut jwt = Vec::new();
    for one in &raw.jwt {
        jwt.extend(subject(&format!("{path}.jwt"), one, found));
    }
    if [raw.uids.is_empty(), raw.token_sha256.is_empty(), raw.spiffe.is_empty(), raw.jwt.is_empty()] == [true; 4] {
        found.add(path, "cannot prove who it is", "give it uids, token_sha256, spiffe or jwt");
    }
    Some(identity::KnownPrincipal { name: name?, kind: kind?, uids, token_sha256, spiffe, jwt })
}

fn subject(path: &str, raw: &RawSubject, found: &mut Found) -> Option<JwtSubject> {
    const SUBJECT: &str = "write subject = \"system:serviceaccount:NAMESPACE:NAME\", as the issuer spells it";
    let name = found.need(&format!("{path}.provider"), raw.provider.as_ref(), "name a [jwt.NAME]");
    let provider = name.and_then(|name| found.check(&format!("{path}.provider"), name.parse(), ""));
    let subject = found.need(&format!("{path}.subject"), raw.subject.as_deref(), SUBJECT);
    if subject.is_some_and(|subject| !is_subject(subject)) {
        found.add(format!("{path}.subject"), "is not 1 to 512 printable characters of ASCII", SUBJECT);
    }
    Some(JwtSubject { provider: provider?, subject: subject?.into() })
}
