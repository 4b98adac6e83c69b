//! `keyward ceremony approve|deny|withdraw`: one person's signed word about a proposal.

use std::process::ExitCode;

use serde_json::json;

use crate::ceremony::proposal::CeremonyId;
use crate::cli::connect::{Listener, block_on};
use crate::cli::failure::Failure;
use crate::names::PrincipalName;
use crate::policy::approval::Word;

use super::{Output, Paper, Pen, Signed, Wanted, fetch, print};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Decide {
    /// The ceremony's id, as `keyward ceremony list` shows it
    id: CeremonyId,
    /// In whose name
    #[arg(long = "as", value_name = "NAME")]
    person: PrincipalName,
    /// Why: a code of a-z, 0-9, _ and -
    #[arg(long, value_name = "CODE", default_value = "-", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    pen: Pen,
    #[command(flatten)]
    output: Output,
}

impl Decide {
    pub(super) fn run(self, word: Word) -> Result<ExitCode, Failure> {
        self.pen.check()?;
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let Paper { proposal, .. } = fetch(&mut sidecar, &self.id).await?;
            if self.pen.signs() && !self.output.json {
                print::proposal(&proposal);
            }
            let until = proposal.not_after;
            let wanted = Wanted { proposal: &proposal, word, person: &self.person, reason: &self.reason, until };
            let Some(Signed { text, signature }) = self.pen.sign(&wanted)? else { return Ok(ExitCode::SUCCESS) };
            let path = format!("/v1/ceremonies/{}/decisions", self.id);
            let body = json!({ "decision": text, "signature": signature });
            let view = sidecar.ask("POST", &path, Some(&body)).await?;
            if self.output.json {
                println!("{view:#}");
            } else {
                print::standing(&view);
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}
