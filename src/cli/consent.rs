//! Does the person who looks at it want it? Asked on a terminal, before anything is signed.

use std::io::{BufRead, IsTerminal};

use super::failure::{Context, Exit, Failure};

/// Says beforehand that it is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Consent {
    /// Do not ask; what is signed is shown all the same
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Asks unless it was said; no answer is a no.
    pub(super) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Usage, "nobody is at the terminal to say yes")
                .hint("look at it first (keyward ceremony show) and say --yes"));
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).doing(Exit::Data, "cannot read the answer")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Denied, "not signed")),
        }
    }
}
