//! The context that binds a sealed value to its place: key and value pairs that the caller gives to seal and again to open.

use std::fmt;

/// Pairs that a caller may give; two of the 64 of ENV's canonical context are left to keyward itself.
pub const MAX_CALLER_PAIRS: usize = 62;
/// Keys and values of one context together, in bytes (the canonical form allows 8 KiB with keyward's own pairs).
pub const MAX_CONTEXT_BYTES: usize = 7 * 1024;
/// Keys with this prefix are set by keyward alone.
pub const RESERVED_PREFIX: &str = "kw.";

/// Sorted pairs without duplicates. Values may identify a patient, so Debug shows the keys only.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Context(Vec<(Box<str>, Box<str>)>);

/// Why a context was refused; never says a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// A key occurs twice.
    #[error("a context key is given twice")]
    Duplicate,
    /// A key begins with `kw.`.
    #[error("context keys that begin with kw. are reserved")]
    Reserved,
    /// A key is empty.
    #[error("a context key is empty")]
    EmptyKey,
    /// More than [`MAX_CALLER_PAIRS`] pairs.
    #[error("the context has more than {MAX_CALLER_PAIRS} pairs")]
    TooMany,
    /// More than [`MAX_CONTEXT_BYTES`] bytes.
    #[error("the context is larger than {MAX_CONTEXT_BYTES} bytes")]
    TooLarge,
    /// Two sources give one key different values.
    #[error("the same context key is given two values")]
    Conflict,
}

impl Context {
    /// Sorts and checks the pairs of a caller.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ContextError> {
        let mut sorted: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str())).collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let context = Self(sorted);
        context.check()?;
        Ok(context)
    }

    fn check(&self) -> Result<(), ContextError> {
        if self.0.len() > MAX_CALLER_PAIRS {
            return Err(ContextError::TooMany);
        }
        if self.0.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_CONTEXT_BYTES {
            return Err(ContextError::TooLarge);
        }
        for (key, _) in &self.0 {
            if key.is_empty() {
                return Err(ContextError::EmptyKey);
            }
            if key.starts_with(RESERVED_PREFIX) {
                return Err(ContextError::Reserved);
            }
        }
        if self.0.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return Err(ContextError::Duplicate);
        }
        Ok(())
    }

    /// Both contexts in one; a key with two different values is an error, the same value twice is not.
    pub fn merge(&self, other: &Self) -> Result<Self, ContextError> {
        let mut pairs = self.0.clone();
        for (key, value) in &other.0 {
            match self.get(key) {
                Some(same) if *same == **value => {}
                Some(_) => return Err(ContextError::Conflict),
                None => pairs.push((key.clone(), value.clone())),
            }
        }
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let merged = Self(pairs);
        merged.check()?;
        Ok(merged)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// The pairs in the order of their keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Whether there is no pair.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(k, _)| k)).finish()
    }
}
