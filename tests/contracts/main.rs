//! One suite a trait, run against every implementation.
#[path = "../support/ceremonies.rs"]
mod ceremonies;
mod ceremony;
#[path = "../support/custodians.rs"]
mod custodians;
mod custody;
mod documented;
mod exports;
mod formats;
mod kek;
mod live;
mod methods;
#[path = "../support/openbao.rs"]
mod openbao;
mod outages;
#[path = "../support/postgres.rs"]
mod postgres;
mod probe;
mod rotation;
mod shim;
#[path = "../support/softhsm.rs"]
mod softhsm;
mod sshsig;
mod status;
mod store;
mod suite;
mod token;
#[path = "../support/tokenreview.rs"]
mod tokenreview;
#[path = "../support/tokens.rs"]
mod tokens;
mod transit;
