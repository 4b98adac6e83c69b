//! The whole service: the real binary, its sockets, its log.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests play operators, and those who change files behind their backs"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on must fail, and says what it did"
)]
#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/custodians.rs"]
mod custodians;
#[path = "../support/issuer.rs"]
mod issuer;
#[path = "../support/nats.rs"]
mod nats;
#[path = "../support/openbao.rs"]
mod openbao;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/rsyslog.rs"]
mod rsyslog;
#[path = "../support/softhsm.rs"]
mod softhsm;
#[path = "../support/mod.rs"]
mod support;

mod backup;
mod bad_input;
mod canary;
mod ceremony_example;
mod custody;
mod disk_faults;
mod documents;
mod failover;
mod identity;
mod life;
mod lifecycle;
mod lifetimes;
mod lookups;
mod order;
mod partitions;
mod policies;
mod reports;
mod requests;
mod rewrap;
mod sinks;
mod subjects;
mod swap;
mod tamper_example;
mod transit;
mod upkeep;
mod values;
mod witnesses;
