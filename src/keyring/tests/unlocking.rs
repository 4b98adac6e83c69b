//! From a permit to a key: what it covers, which states serve, and what a value is bound to.

use super::tampering::set_state;
use super::*;
use crate::crypto::canonical;
use crate::names::Context;

const HEADER: [u8; 12] = [1; 12];
const NONCE: [u8; 24] = [2; 24];

fn context(pairs: &[(&str, &str)]) -> Context {
    Context::parse(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))).unwrap()
}

fn aad(bound: &BoundContext<'_>) -> Vec<u8> {
    canonical::encode("keyward/aad/v1", &HEADER, bound.iter()).unwrap()
}

async fn seal(
    world: &World,
    keyrings: &Keyrings,
    keyring: &str,
    free: &Context,
    text: &[u8],
) -> (KeyVersionId, Vec<u8>) {
    let permit = world.permit(Action::Seal, keyring);
    let key = keyrings.unlock_to_seal(&permit).await.unwrap();
    let mut sealed = Vec::new();
    key.seal(&HEADER, &NONCE, &aad(&key.bind(free).unwrap()), text, &mut sealed).unwrap();
    (key.version(), sealed)
}

#[tokio::test]
async fn what_one_sidecar_sealed_the_next_one_opens_under_the_same_context_only() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let (p1, p2) = (context(&[("patient", "p1")]), context(&[("patient", "p2")]));
    let (version, sealed) = seal(&world, &keyrings, "patients", &p1, b"Doe").await;
    let next = world.admitted().await;
    let permit = world.permit(Action::Open, "patients");
    let key = next.unlock_opening(&permit, version).await.unwrap();
    assert_eq!(key.suite(), Suite::XaesCommitted);
    let opened = key.open(&HEADER, &NONCE, &aad(&key.bind(&p1).unwrap()), &sealed).unwrap();
    assert_eq!(opened.expose(), b"Doe");
    assert!(key.open(&HEADER, &NONCE, &aad(&key.bind(&p2).unwrap()), &sealed).is_err());
}

#[tokio::test]
async fn a_permit_unlocks_only_its_own_action_on_its_own_keyring() {
    let (world, keyrings) = World::with_keyrings(&["patients", "staff"]).await;
    let patients = keyrings.find(&"patients".parse().unwrap()).await.unwrap().unwrap().versions[0].id;
    let (to_seal, to_open) = (world.permit(Action::Seal, "patients"), world.permit(Action::Open, "patients"));
    assert_eq!(keyrings.unlock_to_seal(&to_open).await.err(), Some(UnlockError::NotCovered));
    assert_eq!(keyrings.unlock_opening(&to_seal, patients).await.err(), Some(UnlockError::NotCovered));
    let staff = world.permit(Action::Open, "staff");
    assert_eq!(keyrings.unlock_opening(&staff, patients).await.err(), Some(UnlockError::NotCovered));
    let nowhere = world.permit(Action::Seal, "nowhere");
    assert_eq!(keyrings.unlock_to_seal(&nowhere).await.err(), Some(UnlockError::Unknown));
    assert_eq!(keyrings.unlock_opening(&to_open, KeyVersionId([0; 8])).await.err(), Some(UnlockError::Unknown));
    let list = world.permit(Action::KeyringList, "x");
    assert_eq!(keyrings.unlock_to_seal(&list).await.err(), Some(UnlockError::NotCovered));
    assert_eq!(keyrings.list(&to_open, None, 9).await, Err(UnlockError::NotCovered));
    assert_eq!(world.kek.unwraps(), 0, "a refusal never reaches the KEK");
    assert!(keyrings.unlock_opening(&to_open, patients).await.is_ok());
}

#[tokio::test]
async fn only_an_active_version_seals_and_only_active_and_deactivated_ones_open() {
    let states = [KeyState::PreActive, KeyState::Active, KeyState::Suspended, KeyState::Deactivated];
    for state in states.into_iter().chain([KeyState::Compromised, KeyState::Destroyed]) {
        let (world, keyrings) = World::with_keyrings(&["patients"]).await;
        let version = keyrings.find(&"patients".parse().unwrap()).await.unwrap().unwrap().versions[0].id;
        set_state(&keyrings, "default/patients", state).await;
        let keyrings = world.admitted().await;
        let (to_seal, to_open) = (world.permit(Action::Seal, "patients"), world.permit(Action::Open, "patients"));
        let sealing = keyrings.unlock_to_seal(&to_seal).await.map(drop);
        let opening = keyrings.unlock_opening(&to_open, version).await.map(drop);
        let refused = Err(UnlockError::State(state));
        assert_eq!(sealing, if state == KeyState::Active { Ok(()) } else { refused.clone() }, "{state:?}");
        let opens = matches!(state, KeyState::Active | KeyState::Deactivated);
        assert_eq!(opening, if opens { Ok(()) } else { refused }, "{state:?}");
    }
}

#[tokio::test]
async fn a_state_that_changed_under_a_cached_key_stops_its_use() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit(Action::Seal, "patients");
    drop(keyrings.unlock_to_seal(&permit).await.unwrap());
    set_state(&keyrings, "default/patients", KeyState::Suspended).await;
    keyrings.catch_up().await.unwrap();
    assert_eq!(keyrings.cache_stats().keys, 0);
    assert_eq!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::State(KeyState::Suspended)));
}

#[tokio::test]
async fn a_permit_past_its_deadline_unlocks_nothing_even_from_the_cache() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit(Action::Seal, "patients");
    drop(keyrings.unlock_to_seal(&permit).await.unwrap());
    world.clock.advance(Duration::from_secs(6));
    assert!(matches!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::Unavailable(_))));
}

#[tokio::test]
async fn the_bound_context_is_the_items_the_permits_and_the_keyrings_pairs_in_order() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit_until(Action::Seal, "patients", &[("patient", "p1"), ("tenant", "t")], world.soon());
    let key = keyrings.unlock_to_seal(&permit).await.unwrap();
    let free = context(&[("patient", "p1"), ("zone", "z"), ("a", "1")]);
    let bound = key.bind(&free).unwrap();
    let pairs: Vec<(&str, &str)> =
        bound.iter().map(|(k, v)| (str::from_utf8(k).unwrap(), str::from_utf8(v).unwrap())).collect();
    let expected = [("a", "1"), ("kw.keyring", "default/patients"), ("patient", "p1"), ("tenant", "t"), ("zone", "z")];
    assert_eq!(pairs, expected);
    let other = context(&[("patient", "p2")]);
    assert_eq!(key.bind(&other).err(), Some(BindError::Conflict));
    assert!(key.bind(&Context::default()).is_ok(), "the permit brings the patient");
}

#[tokio::test]
async fn a_context_without_a_required_key_or_beyond_the_limits_is_not_bound() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit(Action::Seal, "patients");
    let key = keyrings.unlock_to_seal(&permit).await.unwrap();
    assert_eq!(key.bind(&context(&[("path", "Patient.name")])).err(), Some(BindError::Missing));
    let long = "x".repeat(4000);
    let permit = world.permit_until(Action::Seal, "patients", &[("tenant", &long)], world.soon());
    let key = keyrings.unlock_to_seal(&permit).await.unwrap();
    assert!(key.bind(&context(&[("patient", "p"), ("more", &long)])).is_ok());
    let longer = "x".repeat(4200);
    assert_eq!(key.bind(&context(&[("patient", "p"), ("more", &longer)])).err(), Some(BindError::TooLarge));
}

#[tokio::test]
async fn a_wrap_that_does_not_open_is_tampering_and_not_an_outage() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let inner = &keyrings.inner;
    let open = inner.opened().unwrap();
    let mut rows = inner.writer.ring("default/patients".to_owned()).await.unwrap().unwrap();
    let key = &mut rows.keys[0];
    let last = key.wraps.len() - 40;
    key.wraps[last] ^= 1;
    open.hot.put(Arc::new(Ring::read(&rows, &open.system.genesis, QUARTER).unwrap()));
    let permit = world.permit(Action::Seal, "patients");
    assert_eq!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::Tampered));
}
