//! Does one way of wrapping work? Keys that go with their session, random bytes there and back, and what must be refused.
//! This module never wraps anything but random bytes, and tries more than the profile's own way on temporary keys only: a
//! wrong IV mode encrypts under a known IV.

use crate::crypto::{self, canonical};
use crate::kek::pkcs11::{KeyAttributes, KeyRole, Trouble, Workbench};
use crate::kek::profile::WrapMethod;
use crate::secret::SecretBytes;

use super::rates::{self, Pace};
use super::report::Rate;

/// One table, tried.
pub(super) struct Tried {
    pub(super) table: WrapMethod,
    /// The keys that it was tried with, as the token reports them.
    pub(super) keys: Vec<(KeyRole, KeyAttributes)>,
    /// Whether MODIFIABLE=false may stand in the template of a key; None if that was not tried.
    pub(super) unmodifiable: Option<bool>,
    pub(super) outcome: Outcome,
    pub(super) context: Option<Refused>,
    pub(super) changed: Option<Refused>,
    /// The length of a wrap.
    pub(super) len: usize,
    pub(super) rates: Vec<Rate>,
    /// Whether the temporary keys went.
    pub(super) gone: bool,
}

/// Whether it works.
pub(super) enum Outcome {
    Works,
    Fails(Stage, Why),
    NotTried(String),
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Key(KeyRole),
    Wrap,
    Unwrap,
    Context,
    Changed,
}

/// What stopped it.
pub(super) enum Why {
    Trouble(Trouble),
    Other(&'static str),
}

/// What became of something that must not open.
pub(super) enum Refused {
    /// It opened.
    Opened,
    /// It gave other bytes, which nothing that keyward sealed opens under.
    OtherBytes,
    /// It was refused.
    With(Trouble),
}

/// The key to try on.
pub(super) enum On<'a> {
    /// One of our own, with MODIFIABLE=false in its template or not.
    Temporary { unmodifiable: bool },
    /// One of the token's.
    Named(&'a str),
}

/// Tries a table.
pub(super) async fn run(bench: &mut Workbench, table: &WrapMethod, on: &On<'_>, pace: Pace) -> Tried {
    let mut tried = Tried {
        table: table.clone(),
        keys: Vec::new(),
        unmodifiable: None,
        outcome: Outcome::Works,
        context: None,
        changed: None,
        len: 0,
        rates: Vec::new(),
        gone: true,
    };
    if let Err(error) = bench.open().await {
        tried.outcome = Outcome::NotTried(format!("the token cannot be opened again: {error}"));
        return tried;
    }
    let label = match on {
        On::Named(label) => (*label).to_owned(),
        On::Temporary { .. } => temporary_label(),
    };
    bench.aim(table, &label);
    let outcome = match on {
        On::Named(_) => tried.find(bench).await,
        On::Temporary { unmodifiable } => tried.make(bench, *unmodifiable).await,
    };
    tried.outcome = match outcome {
        Ok(()) => tried
            .exercise(bench, pace)
            .await
            .map_or_else(|(stage, why)| Outcome::Fails(stage, why), |()| Outcome::Works),
        Err(outcome) => outcome,
    };
    if matches!(on, On::Temporary { .. }) {
        // Where the worker is lost its session went with it, and the keys with the session.
        tried.gone = bench.discard().await.unwrap_or(true);
    }
    tried
}

type Step = Result<(), (Stage, Why)>;

impl Tried {
    async fn find(&mut self, bench: &mut Workbench) -> Result<(), Outcome> {
        let mac = bench.has_mac().then_some(KeyRole::Mac);
        for role in [Some(bench.role()), mac].into_iter().flatten() {
            let found = bench.find(role).await;
            let attributes = found.map_err(|trouble| Outcome::Fails(Stage::Key(role), Why::Trouble(trouble)))?;
            self.keys.push((role, attributes));
        }
        Ok(())
    }

    async fn make(&mut self, bench: &mut Workbench, unmodifiable: bool) -> Result<(), Outcome> {
        let failed = |(role, trouble)| Outcome::Fails(Stage::Key(role), Why::Trouble(trouble));
        let Some(made) = bench.make(unmodifiable).await else {
            return Err(Outcome::NotTried("its keys are made with the vendor's tools".into()));
        };
        self.keys = match made {
            Ok(keys) => {
                self.unmodifiable = unmodifiable.then_some(true);
                keys
            }
            Err(first) if unmodifiable => {
                bench.discard().await.map_err(|trouble| failed((bench.role(), trouble)))?;
                match bench.make(false).await {
                    Some(Ok(keys)) => {
                        self.unmodifiable = Some(false);
                        keys
                    }
                    _ => return Err(failed(first)),
                }
            }
            Err(first) => return Err(failed(first)),
        };
        Ok(())
    }

    async fn exercise(&mut self, bench: &mut Workbench, pace: Pace) -> Step {
        let lost = |error: crypto::CryptoError| (Stage::Wrap, Why::Trouble(Trouble::Lost(error.to_string())));
        let mut plain = SecretBytes::zeroed(32);
        crypto::random(plain.expose_mut()).map_err(lost)?;
        let (right, wrong) = (context("open"), context("refuse"));
        let blob = self.wrap(bench, &plain, &right).await?;
        let opens = |opened: Result<SecretBytes, Trouble>| match opened {
            Ok(bytes) if bytes == plain => Ok(()),
            Ok(_) => Err((Stage::Unwrap, Why::Other("it gives back other bytes"))),
            Err(trouble) => Err((Stage::Unwrap, Why::Trouble(trouble))),
        };
        opens(bench.unwrap(&blob, &right).await)?;
        if bench.checks_context() {
            self.context = Some(refused(bench.unwrap(&blob, &wrong).await, &plain));
        }
        let mut changed = blob.clone();
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        self.changed = Some(refused(bench.unwrap(&changed, &right).await, &plain));
        self.judge_refusals(bench.checks_context())?;
        // A token that has just died refuses as well.
        opens(bench.unwrap(&blob, &right).await)?;
        self.rates = rates::measure(bench, &blob, &right, pace)
            .await
            .map_err(|trouble| (Stage::Unwrap, Why::Trouble(trouble)))?;
        Ok(())
    }

    async fn wrap(&mut self, bench: &mut Workbench, plain: &SecretBytes, aad: &[u8]) -> Result<Vec<u8>, (Stage, Why)> {
        let failed = |trouble| (Stage::Wrap, Why::Trouble(trouble));
        let blob = bench.wrap(plain, aad).await.map_err(failed)?;
        self.len = blob.len();
        if !bench.fits(blob.len()) {
            return Err((Stage::Wrap, Why::Other("the wrap has not the length that the method gives")));
        }
        if let WrapMethod::AesGcm { .. } = self.table {
            let again = bench.wrap(plain, aad).await.map_err(failed)?;
            if again.get(..IV_BYTES) == blob.get(..IV_BYTES) {
                return Err((Stage::Wrap, Why::Other("two wraps have the same IV")));
            }
        }
        Ok(blob)
    }

    fn judge_refusals(&self, binds: bool) -> Step {
        if matches!(self.context, Some(Refused::Opened | Refused::OtherBytes)) {
            return Err((Stage::Context, Why::Other("a wrap opens in a wrong context")));
        }
        match self.changed {
            Some(Refused::Opened) => Err((Stage::Changed, Why::Other("a changed wrap opens"))),
            Some(Refused::OtherBytes) if binds => Err((Stage::Changed, Why::Other("a changed wrap opens"))),
            _ => Ok(()),
        }
    }
}

fn refused(opened: Result<SecretBytes, Trouble>, plain: &SecretBytes) -> Refused {
    match opened {
        Ok(bytes) if bytes == *plain => Refused::Opened,
        Ok(_) => Refused::OtherBytes,
        Err(trouble) => Refused::With(trouble),
    }
}

/// As long as a data key's binding.
pub(super) fn context(what: &str) -> Vec<u8> {
    let pairs = [(b"context".as_slice(), what.as_bytes()), (b"purpose".as_slice(), PURPOSE)];
    canonical::encode("keyward/probe/v1", &[], pairs)
        .expect("two short pairs: the limits are 64 pairs and 4 GiB a value")
}

/// A label that no key has; short, since some products allow 32 bytes.
pub(super) fn temporary_label() -> String {
    let mut bytes = [0; 4];
    // Without randomness the first label will do: nothing else makes keys of that name.
    let _fresh = crypto::random(&mut bytes);
    format!("keyward-probe-{}", hex::encode(bytes))
}

const PURPOSE: &[u8] =
    b"random bytes that are wrapped and unwrapped to see whether the token does what its profile says";
/// The shortest IV of any mode.
const IV_BYTES: usize = 12;
