//! Where does the operating system have to be asked with pointers and bare numbers? Locking pages and descriptors.
//! This module never touches a token: those calls are in `module.rs`.

#![expect(
    unsafe_code,
    reason = "mlock takes a pointer, and a bare descriptor number has no owner that a type could show"
)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Keeps memory out of the swap, if the limit allows.
pub(super) fn lock(bytes: &mut [u8]) {
    // SAFETY: the range is exactly that of a live, exclusively borrowed slice; locking does not change its content.
    let _best_effort = unsafe { rustix::mm::mlock(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Undoes [`lock`].
pub(super) fn unlock(bytes: &mut [u8]) {
    // SAFETY: as in `lock`; unlocking memory that is not locked is allowed.
    let _best_effort = unsafe { rustix::mm::munlock(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Takes over a descriptor that this process inherited; None if there is no such descriptor.
pub(super) fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the configuration names this number as handed over to keyward for this use, it is open, and it is taken
    // once: the standard streams, which others use, are refused above.
    is_open(number).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor but the standard three. For a process that has just started and owns no other one.
pub(super) fn close_all_others() -> std::io::Result<()> {
    let open = || -> std::io::Result<Vec<RawFd>> {
        let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
        let numbers = names.filter_map(|name| name.map(|name| name.to_str()?.parse().ok()).transpose());
        Ok(numbers.collect::<std::io::Result<Vec<RawFd>>>()?.into_iter().filter(|number| *number > 2).collect())
    };
    // The listing's own descriptor is in the list and closed by now.
    for number in open()?.into_iter().filter(|number| is_open(*number)) {
        // SAFETY: the number is open, and the caller has just started and holds no descriptor above 2 in any value, so
        // nobody's is closed under them.
        unsafe { rustix::io::close(number) };
    }
    Ok(())
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the number is only looked at; the kernel answers EBADF if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
}
