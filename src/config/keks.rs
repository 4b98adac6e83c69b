//! `[kek.NAME]` becomes the settings of a key-encryption key, and `[keyring]` says which one wraps and which one stands by.

use std::path::{Path, PathBuf};

use crate::kek::pkcs11::{PinSource, Pkcs11Settings};
use crate::kek::profile::ProfileChoice;
use crate::kek::{self, SoftwareSettings};
use crate::keyring::Environment;
use crate::names::KekName;

use super::problems::Found;
use super::raw::{RawConfig, RawKek};
use super::sections::{absolute, count};
use super::{Keks, StateDir};

/// What every `[kek.NAME]` is read against.
pub(super) struct Place<'a> {
    pub(super) environment: Option<Environment>,
    pub(super) state: &'a StateDir,
    pub(super) worker: &'a Path,
    /// Whether the configuration says which store key is the right one.
    pub(super) store_key_pinned: bool,
}

/// Every configured key-encryption key, and which of them are used.
pub(super) fn keks(raw: &RawConfig, place: &Place<'_>, found: &mut Found) -> Option<Keks> {
    if raw.kek.is_empty() {
        found.add("kek", "is missing", "add [kek.primary]: who wraps the data keys?");
        return None;
    }
    let mut read = Vec::with_capacity(raw.kek.len());
    for (name, raw) in &raw.kek {
        let path = format!("kek.{name}");
        let name = found.check::<KekName, _>(&path, name.parse(), "lower-case letters, digits and hyphens");
        // Read whatever the name is: all problems at once.
        let unnamed = "unnamed".parse().ok();
        if let Some(settings) = name.clone().or(unnamed).map(|name| one(&path, &name, raw, place, found)) {
            read.extend(name.zip(settings));
        }
    }
    let Roles { primary, escrow, retiring } = roles(raw, found)?;
    let take = |wanted: &str| read.iter().find(|(name, _)| name.as_str() == wanted).map(|(_, one)| one.clone());
    let keks = Keks {
        primary: take(primary)?,
        escrow: match escrow {
            Some(name) => Some(take(name)?),
            None => None,
        },
        retiring: retiring.into_iter().map(take).collect::<Option<_>>()?,
    };
    independent(&keks, found);
    Some(keks)
}

/// Which of the configured ones does what.
struct Roles<'a> {
    primary: &'a str,
    escrow: Option<&'a str>,
    retiring: Vec<&'a str>,
}

/// Which of the configured ones wraps, which one wraps beside it, and which ones only open. One that is named by nobody
/// would be an escrow that its operator believes in and that holds no wrap.
fn roles<'a>(raw: &'a RawConfig, found: &mut Found) -> Option<Roles<'a>> {
    let mut named = |path: &str, name: Option<&String>| -> Option<&'a str> {
        let name = name?;
        let known = raw.kek.keys().find(|known| *known == name).map(String::as_str);
        if known.is_none() {
            found.add(path, format!("there is no [kek.{name}]"), format!("name one of {}", listed(raw)));
        }
        known
    };
    let primary = named("keyring.primary", raw.keyring.primary.as_ref());
    let escrow = named("keyring.escrow", raw.keyring.escrow.as_ref());
    let retiring: Vec<&str> =
        raw.keyring.retiring.iter().filter_map(|name| named("keyring.retiring", Some(name))).collect();
    let primary = match (primary, &raw.keyring.primary) {
        (None, None) if raw.kek.len() == 1 => raw.kek.keys().next().map(String::as_str),
        (None, None) => {
            let hint = format!("write primary = \"NAME\" in [keyring]: one of {}", listed(raw));
            found.add("keyring.primary", "is missing, and there is more than one key-encryption key", hint);
            None
        }
        (named, _) => named,
    }?;
    if escrow == Some(primary) {
        found.add("keyring.escrow", "is the primary too", "an escrow is another key, in another token or KMS");
        return None;
    }
    for (at, name) in retiring.iter().enumerate() {
        if *name == primary || Some(*name) == escrow || retiring.iter().take(at).any(|before| before == name) {
            found.add("keyring.retiring", format!("{name} is named twice"), "one that retires wraps nothing any more");
            return None;
        }
    }
    let named = |name: &str| name == primary || Some(name) == escrow || retiring.contains(&name);
    for unused in raw.kek.keys().filter(|name| !named(name)) {
        let hint = "name it in [keyring] as primary or escrow, or remove it: it wraps nothing as it is";
        found.add(format!("kek.{unused}"), "is used by nothing", hint);
    }
    Some(Roles { primary, escrow, retiring })
}

fn listed(raw: &RawConfig) -> String {
    raw.kek.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Two names of one key are no second wrap, and what one of them reads the other cannot read again.
fn independent(keks: &Keks, found: &mut Found) {
    if let Some(escrow) = keks.escrow.as_ref().filter(|escrow| keks.primary.same_key(escrow)) {
        let message = format!("is the same key as kek.{}", keks.primary.name());
        found.add(format!("kek.{}", escrow.name()), message, "an escrow is another key, in another token or KMS");
    }
    let descriptor = |settings: &kek::Settings| match settings {
        kek::Settings::Pkcs11(token) => match token.pin {
            Some(PinSource::Descriptor(fd)) => Some(fd),
            _ => None,
        },
        kek::Settings::Software(_) | kek::Settings::Transit(_) => None,
    };
    for (at, one) in keks.iter().enumerate() {
        let taken =
            keks.iter().take(at).find(|before| descriptor(one).is_some() && descriptor(before) == descriptor(one));
        if let Some(before) = taken {
            let message = format!("is the descriptor of kek.{} too, and can be read once", before.name());
            found.add(format!("kek.{}.pin_fd", one.name()), message, "pass each PIN in a descriptor of its own");
        }
    }
}

/// One table with its name and its path in the file.
fn one(path: &str, name: &KekName, raw: &RawKek, place: &Place<'_>, found: &mut Found) -> Option<kek::Settings> {
    const KINDS: &str = "write type = \"pkcs11\", \"transit\" or, for development, \"software\"";
    match found.need(&format!("{path}.type"), raw.kind.as_deref(), KINDS)? {
        "software" => software(path, name, raw, place.environment, found),
        "pkcs11" => pkcs11(path, name, raw, place, found),
        "transit" => super::transit::transit(path, name, raw, place.environment, found),
        _ => {
            found.add(format!("{path}.type"), "is not a kind of key-encryption key", KINDS);
            None
        }
    }
}

fn software(
    path: &str,
    name: &KekName,
    raw: &RawKek,
    environment: Option<Environment>,
    found: &mut Found,
) -> Option<kek::Settings> {
    if environment == Some(Environment::Production) {
        found.add(format!("{path}.type"), "a software key is for development", "use a token or a KMS in production");
    }
    if raw.insecure_software_kek_for_development != Some(true) {
        found.add(
            format!("{path}.insecure_software_kek_for_development"),
            "must be true for a software key",
            "anybody who copies the file can unwrap every data key: set it only for development",
        );
    }
    strangers(path, raw, "software", found);
    let file = found.need(&format!("{path}.file"), raw.file.as_ref(), "name the key's file")?;
    let file = absolute(&format!("{path}.file"), file, found);
    Some(kek::Settings::Software(SoftwareSettings {
        name: name.clone(),
        file,
        insecure_software_kek_for_development: raw.insecure_software_kek_for_development == Some(true),
    }))
}

fn pkcs11(path: &str, name: &KekName, raw: &RawKek, place: &Place<'_>, found: &mut Found) -> Option<kek::Settings> {
    strangers(path, raw, "pkcs11", found);
    let profile = found.need(&format!("{path}.profile"), raw.profile.clone(), "name a profile of hsm-profiles/");
    let token =
        found.need(&format!("{path}.token_label"), raw.token_label.clone(), "the label given when the token was made");
    let key = found.need(&format!("{path}.key_label"), raw.key_label.clone(), "the label of the key in the token");
    let module = raw.module.as_ref().map(|file| absolute(&format!("{path}.module"), file, found));
    let version = match raw.key_version {
        Some(version) => Some(count(&format!("{path}.key_version"), Some(version), 1, found)?),
        None => None,
    };
    let pool = match raw.sessions {
        Some(sessions) => Some(count(&format!("{path}.sessions"), Some(sessions), 1, found)?),
        None => None,
    };
    let profile = profile.map(choice);
    let wants_pin = profile.as_ref().is_none_or(ProfileChoice::wants_pin);
    let pin = pin(path, raw, wants_pin, found);
    Some(kek::Settings::Pkcs11(Box::new(Pkcs11Settings {
        name: name.clone(),
        profile: profile?,
        module,
        reserved: raw.reserved.clone(),
        token_label: token?,
        token_serial: raw.token_serial.clone(),
        key_label: key?,
        key_version: version,
        method: raw.method.clone(),
        pool,
        pin,
        certificate: raw.certificate.clone(),
        store_key_pinned: place.store_key_pinned,
        worker: place.worker.to_owned(),
        state_dir: place.state.latches(),
        env: raw.env.clone().into_iter().collect(),
    })))
}

/// Settings that another type of key-encryption key has.
pub(super) fn strangers(path: &str, raw: &RawKek, kind: &str, found: &mut Found) {
    let owned: [(&str, &[(&str, bool)]); 3] = [
        (
            "software",
            &[
                ("file", raw.file.is_some()),
                ("insecure_software_kek_for_development", raw.insecure_software_kek_for_development.is_some()),
            ],
        ),
        (
            "pkcs11",
            &[
                ("profile", raw.profile.is_some()),
                ("module", raw.module.is_some()),
                ("reserved", raw.reserved.is_some()),
                ("token_label", raw.token_label.is_some()),
                ("token_serial", raw.token_serial.is_some()),
                ("method", raw.method.is_some()),
                ("sessions", raw.sessions.is_some()),
                ("certificate", raw.certificate.is_some()),
                ("key_label", raw.key_label.is_some()),
                ("key_version", raw.key_version.is_some() && kind == "transit"),
                ("pin_file", raw.pin_file.is_some()),
                ("pin_fd", raw.pin_fd.is_some()),
                ("env", !raw.env.is_empty()),
            ],
        ),
        (
            "transit",
            &[
                ("address", raw.address.is_some()),
                ("mount", raw.mount.is_some()),
                ("key", raw.key.is_some()),
                ("namespace", raw.namespace.is_some()),
                ("ca_file", raw.ca_file.is_some()),
                ("auth", raw.auth.is_some()),
                ("auth_mount", raw.auth_mount.is_some()),
                ("token_file", raw.token_file.is_some()),
                ("role_id", raw.role_id.is_some()),
                ("secret_id_file", raw.secret_id_file.is_some()),
                ("role", raw.role.is_some()),
                ("jwt_file", raw.jwt_file.is_some()),
            ],
        ),
    ];
    for (owner, names) in owned.iter().filter(|(owner, _)| *owner != kind) {
        for (name, _) in names.iter().filter(|(_, given)| *given) {
            found.add(format!("{path}.{name}"), format!("belongs to type = \"{owner}\""), "remove it");
        }
    }
}

fn pin(path: &str, raw: &RawKek, wanted: bool, found: &mut Found) -> Option<PinSource> {
    match (&raw.pin_file, raw.pin_fd) {
        (Some(file), None) => Some(PinSource::File(absolute(&format!("{path}.pin_file"), file, found))),
        (None, Some(fd)) => {
            let fd = found.check(&format!("{path}.pin_fd"), i32::try_from(fd), "a descriptor is a small number")?;
            Some(PinSource::Descriptor(fd))
        }
        (None, None) if !wanted => None,
        (None, None) => {
            found.add(
                format!("{path}.pin_file"),
                "is missing",
                "name a file with the user PIN, readable by the service alone",
            );
            None
        }
        (Some(_), Some(_)) => {
            found.add(format!("{path}.pin_fd"), "stands beside pin_file", "give one of them");
            None
        }
    }
}

/// A name is a shipped profile, a path is a file.
fn choice(profile: String) -> ProfileChoice {
    if profile.contains('/') { ProfileChoice::File(PathBuf::from(profile)) } else { ProfileChoice::Shipped(profile) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../examples/keyward.toml");

    /// The example with its [keyring] replaced; the names of the KEKs in their order, or what is wrong.
    fn keks(keyring: &str) -> Result<Vec<String>, Vec<(String, String)>> {
        let (start, end) = (EXAMPLE.find("[keyring]").unwrap(), EXAMPLE.find("[policy]").unwrap());
        let text = format!("{}[keyring]\n{keyring}\n{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        match parse(&text, Path::new("/usr/bin/keyward")) {
            Ok(config) => Ok(config.keks.iter().map(|settings| settings.name().to_string()).collect()),
            Err(found) => Err(found.0.into_iter().map(|problem| (problem.path, problem.message)).collect()),
        }
    }

    #[test]
    fn one_that_retires_is_named_once_and_for_nothing_else() {
        let retiring = |names: &str| keks(&format!("primary = \"primary\"\nretiring = [{names}]"));
        assert_eq!(retiring("\"backup\"").unwrap(), ["primary", "backup"]);
        let wrong = |message: &str| Err(vec![("keyring.retiring".to_owned(), message.to_owned())]);
        assert_eq!(retiring("\"backup\", \"backup\""), wrong("backup is named twice"));
        assert_eq!(retiring("\"backup\", \"primary\""), wrong("primary is named twice"));
        assert_eq!(
            keks("primary = \"primary\"\nescrow = \"backup\"\nretiring = [\"backup\"]"),
            wrong("backup is named twice")
        );
        let unknown = retiring("\"bakcup\"").unwrap_err();
        assert!(unknown.contains(&("keyring.retiring".to_owned(), "there is no [kek.bakcup]".to_owned())));
    }

    #[test]
    fn a_version_that_is_not_named_is_left_to_the_token() {
        let text = |version: &str| EXAMPLE.replace("# key_version = 1", version);
        let version = |text: String| match parse(&text, Path::new("/usr/bin/keyward")).unwrap().keks.primary {
            crate::kek::Settings::Pkcs11(token) => token.key_version,
            _ => panic!("the example has a token"),
        };
        assert_eq!(version(text("")), None);
        assert_eq!(version(text("key_version = 3")), Some(3));
        assert!(parse(&text("key_version = 0"), Path::new("/usr/bin/keyward")).is_err());
    }
}
