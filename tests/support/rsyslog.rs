//! A real rsyslog that listens for TLS (RFC 5425) and writes each message as it came.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator of a collector")]
#![allow(clippy::unwrap_used, reason = "a test without its collector must fail")]

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::authority::Authority;

/// One collector; ended when dropped.
pub struct Rsyslog {
    dir: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
}

impl Rsyslog {
    /// Makes its configuration; `callers` is who vouches for clients, None takes all.
    pub fn new(authority: &Authority, callers: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = authority.server();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(at("state")).unwrap();
        let text = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"128k\" parser.escapeControlCharactersOnReceive=\"off\"\n\
             defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{}\"\n\
             defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"{}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"raw\")\n",
            at("state"),
            authority.certificate().display(),
            server.certificate.display(),
            server.key.display(),
            if callers { "x509/certvalid" } else { "anon" },
            at("messages"),
        );
        std::fs::write(at("rsyslog.conf"), text).unwrap();
        Self { dir, port, process: None }
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(at("rsyslog.conf")).arg("-i").arg(at("pid"));
        let errors = std::fs::File::create(at("errors")).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(errors).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = std::fs::read_to_string(at("errors")).unwrap();
            assert!(Instant::now() < until, "rsyslog does not listen: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ended = process.kill();
            let _reaped = process.wait();
        }
    }

    /// What it has written.
    pub fn messages(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("messages")
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.kill();
    }
}
