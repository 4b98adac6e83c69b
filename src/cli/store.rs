//! `keyward store`: the database's schema as SQL for its owner.

use std::process::ExitCode;

use crate::app;

use super::failure::{Exit, Failure};

/// Move the store, and write out the schema of its database.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    /// Print the SQL that makes the schema in PostgreSQL, for the owner of the database to run
    Schema(Schema),
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
