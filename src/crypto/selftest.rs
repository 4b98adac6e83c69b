//! Do the primitives still compute what the standards say? Run once at start; a failure stops the sidecar.

/// Which primitive failed its known answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the self-test of {0} failed")]
pub struct SelfTestError(pub &'static str);

/// One known answer of each primitive, and `ring` against `aes-gcm`.
pub fn self_test() -> Result<(), SelfTestError> {
    todo!()
}
