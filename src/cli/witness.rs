//! `keyward witness ...`: being the outsider who sees that somebody's log only grows. Needs no sidecar, and no access to one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::{Origin, VerifierKey};
use crate::clock::SystemClock;
use crate::durable::Disk;
use crate::witness::{Desk, DeskError, TlsFiles, listen};

use super::failure::{Context, Exit, Failure, chain};

/// Cosign the checkpoints of other people's logs (C2SP tlog-witness)
#[derive(Debug, Subcommand)]
pub(super) enum WitnessCommand {
    /// Make the directory of a new witness, and print its key for the policies of others
    Init(Init),
    /// Add the key of a log that is to be witnessed
    Add(Add),
    /// Listen; SIGHUP reads the keys of the logs again
    Serve(Serve),
    /// Show the witness's key and what it has seen
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// A directory that is not there yet
    dir: PathBuf,
    /// What the witness is called, a URL without its scheme as in witness.example/keyward
    #[arg(long)]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The witness's directory
    dir: PathBuf,
    /// The log's key as `keyward init` printed it, or a file that holds it
    key: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The witness's directory
    dir: PathBuf,
    /// Where: an address and a port; without a certificate on this machine alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7180")]
    listen: SocketAddr,
    /// The certificate of the server (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The witness's directory; no witness may be running on it
    dir: PathBuf,
}

impl WitnessCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(init) => init.run(),
            Self::Add(add) => add.run(),
            Self::Serve(serve) => serve.run(),
            Self::Show(show) => show.run(),
        }
    }
}

impl Init {
    fn run(self) -> Result<ExitCode, Failure> {
        let why = "is no name: printable letters without spaces and `+`, as in witness.example/keyward";
        let name =
            Origin::parse(&self.name).ok_or_else(|| Failure::new(Exit::Usage, format!("{} {why}", self.name)))?;
        let key = Desk::found(&Disk::real(), &self.dir, name).map_err(|error| failed(&error))?;
        println!("   a witness is in {}", self.dir.display());
        println!("   1. add the log that it is to witness:  keyward witness add {} KEY", self.dir.display());
        println!("   2. run it:                             keyward witness serve {}", self.dir.display());
        println!("   3. give whoever runs the log this line for the witness policy:");
        println!("witness {} {} https://HOST:PORT", short(&self.name), key.to_text());
        Ok(ExitCode::SUCCESS)
    }
}

/// A name within a policy.
fn short(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

impl Add {
    fn run(self) -> Result<ExitCode, Failure> {
        let text = if Path::new(&self.key).is_file() {
            std::fs::read_to_string(&self.key).doing(Exit::Usage, format!("cannot read {}", self.key))?
        } else {
            self.key.clone()
        };
        let none = || Failure::new(Exit::Usage, format!("{} is no log key", self.key));
        let key = VerifierKey::parse(&text).ok_or_else(none)?;
        let added = Desk::add_log(&Disk::real(), &self.dir, &key).map_err(|error| failed(&error))?;
        let origin = key.origin().as_str();
        println!(
            "   {}",
            if added {
                format!("{origin} is witnessed from the next start or SIGHUP on")
            } else {
                format!("{origin} is witnessed already")
            }
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Serve {
    fn run(self) -> Result<ExitCode, Failure> {
        crate::telemetry::start_logs(&crate::telemetry::Settings::default()).doing(Exit::Config, "[log]")?;
        super::serve::runtime()?.block_on(async {
            let mut hang_up = signal(SignalKind::hangup()).doing(Exit::Software, "cannot listen for SIGHUP")?;
            let clock = Arc::new(SystemClock);
            let desk = Desk::open(&Disk::real(), &self.dir, clock.clone()).map_err(|error| failed(&error))?;
            let desk = Arc::new(desk);
            let tls = self.certificate.zip(self.key).map(|(certificate, key)| TlsFiles { certificate, key });
            let listening = listen(self.listen, tls.as_ref(), desk.clone(), clock).await;
            let listening = listening.doing(Exit::Unavailable, format!("cannot listen on {}", self.listen))?;
            let address = listening.address().doing(Exit::Unavailable, "cannot tell where it listens")?;
            let scheme = if tls.is_some() { "https" } else { "http" };
            println!("   {} listens on {scheme}://{address} for {} logs", desk.public().name(), desk.logs().len());
            let serving = tokio::spawn(listening.serve());
            let stop = super::serve::stop_asked()?;
            tokio::pin!(stop);
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    _ = hang_up.recv() => match desk.reload() {
                        Ok(logs) => println!("   {logs} logs are witnessed"),
                        Err(error) => eprintln!("error: {}; the logs of before are witnessed", chain(&error)),
                    },
                }
            }
            serving.abort();
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        let desk = Desk::open(&Disk::real(), &self.dir, Arc::new(SystemClock)).map_err(|error| failed(&error))?;
        println!("{}", desk.public().to_text());
        for (origin, size) in desk.logs() {
            println!("   {size:>12} records of {origin}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn failed(error: &DeskError) -> Failure {
    let hint = match error {
        DeskError::Read { .. } => "make a witness with `keyward witness init`",
        DeskError::Bad { .. } => "find out who changed it",
        DeskError::Disk(_) => "see that no other witness runs on the directory and that it can be written",
        DeskError::Crypto(_) => "see that memory can be locked",
    };
    Failure::new(Exit::Unavailable, chain(error)).hint(hint)
}
