//! Public keys and signatures of SSH: reading and verifying never panics, and a key that is read has one line.
#![no_main]

use keyward::identity::sshsig::{SshKey, SshSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Not asserted to fail: by a key of small order, which is a person's own loss, some rubbish is a signature.
    let verified = |signature: SshSignature| drop(signature.verify("namespace", b"never signed"));
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
