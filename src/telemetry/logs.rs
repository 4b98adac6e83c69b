//! The log lines: text for a terminal, JSON for a collector, on standard error. The libraries that would print frames
//! or headers are capped at warnings, whatever the filter says: their debug output holds plaintext.

use std::io;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How lines look.
    pub format: Format,
    /// Which lines: directives such as `info` or `keyward::kek=debug`.
    pub filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".to_owned() }
    }
}

/// Why logging did not start or change.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter is not one")]
    Filter(#[source] ParseError),
    /// The process has a subscriber.
    #[error("log lines are already being written")]
    AlreadyStarted,
    /// The subscriber is gone.
    #[error("log lines are no longer written")]
    Stopped,
}

/// The running log, to change its filter.
#[derive(Debug, Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Replaces the filter.
    pub fn refilter(&self, directives: &str) -> Result<(), TelemetryError> {
        self.filter.reload(parse(directives)?).map_err(|_| TelemetryError::Stopped)
    }
}

/// Writes log lines to standard error for the rest of the process.
pub fn start_logs(settings: &Settings) -> Result<Logs, TelemetryError> {
    let (subscriber, logs) = subscriber(settings, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(logs)
}

fn subscriber<W>(settings: &Settings, writer: W) -> Result<(impl Subscriber + Send + Sync, Logs), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(&settings.filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match settings.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(cap()).with(lines);
    Ok((subscriber, Logs { filter: handle }))
}

fn parse(directives: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(directives).map_err(TelemetryError::Filter)
}

fn cap() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|line| match of(line.target()) {
        // Every failed call is an error or four to them: what it means stands in the audit log and in the health.
        "rustify" | "vaultrs" => false,
        // They print what travels.
        "h2" | "hyper" | "hyper_util" | "rustls" | "tokio_postgres" | "reqwest" => *line.level() <= Level::WARN,
        _ => true,
    })
}

fn of(target: &str) -> &str {
    target.split("::").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, filter: &str, act: impl FnOnce(&Logs)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = Settings { format, filter: filter.to_owned() };
        let (subscriber, logs) = subscriber(&settings, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || act(&logs));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_filter_makes_the_http_libraries_print_what_travels() {
        for filter in ["trace", "h2=trace,hyper=trace", "h2::codec=trace"] {
            let text = written(Format::Text, filter, |_| {
                tracing::debug!(target: "h2::codec::framed_read", "frame with a plaintext");
                tracing::trace!(target: "hyper::proto", "head with a token");
                tracing::warn!(target: "h2::codec", "a warning");
            });
            assert!(!text.contains("plaintext") && !text.contains("token"), "{text}");
            assert!(text.contains("a warning"), "{text}");
        }
    }

    #[test]
    fn the_filter_can_be_replaced_and_a_bad_one_is_refused() {
        let text = written(Format::Json, "warn", |logs| {
            tracing::info!("unheard");
            logs.refilter("info").unwrap();
            tracing::info!(request = "r-1", "heard");
            assert!(matches!(logs.refilter("keyward=loud"), Err(TelemetryError::Filter(_))));
        });
        assert!(!text.contains("unheard"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["message"], &line["request"]), (&"heard".into(), &"r-1".into()));
    }
}
