//! `keyward policy`: do the policies validate, do their table tests hold, who may do what, and are they in force?

mod explain;
mod reload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{PolicyFiles, PolicyReadError};
use crate::identity::PrincipalKind;
use crate::names::PrincipalName;
use crate::policy::table::{CaseFailure, run_table};
use crate::policy::{PolicyError, Settings, check};

use super::failure::{Context, Exit, Failure, chain, exit};

/// Check and test policies.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Validate the policies and run the table tests beside them
    Check(Files),
    /// Run the table tests beside the policies
    Test(Files),
    /// Say who may do something, and which rule decides
    Explain(explain::Explain),
    /// Put the policy files in force in the running sidecar
    Reload(reload::Reload),
}

#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Policy files or directories to check together, instead of a configuration's; principals are those they name
    #[arg(value_name = "PATH", conflicts_with = "config")]
    files: Vec<PathBuf>,
    /// Check the policies of this configuration, against its principals
    #[arg(long, short, value_name = "FILE", default_value = "/etc/keyward/keyward.toml")]
    config: PathBuf,
}

impl PolicyCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Check(files) => files.check(),
            Self::Test(files) => {
                let settings = files.settings(Vec::new())?;
                let failed = run_tables(&settings, &files.tables(&settings)?)?;
                Ok(if failed == 0 { ExitCode::SUCCESS } else { exit(Exit::Finding) })
            }
            Self::Explain(explain) => explain.run(),
            Self::Reload(reload) => reload.run(),
        }
    }
}

impl Files {
    fn check(&self) -> Result<ExitCode, Failure> {
        let settings = self.settings(Vec::new())?;
        let report = check(&settings).map_err(|error| refused(&error))?;
        for file in &report.files {
            println!("{}: {} permit, {} forbid", file.name, file.permits, file.forbids);
        }
        for (action, who) in &report.actions {
            let names: Vec<&str> = who.iter().map(crate::names::PrincipalName::as_str).collect();
            println!("{:<16} {}", action.name(), if names.is_empty() { "-".to_owned() } else { names.join(", ") });
        }
        for (name, kind) in &report.unused {
            eprintln!("warning: no policy permits {} {name} anything", kind.code());
        }
        let failed = run_tables(&settings, &self.tables(&settings)?)?;
        println!("policy set {}", report.digest);
        Ok(if failed == 0 { ExitCode::SUCCESS } else { exit(Exit::Finding) })
    }

    /// What the files say; without a configuration these context keys are known.
    fn settings(&self, context_keys: Vec<String>) -> Result<Settings, Failure> {
        if self.files.is_empty() {
            let config = super::check::load(&self.config)?;
            return crate::app::policy_settings(&config).map_err(|error| unread(&error));
        }
        let mut documents = Vec::new();
        for path in &self.files {
            if path.extension().is_some_and(|end| end == "cedar") {
                let text =
                    std::fs::read_to_string(path).doing(Exit::Data, format!("cannot read {}", path.display()))?;
                documents.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
            } else {
                let files = PolicyFiles { dir: path.clone(), context_keys: Vec::new() };
                documents.extend(files.read().map_err(|error| unread(&error))?);
            }
        }
        let principals = named(&documents);
        Ok(Settings { documents, context_keys, principals })
    }

    /// `tests/NAME.toml` beside each `NAME.cedar` of the set.
    fn tables(&self, settings: &Settings) -> Result<Vec<PathBuf>, Failure> {
        let dir = match self.files.first() {
            Some(dir) if dir.is_dir() => dir.clone(),
            Some(file) => file.parent().map(Path::to_owned).unwrap_or_default(),
            None => super::check::load(&self.config)?.policy.dir,
        };
        let beside = |name: &String| dir.join("tests").join(Path::new(name).with_extension("toml"));
        Ok(settings.documents.iter().map(|(name, _)| beside(name)).filter(|path| path.exists()).collect())
    }
}

/// The principals that the policies name: without a configuration these are all there are.
fn named(documents: &[(String, String)]) -> Vec<(PrincipalName, PrincipalKind)> {
    let mut found = Vec::new();
    for (kind, entity) in PrincipalKind::ALL.iter().map(|kind| (*kind, format!("{}::\"", capital(kind.code())))) {
        for rest in documents.iter().flat_map(|(_, text)| text.split(&*entity).skip(1)) {
            let name = rest.split('"').next().and_then(|name| name.parse().ok());
            found.extend(name.map(|name| (name, kind)).filter(|one| !found.contains(one)));
        }
    }
    found
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Runs every table and prints what fails; returns how many cases failed.
fn run_tables(settings: &Settings, tables: &[PathBuf]) -> Result<usize, Failure> {
    let policy = crate::policy::Policy::load(settings).map_err(|error| refused(&error))?;
    let (mut cases, mut failed, mut undecided) = (0, 0, None::<Vec<String>>);
    for path in tables {
        let name = path.display();
        let text = std::fs::read_to_string(path).doing(Exit::Data, format!("cannot read {name}"))?;
        let report = run_table(&policy, &text).doing(Exit::Data, format!("{name}"))?;
        cases += report.cases;
        failed += report.failures.len();
        for CaseFailure { name: case, expected, found, by } in &report.failures {
            eprintln!("FAILED {name}: {case}: expected {expected}, policy says {found} ({})", by.join(", "));
        }
        // A rule has its cases in the table of its file, and none in those of the others.
        match &mut undecided {
            Some(left) => left.retain(|policy| report.undecided.contains(policy)),
            None => undecided = Some(report.undecided),
        }
    }
    for policy in undecided.iter().flatten() {
        eprintln!("warning: no case is decided by {policy}");
    }
    println!("table tests: {cases} cases, {failed} failed");
    Ok(failed)
}

/// Every problem of a set on a line of its own.
pub(super) fn refused(error: &PolicyError) -> Failure {
    let lines: Vec<String> = error.problems.iter().map(|problem| format!("\n  {problem}")).collect();
    Failure::new(Exit::Config, format!("the policy set is refused:{}", lines.concat())).hint(
        "correct these rules, or give those whom they name a [[principal]]; policies/README.md says what a rule can be",
    )
}

/// There are no policies to look at.
pub(super) fn unread(error: &PolicyReadError) -> Failure {
    Failure::new(Exit::Config, format!("cannot read the policies: {}", chain(error)))
        .hint("name the directory of the *.cedar files; policies/least-privilege.cedar is one to start from")
}
