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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../examples/keyward.toml");

    /// The example with all of its commented lines about TLS and tokens in force, and one of them changed.
    fn changed(from: &str, to: &str) -> Vec<String> {
        let (tls_at, tls_end) = (EXAMPLE.find("# [listen.tls]").unwrap(), EXAMPLE.find("[limits]").unwrap());
        let (jwt_at, jwt_end) = (EXAMPLE.find("# [jwt.cluster]").unwrap(), EXAMPLE.find("# Everybody who").unwrap());
        let live = |text: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix("# "));
            let settings = |line: &&str| line.starts_with('[') || line.split(' ').nth(1) == Some("=");
            lines.filter(settings).filter(|line| !line.starts_with("jwks_file")).collect::<Vec<_>>().join("\n")
        };
        let text = [
            &EXAMPLE[..tls_at],
            &live(&EXAMPLE[tls_at..tls_end]),
            "\n",
            &EXAMPLE[tls_end..jwt_at],
            &live(&EXAMPLE[jwt_at..jwt_end]),
            "\n",
            &EXAMPLE[jwt_end..].replace("# spiffe = ", "spiffe = ").replace("# jwt = ", "jwt = "),
        ]
        .concat();
        assert!(text.contains(from), "{text}");
        match parse(&text.replace(from, to), Path::new("/usr/bin/keyward")) {
            Ok(_) => Vec::new(),
            Err(found) => found.0.into_iter().map(|one| format!("{} {}", one.path, one.message)).collect(),
        }
    }

    #[test]
    fn the_lines_about_tls_and_tokens_that_the_example_shows_are_good_in_production() {
        assert_eq!(changed("schema = 1", "schema = 1"), Vec::<String>::new());
    }

    #[test]
    fn what_would_weaken_tls_or_tokens_is_refused_by_name() {
        for (from, to, found) in [
            ("algorithms = [\"RS256\"]", "algorithms = [\"HS256\"]", "jwt.cluster.algorithms \"HS256\" is not taken"),
            ("algorithms = [\"RS256\"]", "algorithms = [\"none\"]", "jwt.cluster.algorithms \"none\" is not taken"),
            ("algorithms = [\"RS256\"]", "algorithms = []", "jwt.cluster.algorithms is missing"),
            ("audience = [\"keyward\"]", "audience = []", "jwt.cluster.audience is missing"),
            ("clock_skew = \"30s\"", "clock_skew = \"61s\"", "jwt.cluster.clock_skew is not between 0 s and 60 s"),
            (
                "jwks_url = \"https://kube",
                "jwks_url = \"http://kube",
                "jwt.cluster.jwks_url is plain http to another machine (http is for 127.0.0.1 and [::1])",
            ),
            ("ca_file = \"/var/run", "# ca_file = \"/var/run", "jwt.cluster.ca_file is missing"),
            (
                "provider = \"cluster\"",
                "provider = \"other\"",
                "principal portal has a subject of the provider other, which is not configured",
            ),
            ("control = \"0.0.0.0:8444\"", "control = \"0.0.0.0:8443\"", "listen.tls.control is the address of data"),
            ("trust_domain = \"example.org\"", "", "listen.tls.trust_domain is missing"),
        ] {
            assert_eq!(changed(from, to), [found], "{to}");
        }
        let shared = "uids = [2002]\nspiffe = [\"spiffe://example.org/ns/clinic/sa/portal\"]";
        assert_eq!(changed("uids = [2002]", shared), ["principal portal and ingest claim the same SPIFFE id"]);
    }
}
