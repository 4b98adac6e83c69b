//! What key-encryption keys report becomes records, and a refusal ends the life of cached keys.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::audit::Event;
use crate::kek::{self, KekEvent};
use crate::keyring::Keyrings;
use crate::service::Service;

/// The queue in which the KEKs report what happened to them.
pub(super) fn queue(places: usize) -> (kek::EventSink, mpsc::Receiver<KekEvent>) {
    let (send, receive) = mpsc::channel(places);
    (kek::EventSink::new(send), receive)
}

/// Drains what the KEKs report into the log, and a count of what found the queue full.
pub(super) async fn record(
    service: Arc<Service>,
    keyrings: Arc<Keyrings>,
    mut heard: mpsc::Receiver<KekEvent>,
    sink: kek::EventSink,
) {
    while let Some(event) = heard.recv().await {
        match &event {
            // Whatever the KEK refused, what it wrapped serves no longer.
            KekEvent::Refused { kek, .. } => keyrings.evict(kek),
            KekEvent::Recovered { kek } => keyrings.recovered(kek),
            _ => {}
        }
        say(&event);
        let (event, mut facts) = told(event);
        match sink.take_overflow() {
            0 => {}
            lost => {
                // A refusal may have been among them.
                keyrings.evict_all();
                facts.push(("lost_events", lost.to_string()));
            }
        }
        super::note(&service, event, facts).await;
    }
}

/// For whoever watches the process; the audit log has the facts.
fn say(event: &KekEvent) {
    match event {
        KekEvent::Admitted { kek, version, .. } => tracing::info!(%kek, version, "key-encryption key admitted"),
        KekEvent::Recovered { kek } => tracing::info!(%kek, "key-encryption key reachable again"),
        KekEvent::Unreachable { kek, detail } => tracing::warn!(%kek, detail, "key-encryption key unreachable"),
        KekEvent::FailedOver { kek, to, detail } => tracing::warn!(%kek, %to, detail, "the escrow stands in"),
        KekEvent::Refused { kek, detail } => tracing::error!(%kek, detail, "key-encryption key refused"),
    }
}

fn told(event: KekEvent) -> (Event, Vec<(&'static str, String)>) {
    let (event, facts) = described(event);
    (event, facts.into_iter().map(|(name, value)| fact(name, value)).collect())
}

/// A text of a token as the log takes it: printable ASCII of a bounded length.
pub(super) fn fact(name: &'static str, mut value: String) -> (&'static str, String) {
    value.retain(|letter| letter.is_ascii_graphic() || letter == ' ');
    value.truncate(MOST_FACT_BYTES);
    (name, value)
}

/// LOG-10.
const MOST_FACT_BYTES: usize = 256;

fn described(event: KekEvent) -> (Event, Vec<(&'static str, String)>) {
    match event {
        KekEvent::Admitted { kek, version, facts, attributes } => (
            Event::KekAdmitted,
            vec![
                ("kek", kek.to_string()),
                ("kek_key_version", version.to_string()),
                ("kek_kind", facts.kind.to_owned()),
                ("kek_manufacturer", facts.manufacturer),
                ("kek_model", facts.model),
                ("kek_serial", facts.serial),
                ("kek_version", facts.version),
                ("kek_module", facts.module),
                ("module_digest", facts.module_sha256),
                ("kek_certificate", facts.certificate),
                ("kek_attributes", attributes.join(" ")),
            ],
        ),
        KekEvent::Unreachable { kek, detail } => {
            (Event::KekUnreachable, vec![("kek", kek.to_string()), ("kek_detail", detail)])
        }
        KekEvent::Recovered { kek } => (Event::KekRecovered, vec![("kek", kek.to_string())]),
        KekEvent::FailedOver { kek, to, detail } => (
            Event::KekFailedOver,
            vec![("kek", kek.to_string()), ("kek_escrow", to.to_string()), ("kek_detail", detail)],
        ),
        KekEvent::Refused { kek, detail } => {
            (Event::KekRefused, vec![("kek", kek.to_string()), ("kek_detail", detail)])
        }
    }
}
