//! `keyward report NAME DIR`: an answer to an auditor's question from a log that was verified first.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::Reported;
use crate::audit::VerifierKey;
use crate::audit::export::export;
use crate::audit::verify::{Trusted, read_by};
use crate::clock::{Clock, SystemClock};
use crate::durable::{Disk, DurableError};
use crate::reports::{Format, Kind, Window, make, package};

use super::audit::{founding_key, not_exported, not_verified, with_bar};
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
    /// One or several of csv, json, html, pdf
    #[arg(long, value_name = "FORMATS", default_value = "csv,json,html,pdf", value_delimiter = ',')]
    format: Vec<String>,
    /// Where to: a directory, made if it is not there; NAME.csv and so on in it must not exist
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Make a package: OUT is a new directory with the reports, the log as tiles, its keys, a verifier and all digests
    #[arg(long)]
    package: bool,
    /// Sign the package's digests with this SSH key
    #[arg(long, value_name = "FILE", requires = "package")]
    sign: Option<PathBuf>,
    /// Have the sidecar of this configuration record the package's digest
    #[arg(long, value_name = "CONFIG", requires = "package")]
    record: Option<PathBuf>,
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
            let unknown = || Failure::new(Exit::Usage, format!("{name} is no format")).hint("csv, json, html or pdf");
            Format::named(name).ok_or_else(unknown)
        });
        let formats = formats.collect::<Result<Vec<_>, _>>()?;
        let window = self.window()?;
        let key = self.key.as_deref().map(founding_key).transpose()?;
        let period = u64::try_from(self.period.0.as_micros()).unwrap_or(u64::MAX);
        let disk = Disk::real();
        match disk.create_dir(&self.out, 0o755) {
            Ok(()) => {}
            Err(DurableError::Exists { .. }) if !self.package => {}
            Err(error) => return Err(error).doing(Exit::Usage, "cannot make the directory"),
        }
        let into = if self.package { self.out.join(package::REPORTS) } else { self.out.clone() };
        if self.package {
            disk.create_dir(&into, 0o755).doing(Exit::Usage, "cannot make the directory")?;
        }
        // Of a package the reports rest on the log that is in it.
        let log = if self.package { self.export(&disk, key.as_ref())? } else { self.dir.clone() };
        for kind in kinds {
            let made = with_bar("verifying", |progress| make(kind, &log, key.as_ref(), window, period, progress));
            let report = made.map_err(not_verified)?;
            println!("{}: {} rows", kind.title(), report.rows.len());
            for format in &formats {
                let path = into.join(format!("{}.{}", kind.name(), format.name()));
                let written = disk.write_new(&path, &format.write(&report), MODE);
                written.doing(Exit::Usage, format!("cannot write {}", path.display()))?;
                println!("   {}", path.display());
            }
        }
        if self.package {
            self.pack(&disk, key.as_ref(), window)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Puts the log into the package.
    fn export(&self, disk: &Disk, key: Option<&VerifierKey>) -> Result<PathBuf, Failure> {
        let log = self.out.join(package::LOG);
        let told = with_bar("exporting", |progress| export(&self.dir, &log, key, disk, progress));
        told.map_err(|error| not_exported(error, &log))?;
        Ok(log)
    }

    /// Adds what proves the reports.
    fn pack(&self, disk: &Disk, key: Option<&VerifierKey>, window: Window) -> Result<(), Failure> {
        let log = self.out.join(package::LOG);
        let trusted = Trusted { key, ..Trusted::default() };
        let verified = with_bar("verifying", |progress| read_by(&log, trusted, progress, &mut |_, _| {}));
        let verified = verified.map_err(not_verified)?;
        let sums = package::close(disk, &self.out, &verified, window, SystemClock.wall());
        let sums = sums.doing(Exit::Unavailable, "cannot close the package")?;
        if let Some(key) = &self.sign {
            let signature = super::sign::sign(&sums, package::NAMESPACE, key)?;
            let path = self.out.join(package::SIGNATURE);
            disk.write_new(&path, signature.as_bytes(), MODE).doing(Exit::Unavailable, "cannot write the signature")?;
        }
        let digest = package::digest(&sums);
        println!("package {}: {} records, digest {digest}", self.out.display(), verified.records);
        if let Some(config) = &self.record {
            let config = super::check::load(config)?;
            let notice = Reported { digest, records: verified.records, os_user: super::backup::uid() };
            notice.leave(&config).doing(Exit::Unavailable, "cannot leave a notice for the sidecar")?;
            println!("   the sidecar records it, now or at its next start");
        }
        Ok(())
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
