//! Published and own vectors, accepted and rejected, each with its reason.
mod crypto;
mod envelope;
