//! A SoftHSM token in a directory of its own, for any test that needs a real PKCS#11 token. Every token has its own
//! configuration file, handed to the worker through the settings, so tests run beside each other in one process.
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes PIN files and moves tokens")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::kek::pkcs11::{PinSource, Pkcs11Settings};
use keyward::kek::profile::ProfileChoice;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const TOKEN_LABEL: &str = "kek-test";
pub const KEY_LABEL: &str = "kek-1";
pub const PIN: &str = "12345678";
const SO_PIN: &str = "87654321";

/// A token; its directory goes when it is dropped.
pub struct Softhsm {
    dir: tempfile::TempDir,
}

impl Softhsm {
    /// An initialised token without a key, and a PIN file with mode 0600.
    pub fn new() -> Self {
        let token = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(token.tokens()).unwrap();
        std::fs::create_dir(token.state()).unwrap();
        let tokens = token.tokens().display().to_string();
        let conf = format!(
            "directories.tokendir = {tokens}\nobjectstore.backend = file\nobjectstore.umask = 0077\nlog.level = ERROR\n"
        );
        std::fs::write(token.conf(), conf).unwrap();
        token.write_pin(PIN, 0o600);
        token.init(TOKEN_LABEL);
        token
    }

    /// One more token with this label beside the first.
    pub fn init(&self, label: &str) {
        let arguments = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN];
        self.run("softhsm2-util", &arguments);
    }

    /// Settings that reach this token with the shipped profile.
    pub fn settings(&self) -> Pkcs11Settings {
        Pkcs11Settings {
            name: "primary".parse().unwrap(),
            profile: ProfileChoice::Shipped("softhsm2".into()),
            module: None,
            reserved: None,
            token_label: TOKEN_LABEL.into(),
            token_serial: None,
            key_label: KEY_LABEL.into(),
            key_version: None,
            method: None,
            pool: None,
            pin: Some(PinSource::File(self.pin())),
            certificate: None,
            store_key_pinned: false,
            worker: PathBuf::from(env!("CARGO_BIN_EXE_keyward")),
            state_dir: self.state(),
            env: vec![("SOFTHSM2_CONF".into(), self.conf().display().to_string())],
        }
    }

    /// Replaces the PIN file.
    pub fn write_pin(&self, pin: &str, mode: u32) {
        let _first_time = std::fs::remove_file(self.pin());
        std::fs::write(self.pin(), format!("{pin}\n")).unwrap();
        std::fs::set_permissions(self.pin(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The token's directory vanishes, as a pulled device does.
    pub fn pull(&self) {
        std::fs::rename(self.tokens(), self.dir.path().join("pulled")).unwrap();
    }

    /// It comes back.
    pub fn plug_in(&self) {
        std::fs::rename(self.dir.path().join("pulled"), self.tokens()).unwrap();
    }

    /// Runs pkcs11-tool, logged in, and gives what it prints.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let login = ["--module", MODULE, "--token-label", TOKEN_LABEL, "--login", "--pin", PIN];
        self.run("pkcs11-tool", &[&login, arguments].concat())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    pub fn pin(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn tokens(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let run = Command::new(program).args(arguments).env("SOFTHSM2_CONF", self.conf()).output();
        let output = match run {
            Ok(output) => output,
            Err(error) => panic!(
                "{program} cannot be run ({error}): these tests need a real PKCS#11 token. \
                 Install the Debian packages softhsm2 and opensc, or run tests/run.sh, which does"
            ),
        };
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?} failed: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
