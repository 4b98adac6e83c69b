//! Which mechanisms does the product list? The real library's, without the absent and with the added ones.

use cryptoki_sys::{CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_RV, CK_SLOT_ID, CK_ULONG};

use crate::{Shim, real};

/// C_GetMechanismList.
///
/// # Safety
/// As the standard demands: `count` is a valid place, `list` is null or has room for as many entries as it says.
pub unsafe fn mechanisms(shim: &Shim, slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) -> CK_RV {
    let ours = match all(shim, slot) {
        Ok(ours) => ours,
        Err(code) => return code,
    };
    if count.is_null() {
        return cryptoki_sys::CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and by the caller's contract a valid place.
    let room = unsafe { *count };
    let needed = ours.len() as CK_ULONG;
    // SAFETY: as above.
    unsafe { *count = needed };
    if list.is_null() {
        return cryptoki_sys::CKR_OK;
    }
    if room < needed {
        return cryptoki_sys::CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: `list` has room for `room` entries, which are enough; the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(ours.as_ptr(), list, ours.len()) };
    cryptoki_sys::CKR_OK
}

/// C_GetMechanismInfo.
pub fn mechanism(shim: &Shim, slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) -> CK_RV {
    match shim.quirks.real_mechanism(kind) {
        Some(number) => real!(shim, C_GetMechanismInfo(slot, number, info)),
        None => cryptoki_sys::CKR_MECHANISM_INVALID,
    }
}

fn all(shim: &Shim, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>, CK_RV> {
    let mut list = vec![0; MAX_MECHANISMS];
    let mut count = list.len() as CK_ULONG;
    let code = real!(shim, C_GetMechanismList(slot, list.as_mut_ptr(), &raw mut count));
    if code != cryptoki_sys::CKR_OK {
        return Err(code);
    }
    list.truncate(usize::try_from(count).unwrap_or_default());
    list.extend(shim.quirks.added());
    list.retain(|mechanism| shim.quirks.real_mechanism(*mechanism).is_some());
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

/// More than any library lists.
const MAX_MECHANISMS: usize = 1024;
