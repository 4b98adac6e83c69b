//! `keyward custody draft|sign|found`: how custody begins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::consent::Consent;
use crate::cli::failure::{Context, Exit, Failure};
use crate::cli::sign::{self, Key};
use crate::names::PrincipalName;
use crate::policy::approval::namespace;
use crate::policy::roster::Roster;

use super::{new_file, print};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Draft {
    /// A person with the files of the person's public keys (repeated, once for each person)
    #[arg(long = "member", value_name = "NAME:KEY.pub[,KEY2.pub]", required = true)]
    members: Vec<NewMember>,
    /// The duties that everybody acknowledges by signing; the roster holds the digest of this text. A short text of ours
    /// if not given
    #[arg(long, value_name = "FILE")]
    acknowledgement: Option<PathBuf>,
    /// Where the roster is written; the file must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Sign {
    /// The roster, as `keyward custody draft` wrote it
    roster: PathBuf,
    /// In whose name
    #[arg(long = "as", value_name = "NAME")]
    person: PrincipalName,
    #[command(flatten)]
    key: Key,
    /// Where the signature is written; NAME.sig if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the exact text instead, to sign it elsewhere
    #[arg(long, conflicts_with_all = ["key", "out"])]
    print: bool,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Found {
    /// The roster, as `keyward custody draft` wrote it
    roster: PathBuf,
    /// A person's signature (repeated, once for each person on the roster)
    #[arg(long = "signature", value_name = "NAME=FILE", required = true)]
    signatures: Vec<Signed>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// `NAME:KEY.pub,KEY2.pub`.
#[derive(Debug, Clone)]
struct NewMember {
    person: PrincipalName,
    keys: Vec<PathBuf>,
}

/// `NAME=FILE`.
#[derive(Debug, Clone)]
struct Signed {
    person: PrincipalName,
    file: PathBuf,
}

impl FromStr for NewMember {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (person, keys) = text.split_once(':').ok_or("write NAME:KEY.pub")?;
        let keys: Vec<PathBuf> = keys.split(',').map(PathBuf::from).collect();
        if keys.iter().any(|key| key.as_os_str().is_empty()) {
            return Err("a key file has no name".to_owned());
        }
        Ok(Self { person: person.parse().map_err(|error| format!("{error}"))?, keys })
    }
}

impl FromStr for Signed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (person, file) = text.split_once('=').ok_or("write NAME=FILE")?;
        Ok(Self { person: person.parse().map_err(|error| format!("{error}"))?, file: file.into() })
    }
}

impl Draft {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let duties = match &self.acknowledgement {
            Some(file) => std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))?,
            None => DUTIES.to_owned(),
        };
        let members = self.members.iter().map(|member| member.asked(&duties)).collect::<Result<Vec<Value>, _>>()?;
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let body = json!({ "members": members });
            let answer = sidecar.ask("POST", "/v1/custody/genesis/draft", Some(&body)).await?;
            let text = answer["roster"].as_str().unwrap_or_default();
            let roster = parsed(text)?;
            new_file(&self.out, text.as_bytes())?;
            print::roster(&roster);
            if let Some(keyrings @ 1..) = answer["keyrings"].as_u64() {
                println!(
                    "the store has {keyrings} keyrings already, which one person made: they come under custody as they are"
                );
            }
            println!("wrote {}", self.out.display());
            println!("next: everybody on it signs: keyward custody sign {} --as NAME --key KEY", self.out.display());
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Sign {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let roster = read(&self.roster)?;
        if roster.member(&self.person).is_none() {
            return Err(Failure::new(Exit::Data, format!("{} is not on this roster", self.person)));
        }
        let statement = Roster::statement(&roster.digest(), &self.person);
        let namespace = namespace(!roster.is_rehearsal());
        if self.print {
            print!("{statement}");
            eprintln!(
                "these are the three lines to sign, in a file of their own: {}",
                sign::by_hand(namespace, "FILE")
            );
            return Ok(ExitCode::SUCCESS);
        }
        let key = self.key.named()?;
        print::roster(&roster);
        self.consent.ask(&format!("sign this roster as {}?", self.person))?;
        let signature = sign::sign(&statement, namespace, key)?;
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("{}.sig", self.person)));
        new_file(&out, signature.as_bytes())?;
        println!("wrote {}", out.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Found {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let roster = read(&self.roster)?;
        let read_one =
            |one: &Signed| Ok(json!({ "person": one.person.as_str(), "signature": sign::read_signature(&one.file)? }));
        let signatures = self.signatures.iter().map(read_one).collect::<Result<Vec<Value>, Failure>>()?;
        let body = json!({ "roster": roster.canonical(), "signatures": signatures });
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let answer = sidecar.ask("POST", "/v1/custody/genesis", Some(&body)).await?;
            if !self.json {
                println!("custody is founded: from now on one person changes no keys");
            }
            print::custody(&answer, self.json);
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl NewMember {
    fn asked(&self, duties: &str) -> Result<Value, Failure> {
        let keys = self.keys.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "person": self.person.as_str(), "keys": keys, "acknowledgement": duties }))
    }
}

/// The one line of a public key file.
pub(in crate::cli) fn public_key(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))?;
    if text.starts_with("-----BEGIN") {
        return Err(Failure::new(Exit::Data, format!("{} is not a public key", file.display()))
            .hint("name the .pub file beside it; a private key goes nowhere"));
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.map(str::to_owned).ok_or_else(|| Failure::new(Exit::Data, format!("{} holds no key", file.display())))
}

fn read(file: &Path) -> Result<Roster, Failure> {
    let text = std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))?;
    parsed(text.trim_end()).map_err(|failure| failure.at(&file.display().to_string()))
}

fn parsed(text: &str) -> Result<Roster, Failure> {
    Roster::parse(text).doing(Exit::Data, "this is no roster to sign")
}

/// What a custodian acknowledges where the organisation has no text of its own.
pub(super) const DUTIES: &str = "I keep my key to myself and in no other hands. I approve only what I have read and understood, and what \
    I compared with the others. I report a lost or copied key at once. I act alone in nothing that needs several. I say so \
    when I leave or change my role.\n";
