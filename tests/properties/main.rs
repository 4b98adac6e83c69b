//! Properties that hold for any input.
mod envelope;
mod fields;
mod life;
mod lookup;
mod policy;
mod rewrap;
