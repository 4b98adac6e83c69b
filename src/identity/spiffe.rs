//! What is a SPIFFE id? The strict form of the standard and nothing beside it: two spellings of one id would be two ids.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A trust domain: `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

/// The id of a workload: `spiffe://example.org/ns/clinic/sa/portal`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins.
    path_at: usize,
}

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Another scheme, or none.
    #[error("a SPIFFE id begins with spiffe://")]
    Scheme,
    /// Longer than the standard has it.
    #[error("a SPIFFE id has at most 2048 bytes")]
    TooLong,
    /// The trust domain.
    #[error("a trust domain has 1 to 255 of a-z 0-9 . - _ and neither port nor user")]
    Domain,
    /// The path.
    #[error("the path of a workload's id is one or more /segments of A-Z a-z 0-9 . - _, none of them . or ..")]
    Path,
}

/// SPIFFE-ID 2.3.
const MOST_ID: usize = 2_048;
const MOST_DOMAIN: usize = 255;

impl TrustDomain {
    /// The domain alone, without a scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > MOST_DOMAIN || !text.bytes().all(fine) {
            return Err(SpiffeError::Domain);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SpiffeId {
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it belongs to the domain.
    pub fn is_of(&self, domain: &TrustDomain) -> bool {
        self.text.get(SCHEME.len()..self.path_at) == Some(domain.as_str())
    }
}

const SCHEME: &str = "spiffe://";

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MOST_ID {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeError::Path)?;
        domain.parse::<TrustDomain>()?;
        if !path.split('/').all(is_segment) {
            return Err(SpiffeError::Path);
        }
        Ok(Self { text: text.into(), path_at: SCHEME.len() + domain.len() })
    }
}

fn is_segment(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(fine)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id: SpiffeId = "spiffe://example.org/ns/clinic/sa/Portal_1.x-y".parse().unwrap();
        assert!(id.is_of(&"example.org".parse().unwrap()));
        for foreign in ["example.or", "example.org.evil", "xample.org"] {
            assert!(!id.is_of(&foreign.parse().unwrap()), "{foreign}");
        }
        for (text, expected) in [
            ("SPIFFE://example.org/a", SpiffeError::Scheme),
            ("https://example.org/a", SpiffeError::Scheme),
            ("spiffe://example.org", SpiffeError::Path),
            ("spiffe://example.org/", SpiffeError::Path),
            ("spiffe://example.org/a/", SpiffeError::Path),
            ("spiffe://example.org//a", SpiffeError::Path),
            ("spiffe://example.org/a/../b", SpiffeError::Path),
            ("spiffe://example.org/%61", SpiffeError::Path),
            ("spiffe://example.org/a?b", SpiffeError::Path),
            ("spiffe://Example.org/a", SpiffeError::Domain),
            ("spiffe://example.org:80/a", SpiffeError::Domain),
            ("spiffe://user@example.org/a", SpiffeError::Domain),
            ("spiffe:///a", SpiffeError::Domain),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(expected), "{text}");
        }
        let long = format!("spiffe://example.org/{}", "a".repeat(2_048));
        assert_eq!(long.parse::<SpiffeId>(), Err(SpiffeError::TooLong));
    }
}
