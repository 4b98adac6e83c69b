//! `keyward report NAME DIR`: an answer to an auditor's question from a log that was verified first.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::clock::{Clock, SystemClock};
use crate::durable::{Disk, DurableError};
use crate::reports::{Format, Kind, Window, make};

use super::audit::{founding_key, not_verified, with_bar};
use super::failure::{Context, Exit, Failure};
use super::moment::{Span, instant};

/// A report is shown to others.
const MODE: u32 = 0o644;
const MICROS: u64 = 1_000_000;

/// Answer an auditor's question from the log, which is verified first; offline
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reports: key-inventory, cryptoperiods, key-lifecycle, rotation, access, break-glass, ceremonies, \
separation, exposure, integrity, kek, modules. docs/reports.md says what each one answers."
)]
pub(super) struct Report {
    /// Which report, or `all`
    name: String,
    /// The log's directory or a copy of it, or a directory that `audit export` made
    dir: PathBuf,
    /// The log's key as you keep it elsewhere; without it the key in the directory is believed, and the report says so
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The first moment, as in 2026-01-31T00:00:00Z; without it, the beginning of the log
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// The first moment after it; without it, now
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How long a key version may seal, for `cryptoperiods`
    #[arg(long, value_name = "SPAN", default_value = "90d")]
    period: Span,
    /// One or several of csv, json, html
    #[arg(long, value_name = "FORMATS", default_value = "csv,json,html", value_delimiter = ',')]
    format: Vec<String>,
    /// Where to: a directory, made if it is not there; NAME.csv and so on in it must not exist
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let kinds = if self.name == "all" {
            Kind::ALL.to_vec()
        } else {
            let unknown = || Failure::new(Exit::Usage, format!("there is no report {}", self.name)).hint(names());
            vec![Kind::named(&self.name).ok_or_else(unknown)?]
        };
        let formats = self.format.iter().map(|name| {
            let unknown = || Failure::new(Exit::Usage, format!("{name} is no format")).hint("csv, json or html");
            Format::named(name).ok_or_else(unknown)
        });
        let formats = formats.collect::<Result<Vec<_>, _>>()?;
        let window = self.window()?;
        let key = self.key.as_deref().map(founding_key).transpose()?;
        let period = u64::try_from(self.period.0.as_micros()).unwrap_or(u64::MAX);
        let disk = Disk::real();
        match disk.create_dir(&self.out, 0o755) {
            Ok(()) | Err(DurableError::Exists { .. }) => {}
            Err(error) => return Err(error).doing(Exit::Usage, "cannot make the directory"),
        }
        for kind in kinds {
            let made = with_bar("verifying", |progress| make(kind, &self.dir, key.as_ref(), window, period, progress));
            let report = made.map_err(not_verified)?;
            println!("{}: {} rows", kind.title(), report.rows.len());
            for format in &formats {
                let path = self.out.join(format!("{}.{}", kind.name(), format.name()));
                let written = disk.write_new(&path, format.write(&report).as_bytes(), MODE);
                written.doing(Exit::Usage, format!("cannot write {}", path.display()))?;
                println!("   {}", path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A window in the future would be an empty report that looks like good news.
    fn window(&self) -> Result<Window, Failure> {
        let read = |text: &Option<String>, otherwise: u64| -> Result<u64, Failure> {
            let Some(text) = text else { return Ok(otherwise) };
            let wrong =
                || Failure::new(Exit::Usage, format!("{text} is not a time")).hint("write 2026-01-31T00:00:00Z");
            instant(text).map(|seconds| seconds * MICROS).ok_or_else(wrong)
        };
        let now = SystemClock.wall().0;
        let window = Window { from: read(&self.from, 0)?, to: read(&self.to, now + 1)? };
        if window.to > now + 1 {
            return Err(Failure::new(Exit::Usage, "the window ends in the future")
                .hint("leave --to out for everything up to now; a report of time to come would look complete"));
        }
        if window.from >= window.to {
            return Err(Failure::new(Exit::Usage, "the window ends before it begins").hint("give --from before --to"));
        }
        Ok(window)
    }
}

fn names() -> String {
    format!("one of all, {}", Kind::ALL.map(Kind::name).join(", "))
}
