//! The soft token of openCryptoki. There is one a machine, in global folders and behind one daemon: whoever has it holds
//! a lock that all test binaries know, and a token that is not the tests' own is left alone.

use std::fs::File;
use std::path::{Path, PathBuf};

use keyward::kek::pkcs11::Pkcs11Settings;
use rustix::fs::{FlockOperation, flock};

use super::{Daemon, INSTALL, PIN, Place, TOKEN_LABEL, library, signal};

/// The machine's token, from scratch; its daemon is stopped when it is dropped.
pub struct Opencryptoki {
    pub place: Place,
    daemon: Option<Daemon>,
    _lock: File,
}

impl Opencryptoki {
    /// An initialised token without a key. Waits for whoever has it.
    pub fn new() -> Self {
        assert!(module().is_file(), "{} is missing: {INSTALL}", module().display());
        let lock = File::create(std::env::temp_dir().join("keyward-opencryptoki.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        claim();
        let mut token = Self { place: Place::new(), daemon: None, _lock: lock };
        token.erase();
        token.start_daemon();
        let officer = token.place.path("officer");
        std::fs::write(&officer, format!("{FACTORY_SO_PIN}\n{TOKEN_LABEL}\n")).unwrap();
        token.conf(&["-I"], Some(&officer));
        // The factory's PIN must be changed before the token can be used.
        token.conf(&["-P", "-S", FACTORY_SO_PIN, "-n", NEW_SO_PIN], None);
        token.conf(&["-u", "-S", NEW_SO_PIN, "-n", PIN], None);
        token
    }

    /// Settings that reach it with the shipped profile.
    pub fn settings(&self) -> Pkcs11Settings {
        self.place.settings("opencryptoki", &[])
    }

    /// Starts the slot daemon.
    pub fn start_daemon(&mut self) {
        let log = self.place.path("pkcsslotd.log");
        let mut daemon = Daemon::start("pkcsslotd", &["-f"], &[], &log);
        daemon.until(&log, || {
            std::process::Command::new("pkcsconf").arg("-s").output().is_ok_and(|o| o.status.success())
        });
        self.daemon = Some(daemon);
    }

    /// Kills it. Processes that run already do not notice; new ones cannot initialise.
    pub fn kill_daemon(&mut self) {
        self.daemon = None;
        let _there = std::fs::remove_file(PID_FILE);
    }

    fn conf(&self, arguments: &[&str], input: Option<&Path>) {
        let mut command = std::process::Command::new("pkcsconf");
        command.args(arguments).args(["-c", SLOT]);
        if let Some(input) = input {
            command.stdin(File::open(input).unwrap());
        }
        let output = command.output().unwrap_or_else(|error| panic!("pkcsconf cannot be run ({error}): {INSTALL}"));
        assert!(output.status.success(), "pkcsconf {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn erase(&self) {
        for entry in std::fs::read_dir(TOKEN_FOLDER).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        let _there = std::fs::remove_file("/dev/shm/var.lib.opencryptoki.swtok");
        let group = |path: &str| self.place.run("install", &["-d", "-m", "0770", "-g", "pkcs11", path], &[]);
        group(&format!("{TOKEN_FOLDER}/TOK_OBJ"));
        group("/run/lock/opencryptoki");
        group("/run/lock/opencryptoki/swtok");
    }
}

impl Drop for Opencryptoki {
    fn drop(&mut self) {
        self.kill_daemon();
    }
}

/// Makes sure that the token may be erased: it is empty, or an earlier test has made it. Ends the daemon of a test that was
/// killed: pkcsslotd changes its group, after which the kernel no longer ends it with its parent.
fn claim() {
    let ours = Path::new(MARKER).exists();
    let used = std::fs::read_dir(TOKEN_FOLDER)
        .unwrap_or_else(|error| panic!("{TOKEN_FOLDER}: {error}: {INSTALL} (openCryptoki's tests run as root)"))
        .any(|entry| entry.is_ok_and(|entry| entry.file_name() != "TOK_OBJ"));
    assert!(
        ours || !used,
        "{TOKEN_FOLDER} holds a token that these tests have not made, and would erase: move it away"
    );
    std::fs::write(MARKER, "keyward's tests erase the token in swtok\n").unwrap();
    let Ok(pid) = std::fs::read_to_string(PID_FILE) else { return };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    if name.trim() == "pkcsslotd" {
        assert!(ours, "pkcsslotd runs as process {} and is not the tests': stop it", pid.trim());
        signal(pid.trim().parse().unwrap(), "KILL");
    }
    let _there = std::fs::remove_file(PID_FILE);
}

/// The library.
pub fn module() -> PathBuf {
    library("pkcs11/libopencryptoki.so")
}

const TOKEN_FOLDER: &str = "/var/lib/opencryptoki/swtok";
const MARKER: &str = "/var/lib/opencryptoki/made-by-keyward-tests";
const PID_FILE: &str = "/run/pkcsslotd.pid";
/// The soft token in the configuration that Debian ships.
const SLOT: &str = "3";
const FACTORY_SO_PIN: &str = "87654321";
const NEW_SO_PIN: &str = "76543210";
