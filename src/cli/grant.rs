//! `keyward grant ...`: who may do for a time what policy alone would not allow, and what became of broken glasses.

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::ceremony::proposal::CeremonyId;
use crate::names::PrincipalName;
use crate::policy::approval::Word;

use super::ceremony::{Output, Paper, Pen, Signed, Wanted, fetch, print_proposal};
use super::connect::{Listener, block_on};
use super::failure::{Exit, Failure, exit};
use super::moment;

/// Time-bound exceptions: list, end and review them.
#[derive(Debug, Subcommand)]
pub(super) enum Grant {
    /// List grants and broken glasses; ends with 1 while a review is overdue
    List(List),
    /// End a grant before its time; it takes one person
    End(End),
    /// Say of a broken glass that it was justified, or not; by somebody who had no part in it
    Review(Review),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct End {
    /// The grant's id, which is that of its ceremony
    id: CeremonyId,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Review {
    /// The grant's id, which is that of its ceremony
    id: CeremonyId,
    /// In whose name
    #[arg(long = "as", value_name = "NAME")]
    person: PrincipalName,
    /// What it was
    #[arg(long, value_parser = ["justified", "not-justified"])]
    verdict: String,
    #[command(flatten)]
    pen: Pen,
    #[command(flatten)]
    output: Output,
}

impl Grant {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => list.run(),
            Self::End(end) => end.run(),
            Self::Review(review) => review.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let answer = self.output.target.connect(Listener::Control).await?.ask("GET", "/v1/grants", None).await?;
            show(&answer, self.output.json);
            let overdue = |one: &Value| one["review"]["overdue"] == true;
            let late = answer["grants"].as_array().is_some_and(|grants| grants.iter().any(overdue));
            Ok(if late { exit(Exit::Finding) } else { ExitCode::SUCCESS })
        })
    }
}

impl End {
    fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let path = format!("/v1/grants/{}/end", self.id);
            let answer = sidecar.ask("POST", &path, Some(&json!({}))).await?;
            show(&answer, self.output.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Review {
    fn run(self) -> Result<ExitCode, Failure> {
        self.pen.check()?;
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let Paper { proposal, .. } = fetch(&mut sidecar, &self.id).await?;
            if self.pen.signs() && !self.output.json {
                print_proposal(&proposal);
                println!("verdict     {}", self.verdict);
            }
            let grants = sidecar.ask("GET", "/v1/grants", None).await?;
            let until = due(&grants, &self.id);
            let wanted =
                Wanted { proposal: &proposal, word: Word::Review, person: &self.person, reason: &self.verdict, until };
            let Some(Signed { text, signature }) = self.pen.sign(&wanted)? else { return Ok(ExitCode::SUCCESS) };
            let path = format!("/v1/grants/{}/review", self.id);
            let body = json!({ "decision": text, "signature": signature });
            let answer = sidecar.ask("POST", &path, Some(&body)).await?;
            show(&answer, self.output.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Until when a review may be used: until it is due, and where that is over for a day.
fn due(grants: &Value, id: &CeremonyId) -> u64 {
    let ours = grants["grants"].as_array().into_iter().flatten().find(|one| one["id"] == id.as_str());
    let due = ours.filter(|one| one["review"]["overdue"] != true).and_then(|one| one["review"]["due"].as_str());
    due.and_then(moment::instant).unwrap_or_else(|| moment::now().saturating_add(DAY))
}

fn show(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["grant", "kind", "principal", "keyring", "purpose", "until", "review"]);
    for one in answer["grants"].as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        let until = if one["in_force"] == true { text("not_after") } else { "over".to_owned() };
        table.add_row([
            text("id"),
            text("kind"),
            text("principal"),
            text("keyring"),
            text("purpose"),
            until,
            review(one),
        ]);
    }
    println!("{table}");
}

fn review(grant: &Value) -> String {
    let review = &grant["review"];
    match (review["verdict"].as_str(), review["by"].as_str(), review["due"].as_str()) {
        (Some(verdict), Some(by), _) => format!("{verdict}, says {by}"),
        (_, _, Some(due)) if review["overdue"] == true => format!("OVERDUE since {due}"),
        (_, _, Some(due)) => format!("due {due}"),
        _ => "-".to_owned(),
    }
}

const DAY: u64 = 86_400;
