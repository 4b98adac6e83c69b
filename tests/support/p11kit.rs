//! A SoftHSM token behind a Unix socket, served by p11-kit: the token whose connection can be cut. Only mechanisms that
//! p11-kit can serialise pass, of keyward's methods rsa-oaep.

use std::path::PathBuf;
use std::process::Command;

use keyward::kek::pkcs11::Pkcs11Settings;
use keyward::kek::profile::ProfileChoice;

use super::{Daemon, INSTALL, Place, TOKEN_LABEL, library, signal};
use crate::softhsm::{self, Softhsm};

/// A served token.
pub struct P11kit {
    pub place: Place,
    pub behind: Softhsm,
    server: Option<Daemon>,
}

impl P11kit {
    /// A token without a key, and its server.
    pub fn new() -> Self {
        assert!(module().is_file(), "{} is missing: {INSTALL}", module().display());
        let mut token = Self { place: Place::new(), behind: Softhsm::new(), server: None };
        let shipped = include_str!("../../hsm-profiles/softhsm2.toml");
        let remote = shipped.replace("[\"SOFTHSM2_CONF\"]", "[\"P11_KIT_SERVER_ADDRESS\"]");
        std::fs::write(token.place.path("p11kit.toml"), remote).unwrap();
        token.start();
        token
    }

    /// Settings that reach the token through its socket.
    pub fn settings(&self) -> Pkcs11Settings {
        let env = [("P11_KIT_SERVER_ADDRESS", format!("unix:path={}", self.place.text("sock")))];
        Pkcs11Settings {
            profile: ProfileChoice::File(self.place.path("p11kit.toml")),
            module: Some(module()),
            method: Some("rsa-oaep".into()),
            ..self.place.settings("softhsm2", &env)
        }
    }

    /// Starts the server.
    pub fn start(&mut self) {
        let (socket, log) = (self.place.path("sock"), self.place.path("server.log"));
        let env = [("SOFTHSM2_CONF", self.behind.conf().display().to_string())];
        let token = format!("pkcs11:token={TOKEN_LABEL}");
        let arguments = ["server", "-f", "-n", &self.place.text("sock"), "--provider", softhsm::MODULE, &token];
        let mut server = Daemon::start("p11-kit", &arguments, &env, &log);
        server.until(&log, || socket.exists());
        self.server = Some(server);
    }

    /// The server goes, and its connections: the token is away.
    pub fn stop(&mut self) {
        self.cut();
        self.server = None;
        let _there = std::fs::remove_file(self.place.path("sock"));
    }

    /// Cuts every connection: the token dies under its client, the next connection works.
    pub fn cut(&self) {
        self.connections().into_iter().for_each(|process| signal(process, "KILL"));
    }

    /// Signals every connection's process: `STOP` hangs the token, `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        self.connections().into_iter().for_each(|process| signal(process, name));
    }

    /// The server has a process for each connection.
    fn connections(&self) -> Vec<u32> {
        let Some(server) = &self.server else { return Vec::new() };
        let found = Command::new("pgrep").args(["-P", &server.id().to_string()]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for P11kit {
    fn drop(&mut self) {
        // The connections are children of the server, which does not end them.
        self.cut();
    }
}

/// The client's library.
pub fn module() -> PathBuf {
    library("pkcs11/p11-kit-client.so")
}
