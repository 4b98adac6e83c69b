//! `keyward store`: moves the store between a file and a database; prints the database's schema for its owner.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{self, ApplyError, CopyError, MoveError, Old};
use crate::clock::SystemClock;
use crate::config::Config;

use super::failure::{Exit, Failure, chain};
use super::progress::Steps;

/// Move the store, and write out the schema of its database.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    /// Move the store to where another configuration has it, compare every row, and close the old one
    Migrate(Migrate),
    /// Print the SQL that makes the schema in PostgreSQL, for the owner of the database to run
    Schema(Schema),
}

/// Copy every row into the empty store of another configuration, compare every row, and close the old store: a sealed link
/// names the new place, and every sidecar that still has the old one shuts. This sidecar is stopped; the log records it.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: super::ConfigPath,
    /// A copy of the configuration whose [store] is the new one
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Print the SQL that makes or renews the schema, and gives the role that serves its rights.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// The role that serves: `user` in [store]
    #[arg(long, value_name = "ROLE", default_value = "keyward")]
    role: String,
    /// The number of the schema that is there; 0 if there is none
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u32,
}

impl StoreCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Migrate(migrate) => migrate.run(),
            Self::Schema(schema) => schema.run(),
        }
    }
}

impl Schema {
    fn run(self) -> Result<ExitCode, Failure> {
        let unknown = || {
            Failure::new(Exit::Usage, format!("this keyward knows no schema {}", self.from))
                .hint("ask the database: SELECT schema, keyward FROM keyward.needs")
        };
        print!("{}", app::schema_script(self.from, &self.role).ok_or_else(unknown)?);
        Ok(ExitCode::SUCCESS)
    }
}

impl Migrate {
    fn run(self) -> Result<ExitCode, Failure> {
        let config = super::check::load(&self.config.config)?;
        let to = super::check::load(&self.to)?;
        super::serve::protect(&config)?;
        let moved = super::serve::runtime()?.block_on(migrate(&config, &to))?;
        let app::Counts { keyrings, keys, partitions, changes, .. } = moved.counts;
        let target = app::described(&to.store);
        println!("moved {keyrings} keyrings, {keys} keys, {partitions} partitions and {changes} changes to {target}");
        println!("every row was read from both stores and is the same");
        match moved.old {
            Old::Renamed(file) => {
                println!("the old store is now {}: no sidecar opens it", file.display());
                println!("keep it until a backup of the new one exists, then destroy it: it holds wrapped keys");
            }
            Old::Closed(place) => {
                println!("the old store is still in {place}, and closed: every sidecar that has it shuts by itself");
                println!(
                    "when a backup of the new one exists, drop it, since it holds wrapped keys: DROP SCHEMA keyward CASCADE"
                );
            }
        }
        println!("next: give every sidecar the [store] of {}, then start it", self.to.display());
        Ok(ExitCode::SUCCESS)
    }
}

async fn migrate(config: &Config, to: &Config) -> Result<app::Moved, Failure> {
    let steps = Steps::new();
    let mut tell = |progress: app::Progress| steps.tell("moving rows", progress.done, progress.all);
    let moved = app::migrate_store(config, to, Arc::new(SystemClock), &mut tell).await;
    moved.map_err(|error| Failure::new(exit(&error), chain(&error)).hint(error.hint(to)))
}

const fn exit(error: &MoveError) -> Exit {
    match error {
        MoveError::Same | MoveError::Environment => Exit::Config,
        MoveError::NotAdmitted(ApplyError::Unavailable(_)) => Exit::Unavailable,
        MoveError::NotAdmitted(_) | MoveError::Copy(CopyError::Different(_)) => Exit::Finding,
        MoveError::Copy(CopyError::To(_) | CopyError::NotEmpty(_)) | MoveError::Mark(_) | MoveError::Settle(_) => {
            Exit::CannotCreate
        }
        MoveError::Log(_) | MoveError::Append(_) => Exit::AuditLog,
        _ => Exit::Unavailable,
    }
}
