//! What is wrong with a document, and where? Positions and element names only: an error never carries a value.

use std::fmt;

/// A place in a document: byte offset from 0, line and column from 1; the column counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Bytes before the place.
    pub offset: usize,
    /// Line feeds before the place, plus one.
    pub line: usize,
    /// Bytes since the last line feed, plus one.
    pub column: usize,
}

impl Position {
    pub(super) fn of(document: &[u8], offset: usize) -> Self {
        let before = document.get(..offset).unwrap_or(document);
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Self { offset, line, column: before.len() - line_start + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} (byte {})", self.line, self.column, self.offset)
    }
}

/// Why a text is not the JSON that `fields` accepts (FLD-1 to FLD-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanFault {
    /// The document begins with U+FEFF.
    #[error("the document begins with a byte order mark; remove it")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    InvalidUtf8,
    /// The document stops inside a value.
    #[error("the document ends too early")]
    UnexpectedEnd,
    /// Another byte was needed here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// Something follows the document's value.
    #[error("something follows the end of the document")]
    TrailingContent,
    /// A raw control character within a string.
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    /// A backslash with something else than RFC 8259 allows.
    #[error("an escape that JSON does not have")]
    InvalidEscape,
    /// Not a number of RFC 8259.
    #[error("not a JSON number")]
    InvalidNumber,
    /// An object with the same name twice.
    #[error("an object has the same name twice")]
    DuplicateKey,
    /// More nested containers than [`super::MAX_DEPTH`].
    #[error("more than {} nested objects and arrays", super::MAX_DEPTH)]
    TooDeep,
    /// Offsets are 32 bits wide.
    #[error("the document is 4 GiB or larger")]
    TooLarge,
}

/// Why a document was refused. All of them ask the caller to change the document or what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// Not the JSON that is accepted.
    #[error("{fault} at {at}")]
    Syntax {
        /// What is wrong.
        fault: ScanFault,
        /// Where.
        at: Position,
    },
    /// No usable `resourceType` where a resource must be.
    #[error("resource_type_missing: no resource with a resourceType at {at}")]
    ResourceTypeMissing {
        /// Where the resource begins.
        at: Position,
    },
    /// A value is selected in a resource that has no id, and the caller gave none.
    #[error("resource_id_missing: the {kind} at {at} has no id; give it one or name it to the call")]
    ResourceIdMissing {
        /// The resource type.
        kind: String,
        /// Where the resource begins.
        at: Position,
    },
    /// Two resources of one document would give the same contexts, so their values could be exchanged unseen.
    #[error("the {kind} at {at} has the type and id of an earlier resource; put them into separate documents")]
    ResourceTwice {
        /// The resource type.
        kind: String,
        /// Where the second one begins.
        at: Position,
    },
    /// Resource and path are too long for a context.
    #[error("the element at {at} lies too deep: resource and path exceed {} bytes", super::MAX_PLACE_BYTES)]
    PlaceTooLong {
        /// Where the value begins.
        at: Position,
    },
    /// A value to seal is a sealed value already.
    #[error("already sealed: {path} at {at}")]
    AlreadySealed {
        /// The element.
        path: String,
        /// Where the value begins.
        at: Position,
    },
    /// A span of `splice` is not a string of this document, or spans overlap or are out of order.
    #[error("replacement {index} does not fit a string of the document")]
    SpanMismatch {
        /// Which replacement, from 0.
        index: usize,
    },
    /// A replacement would end its string early or is not JSON string content.
    #[error("replacement {index} is not the inside of a JSON string")]
    ReplacementInvalid {
        /// Which replacement, from 0.
        index: usize,
    },
}

impl FieldsError {
    /// The same error for a document in which the part that failed begins at `base`.
    pub(super) fn moved(mut self, whole: &[u8], base: usize) -> Self {
        match &mut self {
            Self::Syntax { at, .. }
            | Self::ResourceTypeMissing { at }
            | Self::ResourceIdMissing { at, .. }
            | Self::ResourceTwice { at, .. }
            | Self::PlaceTooLong { at }
            | Self::AlreadySealed { at, .. } => *at = Position::of(whole, base + at.offset),
            Self::SpanMismatch { .. } | Self::ReplacementInvalid { .. } => {}
        }
        self
    }
}
