//! What does a sealed field cost beyond AES-256-GCM itself? `ring`'s own AEAD stands beside every figure.
//!
//! `value` is the whole work on one field without the key cache and the log: canonical context, sealing or opening, text
//! form. `message` is the key's part alone. `ring` is AES-256-GCM with a ready schedule, `ring+setup` with one made for
//! the message, as any extended nonce needs it.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyward::crypto::{DataKey, KeyClass, MessageKey, Suite};
use keyward::envelope::{Header, Nonce, Nonces, SealedValue, aad, seal_text};
use keyward::names::KeyVersionId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};

const LENGTHS: [usize; 3] = [64, 1024, 64 * 1024];
const SUITES: [(Suite, &str); 2] = [(Suite::Xaes, "suite-1"), (Suite::XaesCommitted, "suite-2")];
const CONTEXT: [(&[u8], &[u8]); 4] = [
    (b"kw.keyring", b"default/patients"),
    (b"path", b"Patient.identifier[0].value"),
    (b"patient", b"Patient/5f9c1a2e-8b7d-4c3e-9f10-2a6b8c4d0e1f"),
    (b"resource", b"Patient/5f9c1a2e-8b7d-4c3e-9f10-2a6b8c4d0e1f"),
];

fn header(suite: Suite) -> Header {
    Header::field(KeyVersionId(*b"12345678"), suite)
}

fn message_key() -> MessageKey {
    MessageKey::derive(&DataKey::generate(&[]).unwrap(), KeyClass::Field).unwrap()
}

fn ring_key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap())
}

fn ring_nonce() -> ring::aead::Nonce {
    ring::aead::Nonce::assume_unique_for_key([9; 12])
}

fn seal(c: &mut Criterion) {
    let key = message_key();
    for len in LENGTHS {
        let mut group = c.benchmark_group(format!("seal/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let plaintext = vec![0x42; len];
        let context = aad(&header(Suite::Xaes), CONTEXT).unwrap();
        for (suite, name) in SUITES {
            let header = header(suite);
            group.bench_function(BenchmarkId::new("value", name), |b| {
                b.iter(|| {
                    let context = aad(&header, CONTEXT).unwrap();
                    seal_text(&header, Nonce::insecure_fixed([9; 24]), len, |bytes, nonce, out| {
                        key.seal(suite, bytes, nonce, &context, black_box(&plaintext), out)
                    })
                });
            });
            let (bytes, mut out) = (header.encode(), Vec::with_capacity(len + 84));
            group.bench_function(BenchmarkId::new("message", name), |b| {
                b.iter(|| {
                    out.clear();
                    key.seal(suite, &bytes, &[9; 24], &context, black_box(&plaintext), &mut out).unwrap();
                });
            });
        }
        let ring = ring_key();
        let mut out = Vec::with_capacity(len + 16);
        let mut seal_with = |key: &LessSafeKey| {
            out.clear();
            out.extend_from_slice(black_box(&plaintext));
            key.seal_in_place_append_tag(ring_nonce(), Aad::from(&context), &mut out).unwrap();
        };
        group.bench_function("ring", |b| b.iter(|| seal_with(&ring)));
        group.bench_function("ring+setup", |b| b.iter(|| seal_with(&ring_key())));
        group.finish();
    }
}

fn open(c: &mut Criterion) {
    let key = message_key();
    for len in LENGTHS {
        let mut group = c.benchmark_group(format!("open/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let plaintext = vec![0x42; len];
        for (suite, name) in SUITES {
            let header = header(suite);
            let context = aad(&header, CONTEXT).unwrap();
            let text = seal_text(&header, Nonce::insecure_fixed([9; 24]), len, |bytes, nonce, out| {
                key.seal(suite, bytes, nonce, &context, &plaintext, out)
            })
            .unwrap();
            group.bench_function(BenchmarkId::new("value", name), |b| {
                b.iter(|| {
                    let value = SealedValue::parse_text(black_box(&text)).unwrap();
                    let parts = value.parts(suite, KeyClass::Field).unwrap();
                    let context = aad(value.header(), CONTEXT).unwrap();
                    key.open(suite, parts.header, parts.nonce, &context, parts.sealed).unwrap()
                });
            });
            let value = SealedValue::parse_text(&text).unwrap();
            let parts = value.parts(suite, KeyClass::Field).unwrap();
            group.bench_function(BenchmarkId::new("message", name), |b| {
                b.iter(|| key.open(suite, parts.header, parts.nonce, &context, black_box(parts.sealed)).unwrap());
            });
        }
        let context = aad(&header(Suite::Xaes), CONTEXT).unwrap();
        let (ring, mut sealed) = (ring_key(), plaintext.clone());
        ring.seal_in_place_append_tag(ring_nonce(), Aad::from(&context), &mut sealed).unwrap();
        let open_with = |key: &LessSafeKey| {
            let mut copy = black_box(&sealed).clone();
            key.open_in_place(ring_nonce(), Aad::from(&context), &mut copy).unwrap();
            copy
        };
        group.bench_function("ring", |b| b.iter(|| open_with(&ring)));
        group.bench_function("ring+setup", |b| b.iter(|| open_with(&ring_key())));
        group.finish();
    }
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("parts");
    let header = header(Suite::XaesCommitted);
    group.bench_function("canonical context of four pairs", |b| b.iter(|| aad(&header, black_box(CONTEXT))));
    group.bench_function("nonces for one value", |b| b.iter(|| Nonces::draw(1)));
    group.bench_function("nonces for 100 values", |b| b.iter(|| Nonces::draw(100)));
    let data_key = DataKey::generate(&[]).unwrap();
    group.bench_function("message key of a data key", |b| b.iter(|| MessageKey::derive(&data_key, KeyClass::Field)));
    group.finish();
}

criterion_group!(benches, seal, open, parts);
criterion_main!(benches);
