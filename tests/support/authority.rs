//! A certificate authority for the tests, made when they run by the real openssl.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![allow(clippy::disallowed_methods, reason = "a test plays the operator who writes certificates")]
#![allow(clippy::unwrap_used, reason = "a test without its certificates must fail")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// An authority with its key, in a directory of its own.
pub struct Authority {
    dir: tempfile::TempDir,
    made: AtomicU32,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const CONFIG: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\n\
    private_key=ca.key\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=optional\n";

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.cnf", CONFIG);
        write("index", "");
        write("serial", "01\n");
        let made = Self { dir, made: AtomicU32::new(0) };
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
             -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem",
        );
        made
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate with these lines of extensions, valid from `from` to `to` (as `date -d` understands it).
    pub fn issue(&self, extensions: &str, from: &str, to: &str) -> Issued {
        let name = format!("leaf-{}", self.made.fetch_add(1, Ordering::Relaxed));
        std::fs::write(self.dir.path().join(format!("{name}.ext")), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -in {name}.csr -out {name}.pem -extfile {name}.ext -startdate {} -enddate {}",
            utc(from),
            utc(to)
        ));
        let path = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Issued { certificate: path("pem"), key: path("key") }
    }

    /// A workload's certificate for the next hour.
    pub fn workload(&self, id: &str) -> Issued {
        self.issue(&format!("subjectAltName=URI:{id}\nbasicConstraints=critical,CA:FALSE\n"), "-1 hour", "+1 hour")
    }

    /// A server's certificate for `localhost`.
    pub fn server(&self) -> Issued {
        self.issue("subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n", "-1 hour", "+1 hour")
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let done = openssl.current_dir(self.dir.path()).args(arguments.split_whitespace()).stdin(Stdio::null());
        let done = done.output().unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// A time in the form that openssl takes.
fn utc(when: &str) -> String {
    let done = Command::new("date").args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Puts a file in the place of another in one step, as those do who rotate certificates.
pub fn replace(from: &Path, to: &Path) {
    let draft = to.with_extension("draft");
    std::fs::copy(from, &draft).unwrap();
    std::fs::rename(&draft, to).unwrap();
}
