use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn slab(slots: usize) -> &'static Slab {
    Box::leak(Box::new(Slab::map(slots, OnLockFailure::Refuse, lock).unwrap()))
}

fn locked<T>(slab: &'static Slab, value: T) -> Result<Locked<T>, SlabError> {
    Locked::build_in(slab, || Ok(value))
}

#[test]
fn a_slot_is_zero_again_after_its_value_is_dropped() {
    let slab = slab(2);
    let key = locked(slab, [0xa5_u8; SLOT_BYTES]).unwrap();
    assert_eq!(slab.bytes_of(0), [0xa5; SLOT_BYTES]);
    drop(key);
    assert_eq!(slab.bytes_of(0), [0; SLOT_BYTES]);
}

#[test]
fn a_slot_is_wiped_and_returned_when_the_construction_fails_or_panics() {
    let slab = slab(1);
    let refused: Result<Locked<[u8; 8]>, SlabError> = Locked::build_in(slab, || Err(SlabError::AlreadyInstalled));
    assert_eq!(refused.unwrap_err(), SlabError::AlreadyInstalled);
    let panicked = std::panic::catch_unwind(|| Locked::<u8>::build_in::<SlabError>(slab, || panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(slab.usage().used, 0);
    assert_eq!(slab.bytes_of(0), [0; SLOT_BYTES]);
}

#[test]
fn the_value_is_dropped_once() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
        }
    }
    drop(locked(slab(1), Counted).unwrap());
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn exhaustion_is_an_error_and_a_freed_slot_is_used_again() {
    let slab = slab(2);
    let first = locked(slab, 1_u64).unwrap();
    let second = locked(slab, 2_u64).unwrap();
    assert_eq!(locked(slab, 3_u64).unwrap_err(), SlabError::Exhausted(2));
    assert_eq!((*first, *second), (1, 2));
    drop(first);
    assert_eq!(*locked(slab, 4_u64).unwrap(), 4);
    assert_eq!(slab.usage(), Usage { slots: 2, used: 1, peak: 2, locked: true });
}

#[test]
fn slots_do_not_overlap_and_are_aligned() {
    let slab = slab(100);
    let keys: Vec<_> = (0..100_u8).map(|n| locked(slab, [n; SLOT_BYTES]).unwrap()).collect();
    for (n, key) in (0..100_u8).zip(&keys) {
        assert_eq!(**key, [n; SLOT_BYTES]);
        assert_eq!(ptr::from_ref(&**key).addr() % SLOT_ALIGN, 0);
    }
}

#[test]
fn the_kernel_reports_the_slab_as_locked_undumped_and_wiped_on_fork_between_guards() {
    let before = locked_kib();
    let slab = slab(64);
    assert!(locked_kib() >= before + 64 * SLOT_BYTES / 1024, "VmLck grew");
    let start = slab.base.addr().get();
    let flags = smaps_flags(start).unwrap();
    for flag in ["lo", "dd", "wf", "rd", "wr"] {
        assert!(flags.iter().any(|f| f == flag), "{flag} is missing in {flags:?}");
    }
    for guard in [start - 1, start + (64 * SLOT_BYTES).next_multiple_of(GRAIN)] {
        let flags = smaps_flags(guard).unwrap();
        assert!(!flags.iter().any(|f| f == "rd" || f == "wr"), "the guard can be touched: {flags:?}");
    }
}

#[test]
fn a_slab_that_cannot_be_locked_is_refused_or_marked_as_configured() {
    let refuse: Lock = |_, _| Err(Errno::NOMEM);
    let refused = Slab::map(51, OnLockFailure::Refuse, refuse).err();
    assert_eq!(refused, Some(SlabError::NotLocked { bytes: GRAIN, errno: Errno::NOMEM }));
    assert!(!Slab::map(51, OnLockFailure::Warn, refuse).unwrap().usage().locked);
}

#[test]
fn a_slab_of_no_slots_or_of_more_than_the_address_space_is_refused() {
    for slots in [0, usize::MAX] {
        let refused = Slab::map(slots, OnLockFailure::Warn, lock).err();
        assert_eq!(refused, Some(SlabError::NotMapped(Errno::INVAL)));
    }
}

#[test]
fn bytes_are_filled_in_place_and_debug_says_nothing() {
    let key: Locked<[u8; 32]> = Locked::fill_with(|bytes: &mut [u8; 32]| {
        bytes.fill(7);
        Ok::<_, SlabError>(())
    })
    .unwrap();
    assert_eq!(*key, [7; 32]);
    assert_eq!(format!("{key:?}"), "Locked(..)");
    assert!(usage().unwrap().used >= 1);
    assert_eq!(
        install(&Settings { slots: 1, on_lock_failure: OnLockFailure::Refuse }),
        Err(SlabError::AlreadyInstalled)
    );
}

// The slab of a process is installed once, so this is done in a process of its own.
#[test]
#[expect(clippy::disallowed_methods, reason = "the child learns by its environment that it is one")]
fn an_installed_slab_has_as_many_slots_as_asked_for() {
    if std::env::var_os(CHILD).is_some() {
        return installing_in_a_process_of_its_own();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secret::slab::tests::an_installed_slab_has_as_many_slots_as_asked_for", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// Set for the process of the test's own.
const CHILD: &str = "KEYWARD_TEST_INSTALLED";

fn installing_in_a_process_of_its_own() {
    let settings = Settings { slots: 2, on_lock_failure: OnLockFailure::Refuse };
    assert_eq!(install(&settings), Ok(Usage { slots: 2, used: 0, peak: 0, locked: true }));
    assert_eq!(install(&settings), Err(SlabError::AlreadyInstalled));
    let keys = [(); 2].map(|()| Locked::new_with(|| [0_u8; 32]).unwrap());
    assert_eq!(Locked::new_with(|| 0_u8).unwrap_err(), SlabError::Exhausted(2));
    drop(keys);
    assert_eq!(usage(), Ok(Usage { slots: 2, used: 0, peak: 2, locked: true }));
}

fn locked_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The VmFlags of the mapping that holds an address.
fn smaps_flags(address: usize) -> Option<Vec<String>> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let bound = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((low, high)) = range.and_then(|(low, high)| Some((bound(low)?, bound(high)?))) {
            inside = (low..high).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return Some(flags.split_whitespace().map(str::to_owned).collect());
        }
    }
    None
}
