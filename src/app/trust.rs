//! What are callers believed by, and is it fresh? Looks after certificates and the keys of token issuers: each change in
//! the log, how it stands in readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::audit::Event;
use crate::clock::{SharedClock, Wall};
use crate::identity::jwt::{Changed, ProviderStatus, Providers};
use crate::server::health::{Board, Part, State};
use crate::server::tls::{Lives, Polled, Tls};
use crate::service::Service;
use crate::telemetry::Metrics;

use super::events::fact;

/// Three small files are read as often: a rotated certificate serves, and a dropped authority is forgotten, this soon.
const EVERY: Duration = Duration::from_secs(2);
/// Changes of issuers' keys that wait for the log. They come at most every few seconds.
const CHANGES: usize = 64;

/// Who looks after them.
#[derive(Clone)]
pub(super) struct Warden {
    pub(super) service: Arc<Service>,
    pub(super) board: Arc<Board>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
}

impl Warden {
    /// Starts the tasks that there is a need for.
    pub(super) fn begin(self, jobs: &mut JoinSet<()>, tls: Option<Arc<Tls>>, providers: Arc<Providers>) {
        if let Some(tls) = tls {
            jobs.spawn(self.clone().certificates(tls));
        }
        if !providers.is_empty() {
            let (send, changes) = mpsc::channel(CHANGES);
            // What finds no place is not recorded one by one; the keys are in force all the same.
            let told = move |change| drop(send.try_send(change));
            jobs.spawn(Arc::clone(&providers).keep(self.clock.clone(), told));
            jobs.spawn(self.clone().record_keys(changes));
            jobs.spawn(self.issuers(providers));
        }
    }

    async fn certificates(self, tls: Arc<Tls>) {
        loop {
            match tls.poll() {
                Polled::Same => {}
                Polled::Replaced(lives) => {
                    tracing::info!(
                        certificate = lives.certificate.rfc3339_millis(),
                        bundle = lives.bundle.rfc3339_millis(),
                        "certificates for TLS replaced"
                    );
                    super::note(&self.service, Event::TlsReloaded, ends(lives)).await;
                }
                Polled::Refused(why) => {
                    tracing::error!(%why, "the new certificates for TLS are refused; the last good ones serve on");
                    let facts = vec![fact("tls_detail", why.to_string())];
                    super::note(&self.service, Event::TlsRefused, facts).await;
                }
            }
            self.show(&tls);
            self.clock.sleep_until(self.clock.mono().plus(EVERY)).await;
        }
    }

    fn show(&self, tls: &Tls) {
        let (lives, problem, now) = (tls.lives(), tls.problem(), self.clock.wall());
        let (certificate, bundle) = (left(lives.certificate, now), left(lives.bundle, now));
        self.metrics.trust.show_certificates(certificate, bundle);
        self.metrics.trust.refused.set(i64::from(problem.is_some()));
        let until = format!(
            "certificate until {}, trust bundle until {}",
            lives.certificate.rfc3339_millis(),
            lives.bundle.rfc3339_millis()
        );
        let (state, text) = match problem {
            _ if certificate < 0.0 => {
                (State::Failing, format!("our certificate has expired: nobody connects; {until}"))
            }
            _ if bundle < 0.0 => (State::Failing, format!("the trust bundle has expired: nobody is believed; {until}")),
            Some(why) => (State::Degraded, format!("the files have changed and are refused ({why}); {until}")),
            None => (State::Ok, until),
        };
        self.board.post(&Part { name: "tls".to_owned(), state, text });
    }

    async fn record_keys(self, mut changes: mpsc::Receiver<Changed>) {
        while let Some(Changed { provider, ids }) = changes.recv().await {
            tracing::info!(%provider, keys = ids.len(), "the keys of a token issuer changed");
            let facts = vec![
                ("jwt_provider", provider.to_string()),
                ("keys", ids.len().to_string()),
                fact("jwt_keys", ids.join(" ")),
            ];
            super::note(&self.service, Event::JwtKeysChanged, facts).await;
        }
    }

    async fn issuers(self, providers: Arc<Providers>) {
        loop {
            for status in providers.status() {
                self.show_issuer(status);
            }
            self.clock.sleep_until(self.clock.mono().plus(EVERY)).await;
        }
    }

    /// An issuer that is away fails nobody but its own callers: the part is never failing.
    fn show_issuer(&self, status: ProviderStatus) {
        let ProviderStatus { name, keys, read, problem } = status;
        let age = read.map(|read| self.clock.mono().since(read).as_secs());
        self.metrics.trust.show_issuer(
            name.as_str(),
            i64::try_from(keys).unwrap_or(i64::MAX),
            read.map(|read| self.clock.mono().since(read).as_secs_f64()),
        );
        let held = match (keys, age) {
            (0, _) => "no keys: its tokens are refused".to_owned(),
            (keys, age) => format!("{keys} keys, read {} s ago", age.unwrap_or_default()),
        };
        let (state, text) = match problem {
            Some(why) => (State::Degraded, format!("{held}; {why}")),
            None if keys == 0 => (State::Degraded, held),
            None => (State::Ok, held),
        };
        self.board.post(&Part { name: format!("jwt {name}"), state, text });
    }
}

fn ends(lives: Lives) -> Vec<(&'static str, String)> {
    vec![("bundle_expires", lives.bundle.rfc3339_millis()), ("certificate_expires", lives.certificate.rfc3339_millis())]
}

/// Seconds until then; below 0 when it has passed.
fn left(end: Wall, now: Wall) -> f64 {
    let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
    if end >= now { seconds(end.0 - now.0) } else { -seconds(now.0 - end.0) }
}
