//! `keyward ceremony propose`: from a wish to a proposal that its initiator signed.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::app::proposed;
use crate::ceremony::action::{Action, Form, Parameters};
use crate::ceremony::proposal::Proposal;
use crate::cli::check;
use crate::cli::connect::{Listener, Sidecar, block_on};
use crate::cli::consent::Consent;
use crate::cli::custody::{new_file, public_key};
use crate::cli::failure::{Context, Exit, Failure};
use crate::cli::sign::{self, Key};
use crate::config::Config;
use crate::names::PrincipalName;
use crate::policy::approval::{Decision, Word};

use super::{Output, print, read, unlike};

#[derive(Debug, clap::Args)]
#[command(after_help = "--help tells what each ACTION takes.", after_long_help = actions())]
pub(in crate::cli) struct Propose {
    /// What is to be done
    #[arg(required_unless_present = "proposal", conflicts_with = "proposal", value_parser = known)]
    action: Option<Action>,
    /// Who proposes it and signs
    #[arg(long, value_name = "NAME", required_unless_present = "proposal", conflicts_with = "proposal")]
    initiator: Option<PrincipalName>,
    /// A parameter of the action (repeated); @FILE as the value takes it from a file
    #[arg(long = "set", value_name = "NAME=VALUE", conflicts_with = "proposal")]
    set: Vec<Set>,
    /// Take settings, changes and new rules of separation from this configuration, as far as it differs from what is approved
    #[arg(long, value_name = "CONFIG", conflicts_with = "proposal")]
    settings_of: Option<PathBuf>,
    /// Why: a code of a-z, 0-9, _ and -
    #[arg(long, value_name = "CODE", required_unless_present = "proposal", conflicts_with = "proposal")]
    reason: Option<String>,
    /// The number of a ticket
    #[arg(long, value_name = "TICKET", conflicts_with = "proposal")]
    ticket: Option<String>,
    #[command(flatten)]
    key: Key,
    /// Write the proposal to this new file and its text to sign to standard output, and stop
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "proposal"])]
    print: Option<PathBuf>,
    /// A proposal that --print wrote, to lay it before the others with its signature
    #[arg(long, value_name = "FILE", requires = "signature", conflicts_with = "key")]
    proposal: Option<PathBuf>,
    /// The signature that was made elsewhere
    #[arg(long, value_name = "FILE", requires = "proposal")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    output: Output,
}

/// `NAME=VALUE`.
#[derive(Debug, Clone)]
struct Set {
    name: String,
    value: String,
}

impl FromStr for Set {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What is asked for.
struct Wish<'a> {
    action: Action,
    parameters: Parameters,
    initiator: &'a PrincipalName,
    reason: &'a str,
    ticket: &'a str,
}

impl Propose {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if let (Some(proposal), Some(signature)) = (&self.proposal, &self.signature) {
            return self.hand_in(proposal, signature);
        }
        let config = self.settings_of.as_deref().map(check::load).transpose()?;
        if config.is_none() {
            self.wish(Parameters::new())?;
        }
        if self.print.is_none() {
            // Before the sidecar is asked for anything.
            self.key.named()?;
        }
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            let settings = match &config {
                Some(config) => changed(config, &mut sidecar).await?,
                None => Parameters::new(),
            };
            let proposal = self.wish(settings)?.draft(&mut sidecar).await?;
            let text = opening(&proposal).text();
            if let Some(path) = &self.print {
                return write(path, &proposal, &text);
            }
            if !self.output.json {
                print::proposal(&proposal);
            }
            self.consent.ask(&format!("propose this as {}?", proposal.initiator))?;
            let signature = sign::sign(&text, proposal.namespace(), self.key.named()?)?;
            self.submit(&mut sidecar, &proposal, &signature).await
        })
    }

    fn wish(&self, settings: Parameters) -> Result<Wish<'_>, Failure> {
        let (Some(action), Some(initiator), Some(reason)) = (self.action, &self.initiator, &self.reason) else {
            return Err(Failure::new(Exit::Usage, "an ACTION, --initiator and --reason are needed"));
        };
        let parameters = parameters(action, &self.set, settings)?;
        Ok(Wish { action, parameters, initiator, reason, ticket: self.ticket.as_deref().unwrap_or_default() })
    }

    /// What was signed elsewhere.
    fn hand_in(&self, file: &Path, signature: &Path) -> Result<ExitCode, Failure> {
        let place = file.display();
        let text = std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {place}"))?;
        let proposal = Proposal::parse(text.trim_end()).doing(Exit::Data, place)?;
        let signature = sign::read_signature(signature)?;
        block_on(async {
            let mut sidecar = self.output.target.connect(Listener::Control).await?;
            self.submit(&mut sidecar, &proposal, &signature).await
        })
    }

    async fn submit(&self, sidecar: &mut Sidecar, proposal: &Proposal, signature: &str) -> Result<ExitCode, Failure> {
        let decision = opening(proposal).text();
        let body = json!({ "proposal": proposal.canonical(), "decision": decision, "signature": signature });
        let view = sidecar.ask("POST", "/v1/ceremonies", Some(&body)).await?;
        if self.output.json {
            println!("{view:#}");
        } else {
            println!("proposed    {}", proposal.ceremony);
            print::standing(&view);
            println!("next: keyward ceremony approve {} --as NAME --key KEY", proposal.ceremony);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Wish<'_> {
    /// Asks for the proposal, and refuses one that is not what was asked for.
    async fn draft(&self, sidecar: &mut Sidecar) -> Result<Proposal, Failure> {
        let body = json!({
            "action": self.action.name(),
            "parameters": self.parameters,
            "reason": self.reason,
            "ticket": self.ticket,
            "initiator": self.initiator.as_str(),
        });
        let answer: Value = sidecar.ask("POST", "/v1/ceremonies/draft", Some(&body)).await?;
        let proposal = read(&answer)?;
        let same = proposal.action == self.action
            && proposal.parameters == self.parameters
            && proposal.initiator == *self.initiator
            && proposal.reason == self.reason
            && proposal.ticket == self.ticket;
        if same { Ok(proposal) } else { Err(unlike("the sidecar drafted something else than was asked for")) }
    }
}

/// For signing elsewhere.
fn write(path: &Path, proposal: &Proposal, text: &str) -> Result<ExitCode, Failure> {
    new_file(path, proposal.canonical().as_bytes())?;
    print!("{text}");
    eprintln!("effect: {}", proposal.effect);
    eprintln!("sign the seven lines above in a file of their own, without any change:");
    eprintln!("  {}", sign::by_hand(proposal.namespace(), "FILE"));
    eprintln!("then: keyward ceremony propose --proposal {} --signature FILE.sig", path.display());
    Ok(ExitCode::SUCCESS)
}

/// What the initiator signs; it is valid as long as the proposal.
fn opening(proposal: &Proposal) -> Decision {
    Decision {
        ceremony: proposal.ceremony.to_string(),
        digest: proposal.digest(),
        word: Word::Propose,
        person: proposal.initiator.clone(),
        reason: proposal.reason.clone(),
        expires_s: proposal.not_after,
    }
}

/// What a configuration would change of the guarded settings that are approved.
async fn changed(config: &Config, sidecar: &mut Sidecar) -> Result<Parameters, Failure> {
    let custody = sidecar.ask("GET", "/v1/custody", None).await?;
    let approved = serde_json::from_value(custody["settings"]["approved"].clone()).unwrap_or_default();
    let proposed = proposed(config, &approved).doing(Exit::Config, "the configuration cannot be proposed")?;
    let nothing = || Failure::new(Exit::Usage, "this configuration changes none of the approved guarded settings");
    let mut parameters = Parameters::from([
        ("settings".to_owned(), proposed.digest),
        ("changes".to_owned(), proposed.changes.ok_or_else(nothing)?),
    ]);
    if let Some((separation, rules)) = proposed.rules {
        parameters.insert("separation".to_owned(), separation);
        parameters.insert("rules".to_owned(), rules);
    }
    Ok(parameters)
}

/// What was set, spelt as the action wants it.
fn parameters(action: Action, set: &[Set], settings: Parameters) -> Result<Parameters, Failure> {
    let mut parameters = settings;
    for one in set {
        let form = action.parameters().iter().find(|known| known.name == one.name).map(|known| known.form);
        if parameters.insert(one.name.clone(), one.spelt(form)?).is_some() {
            return Err(Failure::new(Exit::Usage, format!("{} is set twice", one.name)));
        }
    }
    let checked = action.check(&parameters).map_err(|why| Failure::new(Exit::Usage, why));
    checked.map_err(|failure| failure.hint("`keyward ceremony propose --help` tells what each action takes"))?;
    Ok(parameters)
}

impl Set {
    /// The value, from its file where it names one; a public key goes without its comment.
    fn spelt(&self, form: Option<Form>) -> Result<String, Failure> {
        let key = matches!(form, Some(Form::SshKey));
        if let (Some(Form::Proof), Some(file)) = (form, self.value.strip_prefix('@')) {
            let armour = sign::read_signature(Path::new(file))?;
            return Ok(armour.lines().filter(|line| !line.starts_with("-----")).collect());
        }
        if let (Some(Form::Rules), Some(file)) = (form, self.value.strip_prefix('@')) {
            return Ok(STANDARD.encode(std::fs::read(file).doing(Exit::Data, format!("cannot read {file}"))?));
        }
        let value = match self.value.strip_prefix('@') {
            Some(file) if key => public_key(Path::new(file))?,
            Some(file) => std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {file}"))?,
            None => self.value.clone(),
        };
        Ok(if key {
            value.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
        } else {
            value.trim_end().to_owned()
        })
    }
}

fn known(text: &str) -> Result<Action, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Every action with what it takes, below `--help`.
fn actions() -> String {
    let mut out = "Actions, their tiers, and what they take (what stands in brackets may be left out):\n".to_owned();
    for action in Action::ALL {
        // Writing to a text does not fail.
        let _written = writeln!(out, "\n  {action} (tier {})", action.tier());
        for one in action.parameters() {
            let (open, close) = if one.required { ("", "") } else { ("[", "]") };
            let _written = writeln!(out, "      {open}{}{close}: {}", one.name, one.form.what());
        }
    }
    out
}
