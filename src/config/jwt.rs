//! `[jwt.NAME]` becomes an issuer of tokens and where its keys are.

use std::time::Duration;

use crate::client::{FetchUrl, Trust};
use crate::identity::jwt::{Algorithm, KeySource, ProviderSettings};

use super::problems::Found;
use super::raw::RawJwt;
use super::sections::{absolute, time};

/// How often a URL is asked without a reason.
const REFRESH: Duration = Duration::from_secs(300);
/// How long keys serve while their source is away: over a night and the morning after.
const STALE: Duration = Duration::from_secs(24 * 3600);
const MOST_STALE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Clocks that are kept by NTP differ by milliseconds; a minute hides a broken one and lengthens every token.
const SKEW: Duration = Duration::from_secs(30);
const MOST_SKEW: Duration = Duration::from_secs(60);

pub(super) fn provider(name: &str, raw: &RawJwt, found: &mut Found) -> Option<ProviderSettings> {
    let at = |field: &str| format!("jwt.{name}.{field}");
    let parsed = found.check(&format!("jwt.{name}"), name.parse(), "");
    let issuer = found.need(&at("issuer"), raw.issuer.clone(), "write the `iss` of its tokens, to the letter");
    if raw.audience.is_empty() || raw.audience.iter().any(String::is_empty) {
        let hint = "write audience = [\"keyward\"]: tokens that were made for others are not taken";
        found.add(at("audience"), "is missing", hint);
    }
    let algorithms = algorithms(&at("algorithms"), &raw.algorithms, found);
    let keys = keys(name, raw, found);
    let bounded =
        |field: &str, text: Option<&str>, default: Duration, least: Duration, most: Duration, found: &mut Found| {
            let given = time(&at(field), text, default, found)?;
            if given < least || given > most {
                let bounds = format!("is not between {} s and {} s", least.as_secs(), most.as_secs());
                found.add(at(field), bounds, "");
            }
            Some(given)
        };
    let (least, day) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
    let refresh = bounded("refresh", raw.refresh.as_deref(), REFRESH, least, day, found);
    let stale_for = bounded("stale_for", raw.stale_for.as_deref(), STALE, Duration::ZERO, MOST_STALE, found);
    let skew = bounded("clock_skew", raw.clock_skew.as_deref(), SKEW, Duration::ZERO, MOST_SKEW, found);
    Some(ProviderSettings {
        name: parsed?,
        issuer: issuer?,
        audience: raw.audience.clone(),
        algorithms: algorithms?,
        keys: keys?,
        refresh: refresh?,
        stale_for: stale_for?,
        skew: skew?,
    })
}

fn algorithms(path: &str, given: &[String], found: &mut Found) -> Option<Vec<Algorithm>> {
    const HINT: &str = "write algorithms = [\"ES256\"]; RS256, ES256, ES384 and EdDSA are taken, none and HS256 never";
    if given.is_empty() {
        found.add(path, "is missing", HINT);
    }
    let mut algorithms = Vec::new();
    for name in given {
        match Algorithm::named(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => found.add(path, format!("{name:?} is not taken"), HINT),
        }
    }
    (algorithms.len() == given.len()).then_some(algorithms)
}

fn keys(name: &str, raw: &RawJwt, found: &mut Found) -> Option<KeySource> {
    let at = |field: &str| format!("jwt.{name}.{field}");
    match (&raw.jwks_file, &raw.jwks_url) {
        (Some(file), None) => {
            for (field, given) in [
                ("ca_file", raw.ca_file.is_some()),
                ("token_file", raw.token_file.is_some()),
                ("refresh", raw.refresh.is_some()),
            ] {
                if given {
                    found.add(at(field), "belongs to jwks_url", "remove it");
                }
            }
            Some(KeySource::File(absolute(&at("jwks_file"), file, found)))
        }
        (None, Some(url)) => {
            let hint = "write an https URL, or http to 127.0.0.1 or [::1]";
            let url: FetchUrl = found.check(&at("jwks_url"), url.parse(), hint)?;
            let mut file =
                |field: &str, given: &Option<String>| given.as_ref().map(|file| absolute(&at(field), file, found));
            let (ca_file, token_file) = (file("ca_file", &raw.ca_file), file("token_file", &raw.token_file));
            let hint = "name the PEM file of the authority that vouches for the server; the system's are not asked";
            match (url.is_tls(), ca_file.is_some()) {
                (true, false) => found.add(at("ca_file"), "is missing", hint),
                (false, true) => found.add(at("ca_file"), "has no use without https", "remove it"),
                (true, true) | (false, false) => {}
            }
            Some(KeySource::Url(url, Trust { ca_file, token_file, identity: None }))
        }
        (None, None) => {
            found.add(at("jwks_file"), "is missing", "name the file of the issuer's keys, or their jwks_url");
            None
        }
        (Some(_), Some(_)) => {
            found.add(at("jwks_url"), "stands beside jwks_file", "give one of them");
            None
        }
    }
}
