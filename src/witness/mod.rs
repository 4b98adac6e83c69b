//! Who outside has seen the log, and what does keyward say when somebody asks it to be that outsider? Both sides of C2SP
//! tlog-witness: [`Witnesses`] offers checkpoints of our log, [`Desk`] cosigns those of others.
//! Nothing that a request waits for happens here, unless a ceremony asked for it; and no witness is believed more than what
//! the log's own key signed.

mod ask;
mod desk;
mod follow;
mod listen;
#[cfg(test)]
mod tests;

pub use ask::{Conflict, Trouble};
pub use desk::{Desk, DeskError, Reply};
pub use follow::{Covered, Standing, Witnesses};
pub use listen::{Listening, TlsFiles, listen};

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::{TrustError, WitnessPolicy};
use crate::client::{FetchUrl, Trust, UrlError};

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The policy file (C2SP tlog-policy), with the submission prefix of each witness.
    pub policy: PathBuf,
    /// How the witnesses' servers are believed.
    pub trust: Trust,
    /// How often a checkpoint is offered while the log grows.
    pub every: Duration,
    /// How long a witness may take.
    pub within: Duration,
    /// Whether a start waits for a quorum, and not only for the answers that come in time.
    pub required_at_start: bool,
    /// Whether what destroys or weakens waits until a quorum has cosigned that it is about to happen.
    pub required_for_tier3: bool,
}

/// A policy with where each witness is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who must cosign.
    pub policy: WitnessPolicy,
    /// Its text.
    pub text: String,
    /// The submission prefixes, in the order of the policy.
    pub prefixes: Vec<FetchUrl>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyProblem {
    /// It cannot be read.
    #[error("cannot read the witness policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// It is none.
    #[error("{}: {source}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: TrustError,
    },
    /// A witness cannot be asked.
    #[error("{}: the URL of the witness {name} {}", path.display(), why.as_ref().map_or("is missing".to_owned(), UrlError::to_string))]
    Url {
        /// The file.
        path: PathBuf,
        /// Which witness.
        name: String,
        /// What is wrong with it.
        why: Option<UrlError>,
    },
    /// Nobody would have to cosign.
    #[error("{}: `quorum none` asks for nobody: name witnesses, or remove [witness]", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
    },
    /// It is for other logs.
    #[error("{}: it names logs, and {origin} is not among them", path.display())]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
    },
    /// Nothing says by whom a certificate is to be vouched for.
    #[error("{}: a witness has an https URL, and witness.ca_file is missing", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
    },
}

impl Settings {
    /// Reads the policy.
    pub fn read(&self) -> Result<Known, PolicyProblem> {
        let path = || self.policy.clone();
        let text = std::fs::read_to_string(&self.policy);
        let text = text.map_err(|source| PolicyProblem::Read { path: path(), source })?;
        let policy = WitnessPolicy::parse(&text).map_err(|source| PolicyProblem::Wrong { path: path(), source })?;
        if policy.satisfied(&|_| false) {
            return Err(PolicyProblem::Nobody { path: path() });
        }
        let prefix = |witness: &crate::audit::Witness| {
            let wrong = |why| PolicyProblem::Url { path: path(), name: witness.name.clone(), why };
            let url = witness.url.as_ref().ok_or_else(|| wrong(None))?;
            url.trim_end_matches('/').parse::<FetchUrl>().map_err(|why| wrong(Some(why)))
        };
        let prefixes = policy.witnesses().iter().map(prefix).collect::<Result<Vec<_>, _>>()?;
        if self.trust.ca_file.is_none() && prefixes.iter().any(FetchUrl::is_tls) {
            return Err(PolicyProblem::Authority { path: path() });
        }
        Ok(Known { policy, text, prefixes })
    }
}
