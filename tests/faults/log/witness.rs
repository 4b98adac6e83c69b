//! A witness over every failing step and every kind of crash: what it cosigned it knows afterwards, so that it signs no second
//! story.

use super::*;
use keyward::audit::{Checkpoint, Origin, Tree, VerifierKey, leaf};
use keyward::crypto::SigningKey;
use keyward::durable::faults::{Fault, Loss, Step};
use keyward::witness::Desk;

fn checkpoint(records: u8) -> Checkpoint {
    let mut tree = Tree::default();
    (0..records).for_each(|n| tree.push(leaf(&[n])));
    Checkpoint { size: u64::from(records), root: tree.root() }
}

#[test]
fn no_failing_step_and_no_crash_makes_a_witness_forget_what_it_cosigned() {
    let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let origin = Origin::parse("log").unwrap();
    let faults = [Fault::Fail, Fault::NoSpace, Fault::FailPersisted, Fault::Short(5), Fault::Torn(5), Fault::PowerOff];
    let (mut refused, mut forgot) = (0, 0);
    for (kind, fault) in faults.into_iter().enumerate() {
        for nth in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let home = dir.path().join("w");
            Desk::found(&disk(), &home, Origin::parse("w").unwrap()).unwrap();
            Desk::add_log(&disk(), &home, &VerifierKey::new(origin.clone(), key.public())).unwrap();
            // The first tree was seen before the disk went bad; it is the proof of itself for any longer one.
            let first = Desk::open(&disk(), &home, clock()).unwrap();
            let ask = |desk: &Desk, old: u8, new: u8| {
                let note = checkpoint(new).sign(&key, &origin);
                // From one record on each next power of two: the proof is the root beside it.
                let proof = if old == 0 { String::new() } else { beside(old, new) };
                desk.add_checkpoint(format!("old {old}\n{proof}\n{note}").as_bytes()).status
            };
            assert_eq!(ask(&first, 0, 1), 200);
            drop(first);
            let plan = Faults::seeded(nth);
            plan.plan(Step::Any, nth, fault);
            let answered = Desk::open(&plan.disk(), &home, clock()).map(|desk| ask(&desk, 1, 2)).unwrap_or(500);
            let over = plan.steps(Step::Any) <= nth;
            let loss = [Loss::Unsynced, Loss::Some, Loss::Nothing][(usize::try_from(nth).unwrap() + kind) % 3];
            plan.restart(loss).unwrap();
            let seen = Desk::open(&disk(), &home, clock()).unwrap().logs()[0].1;
            if answered == 200 {
                assert_eq!(seen, 2, "{fault:?} at {nth}, {loss:?}: a cosignature left, and the witness forgot");
            } else {
                refused += 1;
                forgot += u32::from(seen == 1);
                assert!([1, 2].contains(&seen), "{fault:?} at {nth}, {loss:?}");
            }
            if over {
                break;
            }
        }
    }
    assert!(refused > 10 && forgot > 3, "{refused} {forgot}");
}

/// The proof from a full tree to the one of twice its size: the root of the other half.
fn beside(old: u8, new: u8) -> String {
    use base64::Engine as _;
    let mut tree = Tree::default();
    (old..new).for_each(|n| tree.push(leaf(&[n])));
    base64::engine::general_purpose::STANDARD.encode(tree.root()) + "\n"
}
