//! Who else reads the log as it grows? Followers, one for each sink, each with a saved position: at least once, in order,
//! each record with the name and the leaf hash by which it can be proven from the log. No request ever waits for a sink.

mod batch;
mod file;
mod follow;
mod formats;
mod http;
mod nats;
mod position;
mod syslog;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Address, FetchUrl, Trust};
use crate::names::SinkName;

pub use follow::{Follower, Standing};
pub use formats::{Format, Leaving};

/// A sink as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name: its position is saved under it.
    pub name: SinkName,
    /// What it is written in.
    pub format: Format,
    /// Where the records go.
    pub target: Target,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Lines of a file.
    File(FileSettings),
    /// RFC 5424 messages over TLS (RFC 5425).
    Syslog(SyslogSettings),
    /// Posts to a web server.
    Http(HttpSettings),
    /// Messages of a NATS JetStream.
    Nats(NatsSettings),
}

/// A file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The file that grows.
    pub path: PathBuf,
    /// The bytes at which it gets another name, after its first and last record.
    pub rotate: u64,
    /// How many such files are kept; 0 keeps all.
    pub keep: u32,
}

/// A collector of syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogSettings {
    /// Where it listens.
    pub address: Address,
    /// Who vouches for it, and what proves us.
    pub trust: Trust,
    /// How long a message counts as lost if the connection ends: it is sent again.
    pub settle: Duration,
}

/// A collector behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// What it wants to read.
    pub kind: HttpKind,
    /// Where it is.
    pub url: FetchUrl,
    /// Who vouches for it; the token of it.
    pub trust: Trust,
}

/// A stream of NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// Where a server is.
    pub address: Address,
    /// Who vouches for it, the token, and what proves us. Without an authority it is plain, on this machine.
    pub trust: Trust,
    /// The subject of the messages, which the stream takes.
    pub subject: String,
}

/// What a collector behind HTTP speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpKind {
    /// Lines; the status says whether they were taken.
    Lines,
    /// Splunk's HTTP Event Collector; its answer says whether they were taken.
    Splunk,
    /// The same, asked until the indexer has acknowledged them.
    SplunkAcknowledged,
}

impl Target {
    /// What it is called in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Http(HttpSettings { kind: HttpKind::Lines, .. }) => "http",
            Self::Http(_) => "splunk",
            Self::Nats(_) => "nats",
        }
    }
}

impl Target {
    /// By what it is believed.
    pub const fn trust(&self) -> Option<&Trust> {
        match self {
            Self::File(_) => None,
            Self::Syslog(syslog) => Some(&syslog.trust),
            Self::Http(http) => Some(&http.trust),
            Self::Nats(nats) => Some(&nats.trust),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.path.display()),
            Self::Syslog(syslog) => write!(f, "{}", syslog.address),
            Self::Http(http) => f.write_str(http.url.as_str()),
            Self::Nats(nats) => write!(f, "{} {}", nats.address, nats.subject),
        }
    }
}

/// Why a sink stands still. It is tried again, from the last position that it confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// One of a few codes, for the log.
    pub code: &'static str,
    /// For people; no secret.
    pub text: String,
}

impl Problem {
    fn new(code: &'static str, text: impl ToString) -> Self {
        Self { code, text: text.to_string() }
    }
}
