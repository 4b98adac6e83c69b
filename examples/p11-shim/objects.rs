//! What does the product say of its objects? Attributes that it keeps to itself.

use cryptoki_sys::{CK_ATTRIBUTE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG};

use crate::{Shim, real};

/// C_GetAttributeValue: each attribute alone, so that a hidden one leaves its neighbours' answers alone.
///
/// # Safety
/// The template is an array of `count` attributes, as the standard demands.
pub unsafe fn read(
    shim: &Shim,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let Some(len) = usize::try_from(count).ok().filter(|_| !template.is_null()) else {
        return cryptoki_sys::CKR_ARGUMENTS_BAD;
    };
    if shim.quirks.attributes.is_empty() {
        return real!(shim, C_GetAttributeValue(session, object, template, count));
    }
    // SAFETY: not null, and by the caller's contract an array of `count` attributes that nobody else uses now.
    let attributes = unsafe { std::slice::from_raw_parts_mut(template, len) };
    let mut outcome = cryptoki_sys::CKR_OK;
    for attribute in attributes {
        let hidden = shim.quirks.attributes.get(&attribute.type_).copied();
        let code = hidden.unwrap_or_else(|| real!(shim, C_GetAttributeValue(session, object, attribute, 1)));
        if hidden.is_some() {
            attribute.ulValueLen = cryptoki_sys::CK_UNAVAILABLE_INFORMATION;
        }
        if code != cryptoki_sys::CKR_OK {
            outcome = code;
        }
    }
    outcome
}

/// Whether a template holds an attribute of the type.
///
/// # Safety
/// The template is an array of `count` attributes, as the standard demands.
pub unsafe fn names(template: *const CK_ATTRIBUTE, count: CK_ULONG, kind: u64) -> bool {
    let Some(len) = usize::try_from(count).ok().filter(|_| !template.is_null()) else { return false };
    // SAFETY: not null, and by the caller's contract an array of `count` attributes.
    unsafe { std::slice::from_raw_parts(template, len) }.iter().any(|attribute| attribute.type_ == kind)
}
