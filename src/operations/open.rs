//! `open`: sealed values become plaintext again, in the place where they were sealed.

use crate::names::{Context, Purpose};
use crate::secret::SecretBytes;

use super::ItemError;

/// A request to open; items that the wire format already refused keep their place.
pub struct Open {
    /// Why; policy refuses an opening without one.
    pub purpose: Option<Purpose>,
    /// The items in the caller's order.
    pub items: Vec<Result<OpenItem, ItemError>>,
}

/// One sealed value with its complete context.
pub struct OpenItem {
    /// Where the value was sealed.
    pub context: Context,
    /// The sealed value as text (`kw1.`...).
    pub sealed: String,
    /// How the caller wants it back.
    pub form: Form,
}

/// How a plaintext is given back: the caller says, keyward never sniffs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON text; it must be UTF-8.
    Text,
    /// As base64.
    Bytes,
}

/// An opened value.
pub struct Opened {
    /// The plaintext; UTF-8 if the form is text.
    pub plaintext: SecretBytes,
    /// The form that was asked for.
    pub form: Form,
}
