//! How do records reach a stream of NATS JetStream? Each as a message that the stream has acknowledged before the next one is
//! sent, so that they stand there in the log's order; `Nats-Msg-Id` is the record's name, by which the stream drops what it has.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, HeaderMap, ServerAddr};

use crate::client::{self, FetchError};

use super::batch::Batch;
use super::{NatsSettings, Problem};

/// Why there is no connection: a handshake that failed comes as an error of the socket.
fn refused(address: &str, error: &ConnectError) -> Problem {
    let cause = std::error::Error::source(error);
    let shaken = cause.and_then(|cause| cause.downcast_ref()).map(|cause| FetchError::of_tls(address, cause));
    let code = match error.kind() {
        ConnectErrorKind::Tls => "certificate",
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => "refused",
        ConnectErrorKind::TimedOut => "timeout",
        _ => shaken.as_ref().map_or("unreachable", FetchError::code),
    };
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Problem::new(code, format!("{address}: {error}{cause}"))
}

/// How long a connection, or an acknowledgement, may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A stream.
pub(super) struct Nats {
    settings: NatsSettings,
    origin: String,
    context: Option<Context>,
}

impl Nats {
    pub(super) const fn new(settings: NatsSettings, origin: String) -> Self {
        Self { settings, origin, context: None }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), Problem> {
        let context = match self.context.take() {
            Some(context) => context,
            None => self.connect().await?,
        };
        for item in &batch.items {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{}#{}", self.origin, item.index));
            let sent = context.publish_with_headers(self.settings.subject.clone(), headers, item.line.clone().into());
            let taken = async { sent.await?.await };
            taken.await.map_err(|error| {
                let code = match error.kind() {
                    PublishErrorKind::TimedOut => "timeout",
                    PublishErrorKind::BrokenPipe => "unreachable",
                    PublishErrorKind::StreamNotFound => "no_stream",
                    _ => "refused",
                };
                Problem::new(code, format!("{}: {error}", self.settings.address))
            })?;
        }
        self.context = Some(context);
        Ok(())
    }

    async fn connect(&self) -> Result<Context, Problem> {
        let NatsSettings { address, trust, .. } = &self.settings;
        let mut options = ConnectOptions::new().connection_timeout(WITHIN).max_reconnects(1).name("keyward");
        if trust.ca_file.is_some() {
            let config = client::tls(trust).map_err(|error| Problem::new(error.code(), error))?;
            options = options.require_tls(true).tls_client_config(config);
        }
        if let Some(path) = &trust.token_file {
            let token = std::fs::read_to_string(path);
            let token = token.map_err(|error| Problem::new("file", format!("{}: {error}", path.display())))?;
            options = options.token(token.trim().to_owned());
        }
        let scheme = if trust.ca_file.is_some() { "tls" } else { "nats" };
        let server: ServerAddr = format!("{scheme}://{address}")
            .parse()
            .map_err(|error| Problem::new("unreachable", format!("{address}: {error}")))?;
        let client = options.connect(server).await.map_err(|error| refused(&address.to_string(), &error))?;
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(WITHIN);
        Ok(context)
    }
}
