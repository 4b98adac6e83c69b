//! Properties that hold for any input.
#[path = "../support/ceremonies.rs"]
mod ceremonies;
mod ceremony;
#[path = "../support/custodians.rs"]
mod custodians;
mod custody;
mod envelope;
mod fields;
mod life;
mod lookup;
mod policy;
mod rewrap;
