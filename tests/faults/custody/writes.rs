//! Each write of custody in each way that it can fail.

use keyward::service::{CustodyVerb, Operation};
use serde_json::{Value, json};

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::people::{Ceremony, ask, enrolment, genesis, goes_on, grant, keyring};
use crate::support::keyward_ok;
use crate::verbs::place::{Place, Sidecar};
use crate::verbs::writer::Kind;
use crate::verbs::{creation, outcomes_are_true};

/// What is asked of a store with the keyring `patients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Found,
    Propose,
    Approve,
    CreateKeyring,
    Enrol,
    Remove,
    Recertify,
    AdmitKek,
    Settings,
    Grant,
    BreakGlass,
    Revoke,
    EndGrant,
    Review,
}

/// What an act is about, where there is such a thing.
type About = Option<Ceremony>;

impl Act {
    /// The proposal that it carries out, and who proposes and approves it.
    fn proposal(
        self,
        place: &Place,
        sidecar: &Sidecar,
    ) -> Option<(&'static str, Value, &'static str, &'static [&'static str])> {
        const TWO: &[&str] = &["bob", "carol"];
        Some(match self {
            Self::Propose | Self::Approve | Self::CreateKeyring => {
                ("keyring.create", keyring("fresh"), "kim", &["bob"])
            }
            Self::Enrol => ("custodian.enrol", enrolment(sidecar, &super::people::token("erin")), "kim", TWO),
            Self::Remove => ("custodian.remove", json!({ "person": "dave", "reason": "leaving" }), "kim", TWO),
            Self::Recertify => ("custodian.recertify", json!({ "person": "dave" }), "kim", &["bob"]),
            Self::AdmitKek => ("kek.rotate", json!({ "kek": "primary", "to_version": "2" }), "kim", TWO),
            Self::Settings => {
                let changes = place.guarded.changes_from(&[("audit.x".to_owned(), "1".to_owned())].into());
                let digest = hex::encode(place.guarded.digest());
                ("settings.change", json!({ "changes": changes.text(), "settings": digest }), "kim", TWO)
            }
            Self::Grant | Self::EndGrant => ("grant.give", grant("outage"), "kim", &["bob"]),
            Self::BreakGlass | Self::Review => {
                let asked = json!({ "principal": "portal", "keyring": "patients", "minutes": "30", "reason": "outage",
                    "ticket": "INC-9" });
                ("break-glass.open", asked, "rosa", &["bob"])
            }
            Self::Found | Self::Revoke => return None,
        })
    }

    /// Brings the store to where it can be asked for.
    async fn prepare(self, place: &mut Place) -> About {
        place.guarded.note("audit.x", "1");
        let sidecar = place.start().await;
        sidecar.ask(Operation::CreateKeyring(creation("patients", false))).await;
        if self != Self::Found {
            let founding = genesis(&sidecar).await;
            ask(&sidecar, founding).await.unwrap();
        }
        if self == Self::Settings {
            place.guarded.note("audit.x", "2");
            // At tier 3 keys count that have been there for a day.
            place.clock.advance(Duration::from_secs(25 * 3_600));
            sidecar.keyrings.report_in().await.unwrap();
        }
        let about = match self.proposal(place, &sidecar) {
            None => None,
            Some((action, parameters, by, _)) if self == Self::Propose => {
                Some(Ceremony::draft(&sidecar, action, &parameters, by).await)
            }
            Some((action, parameters, by, people)) => {
                let people = if self == Self::Approve { &[] } else { people };
                Some(Ceremony::approved(&sidecar, action, &parameters, (by, people)).await)
            }
        };
        if let (Self::EndGrant | Self::Review, Some(it)) = (self, &about) {
            ask(&sidecar, it.executing()).await.unwrap();
        }
        if self == Self::Settings {
            // It cools off.
            place.clock.advance(Duration::from_secs(25 * 3_600));
            sidecar.keyrings.report_in().await.unwrap();
        }
        sidecar.stop();
        about
    }

    async fn verb(self, sidecar: &Sidecar, about: &About) -> CustodyVerb {
        let about = || about.as_ref().unwrap();
        match self {
            Self::Found => genesis(sidecar).await,
            Self::Propose => about().proposing(),
            Self::Approve => about().approving("bob"),
            Self::Revoke => {
                let person = "dave".parse().unwrap();
                CustodyVerb::Revoke { person, fingerprint: None, reason: "lost-token".to_owned() }
            }
            Self::EndGrant => CustodyVerb::EndGrant(about().id.clone()),
            Self::Review => about().reviewing("victor"),
            _ => about().executing(),
        }
    }

    const fn executes(self) -> bool {
        !matches!(self, Self::Found | Self::Propose | Self::Approve | Self::Revoke | Self::EndGrant | Self::Review)
    }

    /// Whether its effect is there, whole, as documents and keyrings show it.
    async fn is_done(self, sidecar: &Sidecar, about: &About) -> bool {
        let custody = ask(sidecar, CustodyVerb::Show).await.unwrap();
        let active = |person: &str| {
            let members = custody["roster"]["members"].as_array().cloned().unwrap_or_default();
            members.iter().any(|member| {
                let keys = member["keys"].as_array().unwrap();
                member["person"] == person && keys.iter().any(|key| key.get("revoked").is_none())
            })
        };
        let grant = || async {
            let all = ask(sidecar, CustodyVerb::Grants).await.unwrap()["grants"].clone();
            let id = about.as_ref().unwrap().id.clone();
            all.as_array().unwrap().iter().find(|grant| grant["id"] == id).cloned()
        };
        match self {
            Self::Found => custody["founded"] == true,
            Self::Propose => about.as_ref().unwrap().look(sidecar).await.is_some(),
            Self::Approve => about.as_ref().unwrap().look(sidecar).await.unwrap()["approvals"]["have"] == 1,
            Self::CreateKeyring => sidecar.keyrings.find(&"fresh".parse().unwrap()).await.unwrap().is_some(),
            Self::Enrol => active("erin"),
            Self::Remove | Self::Revoke => !active("dave"),
            Self::Recertify => custody["roster"]["generation"] == 2,
            Self::AdmitKek => sidecar.keyrings.document("kw.kek/primary/2").await.unwrap().is_some(),
            Self::Settings => {
                sidecar.keyrings.document("kw.settings").await.unwrap().is_some_and(|found| found.generation == 2)
            }
            Self::Grant | Self::BreakGlass => grant().await.is_some(),
            Self::EndGrant => !grant().await.unwrap()["ended"].is_null(),
            Self::Review => grant().await.unwrap()["review"]["by"] == "victor",
        }
    }
}

/// Every write of the act failed in every way, each from the same beginning.
async fn each_write(act: Act) {
    let mut prepared = Place::founded().await;
    let about = act.prepare(&mut prepared).await;
    for kind in Kind::ALL {
        assert!(interrupted(act, &prepared.copy(), &about, (kind, 1)).await, "{act:?} writes nothing");
        assert!(!interrupted(act, &prepared.copy(), &about, (kind, 2)).await, "{act:?} writes in two parts");
    }
}

/// False if the act has no such write.
async fn interrupted(act: Act, place: &Place, about: &About, (kind, n): (Kind, usize)) -> bool {
    let at = format!("{act:?}, write {n} {kind:?}");
    let sidecar = place.start().await;
    sidecar.keyrings.report_in().await.unwrap();
    assert!(!act.is_done(&sidecar, about).await, "{at}");
    let verb = act.verb(&sidecar, about).await;
    let before = sidecar.records().len();
    sidecar.faults.arm(kind, n);
    let asked = ask(&sidecar, verb.clone()).await;
    let (fired, kept) = (sidecar.faults.fired(), sidecar.faults.kept.load(Ordering::SeqCst));
    assert!(asked.is_err() == fired, "{at}: {asked:?}");
    if fired && kind != Kind::KeptAndClosed {
        // The same process goes on: what was asked is asked again, as it was signed.
        let again = ask(&sidecar, verb.clone()).await;
        assert!(again.is_ok() != kind.persists(), "{at}: {again:?}");
    }
    sidecar.stop();
    let restarted = place.start().await;
    assert_eq!(restarted.left, [], "{at}");
    outcomes_are_true(&restarted.records().split_off(before), (kind, kept, fired), &at);
    assert!(act.is_done(&restarted, about).await, "{at}: it was asked for until it was done");
    if act.executes() {
        let it = about.as_ref().unwrap();
        assert_eq!(it.state(&restarted).await, "executed", "{at}: the decision is spent where its effect is");
        once(&restarted, it, &at);
    }
    let twice = ask(&restarted, verb).await;
    assert!(twice.is_err(), "{at}: it happens twice: {twice:?}");
    goes_on(&restarted, &at).await;
    restarted.stop();
    let found = keyward_ok(&["audit", "verify", "--json", &place.path("log").display().to_string()]);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["open_intents"], json!([]), "{at}");
    fired
}

/// The log has one outcome that says that the ceremony was carried out.
fn once(sidecar: &Sidecar, it: &Ceremony, at: &str) {
    let carried_out: Vec<Value> = sidecar.records().into_iter().map(|(_, record)| record).collect();
    let done = |record: &&Value| {
        let spoken =
            ["ceremony.proposed", "ceremony.decided", "ceremony.read"].iter().any(|event| record["event"] == **event);
        record["facts"]["ceremony"] == it.id.as_str() && record["outcome"] == "done" && !spoken
    };
    assert_eq!(carried_out.iter().filter(done).count(), 1, "{at}");
}

/// Cut short before the write, nothing has happened, and the decision is as good as before.
async fn nothing_of_it(act: Act) {
    let mut prepared = Place::founded().await;
    let about = act.prepare(&mut prepared).await;
    for kind in [Kind::Refused, Kind::Lost] {
        let (place, at) = (prepared.copy(), format!("{act:?} {kind:?}"));
        let sidecar = place.start().await;
        sidecar.keyrings.report_in().await.unwrap();
        sidecar.faults.arm(kind, 1);
        let verb = act.verb(&sidecar, &about).await;
        assert!(ask(&sidecar, verb.clone()).await.is_err() && sidecar.faults.fired(), "{at}");
        sidecar.stop();
        let restarted = place.start().await;
        restarted.keyrings.report_in().await.unwrap();
        assert_eq!(restarted.left, [], "{at}");
        assert!(!act.is_done(&restarted, &about).await, "{at}");
        if act.executes() {
            assert_eq!(about.as_ref().unwrap().state(&restarted).await, "ready", "{at}");
        }
        ask(&restarted, verb).await.unwrap_or_else(|refusal| panic!("{at}: {refusal:?}"));
        assert!(act.is_done(&restarted, &about).await, "{at}");
        restarted.stop();
    }
}

/// One test for each, so that they run side by side and a failure names its act.
macro_rules! of_one_write {
    ($($name:ident: $act:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            each_write(Act::$act).await;
            nothing_of_it(Act::$act).await;
        })*
    };
}

of_one_write! {
    a_genesis_survives_its_write: Found;
    a_proposal_survives_its_write: Propose;
    an_approval_survives_its_write: Approve;
    a_keyring_by_a_ceremony_survives_its_write: CreateKeyring;
    an_enrolment_survives_its_write: Enrol;
    a_removal_survives_its_write: Remove;
    a_recertification_survives_its_write: Recertify;
    an_admitted_kek_survives_its_write: AdmitKek;
    approved_settings_survive_their_write: Settings;
    a_grant_survives_its_write: Grant;
    a_broken_glass_survives_its_write: BreakGlass;
    a_revocation_survives_its_write: Revoke;
    the_end_of_a_grant_survives_its_write: EndGrant;
    a_review_survives_its_write: Review;
}
