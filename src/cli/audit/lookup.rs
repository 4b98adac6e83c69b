//! `keyward audit lookup`: what the log of the running sidecar has about a subject. The question is recorded like any other use.

use std::process::ExitCode;

use crate::cli::connect::{Listener, Target};
use crate::cli::failure::Failure;

use super::tail::line;

/// What the service looks at in one request, at least: less was left when it looked at less.
const LOOKED_AT: u64 = 100_000;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Lookup {
    /// The subject as applications name it, the value of the keyring's subject key: Patient/17 say
    #[arg(long)]
    subject: String,
    /// Whose subject
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The first index that is looked at
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print the records as they are stored: one canonical JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Lookup {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let mut sidecar = self.target.connect(Listener::Control).await?;
        let (mut from, mut found) = (self.from, 0_u64);
        loop {
            let mut body = serde_json::json!({ "subject": self.subject, "tenant": self.tenant });
            if let (Some(fields), 1..) = (body.as_object_mut(), from) {
                fields.insert("from".to_owned(), from.into());
            }
            let answer = sidecar.ask("POST", "/v1/audit/lookup", Some(&body)).await?;
            let records = answer["records"].as_array().into_iter().flatten().map(|one| &one["record"]);
            for record in records {
                found += 1;
                if self.json { println!("{record}") } else { println!("{}", line(record)) }
            }
            let next = answer["next"].as_u64().unwrap_or(from);
            // A full answer, or a full look, may not be the end.
            let full = answer["records"].as_array().is_some_and(|all| all.len() >= 1_000);
            if !full && next < from.saturating_add(LOOKED_AT) || crate::cli::out::gone() {
                break;
            }
            from = next;
        }
        if !self.json {
            println!("   {found} records name the subject; logs of other sidecars of a fleet are asked on their own");
        }
        Ok(ExitCode::SUCCESS)
    }
}
