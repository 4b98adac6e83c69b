//! The software token of NSS, in a directory of its own. It is told where by C_Initialize's reserved string.

use std::path::PathBuf;

use keyward::kek::pkcs11::Pkcs11Settings;

use super::{INSTALL, PIN, Place, library};

/// A token; its directory goes when it is dropped.
pub struct Nss {
    pub place: Place,
}

impl Nss {
    /// An initialised token without a key.
    pub fn new() -> Self {
        assert!(module().is_file(), "{} is missing: {INSTALL}", module().display());
        let token = Self { place: Place::new() };
        std::fs::create_dir(token.place.path("db")).unwrap();
        std::fs::write(token.place.path("password"), PIN).unwrap();
        let (db, password) = (token.place.text("db"), token.place.text("password"));
        token.place.run("certutil", &["-N", "-d", &format!("sql:{db}"), "-f", &password], &[]);
        token
    }

    /// Settings that reach this token.
    pub fn settings(&self) -> Pkcs11Settings {
        Pkcs11Settings {
            reserved: Some(format!("configdir='sql:{}'", self.place.text("db"))),
            token_label: LABEL.into(),
            ..self.place.settings("nss", &[])
        }
    }

    /// The token's directory vanishes.
    pub fn pull(&self) {
        std::fs::rename(self.place.path("db"), self.place.path("pulled")).unwrap();
    }

    /// It comes back.
    pub fn plug_in(&self) {
        std::fs::rename(self.place.path("pulled"), self.place.path("db")).unwrap();
    }
}

/// The library.
pub fn module() -> PathBuf {
    library("libsoftokn3.so")
}

/// NSS gives its token this label, always.
pub const LABEL: &str = "NSS Certificate DB";
