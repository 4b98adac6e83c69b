//! How do records reach a collector behind HTTP? In posts; only an answer that says so counts as taken.

use std::time::Duration;

use serde::Deserialize;

use crate::client::{FetchUrl, Post, post};
use crate::clock::SharedClock;

use super::batch::Batch;
use super::{HttpKind, HttpSettings, Problem};

/// How long one post may take.
const WITHIN: Duration = Duration::from_secs(20);
/// An answer is a few words.
const ANSWER: usize = 64 * 1024;
/// How often, and how long, the indexer's acknowledgement is asked for.
const ASK: Duration = Duration::from_millis(500);
const ASKS: u32 = 120;

pub(super) struct Http {
    settings: HttpSettings,
    /// A GUID as Splunk wants it, of this log and sink.
    channel: String,
    clock: SharedClock,
}

/// What the event collector answers.
#[derive(Deserialize)]
struct Taken {
    code: i64,
    #[serde(default, rename = "ackId")]
    ack: Option<u64>,
}

#[derive(Deserialize)]
struct Acks {
    acks: std::collections::BTreeMap<String, bool>,
}

impl Http {
    pub(super) fn new(settings: HttpSettings, origin: &str, name: &str, clock: SharedClock) -> Self {
        let digest = hex::encode(crate::audit::leaf(format!("{origin} {name}").as_bytes()));
        let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
        let channel = format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32));
        Self { settings, channel, clock }
    }

    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), Problem> {
        match self.settings.kind {
            HttpKind::Lines => self.lines(batch).await,
            HttpKind::Splunk | HttpKind::SplunkAcknowledged => self.splunk(batch).await,
        }
    }

    async fn lines(&self, batch: &Batch) -> Result<(), Problem> {
        let mut body = Vec::new();
        for item in &batch.items {
            body.extend_from_slice(&item.line);
            body.push(b'\n');
        }
        self.send(&self.settings.url, "application/x-ndjson", body).await.map(|_| ())
    }

    async fn splunk(&self, batch: &Batch) -> Result<(), Problem> {
        let mut body = Vec::new();
        for item in &batch.items {
            let (seconds, micros) = (item.time / 1_000_000, item.time % 1_000_000);
            body.extend_from_slice(
                format!(r#"{{"time":{seconds}.{micros:06},"source":"keyward","sourcetype":"keyward:audit","event":"#)
                    .as_bytes(),
            );
            body.extend_from_slice(&event(&item.line));
            body.extend_from_slice(b"}\n");
        }
        let answer = self.send(&self.settings.url, "application/json", body).await?;
        let taken: Taken =
            serde_json::from_slice(&answer).map_err(|_| self.lying("no answer of an event collector"))?;
        if taken.code != 0 {
            return Err(Problem::new("refused", format!("{}: code {}", self.settings.url.as_str(), taken.code)));
        }
        match (self.settings.kind, taken.ack) {
            (HttpKind::SplunkAcknowledged, Some(ack)) => self.acknowledged(ack).await,
            (HttpKind::SplunkAcknowledged, None) => {
                Err(self.lying("no ackId: turn on indexer acknowledgement for the token, or remove acknowledge"))
            }
            _ => Ok(()),
        }
    }

    /// Asks until the indexer has it.
    async fn acknowledged(&self, ack: u64) -> Result<(), Problem> {
        let url = self.settings.url.beside("/services/collector/ack");
        for _ in 0..ASKS {
            let answer = self.send(&url, "application/json", format!(r#"{{"acks":[{ack}]}}"#).into_bytes()).await?;
            let acks: Acks = serde_json::from_slice(&answer).map_err(|_| self.lying("no answer about an ackId"))?;
            if acks.acks.get(&ack.to_string()) == Some(&true) {
                return Ok(());
            }
            self.clock.sleep_until(self.clock.mono().plus(ASK)).await;
        }
        Err(Problem::new("timeout", format!("{}: the indexer did not acknowledge", url.as_str())))
    }

    async fn send(&self, url: &FetchUrl, content: &'static str, body: Vec<u8>) -> Result<Vec<u8>, Problem> {
        let scheme = if self.settings.kind == HttpKind::Lines { "Bearer" } else { "Splunk" };
        let channel =
            (self.settings.kind != HttpKind::Lines).then_some(("x-splunk-request-channel", self.channel.as_str()));
        let sent = Post { url, trust: &self.settings.trust, scheme, content, extra: channel, body };
        let answer = post(sent, WITHIN, ANSWER).await.map_err(|error| Problem::new(error.code(), error))?;
        Ok(answer)
    }

    fn lying(&self, why: &str) -> Problem {
        Problem::new("answer", format!("{}: {why}", self.settings.url.as_str()))
    }
}

/// The event of a line: JSON as it is, any other text as a JSON string.
fn event(line: &[u8]) -> Vec<u8> {
    if line.first() == Some(&b'{') {
        return line.to_vec();
    }
    serde_json::to_vec(&String::from_utf8_lossy(line)).unwrap_or_default()
}
