use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::audit::{Checkpoint, CosignerKey, Hash, Origin, Tree, VerifierKey, leaf};
use crate::clock::{ManualClock, Wall};
use crate::crypto::SigningKey;
use crate::durable::Disk;

struct Place {
    _dir: tempfile::TempDir,
    desk: Desk,
    key: SigningKey,
    origin: Origin,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("w");
    let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let origin = Origin::parse("keyward/a/b").unwrap();
    let disk = Disk::real();
    Desk::found(&disk, &home, Origin::parse("witness.example/w").unwrap()).unwrap();
    assert!(Desk::add_log(&disk, &home, &VerifierKey::new(origin.clone(), key.public())).unwrap());
    let desk = Desk::open(&disk, &home, ManualClock::at(Wall(1_700_000_000_000_000))).unwrap();
    Place { _dir: dir, desk, key, origin }
}

fn tree(records: u64) -> Tree {
    let mut tree = Tree::default();
    (0..records).for_each(|n| tree.push(leaf(&n.to_be_bytes())));
    tree
}

fn checkpoint(records: u64) -> Checkpoint {
    Checkpoint { size: records, root: tree(records).root() }
}

/// PROOF(m, D[n]) by its recursive definition (RFC 9162, section 2.1.4.1).
fn proof(from: u64, to: u64) -> Vec<Hash> {
    fn root(range: std::ops::Range<u64>) -> Hash {
        let mut tree = Tree::default();
        range.for_each(|n| tree.push(leaf(&n.to_be_bytes())));
        tree.root()
    }
    fn sub(from: u64, start: u64, end: u64, whole: bool) -> Vec<Hash> {
        if from == end {
            return if whole { vec![] } else { vec![root(start..end)] };
        }
        let half = start + (end - start).next_power_of_two() / 2;
        let (mut found, beside) = if from <= half {
            (sub(from, start, half, whole), root(half..end))
        } else {
            (sub(from, half, end, false), root(start..half))
        };
        found.push(beside);
        found
    }
    if from == 0 || from == to { vec![] } else { sub(from, 0, to, true) }
}

impl Place {
    fn body(&self, old: u64, proof: &[Hash], new: Checkpoint) -> String {
        let lines: String = proof.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
        format!("old {old}\n{lines}\n{}", new.sign(&self.key, &self.origin))
    }

    fn ask(&self, old: u64, proof: &[Hash], new: Checkpoint) -> Reply {
        self.desk.add_checkpoint(self.body(old, proof, new).as_bytes())
    }
}

#[test]
fn a_witness_cosigns_what_grew_and_says_what_it_knows() {
    let place = place();
    let hash = hex::encode(crate::crypto::sha256(&[place.origin.as_str().as_bytes()]));
    assert_eq!(place.desk.checkpoint(&hash).status, 404);
    let mut known = 0;
    for size in [3, 7, 8, 8, 64, 100] {
        let stale = place.ask(known + 1, &[], checkpoint(200));
        assert_eq!((stale.status, stale.kind, stale.body), (409, "text/x.tlog.size", format!("{known}\n")));
        let new = checkpoint(size);
        let reply = place.ask(known, &proof(known, size), new);
        assert_eq!(reply.status, 200, "{known} to {size}: {}", reply.body);
        let note = new.sign(&place.key, &place.origin) + &reply.body;
        assert_eq!(place.desk.public().cosigned(&note), Some(1_700_000_000));
        assert_eq!(place.desk.checkpoint(&hash).body, note, "what was cosigned is shown with both signatures");
        known = size;
    }
    assert_eq!(place.desk.logs(), [("keyward/a/b".to_owned(), 100)]);
}

#[test]
fn a_witness_refuses_each_thing_with_its_status_and_goes_on_knowing_what_it_knew() {
    let place = place();
    let twenty = checkpoint(20);
    assert_eq!(place.ask(0, &[], twenty).status, 200);
    let forked = |size| Checkpoint { root: [9; 32], ..checkpoint(size) };
    let strange = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let other = Origin::parse("keyward/a/c").unwrap();
    let note = |key: &SigningKey, origin: &Origin| format!("old 20\n\n{}", twenty.sign(key, origin));
    let good = place.body(20, &proof(20, 30), checkpoint(30));
    let signature = good.rfind(' ').unwrap() + 20;
    let mut forged = good.clone().into_bytes();
    forged[signature] ^= 1;
    let long: Vec<Hash> = vec![[1; 32]; 64];
    for (status, body) in [
        (400, "rubbish".to_owned()),
        (400, "old 020\n\n".to_owned() + &twenty.sign(&place.key, &place.origin)),
        (400, good.replace("old 20", "old x")),
        (400, place.body(20, &long, checkpoint(30))),
        (404, note(&strange, &other)),
        (403, note(&strange, &place.origin)),
        (403, String::from_utf8(forged).unwrap()),
        (400, place.body(31, &[], checkpoint(30))),
        (409, place.body(19, &proof(19, 30), checkpoint(30))),
        (409, place.body(0, &[], checkpoint(30))),
        (422, place.body(20, &[], checkpoint(30))),
        (422, place.body(20, &proof(20, 30), forked(30))),
        (422, place.body(20, &proof(19, 30), checkpoint(30))),
        (422, place.body(20, &[], forked(20))),
    ] {
        let reply = place.desk.add_checkpoint(body.as_bytes());
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(!reply.body.starts_with('\u{2014}'), "nothing is cosigned");
        assert_eq!(place.desk.logs()[0].1, 20);
    }
    assert_eq!(place.desk.add_checkpoint(good.as_bytes()).status, 200);
    let empty = Checkpoint { size: 0, root: [1; 32] };
    let fresh = self::place();
    assert_eq!(fresh.ask(0, &[], empty).status, 422, "the empty tree has one root");
    assert_eq!(fresh.ask(0, &[[1; 32]], checkpoint(4)).status, 422, "nothing is proven of the empty tree");
}

/// LOG-36 from the other side: of two stories that begin at the same place one at most is cosigned.
#[test]
fn of_requests_that_race_each_other_one_story_is_cosigned() {
    let place = Arc::new(place());
    assert_eq!(place.ask(0, &[], checkpoint(8)).status, 200);
    let threads: Vec<_> = (0..8_u64)
        .map(|number| {
            let place = Arc::clone(&place);
            std::thread::spawn(move || {
                let to = 9 + number;
                place.ask(8, &proof(8, to), checkpoint(to)).status
            })
        })
        .collect();
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
}

#[test]
fn a_witness_that_forgot_or_was_changed_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("w");
    let disk = Disk::real();
    let open = || Desk::open(&disk, &home, ManualClock::at(Wall(1_700_000_000_000_000)));
    assert!(matches!(open().err().unwrap(), DeskError::Read { .. }));
    let public = Desk::found(&disk, &home, Origin::parse("w").unwrap()).unwrap();
    assert_eq!(CosignerKey::parse(&public.to_text()), Some(public));
    let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let log = VerifierKey::new(Origin::parse("log").unwrap(), key.public());
    assert!(Desk::add_log(&disk, &home, &log).unwrap());
    assert!(!Desk::add_log(&disk, &home, &log).unwrap(), "it is there already");
    let desk = open().unwrap();
    assert!(matches!(open().err().unwrap(), DeskError::Disk(_)), "one process at a time");
    let note = checkpoint(5).sign(&key, log.origin());
    assert_eq!(desk.add_checkpoint(format!("old 0\n\n{note}").as_bytes()).status, 200);
    drop(desk);
    assert_eq!(open().unwrap().logs(), [("log".to_owned(), 5)]);
    let seen = home.join("seen").join(hex::encode(crate::crypto::sha256(&[b"log"])));
    disk.write_atomic(&seen, note.as_bytes(), 0o600).unwrap();
    assert!(matches!(open().err().unwrap(), DeskError::Bad { .. }), "a checkpoint that it has not cosigned");
}
