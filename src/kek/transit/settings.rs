//! Which server, which key, and how to get in: the settings, checked before anything is sent.
//! This module never reads a file and never asks the environment.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use crate::kek::Deployment;
use crate::names::KekName;

/// Where a Vault or OpenBao server keeps the key, and how keyward proves to it who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitSettings {
    /// The name in the configuration.
    pub name: KekName,
    /// The server.
    pub address: Address,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// The key in it.
    pub key: String,
    /// The namespace, where the server has several.
    pub namespace: Option<String>,
    /// The certificate authorities (PEM) that may vouch for the server; the system's own are not asked.
    pub ca_file: Option<PathBuf>,
    /// How to log in.
    pub auth: Auth,
}

/// A way to get a token. Secrets stand in files only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// A token that somebody else obtained, in a file that only its owner can read; read again when it is refused.
    Token {
        /// The file.
        file: PathBuf,
    },
    /// AppRole: a role, and a secret id in a file that only its owner can read.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// Names the role; no secret by itself.
        role_id: String,
        /// The file with the secret id, read at each login.
        secret_id_file: PathBuf,
    },
    /// The service account of a pod.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role at the server.
        role: String,
        /// The file with the service account's JWT, read at each login.
        jwt_file: PathBuf,
    },
}

impl Auth {
    /// The method's name in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::AppRole { .. } => "approle",
            Self::Kubernetes { .. } => "kubernetes",
        }
    }
}

/// `https://host[:port]`, or `http://` and a loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host and port, for records.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    pub(super) const fn url(&self) -> &Url {
        &self.0
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|_| "is not an address".to_owned())?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !plain || !url.username().is_empty() || url.password().is_some() {
            return Err("has more than https, host and port".into());
        }
        match (url.scheme(), url.host_str()) {
            ("https", Some(_)) => Ok(Self(url)),
            ("http", Some(host)) if is_loopback(host) => Ok(Self(url)),
            ("http", _) => Err("is plain http, over which tokens and keys would travel readable".into()),
            _ => Err("is neither https nor http".into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl TransitSettings {
    /// The first problem, in words.
    pub(super) fn check(&self, deployment: Deployment) -> Result<(), String> {
        match (deployment, self.address.is_secure(), &self.ca_file) {
            (Deployment::Production, false, _) => return Err("address must be https in production".into()),
            (_, true, None) => return Err("ca_file is needed with https".into()),
            (_, false, Some(_)) => return Err("ca_file has no use without https".into()),
            _ => {}
        }
        match self.problems().into_iter().next() {
            Some((setting, problem)) => Err(format!("{setting} {problem}")),
            None => Ok(()),
        }
    }

    /// What cannot stand in a request: the setting's name, and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = vec![("mount", check_path(&self.mount)), ("key", check_key_name(&self.key))];
        if let Some(namespace) = &self.namespace {
            found.push(("namespace", check_path(namespace)));
        }
        match &self.auth {
            Auth::Token { .. } => {}
            Auth::AppRole { mount, role_id, .. } => {
                found.extend([("auth_mount", check_path(mount)), ("role_id", check_role(role_id))]);
            }
            Auth::Kubernetes { mount, role, .. } => {
                found.extend([("auth_mount", check_path(mount)), ("role", check_role(role))]);
            }
        }
        found.into_iter().filter_map(|(setting, checked)| Some((setting, checked.err()?))).collect()
    }
}

fn check_role(role: &str) -> Result<(), String> {
    if role.is_empty() { Err("is empty".into()) } else { Ok(()) }
}

/// What may stand in the path of a request: names and slashes, nothing that a server or proxy could resolve away.
fn check_path(path: &str) -> Result<(), String> {
    let named = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(in_a_name);
    if path.len() <= MAX_PATH && path.split('/').all(named) {
        return Ok(());
    }
    Err("must be names of [A-Za-z0-9_.-] with single slashes between them".into())
}

/// The server's own rule for the name of a key.
fn check_key_name(key: &str) -> Result<(), String> {
    let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let fits = key.len() <= MAX_PATH && word(key.bytes().next()) && word(key.bytes().last());
    if fits && key.bytes().all(in_a_name) {
        return Ok(());
    }
    Err("must be a name of [A-Za-z0-9_.-] that begins and ends with a letter, digit or _".into())
}

const fn in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// A name such as localhost may resolve to anywhere: only a literal address is known to stay on this machine.
fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Products differ; what is longer is a mistake.
const MAX_PATH: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_an_address_on_this_machine_only() {
        for good in ["https://bao.example:8200", "https://10.0.0.1/", "http://127.0.0.1:8200", "http://[::1]:8200"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        let bad = ["http://bao.example:8200", "http://10.0.0.1", "http://localhost:8200", "http://127.0.0.1.example"];
        for bad in bad {
            let problem = bad.parse::<Address>().err().unwrap();
            assert_eq!(problem, "is plain http, over which tokens and keys would travel readable", "{bad}");
        }
        for bad in ["", "bao:8200", "ftp://bao", "https://u:p@bao", "https://bao/v1", "https://bao?x=1", "unix:///x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_cannot_leave_its_mount() {
        for good in ["transit", "kms/transit", "team-a_1/x.y"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/transit", "transit/", "a//b", "../sys", "a/../b", "a?b", "a b", "a%2fb", "a\nb"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert!(check_key_name("keyward.kek-1").is_ok());
        for bad in ["", "-kek", "kek-", "a/b", "kek.", "k\u{e9}k"] {
            assert!(check_key_name(bad).is_err(), "{bad}");
        }
    }
}
