//! Custodians with tokens, and what they ask of a sidecar.

use std::sync::atomic::{AtomicU32, Ordering};

use keyward::policy::approval::Word;
use keyward::policy::roster::Roster;
use keyward::service::{
    Answer, CustodyVerb, DraftProposal, FoundingSignature, NewMember, Operation, Refusal, SignedDecision,
};
use serde_json::{Value, json};

use crate::custodians::{Signer, decision};
use crate::verbs::place::Sidecar;

pub const SEPARATION: &str = r#"
schema = 1
[person.alice]
roles = ["custodian", "key-administrator"]
group = "security"
manager = "sofia"
[person.bob]
roles = ["custodian"]
group = "privacy"
manager = "peter"
[person.carol]
roles = ["custodian"]
group = "clinical"
manager = "clara"
[person.dave]
roles = ["custodian"]
group = "clinical"
manager = "clara"
[person.erin]
roles = ["custodian"]
group = "privacy"
manager = "peter"
[person.kim]
roles = ["key-administrator"]
manager = "sofia"
[person.rosa]
roles = ["responder"]
manager = "clara"
[person.victor]
roles = ["reviewer"]
manager = "peter"
[person.sofia]
roles = []
[person.peter]
roles = []
[person.clara]
roles = []
[tier.3]
approvals = 2
"#;

const REHEARSAL: &str = "keyward-rehearsal";
/// On the first roster; erin comes later.
const FOUNDERS: &[&str] = &["alice", "bob", "carol", "dave", "kim", "rosa", "victor"];
const PEOPLE: &[&str] = &["alice", "bob", "carol", "dave", "kim", "rosa", "victor", "erin"];
/// Every touch of any token raises it.
static TOUCHES: AtomicU32 = AtomicU32::new(1);

pub fn token(person: &str) -> Signer {
    Signer::token(u8::try_from(PEOPLE.iter().position(|one| *one == person).unwrap() + 1).unwrap())
}

fn signed(person: &str, text: &str) -> String {
    token(person).sign(REHEARSAL, text, TOUCHES.fetch_add(1, Ordering::SeqCst))
}

/// Asks something of custody.
pub async fn ask(sidecar: &Sidecar, verb: CustodyVerb) -> Result<Value, Refusal> {
    match sidecar.ask(Operation::Custody(verb)).await {
        Answer::Custody(answer) => Ok(serde_json::to_value(&answer).unwrap()),
        Answer::Refused(refusal) => Err(refusal),
        _ => panic!("another answer"),
    }
}

/// The first roster with everybody's signature.
pub async fn genesis(sidecar: &Sidecar) -> CustodyVerb {
    let member = |person: &&str| NewMember {
        person: (*person).to_owned(),
        keys: vec![token(person).key().line()],
        acknowledgement: "the duties".to_owned(),
    };
    let draft = ask(sidecar, CustodyVerb::DraftGenesis(FOUNDERS.iter().map(member).collect())).await.unwrap();
    let roster = draft["roster"].as_str().unwrap().to_owned();
    let digest = Roster::parse(&roster).unwrap().digest();
    let sign = |person: &&str| {
        let statement = Roster::statement(&digest, &person.parse().unwrap());
        FoundingSignature { person: (*person).to_owned(), signature: signed(person, &statement) }
    };
    CustodyVerb::Found { roster, signatures: FOUNDERS.iter().map(sign).collect() }
}

/// A drafted proposal.
#[derive(Debug, Clone)]
pub struct Ceremony {
    pub id: String,
    proposal: String,
    digest: [u8; 32],
    initiator: String,
    expires: u64,
}

impl Ceremony {
    pub async fn draft(sidecar: &Sidecar, action: &str, parameters: &Value, initiator: &str) -> Self {
        let asked = json!({ "action": action, "parameters": parameters, "reason": "test", "initiator": initiator });
        let asked: DraftProposal = serde_json::from_value(asked).unwrap();
        let draft = ask(sidecar, CustodyVerb::Draft(asked)).await.unwrap();
        let proposal = draft["proposal"].as_str().unwrap().to_owned();
        let parsed: Value = serde_json::from_str(&proposal).unwrap();
        let number = |name: &str| parsed[name].as_u64().unwrap();
        let mut digest = [0; 32];
        hex::decode_to_slice(draft["digest"].as_str().unwrap(), &mut digest).unwrap();
        let (id, expires) = (draft["ceremony"].as_str().unwrap().to_owned(), number("not_after"));
        let expires = expires.min(number("not_before") + 6 * 86_400);
        Self { id, proposal, digest, initiator: initiator.to_owned(), expires }
    }

    fn decided(&self, word: Word, person: &str) -> SignedDecision {
        let text = decision(&self.id, self.digest, word, person, self.expires).text();
        SignedDecision { signature: signed(person, &text), decision: text }
    }

    pub fn proposing(&self) -> CustodyVerb {
        CustodyVerb::Propose { proposal: self.proposal.clone(), signed: self.decided(Word::Propose, &self.initiator) }
    }

    pub fn approving(&self, person: &str) -> CustodyVerb {
        CustodyVerb::Decide { ceremony: self.id.clone(), signed: self.decided(Word::Approve, person) }
    }

    pub fn reviewing(&self, person: &str) -> CustodyVerb {
        CustodyVerb::Review { ceremony: self.id.clone(), signed: self.decided(Word::Review, person) }
    }

    pub fn executing(&self) -> CustodyVerb {
        CustodyVerb::Execute(self.id.clone())
    }

    pub async fn approved(sidecar: &Sidecar, action: &str, parameters: &Value, (by, people): (&str, &[&str])) -> Self {
        let it = Self::draft(sidecar, action, parameters, by).await;
        ask(sidecar, it.proposing()).await.unwrap();
        for person in people {
            ask(sidecar, it.approving(person)).await.unwrap();
        }
        it
    }

    /// Where it stands; nothing if there is none.
    pub async fn look(&self, sidecar: &Sidecar) -> Option<Value> {
        ask(sidecar, CustodyVerb::Look(self.id.clone())).await.ok()
    }

    pub async fn state(&self, sidecar: &Sidecar) -> String {
        self.look(sidecar).await.map_or_else(String::new, |view| view["state"].as_str().unwrap().to_owned())
    }
}

/// That people can go on deciding: a keyring comes about by a ceremony of its own.
pub async fn goes_on(sidecar: &Sidecar, at: &str) {
    let it = Ceremony::approved(sidecar, "keyring.create", &keyring("later"), ("kim", &["bob"])).await;
    let done = ask(sidecar, it.executing()).await;
    assert_eq!(done.unwrap_or_else(|refusal| panic!("{at}: {refusal:?}"))["state"], "executed", "{at}");
    assert!(sidecar.keyrings.find(&"later".parse().unwrap()).await.unwrap().is_some(), "{at}");
}

pub fn keyring(name: &str) -> Value {
    json!({ "keyring": name, "required_context": "patient", "subject_key": "patient" })
}

pub fn grant(reason: &str) -> Value {
    json!({ "principal": "portal", "keyring": "patients", "purpose": "TREAT", "minutes": "30", "reason": reason })
}

/// What enrols erin with a key, which accepts it.
pub fn enrolment(sidecar: &Sidecar, key: &Signer) -> Value {
    let (duties, store) = ([0xab; 32], sidecar.keyrings.store().unwrap().to_string());
    let text = keyward::policy::approval::enrolment(&store, &"erin".parse().unwrap(), &duties);
    let armour = key.sign(REHEARSAL, &text, TOUCHES.fetch_add(1, Ordering::SeqCst));
    let proof: String = armour.lines().filter(|line| !line.starts_with('-')).collect();
    json!({ "person": "erin", "key": key.key().line(), "proof": proof, "acknowledgement": hex::encode(duties) })
}
