//! Another policy set while requests are answered: only the approved one, and a stop in between leaves nothing open.

use keyward::audit::{Actor, Event, Outcome, Record, Source};
use keyward::clock::{Clock, Deadline};
use keyward::policy::Policy;
use keyward::service::{Answer, Code, Operation, PolicyLoaded};

use super::place::{PERMISSIVE, Place, Sidecar, set, told};

const STRICTER: &str = "permit (principal, action, resource);\n\
    forbid (principal is Service, action == Action::\"rewrap\", resource == Keyring::\"default/charts\");";

fn digest(text: &str) -> [u8; 32] {
    Policy::load(&set(text.to_owned())).unwrap().digest()
}

async fn reload(sidecar: &Sidecar) -> Result<PolicyLoaded, Code> {
    match sidecar.ask(Operation::ReloadPolicy).await {
        Answer::PolicyLoaded(loaded) => Ok(loaded),
        Answer::Refused(refusal) => Err(refusal.code),
        other => panic!("{}", told(&other)),
    }
}

#[tokio::test]
async fn only_the_approved_policy_set_is_put_in_force() {
    let place = Place::founded().await;
    let sidecar = place.start().await;
    place.write_policy(STRICTER);
    sidecar.service.set_approved_policy(Some(digest(PERMISSIVE)));
    for _ in 0..2 {
        assert_eq!(reload(&sidecar).await, Err(Code::CeremonyRequired));
        let refused = sidecar.service.reload_policy_on_signal().await.unwrap_err();
        assert_eq!(refused.code, Code::CeremonyRequired);
        assert!(refused.detail.unwrap().contains(&hex::encode(digest(STRICTER))));
    }
    assert_eq!(sidecar.service.policy_digest(), digest(PERMISSIVE), "the set before stays");
    let failed = |record: &&(u64, serde_json::Value)| record.1["reason"] == "ceremony_required";
    let records = sidecar.records();
    assert_eq!(records.iter().filter(failed).count(), 4);
    assert!(records.iter().filter(failed).all(|(_, record)| record["event"] == "policy.loaded"));

    sidecar.service.set_approved_policy(Some(digest(STRICTER)));
    let loaded = PolicyLoaded { before: digest(PERMISSIVE), now: digest(STRICTER), files: 1 };
    assert_eq!(reload(&sidecar).await, Ok(loaded));
    assert_eq!(sidecar.service.policy_digest(), digest(STRICTER));
    place.write_policy(PERMISSIVE);
    assert_eq!(reload(&sidecar).await, Err(Code::CeremonyRequired), "what was approved before is approved no more");
    sidecar.service.set_approved_policy(None);
    assert_eq!(reload(&sidecar).await.map(|loaded| loaded.now), Ok(digest(PERMISSIVE)));
    sidecar.stop();
}

#[tokio::test]
async fn an_announced_policy_set_is_settled_by_what_the_restart_finds_in_force() {
    for (announced, outcome) in [(PERMISSIVE, "done"), (STRICTER, "failed")] {
        let place = Place::founded().await;
        let sidecar = place.start().await;
        let intent = Record {
            event: Event::PolicyLoaded,
            outcome: Outcome::Intent,
            reason: None,
            actor: Actor::Sidecar,
            source: Source::Internal,
            request: None,
            purpose: None,
            groups: Vec::new(),
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: None,
            intent: None,
            facts: vec![("policy_digest", hex::encode(digest(announced)))],
        };
        let by = Deadline(place.clock.mono().plus(std::time::Duration::from_secs(5)));
        let intent = sidecar.log.intent(intent, by).await.unwrap().index();
        sidecar.stop();
        let again = place.start().await;
        assert!(again.left.is_empty());
        let records = again.records();
        let (_, record) = records.iter().find(|(_, record)| record["intent"] == intent).unwrap();
        assert_eq!((&record["outcome"], &record["reason"]), (&outcome.into(), &"reconciled".into()));
        again.stop();
    }
}
