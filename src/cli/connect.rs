//! How does a command reach the running sidecar? Over its sockets, after checking who serves them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::secret::SecretBytes;

use super::failure::{Context, Exit, Failure};

/// Long enough for a batch while a token is slow, where the sidecar's own limit is not known.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond the sidecar's own limit, so that its answer is heard.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// Where a command finds the sidecar.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    #[command(flatten)]
    pub(super) config: super::ConfigPath,
    /// The socket to talk to, instead of the configuration's
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

/// Which listener a command needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Listener {
    Data,
    Control,
}

impl Target {
    /// The socket's path, given or from the configuration, and how long an answer may take.
    pub(super) fn socket(&self, listener: Listener) -> Result<(PathBuf, Duration), Failure> {
        if let Some(socket) = &self.socket {
            return Ok((socket.clone(), TIMEOUT));
        }
        let server = super::check::load(&self.config.config)?.server;
        let timeout = server.limits.request_timeout.saturating_add(ON_THE_WAY).max(TIMEOUT);
        Ok(match listener {
            Listener::Data => (server.data_socket, timeout),
            Listener::Control => (server.control_socket, timeout),
        })
    }

    pub(super) async fn connect(&self, listener: Listener) -> Result<Sidecar, Failure> {
        let (socket, timeout) = self.socket(listener)?;
        Sidecar::connect_for(&socket, timeout).await
    }
}

/// A connection to the sidecar.
pub(super) struct Sidecar {
    client: Client,
}

impl Sidecar {
    pub(super) async fn connect(socket: &Path) -> Result<Self, Failure> {
        Self::connect_for(socket, TIMEOUT).await
    }

    async fn connect_for(socket: &Path, timeout: Duration) -> Result<Self, Failure> {
        let uid = rustix::process::getuid().as_raw();
        let client = Client::connect(socket, uid, timeout).await;
        let client = client
            .doing(Exit::Unavailable, format!("cannot reach the sidecar at {}", socket.display()))
            .map_err(|failure| failure.hint("start it with `keyward serve`, or name another --config or --socket"))?;
        Ok(Self { client })
    }

    /// One request; a problem answer becomes a failure that says what to change.
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(serde_json::to_vec).transpose().doing(Exit::Software, "cannot encode the request")?;
        let method = method.parse().doing(Exit::Software, "the method")?;
        let answer = self.client.request(method, path, body.map(SecretBytes::new)).await;
        let answer = answer.doing(Exit::Unavailable, "the sidecar did not answer")?;
        let value: Value = serde_json::from_slice(answer.body.expose())
            .doing(Exit::Software, format!("the sidecar's answer ({}) is not JSON", answer.status))?;
        if answer.status.is_success() { Ok(value) } else { Err(problem(&value)) }
    }
}

/// A problem document (RFC 9457) or an item's error as a failure.
pub(super) fn problem(value: &Value) -> Failure {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let code = text("code");
    let exit = match code {
        "denied" | "unauthenticated" | "purpose_missing" | "ceremony_required" | "not_approved" | "separation" => {
            Exit::Denied
        }
        "unavailable" | "deadline_exceeded" | "rate_limited" => Exit::Unavailable,
        "key_damaged" => Exit::Finding,
        "policy_refused" => Exit::Config,
        "internal" => Exit::Software,
        _ => Exit::Data,
    };
    let detail = match text("detail") {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let failure = Failure::new(exit, format!("{} ({code}){detail}", text("title")));
    match text("advice") {
        "" => failure,
        advice => failure.hint(advice),
    }
}

/// A runtime for one command.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(Exit::Software, "cannot start the runtime")?.block_on(work)
}
