//! The store apart from a running sidecar: checked, its schema written out for whoever owns the database.

use crate::config::Config;
use crate::store::{Settings, StoreError, postgres};

/// Every problem of the store's settings that shows without a server.
pub fn store_problems(config: &Config) -> Vec<StoreError> {
    match &config.store {
        Settings::Sqlite(_) => Vec::new(),
        Settings::Postgresql(settings) => postgres::problems(settings),
    }
}

/// The SQL that makes or renews the schema of a database from number `from`, with the rights of the role that serves;
/// None if it is a newer one than this keyward knows.
pub fn schema_script(from: u32, role: &str) -> Option<String> {
    postgres::script(from, role)
}
