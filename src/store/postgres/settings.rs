//! Where is the database, who logs in, and how long does anything wait for it?

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The server.
    pub place: Place,
    /// The database; it holds one store.
    pub dbname: String,
    /// The role that serves.
    pub user: String,
    /// Its password, read at each login; None where the server knows the role by other means (peer on a socket).
    pub password_file: Option<PathBuf>,
    /// How long a connection, with login, may take.
    pub connect_timeout: Duration,
    /// How long a statement may take at the server; what it needs on the way is added here.
    pub statement_timeout: Duration,
    /// Connections that this sidecar holds at most, beside the one that listens and those of snapshots.
    pub connections: usize,
    /// How often somebody else's changes are looked for while no hint comes.
    pub poll: Duration,
    /// The file that keeps keyrings for the time when the database is away; None keeps none.
    pub mirror: Option<PathBuf>,
}

/// How the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The directory of its socket: this machine, no TLS needed.
    Socket {
        /// `/run/postgresql`, say.
        dir: PathBuf,
        /// Part of the socket's name.
        port: u16,
    },
    /// TCP.
    Tcp {
        /// A name or an address; the name that the certificate must have.
        host: String,
        /// 5432, usually.
        port: u16,
        /// Whether anybody on the way can read or change what is said.
        tls: Tls,
    },
}

/// What is asked of a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// TLS with a certificate for the host by one of these authorities; the system's are not asked.
    VerifyFull {
        /// PEM.
        ca_file: PathBuf,
    },
    /// Plain text: development and a loopback address only, which the configuration sees to.
    Off,
}

impl fmt::Display for Settings {
    /// As a locator, for messages; never with a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, dbname, .. } = self;
        match &self.place {
            Place::Socket { dir, port } => write!(f, "postgresql://{user}@{}:{port}/{dbname}", dir.display()),
            Place::Tcp { host, port, .. } => write!(f, "postgresql://{user}@{host}:{port}/{dbname}"),
        }
    }
}
