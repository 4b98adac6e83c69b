//! Public keys and signatures of SSH: reading and verifying never panics, nothing verifies, and a key that is read has one line.
#![no_main]

use keyward::identity::sshsig::{SshKey, SshSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Keys of small order, by which some rubbish is a signature, are not read.
    let verified = |signature: SshSignature| assert!(signature.verify("namespace", b"never signed").is_err());
    SshSignature::of_blob(bytes).map(verified).ok();
    if let Ok(key) = SshKey::of_blob(bytes) {
        assert_eq!(SshKey::parse(&key.line()), Ok(key));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        SshSignature::parse(text).map(verified).ok();
        if let Ok(key) = SshKey::parse(text) {
            assert_eq!(SshKey::parse(&key.line()), Ok(key));
        }
    }
});
