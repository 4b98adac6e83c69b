//! What does a whole running sidecar do when its token fails? Real tokens are taken away, hung, crashed, changed and given
//! back under the real binary. Each fault says what a caller of a cached and of an uncached key hears, what readiness and
//! the log say, and that service comes back without a restart; how long that took is printed (`--nocapture`), never
//! asserted. docs/outages.md has the table.
#![allow(clippy::print_stdout, reason = "a fault prints how long the recovery took")]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests play operators, and those who break things behind their backs"
)]

mod bench;
mod contents;
mod daemons;
mod openbao;
mod pins;
mod worker;
