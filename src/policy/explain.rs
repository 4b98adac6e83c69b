//! Who may do it, and which rule says so? For a person who asks about a set; asks the same judge as a request.
//! No Permit comes out of it.

use cedar_policy::{Effect, PolicyId};

use crate::clock::Wall;
use crate::identity::{PrincipalKind, Proof};
use crate::names::{KeyringName, PrincipalName, Purpose};

use super::judge::Query;
use super::table::proof;
use super::{Action, DenialReason, GrantKind, Policy};

/// What is asked of everybody.
#[derive(Debug, Clone)]
pub struct Question {
    /// What.
    pub action: Action,
    /// On which keyring; None for actions on the sidecar itself.
    pub keyring: Option<KeyringName>,
    /// Why.
    pub purpose: Option<Purpose>,
    /// Under which grant.
    pub grant: Option<GrantKind>,
    /// How whoever asks has proved who it is.
    pub proof: Proof,
    /// The context pairs, sorted by key.
    pub pairs: Vec<(String, String)>,
    /// When.
    pub now: Wall,
}

/// The answer for one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Who.
    pub principal: PrincipalName,
    /// Of which kind.
    pub kind: PrincipalKind,
    /// Whether it may.
    pub answer: Result<(), DenialReason>,
    /// The rules that decided, by file and line; none where no rule applies.
    pub rules: Vec<Rule>,
}

/// A rule that decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// `file:line`.
    pub at: String,
    /// What its author called it: `@id("...")`.
    pub id: Option<String>,
    /// `permit` or `forbid`.
    pub effect: &'static str,
}

impl Policy {
    /// The answer for every configured principal, in the order of the configuration.
    pub fn explain(&self, question: &Question) -> Vec<Explained> {
        let pairs: Vec<(&str, &str)> = question.pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
        let of = |(name, kind): &(PrincipalName, PrincipalKind)| {
            let query = question.of((name, *kind), &pairs);
            let mut rules = Vec::new();
            let answer = self.judge.explain(&query, |id| rules.push(self.rule(id)));
            rules.sort_unstable();
            rules.dedup();
            Explained { principal: name.clone(), kind: *kind, answer, rules }
        };
        self.principals.iter().map(of).collect()
    }

    /// Which of the verbs that lead back somebody may do now, and nobody could by the other set: whoever put that one in
    /// force would lock everybody out.
    pub fn taken_from_everybody(&self, other: &Self, now: Wall) -> Vec<Action> {
        let lost = |action: &&Action| self.anybody(**action, now) && !other.anybody(**action, now);
        WAYS_BACK.iter().filter(lost).copied().collect()
    }

    fn anybody(&self, action: Action, now: Wall) -> bool {
        let proofs = PROOFS.iter().filter_map(|code| proof(Some(code)).ok());
        proofs.into_iter().any(|proof| {
            let question =
                Question { action, keyring: None, purpose: None, grant: None, proof, pairs: Vec::new(), now };
            self.explain(&question).iter().any(|explained| explained.answer.is_ok())
        })
    }

    fn rule(&self, id: &PolicyId) -> Rule {
        let policy = self.documents.set.policy(id);
        let effect = match policy.map(cedar_policy::Policy::effect) {
            Some(Effect::Forbid) => "forbid",
            _ => "permit",
        };
        let name = policy.and_then(|policy| policy.annotation("id")).map(ToOwned::to_owned);
        Rule { at: id.to_string(), id: name, effect }
    }
}

impl Question {
    fn of<'a>(
        &'a self,
        (name, kind): (&'a PrincipalName, PrincipalKind),
        pairs: &'a [(&'a str, &'a str)],
    ) -> Query<'a> {
        Query {
            name,
            kind,
            proof: &self.proof,
            action: self.action,
            keyring: self.keyring.as_ref(),
            pairs,
            purpose: self.purpose,
            grant: self.grant,
            now: self.now,
        }
    }
}

/// A proof of its kind, for whoever asks about one: `peer`, `token` and so on.
pub fn proof_of(code: &str) -> Result<Proof, String> {
    proof(Some(code))
}

/// Every proof that a policy can see; those that are not built in are left out.
const PROOFS: &[&str] = &["peer", "token", "mtls", "jwt"];

/// What a set must leave to somebody: loading the next one, and the ceremonies that change it.
const WAYS_BACK: &[Action] =
    &[Action::PolicyReload, Action::CeremonyPropose, Action::CeremonyDecide, Action::CeremonyExecute];
