//! The shim (examples/p11-shim) before a Kryoptic token: rules of products that cannot be had here, and faults on command.
//! The library is linked into the token's own directory, where it finds its settings, so that any profile works with it
//! as it is shipped.

use std::fs::File;
use std::path::{Path, PathBuf};

use keyward::kek::pkcs11::Pkcs11Settings;
use rustix::fs::{FlockOperation, flock};

use super::kryoptic::{self, Kryoptic};

/// A token behind the shim.
pub struct Shimmed {
    pub behind: Kryoptic,
}

impl Shimmed {
    /// A token without a key behind a shim with these quirks (see examples/p11-shim/quirks.rs).
    pub fn new(quirks: &str, mechanisms: &str) -> Self {
        Self::before(Kryoptic::new(), &[("P11SHIM_QUIRKS", quirks), ("P11SHIM_MECHANISMS", mechanisms)])
    }

    /// The shim with these settings before a token.
    pub fn before(behind: Kryoptic, more: &[(&str, &str)]) -> Self {
        let token = Self { behind };
        let built = built();
        assert!(built.is_file(), "{} is missing: cargo build --features faults --examples", built.display());
        if std::fs::hard_link(&built, token.module()).is_err() {
            std::fs::copy(&built, token.module()).unwrap();
        }
        let place = &token.behind.place;
        let [(name, value)] = token.behind.env();
        let module = kryoptic::module().display().to_string();
        let (faults, log) = (place.text("faults"), place.text("calls.log"));
        let own = [(name, &*value), ("P11SHIM_MODULE", &module), ("P11SHIM_FAULTS", &faults), ("P11SHIM_LOG", &log)];
        let lines: Vec<String> = own.iter().chain(more).map(|(name, value)| format!("{name}={value}")).collect();
        std::fs::write(place.path("shim.env"), lines.join("\n")).unwrap();
        token
    }

    /// The library to load.
    pub fn module(&self) -> PathBuf {
        self.behind.place.path("libp11_shim.so")
    }

    /// Settings that reach the token through the shim, with a shipped profile.
    pub fn settings(&self, profile: &str) -> Pkcs11Settings {
        Pkcs11Settings { module: Some(self.module()), ..self.behind.place.settings(profile, &[]) }
    }

    /// Replaces the rules of faults (see examples/p11-shim/faults.rs).
    pub fn faults(&self, rules: &[&str]) {
        let _locked = self.lock();
        std::fs::write(self.behind.place.path("faults"), rules.join("\n")).unwrap();
    }

    /// The rules that are left.
    pub fn faults_left(&self) -> Vec<String> {
        let _locked = self.lock();
        let text = std::fs::read_to_string(self.behind.place.path("faults")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How many calls of a function there were, by any process.
    pub fn calls(&self, function: &str) -> usize {
        self.log().iter().filter(|line| line.split(' ').next() == Some(function)).count()
    }

    /// `FUNCTION CODE` of every call.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.behind.place.path("calls.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The lock that the shim takes when it counts.
    fn lock(&self) -> File {
        let lock = std::fs::OpenOptions::new().create(true).append(true).open(self.behind.place.path("faults.lock"));
        let lock = lock.unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        lock
    }
}

/// Where cargo puts the example.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_keyward")).with_file_name("examples").join("libp11_shim.so")
}
