//! `keyward ceremony ...`: what several people decide together. What a person signs is read, digested and put into words
//! here, from the one text of the proposal: a sidecar that lies is noticed before anything is signed.

mod decide;
mod minutes;
mod pen;
mod print;
mod propose;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::ceremony::proposal::{CeremonyId, Proposal};
use crate::policy::approval::Word;

use super::connect::{Listener, Sidecar, Target, block_on};
use super::custody::duties;
use super::failure::{Context, Exit, Failure};

pub(super) use pen::{Pen, Signed, Wanted};
pub(super) use print::proposal as print_proposal;

/// What several people decide together: propose, approve, carry out, verify.
#[derive(Debug, Subcommand)]
pub(super) enum Ceremony {
    /// Draft a proposal, show what it does, sign it and lay it before the others
    Propose(Box<propose::Propose>),
    /// Show a ceremony: what it does, who decided, what is missing
    Show(Show),
    /// List the ceremonies that are not over
    List(List),
    /// Approve a proposal, by a signature over exactly what it does
    Approve(decide::Decide),
    /// Deny a proposal, for everybody and for good
    Deny(decide::Decide),
    /// Withdraw one's own proposal
    Withdraw(decide::Decide),
    /// Carry out what enough people have approved, once
    Execute(Show),
    /// Print what happened, to be kept and verified without us
    Minutes(minutes::Take),
    /// Verify minutes offline: every digest, signature, rule and proof in them
    Verify(minutes::Verify),
    /// Print changes as they come, until the ceremony is over or for ever
    Watch(watch::Watch),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The ceremony's id, as `keyward ceremony list` shows it
    id: CeremonyId,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Also those that are over
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

impl Ceremony {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Propose(propose) => propose.run(),
            Self::Show(show) => show.run(),
            Self::List(list) => list.run(),
            Self::Approve(decide) => decide.run(Word::Approve),
            Self::Deny(decide) => decide.run(Word::Deny),
            Self::Withdraw(decide) => decide.run(Word::Withdraw),
            Self::Execute(show) => show.execute(),
            Self::Minutes(minutes) => minutes.run(),
            Self::Verify(verify) => verify.run(),
            Self::Watch(watch) => watch.run(),
        }
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let Paper { proposal, view } = fetch(&mut sidecar, &self.id).await?;
            if self.output.json {
                println!("{view:#}");
            } else {
                print::proposal(&proposal);
                print::standing(&view);
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    fn execute(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let path = format!("/v1/ceremonies/{}/execute", self.id);
            let view = sidecar.ask("POST", &path, Some(&json!({}))).await?;
            if self.output.json {
                println!("{view:#}");
            } else {
                println!("carried out {}", print::text(&view, "effect"));
                print::standing(&view);
                println!("minutes     keyward ceremony minutes {}", self.id);
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let view = sidecar.ask("GET", listing(self.all), None).await?;
            if self.output.json {
                println!("{view:#}");
            } else {
                println!("{}", print::table(&view["ceremonies"]));
                // Whoever may not see them sees the ceremonies all the same.
                if let Ok(custody) = sidecar.ask("GET", "/v1/custody", None).await {
                    duties(&custody);
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

const fn listing(all: bool) -> &'static str {
    if all { "/v1/ceremonies?state=all" } else { "/v1/ceremonies?state=open" }
}

/// A proposal as its text says it, and what the sidecar says of its ceremony.
pub(super) struct Paper {
    pub(super) proposal: Proposal,
    view: Value,
}

/// Fetches a ceremony; its proposal is read and its digest computed here.
pub(super) async fn fetch(sidecar: &mut Sidecar, id: &CeremonyId) -> Result<Paper, Failure> {
    let view = sidecar.ask("GET", &format!("/v1/ceremonies/{id}"), None).await?;
    let proposal = read(&view)?;
    if proposal.ceremony == *id {
        return Ok(Paper { proposal, view });
    }
    Err(unlike("the sidecar gives the proposal of another ceremony"))
}

/// The proposal of an answer, whose digest must be the one that the sidecar tells everybody else.
fn read(answer: &Value) -> Result<Proposal, Failure> {
    let text = answer["proposal"].as_str().unwrap_or_default();
    let proposal = Proposal::parse(text).doing(Exit::Data, "the proposal cannot be read, so do not sign it")?;
    if answer["digest"].as_str() == Some(&hex::encode(proposal.digest())) {
        return Ok(proposal);
    }
    Err(unlike("the digest that the sidecar tells is not that of the proposal that it gives"))
}

fn unlike(what: &str) -> Failure {
    Failure::new(Exit::Finding, what)
        .hint("sign nothing; compare `keyward --version` with the sidecar's, and look at its log")
}
