//! How does a decision get its signature? By a key at hand, or elsewhere: then the exact text goes out and a signature comes
//! back, over a text that is computed anew from the same proposal.

use std::path::PathBuf;

use crate::ceremony::proposal::Proposal;
use crate::cli::consent::Consent;
use crate::cli::failure::{Context, Exit, Failure};
use crate::cli::moment::{self, Until};
use crate::cli::sign::{self, Key};
use crate::names::PrincipalName;
use crate::policy::approval::{Decision, Word};

/// How it is signed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Pen {
    #[command(flatten)]
    key: Key,
    /// Until when the decision may be used, 24h or 2026-01-31T00:00:00Z; as long as the proposal if not given
    #[arg(long, value_name = "WHEN")]
    expires: Option<Until>,
    /// Print the exact text to standard output instead, to sign it elsewhere
    #[arg(long, conflicts_with_all = ["key", "signature"])]
    print: bool,
    /// The signature that was made elsewhere of the text that --print gave
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

/// A decision with its signature.
pub(in crate::cli) struct Signed {
    pub(in crate::cli) text: String,
    pub(in crate::cli) signature: String,
}

/// What is decided about a proposal.
pub(in crate::cli) struct Wanted<'a> {
    pub(in crate::cli) proposal: &'a Proposal,
    pub(in crate::cli) word: Word,
    pub(in crate::cli) person: &'a PrincipalName,
    pub(in crate::cli) reason: &'a str,
    /// Until when it may be used if nothing else is said, in seconds since 1970.
    pub(in crate::cli) until: u64,
}

impl Pen {
    /// Refuses what cannot lead to a signature, before the sidecar is asked for anything.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        if self.signature.is_some() && matches!(self.expires, Some(Until::For(_))) {
            return Err(Failure::new(Exit::Usage, "the time of --expires must be the one that was signed")
                .hint("give it as --print told it, as in --expires 2026-01-31T00:00:00Z"));
        }
        if self.signs() { self.key.named().map(|_| ()) } else { Ok(()) }
    }

    /// Whether a person is about to sign here.
    pub(in crate::cli) const fn signs(&self) -> bool {
        !self.print && self.signature.is_none()
    }

    /// Signs what was shown; None when its text was printed for signing elsewhere.
    pub(in crate::cli) fn sign(&self, wanted: &Wanted<'_>) -> Result<Option<Signed>, Failure> {
        let decision = self.decision(wanted)?;
        let (text, namespace) = (decision.text(), wanted.proposal.namespace());
        if self.print {
            print!("{text}");
            eprintln!("effect: {}", wanted.proposal.effect);
            elsewhere(&decision, namespace);
            return Ok(None);
        }
        if let Some(file) = &self.signature {
            return Ok(Some(Signed { text, signature: sign::read_signature(file)? }));
        }
        let key = self.key.named()?;
        self.consent.ask(&format!("{} this as {}?", wanted.word, wanted.person))?;
        let signature = sign::sign(&text, namespace, key)?;
        Ok(Some(Signed { text, signature }))
    }

    fn decision(&self, wanted: &Wanted<'_>) -> Result<Decision, Failure> {
        let Wanted { proposal, word, person, reason, until } = *wanted;
        let decision = Decision {
            ceremony: proposal.ceremony.to_string(),
            digest: proposal.digest(),
            word,
            person: person.clone(),
            reason: reason.to_owned(),
            expires_s: self.expires.map_or(until, Until::seconds),
        };
        Decision::parse(&decision.text()).doing(Exit::Usage, "this cannot be signed")
    }
}

/// How to sign it where the key is, told beside the text.
fn elsewhere(decision: &Decision, namespace: &str) {
    eprintln!("sign the seven lines above in a file of their own, without any change:");
    eprintln!("  {}", sign::by_hand(namespace, "FILE"));
    eprintln!("then the same command with --signature FILE.sig --expires {}", moment::shown(decision.expires_s));
}
