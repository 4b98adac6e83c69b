//! What the real `ssh-keygen` signs verifies here, and what it refuses is refused here.
#![allow(clippy::unwrap_used, reason = "a test whose person cannot sign has failed")]
#![allow(clippy::disallowed_methods, reason = "the test plays the person and the person's token")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::identity::sshsig::{Presence, SshError, SshKey, SshSignature};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

const NAMESPACE: &str = "keyward-decision@example.org";
const MESSAGE: &[u8] = b"keyward/decision/v1\nabout this and nothing else\n";
const PERSON: &str = "alice@example.org";

/// A directory with keys of people.
struct People {
    dir: tempfile::TempDir,
}

impl People {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A key of this kind, made by `ssh-keygen`.
    fn key(&self, name: &str, kind: &[&str]) -> SshKeyPair {
        let path = self.path(name);
        let made =
            keygen(&[&["-q", "-N", "", "-C", "a comment", "-f", path.to_str().unwrap(), "-t"], kind].concat(), b"");
        assert!(made.0, "{}", made.1);
        let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        SshKeyPair { path, line }
    }

    /// What `ssh-keygen -Y verify` says of it.
    fn theirs(&self, line: &str, armoured: &str, namespace: &str, message: &[u8]) -> bool {
        let (allowed, signature) = (self.path("allowed"), self.path("signature"));
        write(&allowed, format!("{PERSON} {line}").as_bytes());
        write(&signature, armoured.as_bytes());
        let (allowed, signature) = (allowed.to_str().unwrap(), signature.to_str().unwrap());
        keygen(&["-Y", "verify", "-f", allowed, "-I", PERSON, "-n", namespace, "-s", signature], message).0
    }
}

struct SshKeyPair {
    path: PathBuf,
    line: String,
}

impl SshKeyPair {
    fn sign(&self, namespace: &str, more: &[&str], message: &[u8]) -> String {
        let path = self.path.to_str().unwrap();
        let (done, text) = keygen(&[&["-Y", "sign", "-q", "-f", path, "-n", namespace], more].concat(), message);
        assert!(done, "{text}");
        text
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Whether it was content, and what it printed.
fn keygen(arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut command = Command::new("ssh-keygen");
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments reads nothing.
    let _unread = child.stdin.take().unwrap().write_all(input);
    let done = child.wait_with_output().unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

fn armoured(blob: &[u8]) -> String {
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
}

fn blob(armoured: &str) -> Vec<u8> {
    let inner: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(inner).unwrap()
}

/// Whether the signature is of this message by the key of this line.
fn ours(line: &str, armoured: &str, namespace: &str, message: &[u8]) -> Result<Presence, SshError> {
    let (key, signature) = (SshKey::parse(line)?, SshSignature::parse(armoured)?);
    if *signature.key() != key {
        return Err(SshError::Forged);
    }
    signature.verify(namespace, message)
}

const KINDS: [(&str, &[&str]); 5] = [
    ("ed25519", &["ed25519"]),
    ("p256", &["ecdsa", "-b", "256"]),
    ("p384", &["ecdsa", "-b", "384"]),
    ("rsa2048", &["rsa", "-b", "2048"]),
    ("rsa3072", &["rsa", "-b", "3072"]),
];

#[test]
fn what_ssh_keygen_signs_verifies_for_its_message_namespace_and_key_alone() {
    let people = People::new();
    let other = people.key("other", &["ed25519"]);
    for (name, kind) in KINDS {
        let pair = people.key(name, kind);
        for more in [&[][..], &["-O", "hashalg=sha256"]] {
            let text = pair.sign(NAMESPACE, more, MESSAGE);
            assert_eq!(ours(&pair.line, &text, NAMESPACE, MESSAGE), Ok(Presence::Unknown), "{name} {more:?}");
            let cases: [(&str, &str, &[u8]); 3] =
                [(&pair.line, "file", MESSAGE), (&pair.line, NAMESPACE, b"another"), (&other.line, NAMESPACE, MESSAGE)];
            for (line, namespace, message) in cases {
                assert!(ours(line, &text, namespace, message).is_err(), "{name} {namespace}");
                assert!(!people.theirs(line, &text, namespace, message), "{name} {namespace}");
            }
        }
    }
}

#[test]
fn no_byte_of_a_signature_may_be_another_one() {
    let people = People::new();
    for (name, kind) in KINDS {
        let pair = people.key(name, kind);
        let text = pair.sign(NAMESPACE, &[], MESSAGE);
        let whole = blob(&text);
        for at in 0..whole.len() {
            for bit in [0x01, 0x80] {
                let mut edited = whole.clone();
                edited[at] ^= bit;
                assert!(ours(&pair.line, &armoured(&edited), NAMESPACE, MESSAGE).is_err(), "{name}: byte {at}");
            }
        }
        for cut in 0..whole.len() {
            assert!(ours(&pair.line, &armoured(&whole[..cut]), NAMESPACE, MESSAGE).is_err(), "{name}: cut at {cut}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(ours(&pair.line, &armoured(&longer), NAMESPACE, MESSAGE).is_err(), "{name}");
    }
}

#[test]
fn a_key_is_known_by_the_fingerprint_that_ssh_keygen_prints() {
    let people = People::new();
    for (name, kind) in KINDS {
        let pair = people.key(name, kind);
        let (_, told) = keygen(&["-l", "-f", pair.path.with_extension("pub").to_str().unwrap()], b"");
        let key = SshKey::parse(&pair.line).unwrap();
        assert_eq!(told.split(' ').nth(1), Some(&*key.fingerprint()), "{name}");
        assert_eq!(SshKey::parse(&key.line()), Ok(key.clone()));
        assert!(pair.line.starts_with(&key.line()) && !key.is_in_token());
    }
}

#[test]
fn other_kinds_of_keys_and_signatures_are_refused_by_name() {
    let people = People::new();
    for (name, kind, told) in
        [("p521", &["ecdsa", "-b", "521"][..], "ecdsa-sha2-nistp521"), ("dsa", &["dsa"], "ssh-dss")]
    {
        let pair = people.key(name, kind);
        assert_eq!(SshKey::parse(&pair.line), Err(SshError::Algorithm(told.to_owned())));
        let read = SshSignature::parse(&pair.sign(NAMESPACE, &[], MESSAGE));
        assert_eq!(read, Err(SshError::Algorithm(told.to_owned())));
    }
    let (authority, pair) = (people.key("authority", &["ed25519"]), people.key("certified", &["ed25519"]));
    let (by, of) = (authority.path.to_str().unwrap(), pair.path.with_extension("pub"));
    assert!(keygen(&["-q", "-s", by, "-I", "alice", "-n", "alice", of.to_str().unwrap()], b"").0);
    let certificate = std::fs::read_to_string(people.path("certified-cert.pub")).unwrap();
    let refused = SshError::Algorithm("ssh-ed25519-cert-v01@openssh.com".to_owned());
    assert_eq!(SshKey::parse(&certificate), Err(refused));
    let weak = people.key("rsa1024", &["rsa", "-b", "1024"]);
    assert!(matches!(SshKey::parse(&weak.line), Err(SshError::Weak(_))));
    let rsa = people.key("rsa", &["rsa", "-b", "2048"]);
    let mut text = blob(&rsa.sign(NAMESPACE, &[], MESSAGE));
    let at = text.windows(12).position(|run| run == b"rsa-sha2-512").unwrap();
    // The name of a signature with SHA-1 is five bytes shorter, and so are the two lengths around it.
    text.splice(at..at + 12, *b"ssh-rsa");
    text[at - 1] = 7;
    let outer = u32::from_be_bytes(text[at - 8..at - 4].try_into().unwrap()) - 5;
    text[at - 8..at - 4].copy_from_slice(&outer.to_be_bytes());
    let read = SshSignature::parse(&armoured(&text));
    assert_eq!(read, Err(SshError::Algorithm("a signature by RSA with SHA-1".to_owned())));
}

/// A FIDO2 token's signature, made here: its key lies in memory, and its flags and counter are what the test says.
struct Token {
    line: String,
    kind: &'static str,
    key: Vec<u8>,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn natural(bytes: &[u8]) -> Vec<u8> {
    let bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    string(&if bytes[0] >= 0x80 { [&[0], &bytes[..]].concat() } else { bytes })
}

impl Token {
    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let public = string(pair.public_key().as_ref());
        Self::of("sk-ssh-ed25519@openssh.com", &public, Box::new(move |message| pair.sign(message).as_ref().to_vec()))
    }

    fn p256() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let public = [string(b"nistp256"), string(pair.public_key().as_ref())].concat();
        let sign = move |message: &[u8]| {
            let made = pair.sign(&SystemRandom::new(), message).unwrap();
            let (r, s) = made.as_ref().split_at(32);
            [natural(r), natural(s)].concat()
        };
        Self::of("sk-ecdsa-sha2-nistp256@openssh.com", &public, Box::new(sign))
    }

    fn of(kind: &'static str, public: &[u8], sign: Sign) -> Self {
        let key = [&string(kind.as_bytes()), public, &string(b"ssh:")].concat();
        Self { line: format!("{kind} {}", STANDARD.encode(&key)), kind, key, sign }
    }

    fn signature(&self, flags: u8, counter: u32) -> String {
        let hashed = ring::digest::digest(&ring::digest::SHA512, MESSAGE);
        let signed =
            [b"SSHSIG".to_vec(), string(NAMESPACE.as_bytes()), string(b""), string(b"sha512"), string(hashed.as_ref())];
        let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec();
        let message = [sha256(b"ssh:"), vec![flags], counter.to_be_bytes().to_vec(), sha256(&signed.concat())].concat();
        let made =
            [string(self.kind.as_bytes()), string(&(self.sign)(&message)), vec![flags], counter.to_be_bytes().to_vec()];
        armoured(
            &[
                b"SSHSIG".to_vec(),
                1_u32.to_be_bytes().to_vec(),
                string(&self.key),
                string(NAMESPACE.as_bytes()),
                string(b""),
                string(b"sha512"),
                string(&made.concat()),
            ]
            .concat(),
        )
    }
}

#[test]
fn a_token_says_whether_it_was_touched_and_saw_a_pin_and_ssh_keygen_does_not_ask() {
    let people = People::new();
    for token in [Token::ed25519(), Token::p256()] {
        assert!(SshKey::parse(&token.line).unwrap().is_in_token());
        for (flags, touched, verified) in
            [(0x01, true, false), (0x05, true, true), (0x04, false, true), (0, false, false)]
        {
            let text = token.signature(flags, 41);
            let told = Presence::Token { touched, verified, counter: 41 };
            assert_eq!(ours(&token.line, &text, NAMESPACE, MESSAGE), Ok(told), "{}", token.kind);
            assert!(people.theirs(&token.line, &text, NAMESPACE, MESSAGE), "{} {flags}", token.kind);
        }
        // The flags are signed: nobody adds a PIN afterwards.
        let mut text = blob(&token.signature(0x01, 41));
        let at = text.len() - 5;
        text[at] = 0x05;
        assert_eq!(ours(&token.line, &armoured(&text), NAMESPACE, MESSAGE), Err(SshError::Forged));
        assert!(!people.theirs(&token.line, &armoured(&text), NAMESPACE, MESSAGE));
    }
}

#[test]
fn what_is_no_signature_is_told_so() {
    for text in
        ["", "-----BEGIN SSH SIGNATURE-----", "a file", &armoured(b""), &armoured(b"SSHSIG"), &"x".repeat(20_000)]
    {
        assert!(matches!(SshSignature::parse(text), Err(SshError::Malformed(_))));
    }
    for line in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 !", "two\nlines"] {
        assert!(SshKey::parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_key_of_small_order_is_none_in_any_of_its_writings() {
    let p = [&[0xed][..], &[0xff; 30], &[0x7f]].concat();
    let plus = |bytes: &[u8], more: i16| {
        let mut sum = bytes.to_vec();
        sum[0] = u8::try_from(i16::from(sum[0]) + more).unwrap();
        sum
    };
    // The eight points of small order share five y; of 0 and 1 there is a second writing, and what is not below p is none.
    let zero = vec![0; 32];
    let eight = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let mut points = vec![zero.clone(), plus(&zero, 1), plus(&p, -1), p.clone(), plus(&p, 1), plus(&p, 18)];
    points.extend(eight.map(|text| hex::decode(text).unwrap()));
    for point in points {
        for sign in [0, 0x80] {
            let mut point = point.clone();
            point[31] |= sign;
            for (kind, application) in [("ssh-ed25519", Vec::new()), ("sk-ssh-ed25519@openssh.com", string(b"ssh:"))] {
                let blob = [string(kind.as_bytes()), string(&point), application].concat();
                assert!(matches!(SshKey::of_blob(&blob), Err(SshError::Weak(_))), "{kind} {}", hex::encode(&point));
                let line = format!("{kind} {}", STANDARD.encode(&blob));
                assert!(matches!(SshKey::parse(&line), Err(SshError::Weak(_))));
            }
        }
    }
    // A neighbour that is no point of small order is read, and verifies nothing if it is no point at all.
    for other in [plus(&zero, 2), plus(&p, -2)] {
        assert!(SshKey::of_blob(&[string(b"ssh-ed25519"), string(&other)].concat()).is_ok());
    }
}
