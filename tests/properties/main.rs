//! Properties that hold for any input.
mod envelope;
mod fields;
mod policy;
