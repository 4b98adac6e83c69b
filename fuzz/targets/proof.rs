//! Proof files, checkpoints, keys, witness policies and requests to a witness as strangers hand them in: nothing panics, what is accepted has one form only, and
//! nothing is shown that its keys did not sign.
#![no_main]

use std::sync::{Arc, OnceLock};

use keyward::audit::prove::ProofFile;
use keyward::audit::{CosignerKey, Keys, Origin, VerifierKey, WitnessPolicy};
use keyward::clock::SystemClock;
use keyward::durable::{Disk, TemporaryDir};
use keyward::witness::Desk;
use libfuzzer_sys::fuzz_target;

/// A witness of a log whose key nobody has.
fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(|| {
        let home = TemporaryDir::make("keyward-fuzz").expect("a directory");
        let (dir, disk) = (home.path().join("w"), Disk::real());
        Desk::found(&disk, &dir, Origin::parse("w").expect("a name")).expect("a witness");
        let key = VerifierKey::new(Origin::parse("keyward/fuzz/1").expect("a name"), [7; 32]);
        Desk::add_log(&disk, &dir, &key).expect("a log");
        Desk::open(&disk, &dir, Arc::new(SystemClock)).expect("a desk")
    })
}

fuzz_target!(|input: &[u8]| {
    let reply = desk().add_checkpoint(input);
    assert!([400, 403, 404].contains(&reply.status), "nobody has the key");
    let Ok(text) = std::str::from_utf8(input) else { return };
    let ours = VerifierKey::new(Origin::parse("keyward/fuzz/1").expect("a name"), [7; 32]);
    assert!(ours.open(text).is_err(), "nobody has the key");
    if let Some(keys) = Keys::parse(text) {
        assert_eq!(Keys::parse(&keys.to_text()).as_ref(), Some(&keys));
        assert!(keys.open(text).is_err());
    }
    if let Some(key) = CosignerKey::parse(text) {
        assert_eq!(CosignerKey::parse(&key.to_text()), Some(key));
    }
    if let Ok(policy) = WitnessPolicy::parse(text) {
        // More witnesses never make less of a quorum.
        assert!(!policy.satisfied(&|_| false) || policy.satisfied(&|_| true));
        assert!(policy.cosigned(text).0.is_empty());
    }
    if let Ok(proof) = ProofFile::parse(text) {
        assert_eq!(proof.to_text(), text, "an accepted proof has one form");
        assert!(proof.check(&Keys::founding_only(ours)).is_err());
    }
});
