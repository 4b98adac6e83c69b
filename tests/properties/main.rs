//! Properties that hold for any input.
mod envelope;
mod fields;
mod life;
mod policy;
mod rewrap;
