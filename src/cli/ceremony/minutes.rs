//! `keyward ceremony minutes|verify`: what happened, for those who were not there. Verifying needs the two files alone, and
//! no sidecar.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::ceremony::minutes::{Minutes, Pinned, verify};
use crate::ceremony::proposal::CeremonyId;
use crate::ceremony::words;
use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::custody::new_file;
use crate::cli::failure::{Context, Exit, Failure, exit};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Take {
    /// The ceremony's id, as `keyward ceremony list --all` shows it
    id: CeremonyId,
    /// Write them to this new file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For people, instead of the JSON that can be verified
    #[arg(long, conflicts_with = "html")]
    text: bool,
    /// As a page for a browser or a printer
    #[arg(long)]
    html: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verify {
    /// The minutes as `keyward ceremony minutes` wrote them (JSON)
    minutes: PathBuf,
    /// The roster in all its generations, as `keyward custody roster` wrote it
    #[arg(long, value_name = "FILE")]
    roster: PathBuf,
    /// The digest of the first roster as it was read aloud: 64 hexadecimal digits, or its words in quotes
    #[arg(long, value_name = "DIGEST")]
    genesis: Option<String>,
    /// The log's key as you keep it elsewhere
    #[arg(long, value_name = "FILE")]
    log_key: Option<PathBuf>,
    /// The times in them may be ahead of this machine's clock, as those of a rehearsal are
    #[arg(long)]
    any_time: bool,
}

impl Take {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let answer = sidecar.ask("GET", &format!("/v1/ceremonies/{}/minutes", self.id), None).await?;
            let minutes = Minutes::parse(&answer.to_string()).doing(Exit::Software, "the sidecar's minutes")?;
            let text = match (self.text, self.html) {
                (true, _) => minutes.text(),
                (_, true) => minutes.html(),
                _ => minutes.canonical(),
            };
            match &self.out {
                Some(out) => {
                    new_file(out, format!("{}\n", text.trim_end()).as_bytes())?;
                    println!("wrote {}", out.display());
                }
                None => println!("{}", text.trim_end()),
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Verify {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let (minutes, roster) = (read(&self.minutes)?, read(&self.roster)?);
        let genesis = self.genesis.as_deref().map(digest).transpose()?;
        let key = self.log_key.as_deref().map(read).transpose()?;
        let now = (!self.any_time).then(|| SystemClock.wall());
        let pinned = Pinned { genesis: genesis.as_deref(), log_key: key.as_deref().map(str::trim), now };
        let report = verify(minutes.trim_end(), roster.trim_end(), &pinned);
        for check in &report.checks {
            println!("{:<6} {:<12} {}", if check.ok { "ok" } else { "FAILED" }, check.name, check.words);
        }
        if report.is_ok() {
            println!("the minutes verify");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("error: the minutes do not verify: {}", report.failed().join(", "));
        Ok(exit(Exit::Finding))
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))
}

/// A digest as people have it, in hexadecimal.
fn digest(text: &str) -> Result<String, Failure> {
    let written = hex::decode(text).ok().or_else(|| words::decode(text));
    match written {
        Some(bytes) if bytes.len() == 32 => Ok(hex::encode(bytes)),
        _ => Err(Failure::new(Exit::Usage, "this is not a digest")
            .hint("write its 64 hexadecimal digits, or its 32 words in quotes")),
    }
}
