//! `keyward custody accept`: whoever is to be enrolled shows that the key is in their hands, and acknowledges the duties.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::connect::{Listener, Target, block_on};
use crate::cli::consent::Consent;
use crate::cli::failure::{Context, Exit, Failure};
use crate::cli::sign::{self, Key};
use crate::names::PrincipalName;
use crate::policy::approval::{duties_digest, enrolment, namespace};

use super::genesis::DUTIES;
use super::new_file;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Accept {
    /// Who is to be enrolled
    #[arg(long = "as", value_name = "NAME")]
    person: PrincipalName,
    #[command(flatten)]
    key: Key,
    /// The duties that are acknowledged; a short text of ours if not given
    #[arg(long, value_name = "FILE")]
    acknowledgement: Option<PathBuf>,
    /// The store's id, as `keyward custody show` tells it, where the sidecar cannot be asked
    #[arg(long, value_name = "ID")]
    store: Option<String>,
    /// With --store: it is a rehearsal's
    #[arg(long, requires = "store")]
    rehearsal: bool,
    /// Where the signature is written; NAME.accept.sig if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the exact text instead, to sign it elsewhere
    #[arg(long, conflicts_with_all = ["key", "out"])]
    print: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    target: Target,
}

impl Accept {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let duties = match &self.acknowledgement {
            Some(file) => std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))?,
            None => DUTIES.to_owned(),
        };
        let (store, production) = match &self.store {
            Some(store) => (store.clone(), !self.rehearsal),
            None => self.asked()?,
        };
        let digest = duties_digest(&duties);
        let (text, namespace) = (enrolment(&store, &self.person, &digest), namespace(production));
        if self.print {
            print!("{text}");
            eprintln!("these are the four lines to sign, in a file of their own: {}", sign::by_hand(namespace, "FILE"));
            return Ok(ExitCode::SUCCESS);
        }
        let key = self.key.named()?;
        println!("{}", duties.trim_end());
        self.consent.ask(&format!("accept these duties as {}, for the store {store}?", self.person))?;
        let signature = sign::sign(&text, namespace, key)?;
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("{}.accept.sig", self.person)));
        new_file(&out, signature.as_bytes())?;
        println!("wrote {}", out.display());
        println!(
            "next: keyward ceremony propose custodian.enrol --set person={} --set key=@KEY.pub --set proof=@{} --set \
             acknowledgement={} --initiator NAME --reason joining --key KEY",
            self.person,
            out.display(),
            hex::encode(digest)
        );
        Ok(ExitCode::SUCCESS)
    }

    fn asked(&self) -> Result<(String, bool), Failure> {
        block_on(async {
            let answer = self.target.connect(Listener::Control).await?.ask("GET", "/v1/custody", None).await?;
            let store = answer["store"].as_str().unwrap_or_default().to_owned();
            Ok((store, answer["environment"] == "production"))
        })
    }
}
