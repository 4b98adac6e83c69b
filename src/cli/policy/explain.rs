//! `keyward policy explain`: who may do it, and which rule says so? Reads the files, asks no sidecar.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure, exit};
use crate::clock::{Clock, SystemClock};
use crate::names::{KeyringName, PrincipalName, Purpose};
use crate::policy::{Action, DenialReason, Explained, GrantKind, Policy, Question, Rule, proof_of, time_of};

use super::{Files, refused};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Explain {
    /// What is to be done, as policies name it: open, seal, keyringRotate ...
    #[arg(value_name = "ACTION")]
    action: String,
    /// On which keyring; not for actions on the sidecar itself
    #[arg(value_name = "KEYRING")]
    keyring: Option<KeyringName>,
    /// Only for this principal; then the exit code is 1 if it may not
    #[arg(long, value_name = "NAME")]
    principal: Option<PrincipalName>,
    /// Why: an HL7 purpose of use such as TREAT
    #[arg(long, value_name = "CODE")]
    purpose: Option<Purpose>,
    /// A context pair that policy looks at; may be given several times
    #[arg(long = "context", value_name = "KEY=VALUE")]
    context: Vec<String>,
    /// How whoever asks has proved who it is
    #[arg(long, value_name = "PROOF", default_value = "peer")]
    proof: String,
    /// At this time (UTC, such as 2026-01-31T08:00:00Z), instead of now
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Under a grant that is in force: grant or break-glass
    #[arg(long, value_name = "KIND")]
    grant: Option<GrantKind>,
    /// Policy files or directories, instead of a configuration's; principals are those they name
    #[arg(long = "policies", value_name = "PATH", conflicts_with = "config")]
    policies: Vec<std::path::PathBuf>,
    /// Ask the policies of this configuration, about its principals
    #[arg(long, short, value_name = "FILE", default_value = "/etc/keyward/keyward.toml")]
    config: std::path::PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let question = self.question()?;
        let keys = question.pairs.iter().map(|(key, _)| key.clone()).collect();
        let files = Files { files: self.policies.clone(), config: self.config.clone() };
        let settings = files.settings(keys)?;
        let known = |key: &String| settings.context_keys.contains(key);
        if let Some((key, _)) = question.pairs.iter().find(|(key, _)| !known(key)) {
            let why = format!("no policy can look at the context key {key:?}");
            return Err(Failure::new(Exit::Usage, why).hint("list it in the configuration's policy.context_keys"));
        }
        let policy = Policy::load(&settings).map_err(|error| refused(&error))?;
        let mut answers = policy.explain(&question);
        if let Some(name) = &self.principal {
            answers.retain(|answer| answer.principal == *name);
            if answers.is_empty() {
                return Err(Failure::new(Exit::Usage, format!("there is no principal {name}"))
                    .hint("give it a [[principal]] in the configuration, or correct the name"));
            }
        }
        if self.json {
            println!("{:#}", self.as_json(&question, &policy, &answers));
        } else {
            let width = answers.iter().map(|one| who(one).len()).max().unwrap_or_default();
            answers.iter().for_each(|one| println!("{}", line(one, width)));
        }
        let nobody = answers.iter().all(|answer| answer.answer.is_err());
        Ok(if self.principal.is_some() && nobody { exit(Exit::Finding) } else { ExitCode::SUCCESS })
    }

    fn question(&self) -> Result<Question, Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, why);
        let action: Action = self.action.parse().map_err(|_| {
            let all: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
            usage(format!("{:?} is not an action", self.action)).hint(format!("one of {}", all.join(", ")))
        })?;
        match (action.on_keyring(), &self.keyring) {
            (true, None) => return Err(usage(format!("{} is done to a keyring: name it", action.name()))),
            (false, Some(_)) => return Err(usage(format!("{} is done to no single keyring", action.name()))),
            _ => {}
        }
        if self.grant.is_some() && !action.on_keyring() {
            return Err(usage(format!("nobody is granted {}", action.name())));
        }
        let mut pairs = Vec::with_capacity(self.context.len());
        for pair in &self.context {
            let (key, value) = pair.split_once('=').ok_or_else(|| usage(format!("{pair:?} is not KEY=VALUE")))?;
            pairs.push((key.to_owned(), value.to_owned()));
        }
        pairs.sort_unstable();
        let proof = proof_of(&self.proof).map_err(usage)?;
        let now = self.time.as_deref().map_or_else(|| Ok(SystemClock.wall()), time_of).map_err(usage)?;
        Ok(Question {
            action,
            keyring: self.keyring.clone(),
            purpose: self.purpose,
            grant: self.grant,
            proof,
            pairs,
            now,
        })
    }

    fn as_json(&self, question: &Question, policy: &Policy, answers: &[Explained]) -> Value {
        let rule = |rule: &Rule| json!({ "at": rule.at, "id": rule.id, "effect": rule.effect });
        let answers = answers.iter().map(|one| {
            json!({
                "principal": one.principal.as_str(),
                "kind": one.kind.code(),
                "permitted": one.answer.is_ok(),
                "reason": one.answer.err().map(DenialReason::code),
                "rules": one.rules.iter().map(rule).collect::<Vec<_>>(),
            })
        });
        json!({
            "action": question.action.name(),
            "keyring": question.keyring.as_ref().map(ToString::to_string),
            "purpose": question.purpose.map(Purpose::code),
            "grant": question.grant.map(GrantKind::code),
            "proof": self.proof,
            "context": question.pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "time": question.now.rfc3339_millis(),
            "policy": hex::encode(policy.digest()),
            "answers": answers.collect::<Vec<_>>(),
        })
    }
}

fn line(one: &Explained, width: usize) -> String {
    let (word, reason) = one.answer.map_or_else(|reason| ("no ", reason.code()), |()| ("yes", "permitted"));
    let rules: Vec<String> = one.rules.iter().map(named).collect();
    let by = if rules.is_empty() { String::new() } else { format!(" by {}", rules.join(", ")) };
    format!("{word}  {:<width$}  {reason}{by}", who(one))
}

fn who(one: &Explained) -> String {
    format!("{} {}", one.kind.code(), one.principal)
}

fn named(Rule { at, id, effect }: &Rule) -> String {
    match id {
        Some(id) => format!("{effect} {at} ({id})"),
        None => format!("{effect} {at}"),
    }
}
