//! Which clause of FORMAT.md does a log break, and where? The finding that recovery and verification report.

use std::fmt;
use std::path::PathBuf;

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $clause:literal, $says:literal;)+) => {
        /// A clause of FORMAT.md that a directory can break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = concat!($clause, ": ", $says, ".")] $variant,)+
        }

        impl Rule {
            /// The clause of FORMAT.md.
            pub const fn clause(self) -> &'static str {
                match self { $(Self::$variant => $clause),+ }
            }

            /// What the clause demands.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says),+ }
            }
        }
    };
}

rules! {
    Directory = "LOG-1", "the directory holds the files of a log";
    Segments = "LOG-2", "the segments follow each other and are named by their first index";
    Frame = "LOG-3", "a frame begins where the last one ended and is whole";
    FrameVersion = "LOG-4", "the frame version is known and reserved bits are zero";
    FrameLengths = "LOG-5", "the records fill the frame";
    Checksum = "LOG-6", "the checksum of a frame matches";
    FirstIndex = "LOG-7", "a frame begins at the index after the last record";
    Time = "LOG-8", "time never goes backwards and a record's time is its frame's";
    Canonical = "LOG-9", "a record is canonical JSON";
    Schema = "LOG-10", "a record has the fields of its schema and no other";
    RecordIndex = "LOG-11", "a record names its own index";
    Root = "LOG-12", "the root of a frame is that of the tree after it";
    Parts = "LOG-13", "the parts of a record follow each other in one frame";
    Note = "LOG-14", "a checkpoint is a signed note of this log";
    Key = "LOG-15", "the log has one name, and the key that is given is one of its keys";
    History = "LOG-16", "every checkpoint is the tree at its size";
    Cut = "LOG-17", "the log reaches at least to its newest checkpoint";
    Torn = "LOG-19", "a torn tail is kept as it was found";
    Intents = "LOG-21", "an outcome closes one open intent";
    Events = "LOG-22", "the event is on the closed list";
    Tiles = "LOG-27", "an export holds the tiles of its checkpoint";
    Bundle = "LOG-28", "an entry bundle holds the records of its tile";
    Hashes = "LOG-29", "a hash tile holds the hashes of its place in the tree";
    Succession = "LOG-32", "each key of the log is named by a record and took over from the one before it";
    Witnessed = "LOG-35", "a quorum of witnesses cosigned a checkpoint of this log";
    Proof = "LOG-34", "a proof leads from its record to the checkpoint";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.clause(), self.says())
    }
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index}: {rule}: {detail} ({} at byte {offset})", file.display())]
pub struct Finding {
    /// The clause that is broken.
    pub rule: Rule,
    /// The first record that is bad or missing.
    pub index: u64,
    /// What is wrong with it.
    pub detail: String,
    /// The file.
    pub file: PathBuf,
    /// The byte in the file where the bad frame or note begins.
    pub offset: u64,
}

/// What is wrong, before it is known in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) rule: Rule,
    pub(super) index: u64,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(rule: Rule, index: u64, detail: impl Into<String>) -> Self {
        Self { rule, index, detail: detail.into() }
    }

    pub(super) fn at(self, file: impl Into<PathBuf>, offset: u64) -> Finding {
        Finding { rule: self.rule, index: self.index, detail: self.detail, file: file.into(), offset }
    }
}
