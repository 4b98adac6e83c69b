//! A real OpenBao server with storage on disk, for any test that needs a transit engine. One server serves a whole test
//! binary; every test has a mount, a key, a policy and a token of its own. Tests that seal or stop one start their own.
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes files and waits for processes")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its server must fail")]
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use keyward::kek::transit::{Auth, TransitSettings};
use serde_json::{Value, json};

/// Where `tests/run.sh packages` puts the binary.
const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/openbao/bao");
pub const KEY: &str = "kek";
/// Ends when the server ends, and ends the server when standard input closes; with its directory, unless a line came.
const LEASHED: &str = "exec 3<&0; \"$0\" server -config \"$1\" </dev/null 3<&- & bao=$!; \
    echo $bao >\"$2\"; \
    (read -r stop <&3; trap '' TERM; kill -9 $bao; [ \"$stop\" ] || rm -rf \"$3\") & leash=$!; \
    wait $bao; kill $leash 2>/dev/null";

/// A server; its process and its directory go with it, or with the test process.
pub struct OpenBao {
    dir: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    cluster_ports: [u16; 2],
    running: Mutex<Option<Running>>,
    root: String,
    unseal: String,
}

/// The shell that holds the server; it kills it when its standard input closes, which the end of this process does too.
struct Running {
    shell: Child,
    leash: Option<ChildStdin>,
}

impl OpenBao {
    /// The server of this test binary.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<OpenBao> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A server of one's own: initialised, unsealed, with the login methods that the tests use.
    pub fn new() -> Self {
        assert!(
            Path::new(BINARY).exists(),
            "{BINARY} is missing: these tests need a real OpenBao server. Run tests/run.sh packages, which installs it"
        );
        let dir = tempfile::tempdir().unwrap();
        make_certificates(dir.path());
        let [port, tls_port, one, two] = free_ports();
        let (root, unseal) = (String::new(), String::new());
        let mut bao = Self { dir, port, tls_port, cluster_ports: [one, two], running: Mutex::new(None), root, unseal };
        bao.write_config();
        bao.start();
        let (status, made) = bao.call("PUT", "sys/init", "", &json!({"secret_shares": 1, "secret_threshold": 1}));
        assert_eq!(status, 200, "{made}");
        bao.root = made["root_token"].as_str().unwrap().to_owned();
        bao.unseal = made["keys_base64"][0].as_str().unwrap().to_owned();
        bao.unseal();
        bao
    }

    fn write_config(&self) {
        let dir = self.dir.path().display();
        let Self { port, tls_port, cluster_ports: [one, two], .. } = self;
        let config = format!(
            "storage \"raft\" {{ path = \"{dir}/data\"\n node_id = \"one\"\n performance_multiplier = 1 }}\n\
             listener \"tcp\" {{ address = \"127.0.0.1:{port}\"\n cluster_address = \"127.0.0.1:{one}\"\n \
             tls_disable = true }}\n\
             listener \"tcp\" {{ address = \"127.0.0.1:{tls_port}\"\n cluster_address = \"127.0.0.1:{two}\"\n \
             tls_cert_file = \"{dir}/server.pem\"\n tls_key_file = \"{dir}/server.key\" }}\n\
             api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"http://127.0.0.1:{one}\"\n"
        );
        std::fs::create_dir(self.dir.path().join("data")).unwrap();
        std::fs::write(self.dir.path().join("server.hcl"), config).unwrap();
    }

    /// Starts the process and waits until it answers; sealed.
    pub fn start(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", LEASHED, BINARY])
            .arg(self.dir.path().join("server.hcl"))
            .arg(self.dir.path().join("pid"))
            .arg(self.dir.path())
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let leash = shell.stdin.take();
        *self.running.lock().unwrap() = Some(Running { shell, leash });
        let until = Instant::now() + Duration::from_secs(60);
        while self.try_call("GET", "sys/seal-status", "", &Value::Null).is_none_or(|(status, _)| status != 200) {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let ended = self.running.lock().unwrap().as_mut().unwrap().shell.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "the server does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process; its storage stays.
    pub fn stop(&self) {
        drop(self.running.lock().unwrap().take());
    }

    /// Sends the process a signal: STOP hangs it, CONT lets it go on.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).unwrap();
        let sent = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap();
        assert!(sent.success());
        // A signal is sent before it bites: what hangs must hang.
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(10);
        while name == "STOP" && !stat().contains(") T ") && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn seal(&self) {
        self.admin("PUT", "sys/seal", &Value::Null);
    }

    /// Unseals and waits until it serves.
    pub fn unseal(&self) {
        let (status, answer) = self.call("PUT", "sys/unseal", "", &json!({"key": self.unseal}));
        assert_eq!(status, 200, "{answer}");
        let until = Instant::now() + Duration::from_secs(60);
        while self.call("GET", "sys/health", "", &Value::Null).0 != 200 {
            assert!(Instant::now() < until, "the server stays sealed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A request with the root token, which must succeed; the whole answer.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, &self.root, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The token that may do everything.
    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        self.try_call(method, path, token, body).expect("the server answers")
    }

    fn try_call(&self, method: &str, path: &str, token: &str, body: &Value) -> Option<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (length, port) = (body.len(), self.port);
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\nx-vault-token: {token}\r\n\
             x-vault-request: true\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        // A chunked body has its lengths around the one line that it is.
        let body = body.lines().find(|line| line.starts_with('{')).unwrap_or("null");
        Some((status, serde_json::from_str(body).ok()?))
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn tls_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port)
    }

    /// The authority that vouches for the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A mount with a key, a policy for it and a token with that policy.
    pub fn place(&self) -> Place<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("place-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Place { bao: self, name, dir: tempfile::tempdir().unwrap() };
        self.admin("POST", &format!("sys/mounts/{}", place.name), &json!({"type": "transit"}));
        self.admin("POST", &format!("{}/keys/{KEY}", place.name), &json!({"type": "aes256-gcm96"}));
        place.allow(FULL);
        place.new_token(&json!({}));
        place
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            let _ended_already = leash.write_all(b"stop\n");
        }
        let _ended = self.shell.wait();
    }
}

/// What keyward needs: `(path below the mount, capability)`.
pub const FULL: &[(&str, &str)] =
    &[("keys/kek", "read"), ("encrypt/kek", "update"), ("decrypt/kek", "update"), ("random/32", "update")];

/// One test's part of a server.
pub struct Place<'a> {
    pub bao: &'a OpenBao,
    /// Of the mount, the policy and the role.
    pub name: String,
    dir: tempfile::TempDir,
}

impl Place<'_> {
    /// Settings with the token of this place.
    pub fn settings(&self) -> TransitSettings {
        self.settings_with(Auth::Token { file: self.file("token") })
    }

    pub fn settings_with(&self, auth: Auth) -> TransitSettings {
        TransitSettings {
            name: "primary".parse().unwrap(),
            address: self.bao.address().parse().unwrap(),
            mount: self.name.clone(),
            key: KEY.into(),
            namespace: None,
            ca_file: None,
            auth,
        }
    }

    /// Replaces the policy.
    pub fn allow(&self, rights: &[(&str, &str)]) {
        let rule = |(path, right): &(&str, &str)| {
            format!("path \"{}/{path}\" {{ capabilities = [\"{right}\"] }}\n", self.name)
        };
        let policy: String = rights.iter().map(rule).collect();
        self.bao.admin("PUT", &format!("sys/policies/acl/{}", self.name), &json!({"policy": policy}));
    }

    /// A token with the policy in the token file; gives it.
    pub fn new_token(&self, more: &Value) -> String {
        let mut wanted = json!({"policies": [self.name]});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.bao.admin("POST", "auth/token/create", &wanted);
        let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
        self.write("token", &token, 0o600);
        token
    }

    /// The token in the token file.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.file("token")).unwrap().trim().to_owned()
    }

    /// An AppRole role with the policy, in a mount of its own; its secret id goes into a file.
    pub fn approle(&self, more: &Value) -> Auth {
        let mount = format!("approle-{}", self.name);
        let role = format!("auth/{mount}/role/kek");
        let mut wanted = json!({"token_policies": [self.name]});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.bao.admin("POST", &format!("sys/auth/{mount}"), &json!({"type": "approle"}));
        self.bao.admin("POST", &role, &wanted);
        let role_id = self.bao.admin("GET", &format!("{role}/role-id"), &Value::Null);
        let secret_id = self.bao.admin("POST", &format!("{role}/secret-id"), &Value::Null);
        self.write("secret-id", secret_id["data"]["secret_id"].as_str().unwrap(), 0o600);
        let role_id = role_id["data"]["role_id"].as_str().unwrap().to_owned();
        Auth::AppRole { mount, role_id, secret_id_file: self.file("secret-id") }
    }

    /// Every token that the place's AppRole has given out.
    pub fn revoke_logins(&self) {
        let path = format!("sys/leases/revoke-prefix/auth/approle-{}/login", self.name);
        self.bao.admin("PUT", &path, &json!({}));
    }

    /// The leases of the tokens that the place's AppRole has given out. Not by their accessors: looking up every token
    /// of a server ends those that are just being made.
    pub fn logins(&self) -> Vec<Value> {
        let prefix = format!("auth/approle-{}/login", self.name);
        let (_, listed) = self.bao.call("LIST", &format!("sys/leases/lookup/{prefix}"), self.bao.root(), &Value::Null);
        let ids = listed["data"]["keys"].as_array().cloned().unwrap_or_default();
        ids.iter().map(|id| json!(format!("{prefix}/{}", id.as_str().unwrap()))).collect()
    }

    /// When the token of a login was renewed; null if never.
    pub fn renewed(&self, login: &Value) -> Value {
        self.bao.admin("PUT", "sys/leases/lookup", &json!({"lease_id": login}))["data"]["last_renewal"].clone()
    }

    /// A request on the key, as an operator.
    pub fn key(&self, method: &str, action: &str, body: &Value) -> Value {
        self.bao.admin(method, &format!("{}/keys/{KEY}{action}", self.name), body)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        let _first_time = std::fs::remove_file(self.file(name));
        std::fs::write(self.file(name), format!("{text}\n")).unwrap();
        std::fs::set_permissions(self.file(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Free now; taken by the server a moment later.
fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A private authority, and a certificate for 127.0.0.1 that it signed.
pub fn make_certificates(dir: &Path) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(dir, &[&authority, &curve[..]].concat());
    let request = ["req", "-subj", "/CN=test server", "-keyout", "server.key", "-out", "server.csr"];
    openssl(dir, &[&request, &curve[..]].concat());
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
    openssl(dir, &[&sign[..], &["-CAcreateserial", "-extfile", "san", "-out", "server.pem"]].concat());
}

#[track_caller]
fn openssl(dir: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
