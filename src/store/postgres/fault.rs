//! What does an error of the database mean: was nothing done, or is it not known, and who must act?

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::store::StoreError;

/// Why a statement has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server answered with an error: the transaction is over, nothing of it stays.
    Refused(StoreError),
    /// Nobody answered: what was asked may have been done.
    Lost(String),
}

impl Fault {
    /// For what changes nothing.
    pub(super) fn harmless(self) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Lost(why) => StoreError::Unavailable(why),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            // FATAL and PANIC end the server's process, which may have committed before.
            Some(told) if told.parsed_severity() == Some(Severity::Error) => Self::Refused(meaning(told)),
            Some(told) => Self::Lost(told.message().to_owned()),
            None => Self::Lost(in_words(&error)),
        }
    }
}

/// Why there is no connection. Nothing was asked yet.
pub(super) fn connecting(error: &Error) -> StoreError {
    let Some(told) = error.as_db_error() else { return StoreError::Unavailable(in_words(error)) };
    let message = told.message();
    match told.code() {
        code if code.code().starts_with("28") => {
            StoreError::Unavailable(format!("the database refuses the login: {message}"))
        }
        &SqlState::TOO_MANY_CONNECTIONS => {
            StoreError::Unavailable(format!("the database takes no more connections: {message}"))
        }
        _ => StoreError::Unavailable(message.to_owned()),
    }
}

/// Sorts the server's errors by who must act.
fn meaning(told: &DbError) -> StoreError {
    let message = told.message().to_owned();
    match told.code() {
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::NUMERIC_VALUE_OUT_OF_RANGE
        | &SqlState::UNIQUE_VIOLATION
        | &SqlState::FOREIGN_KEY_VIOLATION => StoreError::Conflict,
        // Others than a row that is there or missing: a trigger or a CHECK, which no row of keyward's own offends.
        code if code.code().starts_with("23") => {
            StoreError::Corrupt(format!("the database refuses a row that keyward may write: {message}"))
        }
        &SqlState::DISK_FULL => StoreError::Full(message),
        &SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::Unavailable(format!(
            "the database is read-only (a standby, or default_transaction_read_only): {message}"
        )),
        &SqlState::QUERY_CANCELED => StoreError::Unavailable(format!("the database is too slow: {message}")),
        &SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Unsuitable(message),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::INVALID_SCHEMA_NAME => {
            StoreError::Corrupt(message)
        }
        code if code.code().starts_with("XX00") => StoreError::Corrupt(message),
        _ => StoreError::Unavailable(message),
    }
}

/// The error and what it is about; the driver's own words name only the step.
fn in_words(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
