//! How is a connection made, and what holds for everything that is said over it?
//! This module never connects in the clear where TLS is asked for, and never keeps a password.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{Fault, connecting};
use super::settings::{Place, Settings, Tls};
use crate::store::StoreError;

/// A value of a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// A connection of one's own, with the statements that it has prepared.
pub(super) struct Link {
    client: Client,
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

/// The two kinds of streams that a connection runs over.
pub(super) enum Wire {
    Plain(Box<Connection<Socket, NoTlsStream>>),
    Tls(Box<Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>>),
}

impl Wire {
    /// Carries what is said until the connection ends; tells the payload of each notification.
    pub(super) async fn drive(self, told: impl Fn(&str) + Send) {
        match self {
            Self::Plain(mut wire) => carry(|cx| wire.poll_message(cx), told).await,
            Self::Tls(mut wire) => carry(|cx| wire.poll_message(cx), told).await,
        }
    }
}

async fn carry(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send,
    told: impl Fn(&str) + Send,
) {
    // An error ends the connection; whoever waits for an answer on it is told.
    while let Some(Ok(message)) = poll_fn(&mut next).await {
        if let AsyncMessage::Notification(note) = message {
            told(note.payload());
        }
    }
}

impl Link {
    /// Connects and logs in; whoever calls drives the wire.
    pub(super) async fn connect(settings: &Settings) -> Result<(Self, Wire), StoreError> {
        let config = config(settings)?;
        let (client, wire) = match authority(settings)? {
            Some(tls) => config.connect(tls).await.map(|(client, wire)| (client, Wire::Tls(Box::new(wire)))),
            None => config.connect(NoTls).await.map(|(client, wire)| (client, Wire::Plain(Box::new(wire)))),
        }
        .map_err(|error| connecting(&error))?;
        Ok((Self { client, prepared: Mutex::default() }, wire))
    }

    /// Whether the server has hung up, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What holds for the session. Nothing of another schema can stand in for what a statement names.
    pub(super) async fn set_up(&self, statement_timeout: Duration) -> Result<(), Fault> {
        let limit = statement_timeout.as_millis();
        let set = format!(
            "SET search_path = pg_catalog, pg_temp; SET statement_timeout = {limit}; \
             SET idle_in_transaction_session_timeout = {idle}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') <> 'remote_apply'",
            idle = limit.saturating_mul(2)
        );
        self.run(&set).await?;
        // What a standby says may be older than what this process knows, which would pass for an edit.
        let row = self.client.query_one("SELECT pg_is_in_recovery()", &[]).await?;
        if row.try_get::<_, bool>(0)? {
            let why = "this server is a standby: it may be behind, and takes no change";
            return Err(StoreError::Unavailable(why.to_owned()).into());
        }
        Ok(())
    }

    /// Statements without values and without an answer.
    pub(super) async fn run(&self, statements: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(statements).await?)
    }

    /// The rows of a statement.
    pub(super) async fn query(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query(&self.statement(sql).await?, values).await?)
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, Fault> {
        Ok(self.client.execute(&self.statement(sql).await?, values).await?)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Fault> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }
}

/// Everything that the driver is told, the password too.
pub(super) fn config(settings: &Settings) -> Result<Config, StoreError> {
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(&settings.dbname)
        .application_name("keyward")
        .connect_timeout(settings.connect_timeout)
        // A server whose machine is gone says nothing: the system's own patience is hours.
        .keepalives_idle(SILENCE)
        .keepalives_interval(SILENCE / 5)
        .keepalives_retries(3)
        .tcp_user_timeout(settings.statement_timeout.saturating_mul(2));
    match &settings.place {
        Place::Socket { dir, port } => config.host_path(dir).port(*port).ssl_mode(SslMode::Disable),
        Place::Tcp { host, port, tls } => {
            let mode = if *tls == Tls::Off { SslMode::Disable } else { SslMode::Require };
            config.host(host).port(*port).ssl_mode(mode)
        }
    };
    if let Some(file) = &settings.password_file {
        config.password(password(file)?);
    }
    Ok(config)
}

/// After so long a silence the other side is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

/// Longer than any password that a server takes.
const MOST_PASSWORD: u64 = 1_024;

/// Read again for each connection, so that a changed password needs no restart.
fn password(path: &Path) -> Result<Vec<u8>, StoreError> {
    let cannot = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let facts = file.metadata().map_err(cannot)?;
    let mode = facts.permissions().mode() & 0o7777;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&facts.uid());
    if mode & 0o077 != 0 || !ours || !facts.is_file() {
        let why = "must be a file of the service user that nobody else can read or change (chmod 600)";
        return Err(StoreError::Unavailable(format!("{} {why}", path.display())));
    }
    let mut password = Vec::new();
    file.take(MOST_PASSWORD).read_to_end(&mut password).map_err(cannot)?;
    // An editor ends the line.
    while password.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
        password.pop();
    }
    Ok(password)
}

/// The authorities that a server is believed by, if it is asked for a certificate.
pub(super) fn authority(settings: &Settings) -> Result<Option<MakeRustlsConnect>, StoreError> {
    match &settings.place {
        Place::Tcp { tls: Tls::VerifyFull { ca_file }, .. } => connector(ca_file).map(Some),
        Place::Tcp { tls: Tls::Off, .. } | Place::Socket { .. } => Ok(None),
    }
}

fn connector(ca_file: &Path) -> Result<MakeRustlsConnect, StoreError> {
    let cannot = |why: String| StoreError::Unavailable(format!("{}: {why}", ca_file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| cannot(error.to_string()))? {
        let certificate = certificate.map_err(|error| cannot(error.to_string()))?;
        roots.add(certificate).map_err(|error| cannot(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(cannot("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cannot(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}
