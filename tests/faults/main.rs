//! Every durable write failed, failed but persisted, and lost; crashes and kills.
mod log;
mod store;
