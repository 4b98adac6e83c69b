//! `keyward custody settings`: which settings of a configuration do custodians guard, and what is their digest?

use std::process::ExitCode;

use serde_json::json;

use crate::app::proposed;
use crate::cli::failure::{Context, Exit, Failure};
use crate::cli::{ConfigPath, check};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Settings {
    #[command(flatten)]
    config: ConfigPath,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Settings {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = check::load(&self.config.config)?;
        let found = proposed(&config, &std::collections::BTreeMap::new());
        let found = found.doing(Exit::Config, "the configuration cannot be read whole")?;
        if self.json {
            println!("{:#}", json!({ "digest": found.digest, "settings": found.all }));
            return Ok(ExitCode::SUCCESS);
        }
        for (name, value) in &found.all {
            println!("{name}={value}");
        }
        println!("digest {}", found.digest);
        Ok(ExitCode::SUCCESS)
    }
}
