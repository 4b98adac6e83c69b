//! What the suites share: a development set-up in a temporary directory, the real binary, requests over its sockets.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes files and waits for processes")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its sidecar must fail")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The real binary.
pub const KEYWARD: &str = env!("CARGO_BIN_EXE_keyward");

/// A development set-up that `keyward init --development` made.
pub struct Setup {
    pub dir: tempfile::TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = keyward(&["init", "--development", &dir.path().join("kw").display().to_string()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("kw")
    }

    pub fn config(&self) -> String {
        self.root().join("keyward.toml").display().to_string()
    }

    pub fn log(&self) -> String {
        self.root().join("state/log").display().to_string()
    }

    /// Every byte of the log's directory.
    pub fn log_bytes(&self) -> Vec<u8> {
        let entries =
            |dir: &Path| std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        let log = PathBuf::from(self.log());
        let files = entries(&log).into_iter().chain(entries(&log.join("wal"))).filter(|path| path.is_file());
        files.map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>().concat()
    }

    pub fn data(&self) -> PathBuf {
        self.root().join("run/data.sock")
    }

    pub fn control(&self) -> PathBuf {
        self.root().join("run/control.sock")
    }

    /// Changes the configuration before a start.
    pub fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), edit(text)).unwrap();
    }

    /// Starts the sidecar and waits until it is ready.
    pub fn serve(&self) -> Serving {
        self.serve_with(Command::new(KEYWARD))
    }

    /// Starts the sidecar under another program (strace, say).
    pub fn serve_with(&self, mut command: Command) -> Serving {
        let errors = std::fs::File::create(self.dir.path().join("stderr")).unwrap();
        let child =
            command.args(["serve", "--config", &self.config()]).stderr(errors).stdout(Stdio::null()).spawn().unwrap();
        let mut serving = Serving { child };
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let listed = keyward(&["keyring", "list", "--config", &self.config()]);
            if listed.status.success() {
                return serving;
            }
            let ended = serving.child.try_wait().unwrap();
            let said = std::fs::read_to_string(self.dir.path().join("stderr")).unwrap();
            assert!(ended.is_none() && Instant::now() < until, "the sidecar is not ready: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A keyring `patients` that requires `resource` and `path`, as documents do.
    pub fn keyring(&self) {
        let made = keyward(&[
            "keyring",
            "create",
            "patients",
            "--require",
            "resource",
            "--require",
            "path",
            "--subject",
            "resource",
            "--config",
            &self.config(),
        ]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A running sidecar; killed when dropped.
pub struct Serving {
    pub child: Child,
}

impl Serving {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs the binary to its end.
pub fn keyward(arguments: &[&str]) -> Output {
    Command::new(KEYWARD).args(arguments).output().unwrap()
}

/// Runs the binary, which must succeed, and gives its standard output.
pub fn keyward_ok(arguments: &[&str]) -> String {
    let done = keyward(arguments);
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// One HTTP request over a Unix socket with a client that is not ours, by hand.
pub fn http(socket: &Path, request: &[u8]) -> (u16, Vec<u8>) {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    parse_http(&answer)
}

/// Status and body of an HTTP/1.1 answer.
pub fn parse_http(answer: &[u8]) -> (u16, Vec<u8>) {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(&[][..], |at| &answer[at + 4..]);
    (status, body.to_vec())
}

/// A JSON POST over a Unix socket.
pub fn post(socket: &Path, path: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = http(socket, request.as_bytes());
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A connection that is kept open for request after request.
pub struct Caller {
    stream: std::io::BufReader<std::os::unix::net::UnixStream>,
}

impl Caller {
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: std::io::BufReader::new(stream) })
    }

    /// One request with this name; an error means that the sidecar went away before the whole answer was here.
    pub fn ask(&mut self, method: &str, path: &str, request: &str, body: &str) -> std::io::Result<(u16, Value)> {
        use std::io::{BufRead, Read, Write};
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-request-id: {request}\r\n");
        let kind = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        self.stream.get_mut().write_all(format!("{head}{kind}{body}").as_bytes())?;
        let (mut status, mut expected, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().to_ascii_lowercase().split_once(' ') {
                Some((version, rest)) if version.starts_with("http/") => status = rest[..3].parse().unwrap(),
                Some(("content-length:", length)) => expected = length.parse().unwrap(),
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; expected];
        self.stream.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}
