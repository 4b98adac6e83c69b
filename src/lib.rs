//! keyward: an envelope-encryption and key-management sidecar for patient data.
//!
//! *Credentials become a [`Principal`](identity::Principal), a Principal earns a [`Permit`](policy::Permit), a Permit
//! unlocks a key, the outcome earns a receipt ([`Recorded`](audit::Recorded)), and only a recorded outcome becomes a
//! [`Response`](service::Response).* Each of these types has private fields and a constructor that only its own module
//! can call; a guard proves that nothing else compiles.
//!
//! # The story of a request
//!
//! [`server`] turns bytes into a [`Call`](service::Call); [`Service::handle`](service::Service::handle) answers it on one
//! page: [`identity`] says who asks, [`keyring`] locates the keys, [`policy`] decides, one file of [`operations`] does
//! the work with keys that [`keyring`] unlocked through a [`kek`], [`audit`] makes the record durable and gives the
//! outcome back, and `server` turns it into bytes again.
//!
//! # The map, lowest layer first
//!
//! | layer | module | question it answers |
//! |--:|---|---|
//! | 0 | [`names`] | what are things called? |
//! | 0 | [`clock`] | what time is it? the only reader of time |
//! | 0 | [`secret`] | where do secret bytes live? locked, wiped, never printed |
//! | 0 | [`durable`] | how is a file written so that it is still there after a crash? the only writer of files |
//! | 0 | [`telemetry`] | what are the metrics and log lines called? |
//! | 1 | [`crypto`] | which primitives? the only door to the crypto libraries |
//! | 1 | [`client`] | how does the command line reach the sidecar? |
//! | 1 | [`fields`] | where is the PHI in a document? |
//! | 2 | [`envelope`] | what are the bytes of a sealed value? |
//! | 2 | [`identity`] | who is calling? |
//! | 2 | [`kek`] | who can wrap and unwrap a data key? |
//! | 2 | [`store`] | where do sealed rows rest? |
//! | 3 | [`policy`] | who may do what? mints permits and authority |
//! | 4 | [`audit`] | what happened? mints receipts |
//! | 4 | [`ceremony`] | how do people do what no one person may do alone? |
//! | 5 | [`sinks`] | who else reads the log as it grows? |
//! | 5 | [`witness`] | who outside has seen the log, and what do we say when asked to be that outsider? |
//! | 5 | [`keyring`] | which keys are there, and how does a permit become a key in hand? |
//! | 6 | [`reports`] | what does the log say to an auditor's question? |
//! | 6 | [`operations`] | what does each data verb do? |
//! | 6 | [`control`] | what does each control verb do? |
//! | 7 | [`service`] | how is a request answered? |
//! | 8 | [`jobs`] | what happens without a request? |
//! | 8 | [`server`] | how do bytes become calls and answers become bytes? |
//! | 9 | [`config`] | what does the operator want? |
//! | 10 | [`app`] | in what order do the parts start and stop? |
//! | 11 | [`cli`] | what does a person type and see? |
//!
//! Who may import whom is a table in `tests/guards`, which fails when the code disagrees.

pub mod app;
pub mod audit;
pub mod ceremony;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod crypto;
pub mod durable;
pub mod envelope;
pub mod fields;
pub mod identity;
pub mod jobs;
pub mod kek;
pub mod keyring;
pub mod names;
pub mod operations;
pub mod policy;
pub mod reports;
pub mod secret;
pub mod server;
pub mod service;
pub mod sinks;
pub mod store;
pub mod telemetry;
pub mod witness;
