//! Which descriptors does this process own? Takes over one that it inherited by number, and closes those it must not have.
//! This module never touches a token: those calls are in `module.rs`.

#![expect(unsafe_code, reason = "a bare descriptor number has no owner that a type could show")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

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
