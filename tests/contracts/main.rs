//! One suite a trait, run against every implementation.
mod kek;
#[path = "../support/openbao.rs"]
mod openbao;
#[path = "../support/softhsm.rs"]
mod softhsm;
mod store;
mod token;
#[path = "../support/tokenreview.rs"]
mod tokenreview;
mod transit;
