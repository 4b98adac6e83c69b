//! What must hold before any key is touched: a hardened process, locked memory, primitives that still compute right.

use crate::config::Config;
use crate::crypto::{self, SelfTestError};
use crate::secret::{self, HardenError, SlabError};

/// Why the process is not fit to hold keys.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// The process could be dumped.
    #[error("cannot harden the process")]
    Harden(#[from] HardenError),
    /// Memory for keys cannot be locked.
    #[error("cannot lock memory for keys")]
    Memory(#[from] SlabError),
    /// A primitive computes wrong values.
    #[error("refusing to start")]
    SelfTest(#[from] SelfTestError),
}

impl ProtectError {
    /// What the operator should do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Harden(_) => "allow prctl and setrlimit for this service",
            Self::Memory(_) => {
                "raise the limit of locked memory (LimitMEMLOCK=), or set memory.on_lock_failure = \"warn\""
            }
            Self::SelfTest(_) => "do not use this build on this machine; report the processor and the version",
        }
    }
}

/// Protects this process; called once, before the first key.
pub fn protect(config: &Config) -> Result<(), ProtectError> {
    secret::harden_process()?;
    secret::install(&config.memory)?;
    Ok(crypto::self_test()?)
}
