//! Custodians before a real sidecar: what they sign, what is refused of it, what comes of it, and what the log says of each.
//! One user of the machine stands at the control socket for everybody; who decides is proven by signatures alone.

mod bad_input;
mod destroy;
mod genesis;
mod grants;
mod guarded;
mod killed;
mod life;
mod lockout;
mod locks;
mod minutes;
mod restore;
mod witness;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyward::policy::approval::Word;
use keyward::policy::roster::Roster;
use serde_json::{Value, json};

use crate::custodians::{Signer, decision};
use crate::requests::records;
use crate::support::{Caller, KEYWARD, Serving, Setup, http, post};

pub const REHEARSAL: &str = "keyward-rehearsal";
pub const DAY: u64 = 86_400;

const SEPARATION: &str = r#"
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
[person.kim]
roles = ["key-administrator"]
manager = "sofia"
[person.rosa]
roles = ["responder", "reviewer"]
manager = "clara"
[person.victor]
roles = ["reviewer"]
manager = "peter"
[person.dan]
roles = ["developer"]
[person.sofia]
roles = []
[person.peter]
roles = []
[person.clara]
roles = []
[tier.3]
approvals = 2
"#;

const POLICY: &str = r#"
permit (principal is Custodian, action, resource);
permit (principal == Service::"demo", action in [Action::"seal", Action::"rewrap"], resource);
permit (principal == Service::"demo", action == Action::"open", resource) when { context.purpose == "TREAT" };
permit (principal == Service::"demo", action == Action::"open", resource)
  when { context has grant && context.grant == "break-glass" && context.purpose == "BTG" };
permit (principal == Service::"demo", action == Action::"open", resource)
  when { context has grant && context.grant == "grant" && context.purpose == "HRESCH" };
"#;

/// On the first roster; dave comes later, dan never does.
pub const FOUNDERS: &[&str] = &["alice", "bob", "carol", "kim", "rosa", "victor"];
const PEOPLE: &[&str] = &["alice", "bob", "carol", "kim", "rosa", "victor", "dave", "dan"];

/// A person's key.
pub fn key(person: &str) -> Signer {
    Signer::software(u8::try_from(PEOPLE.iter().position(|one| *one == person).unwrap() + 1).unwrap())
}

/// Another key of alice, on the roster as well.
pub fn second_key() -> Signer {
    Signer::software(101)
}

/// A sidecar with custodians.
pub struct Place {
    pub setup: Setup,
    pub health: u16,
    pub serving: Option<Serving>,
}

/// A proposal, drafted or laid before the others.
pub struct Ceremony {
    pub id: String,
    pub proposal: String,
    pub digest: [u8; 32],
    pub not_before: u64,
    pub not_after: u64,
}

impl Ceremony {
    fn of(draft: &Value) -> Self {
        let proposal = draft["proposal"].as_str().unwrap_or_else(|| panic!("{draft}")).to_owned();
        let parsed: Value = serde_json::from_str(&proposal).unwrap();
        let mut digest = [0; 32];
        hex::decode_to_slice(draft["digest"].as_str().unwrap(), &mut digest).unwrap();
        let number = |name: &str| parsed[name].as_u64().unwrap();
        let id = draft["ceremony"].as_str().unwrap().to_owned();
        Self { id, digest, not_before: number("not_before"), not_after: number("not_after"), proposal }
    }

    /// Until when a text about it may be used.
    pub fn expires(&self) -> u64 {
        self.not_after.min(self.not_before + 6 * DAY)
    }

    pub fn signed(&self, word: Word, person: &str) -> Value {
        let text = decision(&self.id, self.digest, word, person, self.expires()).text();
        sealed(&text, &key(person), REHEARSAL)
    }
}

/// A decision's text with its signature, as requests carry them.
pub fn sealed(text: &str, key: &Signer, namespace: &str) -> Value {
    json!({ "decision": text, "signature": key.sign(namespace, text, 1) })
}

impl Place {
    /// With the rules and nobody on a roster yet.
    pub fn unfounded() -> Self {
        Self::unfounded_with(&|_| String::new())
    }

    /// With further settings.
    pub fn unfounded_with(further: &dyn Fn(&Setup) -> String) -> Self {
        let setup = Setup::new();
        let further = further(&setup);
        let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = setup.root();
        std::fs::write(root.join("separation.toml"), SEPARATION).unwrap();
        std::fs::write(root.join("synchronised"), "").unwrap();
        std::fs::write(root.join("policies/development.cedar"), POLICY).unwrap();
        setup.edit_config(|text| {
            let text = text.replace("health = \"127.0.0.1:0\"", &format!("health = \"127.0.0.1:{health}\""));
            let text =
                text.replace("name = \"operator\"\nkind = \"operator\"", "name = \"alice\"\nkind = \"custodian\"");
            let file = |name: &str| root.join(name).display().to_string();
            let (rules, check) = (file("separation.toml"), file("synchronised"));
            format!("{text}\n[custody]\nseparation = \"{rules}\"\nclock_check = \"{check}\"\nclock = \"rehearsal\"\n{further}")
        });
        let serving = Some(setup.serve());
        Self { setup, health, serving }
    }

    /// With its custodians.
    pub fn new() -> Self {
        Self::unfounded().founded()
    }

    /// The genesis is held.
    pub fn founded(self) -> Self {
        let place = self;
        let (roster, signatures) = place.founding();
        let (status, view) = place.post("/v1/custody/genesis", &json!({ "roster": roster, "signatures": signatures }));
        assert_eq!((status, &view["founded"]), (200, &json!(true)), "{view}");
        place
    }

    /// The drafted roster with everybody's signature.
    pub fn founding(&self) -> (String, Vec<Value>) {
        let keys = |person: &str| match person {
            "alice" => vec![key("alice").key().line(), second_key().key().line()],
            other => vec![key(other).key().line()],
        };
        let member = |person: &&str| json!({ "person": person, "keys": keys(person), "acknowledgement": "the duties" });
        let members: Vec<Value> = FOUNDERS.iter().map(member).collect();
        let (status, draft) = self.post("/v1/custody/genesis/draft", &json!({ "members": members }));
        assert_eq!(status, 200, "{draft}");
        let roster = draft["roster"].as_str().unwrap().to_owned();
        let digest = Roster::parse(&roster).unwrap().digest();
        assert_eq!(draft["digest"], hex::encode(digest));
        let sign = |person: &&str| {
            let statement = Roster::statement(&digest, &person.parse().unwrap());
            json!({ "person": person, "signature": key(person).sign(REHEARSAL, &statement, 1) })
        };
        (roster, FOUNDERS.iter().map(sign).collect())
    }

    /// Whoever is refused too often in a second waits; nothing was looked at then.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        loop {
            let (status, answer) = post(&self.setup.control(), path, &body.to_string());
            if status != 429 {
                return (status, answer);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn get(&self, path: &str) -> Value {
        let mut caller = Caller::connect(&self.setup.control()).unwrap();
        let (status, answer) = caller.ask("GET", path, "a-look", "").unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The answer to a look, byte for byte.
    pub fn text(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let (status, body) = http(&self.setup.control(), request.as_bytes());
        assert_eq!(status, 200);
        String::from_utf8(body).unwrap()
    }

    pub fn draft(&self, action: &str, parameters: &Value, initiator: &str) -> Ceremony {
        let asked = json!({ "action": action, "parameters": parameters, "reason": "test", "initiator": initiator });
        // What is under way while the clock jumps is out of time; a draft is asked for again.
        for _ in 0..20 {
            let (status, draft) = self.post("/v1/ceremonies/draft", &asked);
            if status != 504 {
                assert_eq!(status, 200, "{draft}");
                return Ceremony::of(&draft);
            }
        }
        panic!("no draft of {action} in time");
    }

    /// What enrols a person with this key, which accepts it.
    pub fn enrolling(&self, person: &str, signer: &Signer) -> Value {
        let (duties, store) = ([0xcd; 32], self.get("/v1/custody")["store"].as_str().unwrap().to_owned());
        let text = keyward::policy::approval::enrolment(&store, &person.parse().unwrap(), &duties);
        let armour = signer.sign(REHEARSAL, &text, 1);
        let proof: String = armour.lines().filter(|line| !line.starts_with('-')).collect();
        json!({ "person": person, "key": signer.key().line(), "proof": proof, "acknowledgement": hex::encode(duties) })
    }

    pub fn hand_in(&self, ceremony: &Ceremony, signed: &Value) -> (u16, Value) {
        let (decision, signature) = (&signed["decision"], &signed["signature"]);
        let body = json!({ "proposal": ceremony.proposal, "decision": decision, "signature": signature });
        self.post("/v1/ceremonies", &body)
    }

    pub fn propose_by(&self, initiator: &str, action: &str, parameters: &Value) -> Ceremony {
        let ceremony = self.draft(action, parameters, initiator);
        let (status, view) = self.hand_in(&ceremony, &ceremony.signed(Word::Propose, initiator));
        assert_eq!((status, view["state"].as_str()), (200, Some("proposed")), "{view}");
        ceremony
    }

    pub fn propose(&self, action: &str, parameters: &Value) -> Ceremony {
        self.propose_by("kim", action, parameters)
    }

    pub fn hand_over(&self, ceremony: &Ceremony, signed: &Value) -> (u16, Value) {
        self.post(&format!("/v1/ceremonies/{}/decisions", ceremony.id), signed)
    }

    pub fn approve(&self, ceremony: &Ceremony, people: &[&str]) -> Value {
        people.iter().fold(Value::Null, |_, person| {
            let (status, view) = self.hand_over(ceremony, &ceremony.signed(Word::Approve, person));
            assert_eq!(status, 200, "{person}: {view}");
            view
        })
    }

    pub fn execute(&self, ceremony: &Ceremony) -> (u16, Value) {
        self.post(&format!("/v1/ceremonies/{}/execute", ceremony.id), &json!({}))
    }

    pub fn state(&self, ceremony: &Ceremony) -> String {
        self.get(&format!("/v1/ceremonies/{}", ceremony.id))["state"].as_str().unwrap().to_owned()
    }

    /// A whole ceremony.
    pub fn carry_out(&self, action: &str, parameters: &Value, people: &[&str]) -> Ceremony {
        let ceremony = self.propose(action, parameters);
        self.approve(&ceremony, people);
        let (status, view) = self.execute(&ceremony);
        assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{action}: {view}");
        ceremony
    }

    /// The keyring `patients`, by a ceremony.
    pub fn keyring(&self) -> Ceremony {
        let parameters = json!({ "keyring": "patients", "required_context": "path,resource" });
        self.carry_out("keyring.create", &parameters, &["bob"])
    }

    pub fn versions(&self) -> Vec<Value> {
        self.get("/v1/keyrings/patients")["versions"].as_array().unwrap().clone()
    }

    /// Seconds of the sidecar's clock.
    pub fn now(&self) -> u64 {
        self.draft("keyring.create", &json!({ "keyring": "clock" }), "kim").not_before
    }

    /// Moves the clock, and waits until it has moved.
    pub fn advance(&self, seconds: u64) {
        let before = self.now();
        let (status, told) = self.post("/v1/rehearsal/advance", &json!({ "seconds": seconds }));
        assert_eq!((status, &told["advanced_seconds"]), (200, &json!(seconds)), "{told}");
        // It moves in one step; after a restart it may have been behind, and then it catches up first.
        eventually("the clock moves", || self.now() > before + 60);
    }

    pub fn seal(&self) -> (u16, Value) {
        let context = json!({ "resource": "Patient/1", "path": "name" });
        let body = json!({ "context": context, "text": "Ada" }).to_string();
        post(&self.setup.data(), "/v1/keyrings/patients/seal", &body)
    }

    pub fn open(&self, sealed: &Value, purpose: &str) -> u16 {
        let context = json!({ "resource": "Patient/1", "path": "name" });
        let body = json!({ "sealed": sealed["sealed"], "context": context, "purpose": purpose });
        post(&self.setup.data(), "/v1/open", &body.to_string()).0
    }

    /// What the health listener says.
    pub fn health(&self, path: &str) -> String {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.health)) else { return String::new() };
        let host = format!("127.0.0.1:{}", self.health);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn stop(&mut self) {
        assert_eq!(self.serving.take().unwrap().stop(), Some(0));
    }

    pub fn restart(&mut self) {
        self.stop();
        self.serving = Some(self.setup.serve());
    }

    /// Starts without waiting until keyrings are served.
    pub fn start_unready(&mut self) {
        let config = self.setup.config();
        let mut command = Command::new(KEYWARD);
        let command = command.args(["serve", "--config", &config]).stdout(Stdio::null()).stderr(Stdio::null());
        self.serving = Some(Serving { child: command.spawn().unwrap() });
    }

    /// The newest record with this event and outcome.
    pub fn record(&self, event: &str, outcome: &str) -> Value {
        let of = |record: &Value| record["event"] == event && record["outcome"] == outcome;
        records(&self.setup).into_iter().rfind(of).unwrap_or_else(|| panic!("no {event} {outcome}"))
    }

    /// That an answer refuses with this code for this reason, says what to do, and that the log has it.
    pub fn refused(&self, (status, problem): &(u16, Value), code: &str, why: &str) {
        assert!(*status >= 400 && problem["code"] == code, "{why}: {status} {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.ends_with(&format!(" [{why}]")), "{why}: {problem}");
        assert!(!problem["advice"].as_str().unwrap_or_default().is_empty(), "{problem}");
        let request = problem["request_id"].as_str().unwrap_or_else(|| panic!("{problem}"));
        let mut all = records(&self.setup).into_iter();
        let record = all.rfind(|record| record["request"] == request && record["outcome"] != "intent");
        let record = record.unwrap_or_else(|| panic!("no record of {problem}"));
        assert_eq!((&record["reason"], &record["facts"]["why"]), (&json!(code), &json!(why)), "{record}");
        assert_eq!(record["actor"]["name"], "alice", "{record}");
        assert_eq!(record["facts"]["ceremony"].as_str().map(str::len), Some(26), "{record}");
    }
}

/// Waits; a claim about what comes, not about when.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < until, "it does not come about that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
