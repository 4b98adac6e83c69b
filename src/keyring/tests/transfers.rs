//! Values that come under another key: who may, what is counted, and that nothing but sealed bytes comes out.

use super::tampering::set_state;
use super::*;
use crate::crypto::NONCE_BYTES;
use crate::keyring::life::Trigger;

const HEADER: &[u8; 12] = &[1; 12];
const NONCE: &[u8; NONCE_BYTES] = &[2; NONCE_BYTES];
const ONE: Load = Load { messages: 1, bytes: 10 };

/// A value of the keyring `patients` and the version that sealed it.
struct Value {
    version: KeyVersionId,
    bytes: Vec<u8>,
}

impl Value {
    fn parts<'a>(&'a self, aad: &'a [u8]) -> SealedParts<'a> {
        SealedParts { header: HEADER, nonce: NONCE, aad, sealed: &self.bytes }
    }

    fn source<'p>(&self, permit: &'p Permit) -> Source<'p, 'static> {
        Source { permit, version: self.version, partition: None }
    }
}

async fn ready() -> (World, Arc<Keyrings>, Value) {
    let (world, keyrings) = World::with_keyrings(&["patients", "staff"]).await;
    let permit = world.permit(Action::Seal, "patients");
    let key = keyrings.unlock_sealing(&permit, Load { messages: 0, bytes: 0 }).await.unwrap();
    let mut bytes = Vec::new();
    key.seal(HEADER, NONCE, b"old place", b"Doe", &mut bytes).unwrap();
    let value = Value { version: key.version(), bytes };
    (world, keyrings, value)
}

async fn rotate(world: &World, keyrings: &Keyrings) {
    let change = Change::Rotate { keyring: name("patients"), trigger: Trigger::Incident, expect: None };
    world.change(keyrings, change, 20).await.unwrap();
}

async fn unlock<'p>(
    keyrings: &Keyrings,
    source: Source<'p, '_>,
    destination: Destination<'p, '_>,
) -> Result<RewrapKey<'p>, UnlockError> {
    match keyrings.unlock_rewrapping(source, destination, ONE).await? {
        Unlock::Ready(key) => Ok(key),
        Unlock::Needs(_) => Err(UnlockError::NoPartition),
    }
}

#[tokio::test]
async fn a_value_comes_under_the_active_version_and_only_sealed_bytes_come_out() {
    let (world, keyrings, value) = ready().await;
    rotate(&world, &keyrings).await;
    let permit = world.permit(Action::Rewrap, "patients");
    let key = unlock(&keyrings, value.source(&permit), Destination::Same).await.unwrap();
    let (version, suite) = key.target().unwrap();
    assert_eq!((version == value.version, suite), (false, Suite::XaesCommitted));
    let mut out = b"before".to_vec();
    let wrong = key.rewrap(&value.parts(b"other place"), (HEADER, NONCE, b"new place"), &mut out);
    assert_eq!((wrong, out.as_slice()), (Err(TransferError::NotOpened), &b"before"[..]));
    out.clear();
    key.rewrap(&value.parts(b"old place"), (HEADER, NONCE, b"new place"), &mut out).unwrap();
    assert!(out.len() == value.bytes.len() && out != value.bytes && !out.windows(3).any(|bytes| bytes == b"Doe"));
    let to_open = world.permit(Action::Open, "patients");
    let opens = keyrings.unlock_opening(&to_open, version).await.unwrap();
    assert_eq!(opens.open(HEADER, NONCE, b"new place", &out).unwrap().expose(), b"Doe");
    assert!(opens.open(HEADER, NONCE, b"old place", &out).is_err());
    let older = keyrings.unlock_opening(&to_open, value.version).await.unwrap();
    assert!(older.open(HEADER, NONCE, b"new place", &out).is_err(), "the older version does not open it");
}

#[tokio::test]
async fn a_permit_to_rewrap_opens_and_seals_nothing_and_no_other_permit_rewraps() {
    let (world, keyrings, value) = ready().await;
    let refused = Some(UnlockError::NotCovered);
    let rewrap = world.permit(Action::Rewrap, "patients");
    assert_eq!(keyrings.unlock_opening(&rewrap, value.version).await.err(), refused);
    assert_eq!(keyrings.unlock_to_seal(&rewrap).await.err(), refused);
    assert_eq!(keyrings.missing_partition(&rewrap, "ada").await.err(), refused);
    for action in [Action::Open, Action::Seal] {
        let permit = world.permit(action, "patients");
        assert_eq!(unlock(&keyrings, value.source(&permit), Destination::Same).await.err(), refused, "{action:?}");
        assert_eq!(keyrings.unlock_checking(value.source(&permit)).await.err(), refused, "{action:?}");
    }
    let other = world.permit(Action::Rewrap, "staff");
    assert_eq!(unlock(&keyrings, value.source(&other), Destination::Same).await.err(), refused);
    let (seal, seal_other) = (world.permit(Action::Seal, "patients"), world.permit(Action::Seal, "staff"));
    for (rewrap_there, seal_there, allowed) in [
        (&rewrap, &seal, true),
        (&rewrap, &rewrap, false),
        (&seal, &seal, false),
        (&rewrap, &seal_other, false),
        (&other, &seal, false),
        (&other, &seal_other, false),
    ] {
        let into = Destination::Other { rewrap: rewrap_there, seal: seal_there, partition: None };
        let unlocked = unlock(&keyrings, value.source(&rewrap), into).await;
        assert_eq!(unlocked.err(), if allowed { None } else { refused.clone() });
    }
}

#[tokio::test]
async fn what_is_current_is_neither_sealed_nor_counted_and_what_is_moved_counts_once() {
    let (world, keyrings, value) = ready().await;
    let (rewrap, seal) = (world.permit(Action::Rewrap, "patients"), world.permit(Action::Seal, "patients"));
    let key = unlock(&keyrings, value.source(&rewrap), Destination::Same).await.unwrap();
    assert_eq!((key.target(), key.opens(&value.parts(b"old place"))), (None, Ok(())));
    assert_eq!(key.opens(&value.parts(b"other place")), Err(TransferError::NotOpened), "current, and not here");
    let mut out = Vec::new();
    let sealed = key.rewrap(&value.parts(b"old place"), (HEADER, NONCE, b"new place"), &mut out);
    assert_eq!((sealed, out.len()), (Err(TransferError::NotSealed), 0));
    assert_eq!(keyrings.usage(value.version).await.unwrap().messages, 0);
    let into = Destination::Other { rewrap: &rewrap, seal: &seal, partition: None };
    let key = unlock(&keyrings, value.source(&rewrap), into).await.unwrap();
    assert_eq!(key.target().unwrap().0, value.version, "another place under the same version");
    assert!(keyrings.usage(value.version).await.unwrap().messages >= 1);
}

#[tokio::test]
async fn a_version_in_any_state_gives_values_away_as_it_opens_them() {
    let states = [KeyState::PreActive, KeyState::Active, KeyState::Suspended, KeyState::Deactivated];
    for state in states.into_iter().chain([KeyState::Compromised, KeyState::Destroyed]) {
        let (world, keyrings, value) = ready().await;
        set_state(&keyrings, "default/patients", state).await;
        let keyrings = world.admitted().await;
        let (rewrap, to_open) = (world.permit(Action::Rewrap, "patients"), world.permit(Action::Open, "patients"));
        let opening = keyrings.unlock_opening(&to_open, value.version).await.map(drop);
        let checking = keyrings.unlock_checking(value.source(&rewrap)).await.map(drop);
        assert_eq!(checking, opening, "{state:?}");
        let rewrapping = unlock(&keyrings, value.source(&rewrap), Destination::Same).await.map(drop);
        // None of these keyrings but the one has a version that seals.
        let allowed = if state == KeyState::Active { Ok(()) } else { Err(UnlockError::State(state)) };
        assert_eq!(rewrapping, allowed, "{state:?}");
    }
}
