//! Two sidecars of a fleet over one database, each with a log of its own, that are asked about one ceremony: one effect, one
//! record of it, and no approval of somebody whose revocation was acknowledged before.

use std::time::Duration;

use keyward::service::{Code, CustodyVerb, Operation};
use serde_json::Value;

use super::people::{Ceremony, ask, enrolment, genesis, grant, keyring};
use crate::verbs::creation;
use crate::verbs::place::{Place, Sidecar};

/// Of a statement, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of each kind of ceremony.
const ROUNDS: usize = 20;

/// Two running sidecars with custodians, and what keeps them running.
struct Fleet {
    places: [Place; 2],
    sidecars: [Sidecar; 2],
}

impl Fleet {
    async fn new() -> Self {
        let place = Place::founded_in_postgresql(PATIENCE).await;
        let one = place.start().await;
        one.ask(Operation::CreateKeyring(creation("patients", false))).await;
        let founding = genesis(&one).await;
        ask(&one, founding).await.unwrap();
        let peer = place.peer().await;
        let two = peer.start().await;
        Self { places: [place, peer], sidecars: [one, two] }
    }

    fn stop(self) {
        self.sidecars.into_iter().for_each(Sidecar::stop);
        drop(self.places);
    }

    /// Records of a ceremony's effect that say this, over both logs.
    fn effects(&self, it: &Ceremony, outcome: &str) -> Vec<Value> {
        let spoken = ["ceremony.proposed", "ceremony.decided", "ceremony.read"];
        let of = |record: &Value| {
            let said = spoken.iter().any(|event| record["event"] == *event);
            record["facts"]["ceremony"] == it.id.as_str() && record["outcome"] == outcome && !said
        };
        let all = self.sidecars.iter().flat_map(Sidecar::records).map(|(_, record)| record);
        all.filter(of).collect()
    }

    fn no_open_intent(&self, at: &str) {
        for sidecar in &self.sidecars {
            let records = sidecar.records();
            let closed = |index: u64| records.iter().any(|(_, record)| record["intent"] == index);
            let open: Vec<_> =
                records.iter().filter(|(index, record)| record["outcome"] == "intent" && !closed(*index)).collect();
            assert!(open.is_empty(), "{at}: {open:?}");
        }
    }

    /// Both are asked at once: one does it, the other says why not.
    async fn race(&self, it: &Ceremony, at: &str) {
        let [one, two] = &self.sidecars;
        let (first, second) = tokio::join!(ask(one, it.executing()), ask(two, it.executing()));
        let (done, refused) = match (first, second) {
            (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done, refused),
            other => panic!("{at}: {other:?}"),
        };
        assert_eq!(done["state"], "executed", "{at}");
        let clear = [Code::Conflict, Code::CeremonyState, Code::NotApproved, Code::KeyringExists];
        assert!(clear.contains(&refused.code), "{at}: {refused:?}");
        assert_eq!(self.effects(it, "done").len(), 1, "{at}");
        for sidecar in &self.sidecars {
            let again = ask(sidecar, it.executing()).await;
            assert_eq!(again.map_err(|refusal| refusal.code), Err(Code::CeremonyState), "{at}");
            assert_eq!(it.state(sidecar).await, "executed", "{at}");
        }
        self.no_open_intent(at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_two_sidecars_create_by_one_ceremony_is_created_once() {
    let fleet = Fleet::new().await;
    for round in 0..ROUNDS {
        let name = format!("ring{round}");
        let by = ("kim", &["bob"][..]);
        let it = Ceremony::approved(&fleet.sidecars[round % 2], "keyring.create", &keyring(&name), by).await;
        fleet.race(&it, &name).await;
        for sidecar in &fleet.sidecars {
            sidecar.keyrings.catch_up().await.unwrap();
            assert_eq!(sidecar.view(&name).await.versions.len(), 1);
        }
    }
    fleet.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_two_sidecars_give_by_one_ceremony_is_given_once() {
    let fleet = Fleet::new().await;
    for round in 0..ROUNDS {
        let at = format!("grant {round}");
        let by = ("kim", &["bob"][..]);
        let it = Ceremony::approved(&fleet.sidecars[round % 2], "grant.give", &grant("outage"), by).await;
        fleet.race(&it, &at).await;
        let grants = ask(&fleet.sidecars[0], CustodyVerb::Grants).await.unwrap()["grants"].clone();
        assert_eq!(grants.as_array().unwrap().len(), round + 1, "{at}");
    }
    fleet.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custodian_whom_two_sidecars_enrol_by_one_ceremony_is_enrolled_once() {
    let fleet = Fleet::new().await;
    for round in 0..ROUNDS {
        let at = format!("enrolment {round}");
        let key = crate::custodians::Signer::token(u8::try_from(100 + round).unwrap());
        let parameters = enrolment(&fleet.sidecars[0], &key);
        let by = ("kim", &["bob", "carol"][..]);
        let it = Ceremony::approved(&fleet.sidecars[round % 2], "custodian.enrol", &parameters, by).await;
        fleet.race(&it, &at).await;
        let custody = ask(&fleet.sidecars[1], CustodyVerb::Show).await.unwrap();
        assert_eq!(custody["roster"]["generation"], round + 2, "{at}");
        let members = custody["roster"]["members"].as_array().unwrap();
        let erin = members.iter().find(|member| member["person"] == "erin").unwrap();
        assert_eq!(erin["keys"].as_array().unwrap().len(), round + 1, "{at}");
    }
    fleet.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_sidecar_was_told_another_carries_out_at_once() {
    let fleet = Fleet::new().await;
    let [one, two] = &fleet.sidecars;
    for round in 0..ROUNDS {
        let name = format!("ring{round}");
        let it = Ceremony::draft(one, "keyring.create", &keyring(&name), "kim").await;
        ask(one, it.proposing()).await.unwrap();
        ask(two, it.approving("bob")).await.unwrap();
        assert_eq!(ask(one, it.executing()).await.unwrap()["state"], "executed", "{name}");
        assert_eq!(fleet.effects(&it, "done").len(), 1);
    }
    fleet.stop();
}

fn revoking(person: &str) -> CustodyVerb {
    CustodyVerb::Revoke { person: person.parse().unwrap(), fingerprint: None, reason: "lost-token".to_owned() }
}

/// The other has not followed yet: nothing but the request itself tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_of_somebody_who_was_revoked_at_another_sidecar_counts_no_more() {
    for (action, parameters) in [("grant.give", grant("outage")), ("keyring.create", keyring("fresh"))] {
        let fleet = Fleet::new().await;
        let [one, two] = &fleet.sidecars;
        let it = Ceremony::approved(two, action, &parameters, ("kim", &["dave"])).await;
        ask(one, revoking("dave")).await.unwrap();
        let refused = ask(two, it.executing()).await;
        assert!(refused.is_err(), "{action}: {refused:?}");
        assert!(fleet.effects(&it, "done").is_empty(), "{action}");
        fleet.no_open_intent(action);
        fleet.stop();
    }
}

/// Which is first in the store is known from its chain: an effect that comes after the revocation rests on nobody revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_meets_an_execution_comes_after_it_or_stops_it() {
    let (mut stopped, mut after) = (0, 0);
    for round in 0..ROUNDS {
        let fleet = Fleet::new().await;
        let [one, two] = &fleet.sidecars;
        let it = Ceremony::approved(two, "grant.give", &grant("outage"), ("kim", &["dave"])).await;
        let late = async {
            // Sooner and later, so that they meet at every point of the way.
            tokio::time::sleep(Duration::from_micros(u64::try_from(round).unwrap() * 700)).await;
            ask(one, revoking("dave")).await
        };
        let (revoked, executed) = tokio::join!(late, ask(two, it.executing()));
        revoked.unwrap();
        let done = fleet.effects(&it, "done");
        assert_eq!(done.len(), usize::from(executed.is_ok()), "round {round}");
        if executed.is_ok() {
            after += 1;
            let records = one.records().into_iter().map(|(_, record)| record);
            let of = |record: &Value| record["event"] == "custodian.revoked" && record["outcome"] == "done";
            let revocation = records.into_iter().find(of).unwrap();
            assert!(change(&revocation) > change(&done[0]), "round {round}: {revocation} and {}", done[0]);
        } else {
            stopped += 1;
        }
        fleet.no_open_intent("the meeting");
        fleet.stop();
    }
    assert_eq!(stopped + after, ROUNDS);
}

/// Where in the chain of changes a record's change stands.
fn change(record: &Value) -> u64 {
    record["facts"]["store_head"].as_str().unwrap().split(':').next().unwrap().parse().unwrap()
}
