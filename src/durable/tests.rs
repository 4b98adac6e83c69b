#![expect(clippy::disallowed_methods, reason = "the tests play the operator who writes behind our back")]

use std::os::unix::fs::PermissionsExt as _;

use super::{Disk, DurableError};

#[test]
fn a_new_file_is_never_written_over_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let disk = Disk::real();
    disk.write_new(&path, b"one", 0o600).unwrap();
    assert!(matches!(disk.write_new(&path, b"two", 0o600), Err(DurableError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"one");
}

#[test]
fn the_mode_is_exact_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::real();
    for mode in [0o600, 0o644, 0o666] {
        let path = dir.path().join(format!("{mode:o}"));
        disk.write_atomic(&path, b"x", mode).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
    let made = dir.path().join("d");
    disk.create_dir(&made, 0o770).unwrap();
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o770);
}

#[test]
fn an_atomic_write_replaces_and_leaves_no_draft() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let disk = Disk::real();
    std::fs::write(dir.path().join("checkpoint.draft"), b"left by a crash").unwrap();
    disk.write_atomic(&path, b"one", 0o644).unwrap();
    disk.write_atomic(&path, b"two", 0o644).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_second_lock_is_refused_and_a_dropped_one_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let disk = Disk::real();
    let held = disk.lock_exclusive(&path).unwrap();
    assert!(matches!(disk.lock_exclusive(&path), Err(DurableError::AlreadyLocked { .. })));
    drop(held);
    assert!(disk.lock_exclusive(&path).is_ok());
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    std::fs::write(&target, b"precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let disk = Disk::real();
    assert!(disk.open(&link).is_err());
    assert!(disk.create_new(&link, 0o600).is_err());
    assert!(disk.lock_exclusive(&link).is_err());
}

#[test]
fn an_unlinked_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let file = Disk::real().create_new(&path, 0o600).unwrap();
    assert_eq!(file.links().unwrap(), 1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.links().unwrap(), 0);
}

#[test]
fn errors_name_the_operation_and_the_path() {
    let error = Disk::real().open(std::path::Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all does not exist");
}

#[cfg(feature = "faults")]
mod with_faults {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::faults::{Fault, Faults, Loss, Step};
    use super::super::{Disk, DurableError};

    fn place() -> (tempfile::TempDir, PathBuf, Arc<Faults>, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let faults = Faults::seeded(7);
        let disk = faults.disk();
        (dir, path, faults, disk)
    }

    #[test]
    fn a_restart_forgets_unsynced_bytes_and_keeps_synced_ones() {
        let (_dir, path, faults, disk) = place();
        disk.write_new(&path, b"synced", 0o600).unwrap();
        let file = disk.open(&path).unwrap();
        file.pwrite_all(b" and not", 6).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"synced and not");
        faults.restart(Loss::Unsynced).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"synced");
        assert!(file.pwrite_all(b"x", 0).is_err(), "the power is off");
    }

    #[test]
    fn a_restart_forgets_an_entry_whose_directory_was_not_synced() {
        let (_dir, path, faults, disk) = place();
        let file = disk.create_new(&path, 0o600).unwrap();
        file.pwrite_all(b"bytes", 0).unwrap();
        file.fdatasync().unwrap();
        faults.restart(Loss::Unsynced).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn an_atomic_write_is_old_or_new_at_every_step() {
        for step in 0..12 {
            for fault in [Fault::Fail, Fault::FailPersisted, Fault::Torn(2), Fault::PowerOff] {
                let (_dir, path, faults, disk) = place();
                disk.write_atomic(&path, b"old", 0o600).unwrap();
                faults.plan(Step::Any, step, fault);
                let told = disk.write_atomic(&path, b"new!", 0o600);
                faults.restart(if step % 2 == 0 { Loss::Unsynced } else { Loss::Some }).unwrap();
                let found = std::fs::read(&path).unwrap();
                assert!(found == b"new!" || (told.is_err() && found == b"old"), "{step} {fault:?} {found:?}");
            }
        }
    }

    #[test]
    fn a_sync_that_does_nothing_loses_the_bytes() {
        let (_dir, path, faults, disk) = place();
        disk.write_new(&path, b"", 0o600).unwrap();
        faults.syncs_do_nothing();
        let file = disk.open(&path).unwrap();
        file.pwrite_all(b"lost", 0).unwrap();
        file.fdatasync().unwrap();
        faults.restart(Loss::Unsynced).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn faults_strike_the_planned_step_only() {
        let (_dir, path, faults, disk) = place();
        disk.write_new(&path, b"", 0o600).unwrap();
        let file = disk.open(&path).unwrap();
        faults.plan(Step::Write, 0, Fault::Short(1));
        file.pwrite_all(b"carried on", 0).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"carried on");
        faults.plan(Step::Write, 1, Fault::NoSpace);
        file.pwrite_all(b"C", 0).unwrap();
        assert!(matches!(file.pwrite_all(b"D", 0), Err(DurableError::NoSpace { .. })));
        faults.plan(Step::Sync, 0, Fault::FailPersisted);
        assert!(file.fdatasync().is_err());
        faults.restart(Loss::Unsynced).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"Carried on");
    }

    #[test]
    fn the_same_seed_loses_the_same_pages() {
        let lose = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let faults = Faults::seeded(seed);
            let disk = faults.disk();
            disk.write_new(&path, b"", 0o600).unwrap();
            disk.open(&path).unwrap().pwrite_all(&[1; 100_000], 0).unwrap();
            faults.restart(Loss::Some).unwrap();
            std::fs::read(&path).unwrap()
        };
        assert_eq!(lose(1), lose(1));
        assert_ne!(lose(1), lose(2));
    }
}
