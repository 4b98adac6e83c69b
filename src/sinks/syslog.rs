//! How does a record become a syslog message? RFC 5424, framed by octet counting over TLS (RFC 5425). The protocol has no
//! acknowledgement: what was sent counts as taken only when the connection has lived on for a while.

use tokio::io::AsyncWriteExt;

use crate::client::{self, TlsLine};
use crate::clock::Wall;

use super::batch::{Batch, Item};
use super::{Problem, SyslogSettings};

/// Log audit (RFC 5424, table 1).
const FACILITY: u8 = 13;

/// The connection to a collector.
pub(super) struct Syslog {
    settings: SyslogSettings,
    host: String,
    line: Option<TlsLine>,
}

impl Syslog {
    pub(super) fn new(settings: SyslogSettings) -> Self {
        // What the operating system calls this machine, for people; nothing is decided by it.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        Self { settings, host: if host.is_empty() { "-".to_owned() } else { host }, line: None }
    }

    /// Sends the messages of a batch.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), Problem> {
        let mut bytes = Vec::new();
        for item in &batch.items {
            self.message(item, &mut bytes);
        }
        let mut line = match self.line.take() {
            Some(line) => line,
            None => client::tls_line(&self.settings.address, &self.settings.trust).await.map_err(reach)?,
        };
        line.alive().map_err(reach)?;
        let sent = async {
            line.stream.write_all(&bytes).await?;
            line.stream.flush().await
        };
        sent.await.map_err(|error| Problem::new("unreachable", format!("{}: {error}", self.settings.address)))?;
        self.line = Some(line);
        Ok(())
    }

    /// Whether the connection still stands.
    pub(super) fn confirm(&mut self) -> Result<(), Problem> {
        match &mut self.line {
            Some(line) => line.alive().map_err(reach),
            None => Err(Problem::new("unreachable", "the connection has ended")),
        }
    }

    fn message(&self, item: &Item, out: &mut Vec<u8>) {
        let severity = match (item.failed, item.refused) {
            (true, _) => 3,
            (_, true) => 4,
            _ => 6,
        };
        let pri = FACILITY * 8 + severity;
        let time = Wall(item.time).rfc3339_micros();
        let mut message = format!("<{pri}>1 {time} {} keyward - {} - ", self.host, item.event).into_bytes();
        message.extend_from_slice(&item.line);
        out.extend_from_slice(format!("{} ", message.len()).as_bytes());
        out.extend_from_slice(&message);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn reach(error: client::FetchError) -> Problem {
    Problem::new(error.code(), error)
}
