//! `[store]` becomes the settings of a file or of a database.

use std::net::IpAddr;
use std::time::Duration;

use crate::keyring::Environment;
use crate::store::postgres::{self, Place, Tls};
use crate::store::{Settings, sqlite};

use super::StateDir;
use super::problems::Found;
use super::raw::RawStore;
use super::sections::{absolute, count, time};

pub(super) fn store(
    raw: &RawStore,
    environment: Option<Environment>,
    state: &StateDir,
    found: &mut Found,
) -> Option<Settings> {
    match raw.kind.as_deref() {
        None | Some("sqlite") => {
            strangers(raw, found);
            Some(Settings::Sqlite(sqlite::Settings { path: state.store(), busy_timeout: BUSY }))
        }
        Some("postgresql") => postgresql(raw, environment, state, found),
        Some(_) => {
            found.add("store.kind", "is not a kind of store", "write \"sqlite\" or \"postgresql\"");
            None
        }
    }
}

/// How long a statement waits for another process with the file: an operator who looks at it, say.
const BUSY: Duration = Duration::from_secs(5);

/// How long a login, or a statement, takes at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// How late another sidecar's change is seen when nobody tells.
const POLL: Duration = Duration::from_secs(2);

fn strangers(raw: &RawStore, found: &mut Found) {
    let RawStore { kind: _, host, socket, port, dbname, user, password_file, tls, ca_file, .. } = raw;
    let RawStore { connect_timeout, statement_timeout, connections, poll, .. } = raw;
    for (name, given) in [
        ("host", host.is_some()),
        ("socket", socket.is_some()),
        ("port", port.is_some()),
        ("dbname", dbname.is_some()),
        ("user", user.is_some()),
        ("password_file", password_file.is_some()),
        ("tls", tls.is_some()),
        ("ca_file", ca_file.is_some()),
        ("connect_timeout", connect_timeout.is_some()),
        ("statement_timeout", statement_timeout.is_some()),
        ("connections", connections.is_some()),
        ("poll", poll.is_some()),
    ] {
        if given {
            let hint = "remove it, or write kind = \"postgresql\"";
            found.add(format!("store.{name}"), "belongs to kind = \"postgresql\"", hint);
        }
    }
}

fn postgresql(
    raw: &RawStore,
    environment: Option<Environment>,
    state: &StateDir,
    found: &mut Found,
) -> Option<Settings> {
    let place = place(raw, environment, found);
    let dbname = found.need("store.dbname", raw.dbname.clone(), "name the database that is keyward's alone");
    let user = found.need("store.user", raw.user.clone(), "name the role that serves, which owns nothing");
    let password_file = raw.password_file.as_ref().map(|file| absolute("store.password_file", file, found));
    let connect = time("store.connect_timeout", raw.connect_timeout.as_deref(), PATIENCE, found);
    let statement = time("store.statement_timeout", raw.statement_timeout.as_deref(), PATIENCE, found);
    let poll = time("store.poll", raw.poll.as_deref(), POLL, found);
    for (name, given) in [("connect_timeout", connect), ("statement_timeout", statement), ("poll", poll)] {
        if given.is_some_and(|given| given.is_zero()) {
            found.add(format!("store.{name}"), "is zero", "write a number and ms, s, m, h or d, as in \"5s\"");
        }
    }
    let connections = count("store.connections", raw.connections, 4, found);
    Some(Settings::Postgresql(Box::new(postgres::Settings {
        place: place?,
        dbname: dbname?,
        user: user?,
        password_file,
        connect_timeout: connect?,
        statement_timeout: statement?,
        connections: connections?,
        poll: poll?,
        mirror: Some(state.mirror()),
    })))
}

fn place(raw: &RawStore, environment: Option<Environment>, found: &mut Found) -> Option<Place> {
    let port = count("store.port", raw.port, 5432, found);
    match (&raw.host, &raw.socket) {
        (Some(host), None) => {
            let tls = tls(raw, host, environment, found);
            Some(Place::Tcp { host: host.clone(), port: port?, tls: tls? })
        }
        (None, Some(socket)) => {
            for (name, given) in [("tls", raw.tls.is_some()), ("ca_file", raw.ca_file.is_some())] {
                if given {
                    found.add(format!("store.{name}"), "has no use with a socket", "remove it");
                }
            }
            Some(Place::Socket { dir: absolute("store.socket", socket, found), port: port? })
        }
        (None, None) => {
            found.add("store.host", "is missing", "name the server, or the directory of its socket in store.socket");
            None
        }
        (Some(_), Some(_)) => {
            found.add("store.socket", "stands beside host", "give one of them");
            None
        }
    }
}

fn tls(raw: &RawStore, host: &str, environment: Option<Environment>, found: &mut Found) -> Option<Tls> {
    const HINT: &str = "write \"verify-full\"; \"off\" is for development and a server on this machine only";
    match raw.tls.as_deref() {
        None | Some("verify-full") => {
            let hint = "name the PEM file of the authority that vouches for the server; the system's are not asked";
            let ca_file = found.need("store.ca_file", raw.ca_file.as_ref(), hint)?;
            Some(Tls::VerifyFull { ca_file: absolute("store.ca_file", ca_file, found) })
        }
        Some("off") => {
            if environment == Some(Environment::Production) {
                found.add("store.tls", "is off in production", HINT);
            } else if !is_loopback(host) {
                found.add("store.tls", "is off, and the server is not a literal loopback address", HINT);
            }
            if raw.ca_file.is_some() {
                found.add("store.ca_file", "has no use without TLS", "remove it, or tls = \"off\"");
            }
            Some(Tls::Off)
        }
        Some(_) => {
            found.add("store.tls", "is not a way to trust a server", HINT);
            None
        }
    }
}

/// A name could resolve to any machine.
fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../examples/keyward.toml");

    /// The example with this `[store]`: its settings, or the names of what is wrong.
    fn store(environment: &str, lines: &str) -> Result<Settings, Vec<String>> {
        let (before, after) = EXAMPLE.split_once("[store]\n").unwrap();
        let text = format!("{before}[store]\n{lines}\n{after}");
        let text = text.replace("environment = \"production\"", &format!("environment = \"{environment}\""));
        parse(&text, Path::new("/usr/bin/keyward"))
            .map(|config| config.store)
            .map_err(|found| found.0.into_iter().map(|problem| problem.path.replace("store.", "")).collect())
    }

    const NAMES: &str = "kind = \"postgresql\"\ndbname = \"d\"\nuser = \"u\"\n";

    #[test]
    fn a_file_in_the_state_directory_is_the_default() {
        for lines in ["", "kind = \"sqlite\""] {
            let Ok(Settings::Sqlite(file)) = store("production", lines) else { panic!("it is a file") };
            assert_eq!(file.path, Path::new("/var/lib/keyward/store.db"));
        }
        assert_eq!(store("production", "host = \"db\"\npoll = \"1s\""), Err(vec!["host".into(), "poll".into()]));
        assert_eq!(store("production", "kind = \"mysql\""), Err(vec!["kind".into()]));
    }

    #[test]
    fn a_server_elsewhere_is_believed_by_its_certificate_unless_said_otherwise() {
        let lines = format!("{NAMES}host = \"db\"\nca_file = \"/ca.pem\"\nport = 6000");
        let Ok(Settings::Postgresql(database)) = store("production", &lines) else { panic!("it is a database") };
        let tls = Tls::VerifyFull { ca_file: "/ca.pem".into() };
        assert_eq!(database.place, Place::Tcp { host: "db".to_owned(), port: 6000, tls });
        assert_eq!(database.mirror.as_deref(), Some(Path::new("/var/lib/keyward/mirror.sqlite")));
        assert_eq!(store("production", &format!("{NAMES}host = \"db\"")), Err(vec!["ca_file".into()]));
        assert!(store("production", &format!("{NAMES}socket = \"/run/postgresql\"")).is_ok());
    }

    #[test]
    fn plain_tcp_is_for_development_and_this_machine() {
        let off = |host: &str| format!("{NAMES}host = \"{host}\"\ntls = \"off\"");
        assert!(store("development", &off("127.0.0.1")).is_ok());
        assert!(store("development", &off("::1")).is_ok());
        for (environment, host) in [("production", "127.0.0.1"), ("development", "db"), ("development", "localhost")] {
            assert_eq!(store(environment, &off(host)), Err(vec!["tls".into()]), "{host}");
        }
    }

    #[test]
    fn all_problems_of_a_database_are_reported_at_once() {
        let lines = "kind = \"postgresql\"\nsocket = \"run\"\ntls = \"off\"\nport = 70000\npassword_file = \"p\"\n\
            connect_timeout = \"soon\"\nstatement_timeout = \"0s\"\nconnections = 0\npoll = \"0s\"";
        let mut found = store("production", lines).unwrap_err();
        found.sort();
        let expected = [
            "connect_timeout",
            "connections",
            "dbname",
            "password_file",
            "poll",
            "port",
            "socket",
            "statement_timeout",
            "tls",
            "user",
        ];
        assert_eq!(found, expected);
        let both = format!("{NAMES}host = \"db\"\nsocket = \"/run\"");
        assert_eq!(store("production", &both), Err(vec!["socket".into()]));
    }
}
