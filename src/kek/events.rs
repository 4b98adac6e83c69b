//! What happened to a key-encryption key that the audit log must say? Values in a bounded queue, drained by the service.
//! This module never waits: a full queue is counted, and the count becomes a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::names::KekName;

use super::KekFacts;

/// One change in the life of a KEK. Steady states are not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KekEvent {
    /// Attributes, canary and negative test passed.
    Admitted {
        /// Which KEK.
        kek: KekName,
        /// Its version.
        version: u32,
        /// What it says of itself.
        facts: Box<KekFacts>,
        /// The KEK's attributes as the token reports them (`sensitive=true`, ...); empty for a file.
        attributes: Vec<String>,
    },
    /// It could be reached and no longer can.
    Unreachable {
        /// Which KEK.
        kek: KekName,
        /// The return code or system error.
        detail: String,
    },
    /// It could not be reached or refused, and a canary has opened again.
    Recovered {
        /// Which KEK.
        kek: KekName,
    },
    /// It cannot be reached, and another one unwraps in its stead.
    FailedOver {
        /// Which KEK is away.
        kek: KekName,
        /// Which one unwraps.
        to: KekName,
        /// What was heard from the one that is away.
        detail: String,
    },
    /// It answered and said no.
    Refused {
        /// Which KEK.
        kek: KekName,
        /// The return code in words.
        detail: String,
    },
}

/// Where events go: a bounded queue and the count of those that found it full.
#[derive(Debug, Clone)]
pub struct EventSink {
    queue: mpsc::Sender<KekEvent>,
    overflow: Arc<AtomicU64>,
}

impl EventSink {
    /// A sink into the queue.
    pub fn new(queue: mpsc::Sender<KekEvent>) -> Self {
        Self { queue, overflow: Arc::default() }
    }

    /// Queues an event, or counts it when the queue is full or nobody listens any more.
    pub fn emit(&self, event: KekEvent) {
        if self.queue.try_send(event).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were lost since the last call.
    pub fn take_overflow(&self) -> u64 {
        self.overflow.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_finds_the_queue_full_is_counted_once() {
        let (sender, mut receiver) = mpsc::channel(1);
        let sink = EventSink::new(sender);
        let event = KekEvent::Recovered { kek: "primary".parse().unwrap() };
        sink.emit(event.clone());
        sink.emit(event.clone());
        assert_eq!(sink.take_overflow(), 1);
        assert_eq!(sink.take_overflow(), 0);
        assert_eq!(receiver.try_recv(), Ok(event));
    }
}
