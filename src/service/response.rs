//! The Response: built from a recorded outcome and nothing else. A leaf file.

use std::sync::Arc;

use crate::audit::Recorded;
use crate::clock::Wall;
use crate::keyring::{Following, KekUse, KeyringView, RewrapReport, RewrapStep, Tally};
use crate::names::KeyringName;
use crate::operations::open::Opened;

use super::{Certificate, CustodyAnswer, PolicyLoaded, Refusal, RewrappedValue};

/// What a caller is told, once it may be told.
pub enum Answer {
    /// Sealed values in the order of the items.
    Sealed(Vec<Result<String, Refusal>>),
    /// Opened values in the order of the items.
    Opened(Vec<Result<Opened, Refusal>>),
    /// Values under the active version, in the order of the items.
    ValuesRewrapped(Vec<Result<RewrappedValue, Refusal>>),
    /// Keyrings.
    Keyrings {
        /// By name.
        keyrings: Vec<Arc<KeyringView>>,
        /// The keyring to go on after; None when there are no more.
        next: Option<KeyringName>,
        /// What was found edited in the store: it may be missing here.
        damaged: Option<String>,
    },
    /// One keyring; also the answer to its making.
    Keyring(Arc<KeyringView>),
    /// A step that takes something away, and who has not followed it; None where that is not known.
    Stepped(Arc<KeyringView>, Option<Following>),
    /// Who has not followed a change.
    Following(Following),
    /// What a shredding did.
    Shredded(Box<Certificate>),
    /// A page of partitions was moved to the active version.
    PartitionsRewrapped {
        /// How many.
        done: u64,
        /// How many still are under older versions.
        remaining: u64,
        /// How many of these cannot be moved: their rows were edited.
        damaged: u64,
    },
    /// A page of the inventory.
    Inventory {
        /// Keyrings by name, each with what was counted of its versions, in their order.
        keyrings: Vec<(Arc<KeyringView>, Vec<Tally>)>,
        /// The keyring to go on after; None when there are no more.
        next: Option<KeyringName>,
        /// When it was made.
        now: Wall,
        /// What was found edited in the store: it may be missing here.
        damaged: Option<String>,
    },
    /// Since when versions of key-encryption keys wrap.
    Keks {
        /// By name and version.
        uses: Vec<KekUse>,
        /// When it was asked.
        now: Wall,
    },
    /// By what keys are wrapped.
    Wraps(RewrapReport),
    /// What a part of a rewrapping did.
    Rewrapped(RewrapStep),
    /// A policy set was put in force.
    PolicyLoaded(PolicyLoaded),
    /// Records of the log as canonical JSON, and the index to go on from.
    Records {
        /// Each with its index.
        records: Vec<(u64, String)>,
        /// The index after the last one given.
        next: u64,
    },
    /// About custody.
    Custody(Box<CustodyAnswer>),
    /// No.
    Refused(Refusal),
}

/// An answer whose record is durable, or the one answer that says that no record could be made.
#[must_use]
pub struct Response {
    body: Body,
}

enum Body {
    Whole(Answer),
}

impl Response {
    pub(super) fn release(recorded: Recorded<Answer>) -> Self {
        Self { body: Body::Whole(recorded.into_outcome()) }
    }

    /// The only response without a record: the log itself cannot take one. It carries no outcome.
    pub(super) const fn unrecorded(refusal: Refusal) -> Self {
        Self { body: Body::Whole(Answer::Refused(refusal)) }
    }

    /// The answer, to be turned into bytes.
    pub fn into_answer(self) -> Answer {
        match self.body {
            Body::Whole(answer) => answer,
        }
    }
}
