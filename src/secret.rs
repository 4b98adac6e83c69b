//! Where do secret bytes live? In memory that is wiped, compared in constant time and never printed.

/// Secret bytes of any length on the heap: zeroised when dropped, no Debug of content, no Clone.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes ownership; the source buffer must be this one.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes. Every use is reviewable: search for `expose`.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
