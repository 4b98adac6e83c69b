//! A Kryoptic token in a directory of its own: the software token that keeps most of PKCS#11 3.

use std::path::{Path, PathBuf};

use keyward::kek::pkcs11::Pkcs11Settings;

use super::{INSTALL, PIN, Place, SO_PIN, TOKEN_LABEL};

/// A token; its directory goes when it is dropped.
pub struct Kryoptic {
    pub place: Place,
}

impl Kryoptic {
    /// An initialised token without a key.
    pub fn new() -> Self {
        Self::with_pin(PIN)
    }

    /// The same with another PIN.
    pub fn with_pin(pin: &str) -> Self {
        assert!(module().is_file(), "{} is missing: {INSTALL}", module().display());
        let token = Self { place: Place::new() };
        token.place.write_pin(pin, 0o600);
        std::fs::create_dir(token.place.path("token")).unwrap();
        let conf = format!(
            "[[slots]]\nslot = 42\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
            token.place.text("token/token.sql")
        );
        std::fs::write(token.place.path("kryoptic.conf"), conf).unwrap();
        let tool = |arguments: &[&str]| {
            token.place.run("pkcs11-tool", &[&["--module", &text(&module())], arguments].concat(), &token.env())
        };
        tool(&["--slot", "42", "--init-token", "--label", TOKEN_LABEL, "--so-pin", SO_PIN]);
        let as_officer = ["--login", "--login-type", "so", "--so-pin", SO_PIN];
        tool(&[&["--token-label", TOKEN_LABEL, "--init-pin", "--pin", pin], &as_officer[..]].concat());
        token
    }

    /// Settings that reach this token with the shipped profile.
    pub fn settings(&self) -> Pkcs11Settings {
        Pkcs11Settings { module: Some(module()), ..self.place.settings("kryoptic", &self.env()) }
    }

    /// What the library reads.
    pub fn env(&self) -> [(&'static str, String); 1] {
        [("KRYOPTIC_CONF", self.place.text("kryoptic.conf"))]
    }

    /// The token's directory vanishes.
    pub fn pull(&self) {
        std::fs::rename(self.place.path("token"), self.place.path("pulled")).unwrap();
    }

    /// It comes back.
    pub fn plug_in(&self) {
        std::fs::rename(self.place.path("pulled"), self.place.path("token")).unwrap();
    }

    /// Runs pkcs11-tool, logged in, and gives what it prints.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let module = text(&module());
        let login = ["--module", &module, "--token-label", TOKEN_LABEL, "--login", "--pin", PIN];
        self.place.run("pkcs11-tool", &[&login, arguments].concat(), &self.env())
    }
}

/// The library that `tests/run.sh` builds from tests/tokens/kryoptic.
pub fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kryoptic/debug/libkryoptic_pkcs11.so")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
