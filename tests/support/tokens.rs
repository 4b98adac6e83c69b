//! Real PKCS#11 tokens for the tests, one struct a product, each fresh and in a directory of its own where the product
//! allows it. A token that cannot be set up fails its test and says what is missing; none is ever skipped.
#![allow(dead_code, reason = "each test binary takes what it needs")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes files and waits for processes")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]

pub mod kryoptic;
pub mod nss;
pub mod opencryptoki;
pub mod p11kit;
pub mod shim;
pub mod tpm2;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::kek::pkcs11::{PinSource, Pkcs11Settings};
use keyward::kek::profile::ProfileChoice;

pub const TOKEN_LABEL: &str = "kek-test";
pub const KEY_LABEL: &str = "kek-1";
/// A second key in the same token; with the first it fits the label `kek-{version}`.
pub const SECOND_KEY_LABEL: &str = "kek-2";
pub const PIN: &str = "12345678";
pub const SO_PIN: &str = "87654321";

/// A directory with what every token needs: a PIN file and a folder for the login latch. It goes when it is dropped.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A PIN file with mode 0600, an empty state folder.
    pub fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.state()).unwrap();
        place.write_pin(PIN, 0o600);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn pin(&self) -> PathBuf {
        self.path("pin")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Replaces the PIN file.
    pub fn write_pin(&self, pin: &str, mode: u32) {
        let _first_time = std::fs::remove_file(self.pin());
        std::fs::write(self.pin(), format!("{pin}\n")).unwrap();
        std::fs::set_permissions(self.pin(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Settings for a token with a shipped profile and this environment.
    pub fn settings(&self, profile: &str, env: &[(&str, String)]) -> Pkcs11Settings {
        Pkcs11Settings {
            name: "primary".parse().unwrap(),
            profile: ProfileChoice::Shipped(profile.into()),
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
            env: env.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
        }
    }

    /// Runs a program to its end with this environment; it must succeed. Gives what it prints.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str], env: &[(&str, String)]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command.env("PATH", search_path());
        let output = command.output().unwrap_or_else(|error| panic!("{program} cannot be run ({error}): {INSTALL}"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?} failed: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A process that serves a token. Dropping it kills it, and so does the end of the thread that started it.
pub struct Daemon {
    child: Child,
    name: String,
}

impl Daemon {
    /// Starts it in the foreground; what it says goes to `log`.
    pub fn start(program: &str, arguments: &[&str], env: &[(&str, String)], log: &Path) -> Self {
        let said = std::fs::File::create(log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(arguments)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv cannot be run ({error}): {INSTALL}"));
        Self { child, name: program.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn until(&mut self, log: &Path, mut serves: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !serves() {
            let ended = self.child.try_wait().unwrap();
            let said = std::fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none(), "{} ended ({ended:?}): {INSTALL}\n{said}", self.name);
            assert!(Instant::now() < until, "{} does not serve: {said}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to it: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// SIGTERM, and gone when this returns.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let _reaped = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Daemons live where not every user looks.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Sends a signal to a process, which may have ended by itself meanwhile.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).stderr(Stdio::null()).status();
    let _may_be_gone = sent.unwrap();
}

/// Two neighbouring ports that nobody uses now.
pub fn free_ports() -> u16 {
    loop {
        let first = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Copies a folder and what is below it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A library of a Debian package, below the folder of this machine's architecture.
pub fn library(name: &str) -> PathBuf {
    PathBuf::from(format!("/usr/lib/{}-linux-gnu/{name}", std::env::consts::ARCH))
}

/// What to do about a token that cannot be set up.
pub const INSTALL: &str =
    "these tests need real PKCS#11 tokens: run `tests/run.sh packages` as root, which installs them";

/// Longer than any daemon takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
