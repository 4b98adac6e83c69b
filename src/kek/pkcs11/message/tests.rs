//! Every message is read as it was written, and nothing else is read.

use super::super::attributes::KeyAttributes;
use super::super::fault::Fault;
use super::super::frame::Frame;
use super::super::recipe::{KeyRole, Recipe};
use super::super::survey::{LibraryFacts, MechanismFacts, SlotFacts};
use super::*;

fn requests() -> Vec<Request<'static>> {
    let recipe = Recipe::KeyWrap { mechanism: 0x210B };
    vec![
        Request::Hello { protocol: PROTOCOL },
        Request::Load { module: "/m.so", reserved: "", os_locking: true, read_write: false, label: "t", serial: "42" },
        Request::Login { pin: b"1234" },
        Request::Find { label: "kek-1", role: KeyRole::Mac },
        Request::Renew,
        Request::Wrap { recipe, label: "kek-1", plain: &[1; 32], aad: b"binding" },
        Request::Unwrap { recipe, label: "kek-1", blob: &[2; 60], aad: b"" },
        Request::WrapAndOpen { recipe, label: "kek-1", plain: &[1; 32], aad: b"binding" },
        Request::Random { len: 32 },
        Request::PublicKey { label: "kek-1" },
        Request::Create(NewKey {
            role: KeyRole::Cipher,
            mechanism: 0x1080,
            key_type: 0x1F,
            bits: 256,
            label: "kek-1",
            id: &[3; 16],
            unmodifiable: true,
        }),
        Request::Temporary(NewKey {
            role: KeyRole::Wrapper,
            mechanism: 0x1080,
            key_type: 0x1F,
            bits: 256,
            label: "t",
            id: &[],
            unmodifiable: false,
        }),
        Request::Discard,
        Request::Repeat { recipe, label: "kek-1", blob: &[2; 60], aad: b"", times: 500 },
        Request::Sessions { most: 65 },
        Request::Survey { module: "/m.so", reserved: "", os_locking: false },
        Request::Slot { index: 1 },
        Request::Mechanisms { index: 1, from: 100 },
        Request::Versions { label: "kek-{version}", role: KeyRole::Private, from: 3, gap: 32 },
    ]
}

fn replies() -> Vec<Reply<'static>> {
    let facts = TokenFacts { serial: "42".into(), ..TokenFacts::default() };
    vec![
        Reply::Hello { protocol: PROTOCOL },
        Reply::Done,
        Reply::Token(facts),
        Reply::Key(KeyAttributes { local: Some(true), ..KeyAttributes::default() }),
        Reply::Bytes(&[4; 60]),
        Reply::Wrapped { blob: &[4; 60], opened: &[1; 32] },
        Reply::Failed(Fault::Code { call: "C_Decrypt".into(), code: 5 }),
        Reply::Failed(Fault::Module("no such file".into())),
        Reply::Failed(Fault::ManyKeys("kek-1".into())),
        Reply::Failed(Fault::NoKey("kek-2.mac".into())),
        Reply::Failed(Fault::NotOurs),
        Reply::Failed(Fault::OtherTokens("kek (serial 1)".into())),
        Reply::Failed(Fault::IvMode),
        Reply::Took(7),
        Reply::Sessions { opened: 63, code: 0xB1 },
        Reply::Library(LibraryFacts { slots: 2, version: "2.6".into(), ..LibraryFacts::default() }),
        Reply::Slot(SlotFacts { label: "t".into(), initialized: true, ..SlotFacts::default() }),
        Reply::Mechanisms(vec![MechanismFacts { number: 0x1087, min: 16, max: 32, flags: 0x300 }; 2]),
        Reply::Versions(vec![1, 7, u32::MAX]),
    ]
}

#[test]
fn every_request_and_every_reply_is_read_as_it_was_written() {
    let mut frame = Frame::new();
    for request in requests() {
        request.put(&mut frame).unwrap();
        assert_eq!(Request::take(frame.body()), Ok(request));
    }
    for reply in replies() {
        reply.put(&mut frame).unwrap();
        assert_eq!(Reply::take(frame.body()), Ok(reply));
    }
}

#[test]
fn every_truncation_and_every_trailing_byte_is_refused() {
    let mut frame = Frame::new();
    let mut bodies = Vec::new();
    for request in requests() {
        request.put(&mut frame).unwrap();
        bodies.push((frame.body().to_vec(), true));
    }
    for reply in replies() {
        reply.put(&mut frame).unwrap();
        bodies.push((frame.body().to_vec(), false));
    }
    let refused =
        |body: &[u8], request| if request { Request::take(body).is_err() } else { Reply::take(body).is_err() };
    for (body, request) in bodies {
        for len in 0..body.len() {
            assert!(refused(&body[..len], request), "{body:?} cut to {len}");
        }
        assert!(refused(&[body.as_slice(), &[0]].concat(), request), "{body:?} and a zero");
    }
}
