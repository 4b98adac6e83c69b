//! A TPM token: the software TPM swtpm behind the resource manager tpm2-abrmd on a message bus of its own. Without the
//! resource manager, a client that is killed leaves its objects in the TPM and the next one cannot work.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use keyward::kek::pkcs11::Pkcs11Settings;

use super::{
    Daemon, INSTALL, KEY_LABEL, PIN, Place, SECOND_KEY_LABEL, SO_PIN, TOKEN_LABEL, copy_folder, free_ports, library,
};

/// A token with the key pairs [`KEY_LABEL`] and [`SECOND_KEY_LABEL`], each with its MAC key; its processes end when it is
/// dropped.
pub struct Tpm2 {
    pub place: Place,
    // In the order in which they must end.
    manager: Option<Daemon>,
    bus: Option<Daemon>,
    tpm: Option<Daemon>,
}

impl Tpm2 {
    /// A TPM of its own with its keys: a copy of one that is made once a process, since making keys takes seconds.
    pub fn new() -> Self {
        static MADE: OnceLock<Place> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let mut token = Self::empty(Place::new());
            token.make_keys();
            token.manager = None;
            token.bus = None;
            // The state is written by then: an orderly end leaves it whole.
            token.tpm.take().unwrap().stop();
            token.place
        });
        let place = Place::new();
        copy_folder(&made.path("tpm"), &place.path("tpm"));
        copy_folder(&made.path("store"), &place.path("store"));
        let mut token = Self { place, manager: None, bus: None, tpm: None };
        token.start();
        token
    }

    /// Settings that reach this token with the shipped profile.
    pub fn settings(&self) -> Pkcs11Settings {
        self.place.settings("tpm2-pkcs11", &self.env())
    }

    /// What the library and the tools read.
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("TPM2_PKCS11_STORE", self.place.text("store")),
            ("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session".into()),
            ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", self.place.text("bus"))),
            ("TSS2_LOG", "all+NONE".into()),
        ]
    }

    /// Ends the resource manager and the TPM: the token is away.
    pub fn stop(&mut self) {
        self.manager = None;
        self.bus = None;
        self.tpm = None;
        let _there = std::fs::remove_file(self.place.path("bus"));
    }

    /// Starts them (again), with the state that is there.
    pub fn start(&mut self) {
        let port = free_ports();
        let at = |port: u16| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
        let state = format!("dir={}", self.place.text("tpm"));
        let (server, control) = (at(port), at(port + 1));
        let log = self.place.path("swtpm.log");
        let arguments = ["socket", "--tpm2", "--tpmstate", &state, "--server", &server, "--ctrl", &control];
        let ready = ["--flags", "not-need-init,startup-clear"];
        let mut tpm = Daemon::start("swtpm", &[&arguments[..], &ready].concat(), &[], &log);
        tpm.until(&log, || listens(port) && listens(port + 1));
        self.tpm = Some(tpm);
        let (bus_log, socket) = (self.place.path("bus.log"), self.place.path("bus"));
        let address = format!("--address=unix:path={}", self.place.text("bus"));
        let mut bus = Daemon::start("dbus-daemon", &["--session", &address, "--nopidfile", "--nofork"], &[], &bus_log);
        bus.until(&bus_log, || socket.exists());
        self.bus = Some(bus);
        let tcti = format!("--tcti=swtpm:host=127.0.0.1,port={port}");
        let limits = ["--max-transients=27", "--max-connections=27"];
        let manager_log = self.place.path("abrmd.log");
        let arguments = [&["--session", "--allow-root", &tcti], &limits[..]].concat();
        let mut manager = Daemon::start("tpm2-abrmd", &arguments, &self.env(), &manager_log);
        manager.until(&manager_log, || self.answers());
        self.manager = Some(manager);
    }

    fn empty(place: Place) -> Self {
        assert!(module().is_file(), "{} is missing: {INSTALL}", module().display());
        for folder in ["tpm", "store"] {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        let mut token = Self { place, manager: None, bus: None, tpm: None };
        token.start();
        token
    }

    fn make_keys(&self) {
        self.ptool(&["init"]);
        self.ptool(&["addtoken", "--pid=1", "--sopin", SO_PIN, "--userpin", PIN, "--label", TOKEN_LABEL]);
        for label in [KEY_LABEL, SECOND_KEY_LABEL] {
            self.add_key(label, "rsa2048");
            self.add_key(&format!("{label}.mac"), "hmac:sha256");
        }
    }

    /// Makes a key with the vendor's tool.
    pub fn add_key(&self, label: &str, algorithm: &str) {
        self.ptool(&[
            "addkey",
            "--algorithm",
            algorithm,
            "--label",
            TOKEN_LABEL,
            "--key-label",
            label,
            "--userpin",
            PIN,
        ]);
    }

    fn ptool(&self, arguments: &[&str]) {
        self.place.run("tpm2_ptool", arguments, &self.tool_env());
    }

    fn tool_env(&self) -> Vec<(&'static str, String)> {
        let mut env = self.env().to_vec();
        env.push(("TPM2TOOLS_TCTI", "tabrmd:bus_type=session".into()));
        env
    }

    fn answers(&self) -> bool {
        let mut asked = std::process::Command::new("tpm2_getcap");
        asked.arg("properties-fixed").envs(self.tool_env());
        asked.output().is_ok_and(|output| output.status.success())
    }
}

/// Whether somebody listens on the port, without connecting: swtpm serves one connection at a time.
fn listens(port: u16) -> bool {
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string(Path::new("/proc/net/tcp")).unwrap();
    let listening = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|at| at.ends_with(&local)) && words.nth(1) == Some("0A")
    };
    table.lines().any(listening)
}

/// The library.
pub fn module() -> PathBuf {
    library("pkcs11/libtpm2_pkcs11.so")
}
