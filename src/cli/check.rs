//! `keyward check`: is this configuration good? Reads, never writes.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config, LoadError};
use crate::policy::Policy;

use super::failure::{Exit, Failure, chain};

/// Check configuration and policies without touching anything.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: super::ConfigPath,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = load(&self.config.config)?;
        let settings = crate::app::policy_settings(&config).map_err(|error| super::policy::unread(&error))?;
        let policy = Policy::load(&settings).map_err(|error| super::policy::refused(&error))?;
        let keks = crate::app::kek_problems(&config);
        let store = crate::app::store_problems(&config);
        let problems = keks.iter().map(|problem| problem as &dyn std::error::Error);
        let witness = crate::app::witness_problems(&config);
        let others = store.iter().map(|problem| problem as &dyn std::error::Error);
        let others = others.chain(witness.iter().map(|problem| problem as &dyn std::error::Error));
        let problems: Vec<_> = problems.chain(others).collect();
        if !problems.is_empty() {
            let told: Vec<String> = problems.iter().map(|problem| chain(*problem)).collect();
            return Err(Failure::new(Exit::Config, told.join("\n")));
        }
        println!("configuration  {} is good", self.config.config.display());
        println!("environment    {}", config.environment.name());
        println!("state          {}", describe_state(&config));
        println!("policy set     {} ({} files)", hex::encode(policy.digest()), settings.documents.len());
        println!("revocation     {}", crate::app::revocation(&config));
        Ok(ExitCode::SUCCESS)
    }
}

fn describe_state(config: &Config) -> String {
    let dir = config.state.0.display();
    if config.state.log().exists() { format!("{dir}") } else { format!("{dir} (not made yet: run keyward init)") }
}

/// Reads a configuration; all its problems at once.
pub(super) fn load(path: &Path) -> Result<Config, Failure> {
    let worker = this_program()?;
    config::load(path, &worker).map_err(|error| match error {
        LoadError::Read { .. } => Failure::new(Exit::Config, chain(&error))
            .hint("name one with --config, or make a development set-up: keyward init --development DIR"),
        LoadError::Wrong(problems) => Failure::new(Exit::Config, format!("{}: {problems}", path.display())),
    })
}

/// The program itself: it is started again as the token's worker.
pub(super) fn this_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(Exit::Software, format!("cannot find this program: {error}")))
}
