//! Receipts: proof that a record is durable. A leaf file: only the log can build one.

/// An outcome whose record is durable; the only thing a response can be built from.
#[must_use]
#[derive(Debug)]
pub struct Recorded<T> {
    outcome: T,
    index: u64,
}

impl<T> Recorded<T> {
    pub(super) const fn mint(outcome: T, index: u64) -> Self {
        Self { outcome, index }
    }

    /// The outcome, released.
    pub fn into_outcome(self) -> T {
        self.outcome
    }

    /// The index of the record in the log.
    pub const fn index(&self) -> u64 {
        self.index
    }
}

/// Proof that the intent of a change is durable; a change to keys cannot begin without one and spends it.
#[must_use]
#[derive(Debug)]
pub struct IntentReceipt {
    index: u64,
}

impl IntentReceipt {
    pub(super) const fn mint(index: u64) -> Self {
        Self { index }
    }

    /// The index of the intent record, named again by the outcome record.
    pub const fn index(&self) -> u64 {
        self.index
    }
}
