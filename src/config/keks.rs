//! `[kek.primary]` becomes the settings of one key-encryption key.

use std::path::{Path, PathBuf};

use crate::kek::pkcs11::{PinSource, Pkcs11Settings};
use crate::kek::profile::ProfileChoice;
use crate::kek::{self, SoftwareSettings};
use crate::keyring::Environment;

use super::StateDir;
use super::problems::Found;
use super::raw::{RawConfig, RawKek};
use super::sections::{absolute, count};

pub(super) fn primary(
    raw: &RawConfig,
    environment: Option<Environment>,
    state: &StateDir,
    worker: &Path,
    found: &mut Found,
) -> Option<kek::Settings> {
    const KINDS: &str = "write type = \"pkcs11\", \"transit\" or, for development, \"software\"";
    let raw = found.need("kek.primary", raw.kek.primary.as_ref(), "add [kek.primary]: who wraps the data keys?")?;
    match found.need("kek.primary.type", raw.kind.as_deref(), KINDS)? {
        "software" => software(raw, environment, found),
        "pkcs11" => pkcs11(raw, state, worker, found),
        "transit" => super::transit::transit(raw, kek_name(), environment, found),
        _ => {
            found.add("kek.primary.type", "is not a kind of key-encryption key", KINDS);
            None
        }
    }
}

fn software(raw: &RawKek, environment: Option<Environment>, found: &mut Found) -> Option<kek::Settings> {
    if environment == Some(Environment::Production) {
        found.add("kek.primary.type", "a software key is for development", "use a token or a KMS in production");
    }
    if raw.insecure_software_kek_for_development != Some(true) {
        found.add(
            "kek.primary.insecure_software_kek_for_development",
            "must be true for a software key",
            "anybody who copies the file can unwrap every data key: set it only for development",
        );
    }
    strangers(raw, "software", found);
    let file = found.need("kek.primary.file", raw.file.as_ref(), "name the key's file")?;
    let file = absolute("kek.primary.file", file, found);
    Some(kek::Settings::Software(SoftwareSettings {
        name: kek_name(),
        file,
        insecure_software_kek_for_development: raw.insecure_software_kek_for_development == Some(true),
    }))
}

fn pkcs11(raw: &RawKek, state: &StateDir, worker: &Path, found: &mut Found) -> Option<kek::Settings> {
    strangers(raw, "pkcs11", found);
    let profile = found.need("kek.primary.profile", raw.profile.clone(), "name a profile of hsm-profiles/");
    let token =
        found.need("kek.primary.token_label", raw.token_label.clone(), "the label given when the token was made");
    let key = found.need("kek.primary.key_label", raw.key_label.clone(), "the label of the key in the token");
    let module = raw.module.as_ref().map(|path| absolute("kek.primary.module", path, found));
    let version = count("kek.primary.key_version", raw.key_version, 1, found);
    let pool = match raw.sessions {
        Some(sessions) => Some(count("kek.primary.sessions", Some(sessions), 1, found)?),
        None => None,
    };
    let profile = profile.map(choice);
    let wants_pin = profile.as_ref().is_none_or(ProfileChoice::wants_pin);
    let pin = pin(raw, wants_pin, found);
    Some(kek::Settings::Pkcs11(Box::new(Pkcs11Settings {
        name: kek_name(),
        profile: profile?,
        module,
        reserved: raw.reserved.clone(),
        token_label: token?,
        token_serial: raw.token_serial.clone(),
        key_label: key?,
        key_version: version?,
        method: raw.method.clone(),
        pool,
        pin,
        certificate: raw.certificate.clone(),
        store_key_pinned: false,
        worker: worker.to_owned(),
        state_dir: state.latches(),
        env: raw.env.clone().into_iter().collect(),
    })))
}

/// Settings that another type of key-encryption key has.
pub(super) fn strangers(raw: &RawKek, kind: &str, found: &mut Found) {
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
            found.add(format!("kek.primary.{name}"), format!("belongs to type = \"{owner}\""), "remove it");
        }
    }
}

fn pin(raw: &RawKek, wanted: bool, found: &mut Found) -> Option<PinSource> {
    match (&raw.pin_file, raw.pin_fd) {
        (Some(file), None) => Some(PinSource::File(absolute("kek.primary.pin_file", file, found))),
        (None, Some(fd)) => {
            let fd = found.check("kek.primary.pin_fd", i32::try_from(fd), "a descriptor is a small number")?;
            Some(PinSource::Descriptor(fd))
        }
        (None, None) if !wanted => None,
        (None, None) => {
            found.add(
                "kek.primary.pin_file",
                "is missing",
                "name a file with the user PIN, readable by the service alone",
            );
            None
        }
        (Some(_), Some(_)) => {
            found.add("kek.primary.pin_fd", "stands beside pin_file", "give one of them");
            None
        }
    }
}

/// In this version there is one.
#[expect(clippy::expect_used, reason = "the text is a name")]
fn kek_name() -> crate::names::KekName {
    "primary".parse().expect("primary matches [a-z0-9][a-z0-9-]{0,62}")
}

/// A name is a shipped profile, a path is a file.
fn choice(profile: String) -> ProfileChoice {
    if profile.contains('/') { ProfileChoice::File(PathBuf::from(profile)) } else { ProfileChoice::Shipped(profile) }
}
