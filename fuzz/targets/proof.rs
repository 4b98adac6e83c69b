//! Proof files, checkpoints and keys as strangers hand them in: nothing panics, what is accepted has one form only, and
//! nothing is shown that its keys did not sign.
#![no_main]

use keyward::audit::prove::ProofFile;
use keyward::audit::{Keys, Origin, VerifierKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let ours = VerifierKey::new(Origin::parse("keyward/fuzz/1").expect("a name"), [7; 32]);
    assert!(ours.open(text).is_err(), "nobody has the key");
    if let Some(keys) = Keys::parse(text) {
        assert_eq!(Keys::parse(&keys.to_text()).as_ref(), Some(&keys));
        assert!(keys.open(text).is_err());
    }
    if let Ok(proof) = ProofFile::parse(text) {
        assert_eq!(proof.to_text(), text, "an accepted proof has one form");
        assert!(proof.check(&Keys::founding_only(ours)).is_err());
    }
});
