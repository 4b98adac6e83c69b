//! A real PostgreSQL server, for any test that needs a fleet's store. One server serves a whole test binary; every test has
//! a database of its own. Tests that kill one start their own.
#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it writes files and waits for processes")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its server must fail")]
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use keyward::store::postgres::{Place, Settings, Tls};

/// The role that owns everything; on the socket the server believes whoever says so.
pub const OWNER: &str = "postgres";
/// The password of every role, over TCP.
pub const PASSWORD: &str = "a long pass phrase, with 'quotes'";

/// Ends when the server ends; ends the server at once when standard input closes, and takes its directory along unless
/// a line came first.
const LEASHED: &str = "exec 3<&0; bin=$0; dir=$1; shift 2; \
    \"$bin/postgres\" -D \"$dir/data\" \"$@\" </dev/null 3<&- & server=$!; echo $server >\"$dir/pid\"; \
    (read -r stop <&3; trap '' TERM; kill -QUIT $server; \
     while kill -0 $server 2>/dev/null; do sleep 0.05; done; [ \"$stop\" ] || rm -rf \"$dir\") & leash=$!; \
    wait $server; kill $leash 2>/dev/null; exit 0";

/// A server; its process and its directory go with it, or with the test process.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    account: Option<(u32, u32)>,
    running: Mutex<Option<Running>>,
    databases: AtomicU32,
    roles: Mutex<()>,
}

struct Running {
    shell: Child,
    leash: Option<ChildStdin>,
}

impl Postgres {
    /// The server of this test binary.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A server of one's own.
    pub fn new() -> Self {
        let server = Self::without_data();
        server.initialise();
        server.make_certificates();
        server.start();
        server.sql("postgres", &format!("ALTER ROLE {OWNER} PASSWORD {}", quoted(PASSWORD)));
        server
    }

    /// A streaming standby of this one, asynchronous, on the same port of another socket directory.
    pub fn standby(&self) -> Self {
        let mut standby = Self::without_data();
        standby.port = self.port;
        let mut copy = self.command(&self.bin.join("pg_basebackup"));
        copy.arg("-h").arg(&self.dir).args(["-p", &self.port.to_string(), "-U", OWNER, "-R", "-X", "stream"]);
        succeed(copy.args(["-c", "fast", "-D"]).arg(standby.dir.join("data")));
        standby.make_certificates();
        standby.start_with(&["ssl=on", "listen_addresses="]);
        standby
    }

    /// A dump of a database, as `pg_dump` writes it.
    pub fn dump(&self, dbname: &str) -> PathBuf {
        let file = self.dir.join(format!("dump{}", self.databases.fetch_add(1, Ordering::Relaxed)));
        let mut dump = self.client("pg_dump", dbname);
        succeed(dump.arg("-Fc").arg("-f").arg(&file));
        file
    }

    /// Puts a dump back in place of what is there.
    pub fn put_back(&self, dbname: &str, dump: &Path) {
        let mut restore = self.client("pg_restore", dbname);
        succeed(restore.args(["--clean", "--if-exists", "--single-transaction"]).arg(dump));
    }

    fn client(&self, program: &str, dbname: &str) -> Command {
        let mut client = self.command(&self.bin.join(program));
        client.arg("-h").arg(&self.dir).args(["-p", &self.port.to_string(), "-U", OWNER, "-d", dbname]);
        client
    }

    fn without_data() -> Self {
        let dir = tempfile::Builder::new().prefix("kw-pg").tempdir().unwrap().keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let account = account();
        if let Some((uid, gid)) = account {
            chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (running, roles, databases) = (Mutex::new(None), Mutex::new(()), AtomicU32::new(0));
        Self { bin: binaries(), dir, port, account, running, databases, roles }
    }

    /// A command as the account that the server runs under.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        // Nothing of the machine's own settings reaches the server or its client.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.current_dir("/").env("HOME", &self.dir).env("LC_ALL", "C.UTF-8");
        command
    }

    fn initialise(&self) {
        let data = self.dir.join("data");
        let mut initdb = self.command(&self.bin.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        succeed(&mut initdb);
        let rules = "local all,replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    }

    /// An authority, and a certificate for `localhost` alone.
    fn make_certificates(&self) {
        let script = "set -e; cd \"$0\"; umask 077
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
                -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >extensions
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem
            chmod 644 ca.pem server.pem";
        succeed(self.command(Path::new("sh")).args(["-c", script]).arg(&self.dir).stderr(Stdio::piped()));
    }

    /// Starts the process and waits until it takes connections; what a crash left is recovered first.
    pub fn start(&self) {
        self.start_with(&["ssl=on"]);
    }

    /// The same, but it speaks in the clear only.
    pub fn start_without_tls(&self) {
        self.start_with(&["ssl=off"]);
    }

    /// Starts with more settings.
    pub fn start_with(&self, more: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let dir = self.dir.display();
        let options = [
            format!("unix_socket_directories={dir}"),
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("ssl_cert_file={dir}/server.pem"),
            format!("ssl_key_file={dir}/server.key"),
            "max_connections=200".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", LEASHED]).arg(&self.bin).arg(&self.dir).arg("--");
        for option in options.iter().map(String::as_str).chain(more.iter().copied()) {
            command.arg("-c").arg(option);
        }
        let output = log.try_clone().unwrap();
        let mut shell = command.stdin(Stdio::piped()).stdout(output).stderr(log).spawn().unwrap();
        let leash = shell.stdin.take();
        *self.running.lock().unwrap() = Some(Running { shell, leash });
        let until = Instant::now() + Duration::from_secs(60);
        while !self.psql("postgres", "SELECT 1").output().unwrap().status.success() {
            let ended = self.running.lock().unwrap().as_mut().unwrap().shell.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "the server takes no connections: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the postmaster and each of its children, as a power cut would, and waits until all are gone.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        let pid = pid.trim();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let all: Vec<&str> = std::iter::once(pid).chain(children.split_whitespace()).collect();
        // Some of them may have ended since.
        let _sent = Command::new("kill").arg("-9").args(&all).stderr(Stdio::null()).status().unwrap();
        while all.iter().any(|pid| is_alive(pid)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.reap();
    }

    /// Stops the server at once; its data stay.
    pub fn stop(&self) {
        use std::io::Write;
        if let Some(running) = self.running.lock().unwrap().as_mut() {
            running.leash.as_mut().unwrap().write_all(b"stop\n").unwrap();
        }
        self.reap();
    }

    fn reap(&self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            running.shell.wait().unwrap();
        }
    }

    /// A fresh database.
    pub fn database(&self) -> String {
        let name = format!("kw{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The owner's way into a database, over the socket.
    pub fn settings(&self, dbname: &str) -> Settings {
        Settings {
            place: Place::Socket { dir: self.dir.clone(), port: self.port },
            dbname: dbname.to_owned(),
            user: OWNER.to_owned(),
            password_file: None,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(20),
            connections: 4,
            poll: Duration::from_secs(2),
            mirror: None,
        }
    }

    /// The way over TCP, with a password in this directory.
    pub fn over_tcp(&self, dbname: &str, host: &str, tls: Tls, dir: &Path) -> Settings {
        let file = dir.join("password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let place = Place::Tcp { host: host.to_owned(), port: self.port, tls };
        Settings { place, password_file: Some(file), ..self.settings(dbname) }
    }

    /// A role that may log in and nothing else.
    pub fn role(&self, name: &str) {
        let known = format!("SELECT FROM pg_roles WHERE rolname = {}", quoted(name));
        let make = format!("CREATE ROLE {name} LOGIN PASSWORD {}", quoted(PASSWORD));
        // Whoever comes second finds it made.
        let script = format!("DO $do$ BEGIN IF NOT EXISTS ({known}) THEN {make}; END IF; END $do$");
        let _one_at_a_time = self.roles.lock().unwrap();
        self.sql("postgres", &script);
    }

    /// The authority of the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The directory of its socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file system of its own for a tablespace; None where this machine allows none.
    pub fn small_disk(&self, size: &str) -> Option<SmallDisk> {
        let (uid, gid) = self.account?;
        let at = self.dir.join("small");
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=700,uid={uid},gid={gid}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).output();
        mount.is_ok_and(|done| done.status.success()).then_some(SmallDisk(at))
    }

    fn psql(&self, dbname: &str, sql: &str) -> Command {
        let mut psql = self.client("psql", dbname);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        psql
    }

    /// A session that has run some SQL and stays open.
    pub fn session(&self, dbname: &str, sql: &str) -> Session {
        use std::io::{BufRead, Write};
        let mut psql = self.psql(dbname, "SELECT 1");
        psql.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql};\n\\echo done").unwrap();
        let mut said = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "done"), "the session ended");
        Session(child)
    }

    /// Runs SQL as the owner, as anybody with the right to would; its answer.
    pub fn sql(&self, dbname: &str, sql: &str) -> String {
        succeed(&mut self.psql(dbname, sql)).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            drop(running.leash.take());
            let _ended = running.shell.wait();
        } else {
            let _removed = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A mounted file system, gone when the test ends.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes that are left.
    pub fn free(&self) -> usize {
        let facts = rustix::fs::statvfs(&self.0).unwrap();
        usize::try_from(facts.f_bavail * facts.f_frsize).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server still has its files open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// A client that holds what it has locked until it ends.
pub struct Session(Child);

impl Session {
    pub fn end(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn succeed(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let mut told = String::from_utf8_lossy(&done.stdout).into_owned();
    let _ = write!(told, "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {told}");
    String::from_utf8(done.stdout).unwrap()
}

fn is_alive(pid: &str) -> bool {
    // A zombie is dead: its shell reaps it.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// SQL's way to write a string.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The newest installation.
fn binaries() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = found.filter(|path| path.join("bin/initdb").exists()).max_by_key(version);
    newest.map(|path| path.join("bin")).expect(
        "these tests need a real PostgreSQL server in /usr/lib/postgresql. Run tests/run.sh packages, which installs it",
    )
}

/// PostgreSQL refuses to run as root: then it runs as the account that its package makes.
fn account() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the package makes the user postgres");
    let number = |at| line.split(':').nth(at).unwrap().parse().unwrap();
    Some((number(2), number(3)))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
