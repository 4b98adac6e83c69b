//! Which functions does the shim stand before? Every one that keyward calls, each with its fault and its line in the log.

use std::ffi::c_void;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_FLAGS, CK_FUNCTION_LIST, CK_INFO, CK_MECHANISM, CK_MECHANISM_INFO,
    CK_MECHANISM_TYPE, CK_NOTIFY, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID,
    CK_TOKEN_INFO, CK_ULONG, CK_USER_TYPE,
};

use crate::gcm::{self, Input, IvMode, Output};
use crate::{Shim, called, listing, objects, real, sessions};

/// Functions: `name(session; more arguments) |shim| body`, or `name(; arguments)` for one without a session. Their
/// contract is the standard's; each takes its place in the list that [`overridden`] makes.
macro_rules! stand_before {
    ($($name:ident ( $($session:ident)? ; $($argument:ident : $kind:ty),* ) |$shim:ident| $body:expr;)*) => {
        $(unsafe extern "C" fn $name($($session: CK_SESSION_HANDLE,)? $($argument: $kind),*) -> CK_RV {
            #[allow(unused_mut, unused_assignments, reason = "functions without a session leave it at None")]
            let mut of: Option<CK_SESSION_HANDLE> = None;
            $(of = Some($session);)?
            called(stringify!($name), of, |$shim| $body)
        })*

        /// The real list with our functions in it.
        pub fn overridden(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST { $($name: Some($name),)* ..*real }
        }
    };
}

stand_before! {
    C_Initialize(; arguments: *mut c_void) |shim| real!(shim, C_Initialize(arguments));
    C_Finalize(; reserved: *mut c_void) |shim| {
        shim.sessions.clear();
        real!(shim, C_Finalize(reserved))
    };
    C_GetInfo(; info: *mut CK_INFO) |shim| real!(shim, C_GetInfo(info));
    C_GetSlotList(; present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG) |shim| {
        real!(shim, C_GetSlotList(present, list, count))
    };
    C_GetTokenInfo(; slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) |shim| real!(shim, C_GetTokenInfo(slot, info));
    C_GetMechanismList(; slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) |shim| {
        // SAFETY: the caller's contract is the same.
        unsafe { listing::mechanisms(shim, slot, list, count) }
    };
    C_GetMechanismInfo(; slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) |shim| {
        listing::mechanism(shim, slot, kind, info)
    };
    C_OpenSession(; slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY,
        session: *mut CK_SESSION_HANDLE) |shim| {
        open_session(shim, slot, flags, application, notify, session)
    };
    C_CloseSession(session;) |shim| {
        let code = real!(shim, C_CloseSession(session));
        if code == cryptoki_sys::CKR_OK {
            shim.sessions.leave(session);
        }
        code
    };
    C_CloseAllSessions(; slot: CK_SLOT_ID) |shim| {
        shim.sessions.clear();
        real!(shim, C_CloseAllSessions(slot))
    };
    C_GetSessionInfo(session; info: *mut CK_SESSION_INFO) |shim| real!(shim, C_GetSessionInfo(session, info));
    C_Login(session; user: CK_USER_TYPE, pin: *mut CK_BYTE, len: CK_ULONG) |shim| {
        real!(shim, C_Login(session, user, pin, len))
    };
    C_Logout(session;) |shim| real!(shim, C_Logout(session));
    C_CreateObject(session; template: *mut CK_ATTRIBUTE, count: CK_ULONG, object: *mut CK_OBJECT_HANDLE) |shim| {
        if shim.quirks.nothing_is_wrapped {
            return cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED;
        }
        real!(shim, C_CreateObject(session, template, count, object))
    };
    C_DestroyObject(session; object: CK_OBJECT_HANDLE) |shim| real!(shim, C_DestroyObject(session, object));
    C_GetAttributeValue(session; object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG) |shim| {
        // SAFETY: the caller's contract is the same.
        unsafe { objects::read(shim, session, object, template, count) }
    };
    C_FindObjectsInit(session; template: *mut CK_ATTRIBUTE, count: CK_ULONG) |shim| {
        real!(shim, C_FindObjectsInit(session, template, count))
    };
    C_FindObjects(session; found: *mut CK_OBJECT_HANDLE, max: CK_ULONG, count: *mut CK_ULONG) |shim| {
        real!(shim, C_FindObjects(session, found, max, count))
    };
    C_FindObjectsFinal(session;) |shim| real!(shim, C_FindObjectsFinal(session));
    C_EncryptInit(session; mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) |shim| {
        // SAFETY: the caller's contract is the same.
        with_data_mechanism(shim, mechanism, |mode, presented, real| match mode {
            Some(mode) => unsafe { gcm::encrypt_init(shim, mode, session, presented, key) },
            None => Ok(real!(shim, C_EncryptInit(session, real, key))),
        })
    };
    C_Encrypt(session; from: *mut CK_BYTE, len: CK_ULONG, to: *mut CK_BYTE, room: *mut CK_ULONG) |shim| {
        if refuses_query(shim, to) {
            return cryptoki_sys::CKR_ARGUMENTS_BAD;
        }
        // SAFETY: the caller's contract is the same.
        let ours = unsafe { gcm::encrypt(shim, session, Input { at: from, len }, Output { at: to, len: room }) };
        ours.unwrap_or_else(|| real!(shim, C_Encrypt(session, from, len, to, room)))
    };
    C_DecryptInit(session; mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) |shim| {
        // SAFETY: the caller's contract is the same.
        with_data_mechanism(shim, mechanism, |mode, presented, real| match mode {
            Some(mode) => unsafe { gcm::decrypt_init(shim, mode, session, presented, key) },
            None => Ok(real!(shim, C_DecryptInit(session, real, key))),
        })
    };
    C_Decrypt(session; from: *mut CK_BYTE, len: CK_ULONG, to: *mut CK_BYTE, room: *mut CK_ULONG) |shim| {
        if refuses_query(shim, to) {
            return cryptoki_sys::CKR_ARGUMENTS_BAD;
        }
        // SAFETY: the caller's contract is the same.
        let ours = unsafe { gcm::decrypt(shim, session, Input { at: from, len }, Output { at: to, len: room }) };
        ours.unwrap_or_else(|| real!(shim, C_Decrypt(session, from, len, to, room)))
    };
    C_SignInit(session; mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) |shim| {
        with_data_mechanism(shim, mechanism, |_, _, real| Ok(real!(shim, C_SignInit(session, real, key))))
    };
    C_Sign(session; from: *mut CK_BYTE, len: CK_ULONG, to: *mut CK_BYTE, room: *mut CK_ULONG) |shim| {
        if refuses_query(shim, to) {
            return cryptoki_sys::CKR_ARGUMENTS_BAD;
        }
        real!(shim, C_Sign(session, from, len, to, room))
    };
    C_VerifyInit(session; mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) |shim| {
        with_data_mechanism(shim, mechanism, |_, _, real| Ok(real!(shim, C_VerifyInit(session, real, key))))
    };
    C_Verify(session; from: *mut CK_BYTE, len: CK_ULONG, mac: *mut CK_BYTE, mac_len: CK_ULONG) |shim| {
        real!(shim, C_Verify(session, from, len, mac, mac_len))
    };
    C_GenerateKey(session; mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE) |shim| {
        real!(shim, C_GenerateKey(session, mechanism, template, count, key))
    };
    C_GenerateKeyPair(session; mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE, publics: CK_ULONG,
        private: *mut CK_ATTRIBUTE, privates: CK_ULONG, public_key: *mut CK_OBJECT_HANDLE,
        private_key: *mut CK_OBJECT_HANDLE) |shim| {
        real!(shim, C_GenerateKeyPair(session, mechanism, public, publics, private, privates, public_key, private_key))
    };
    C_WrapKey(session; mechanism: *mut CK_MECHANISM, by: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE, to: *mut CK_BYTE,
        room: *mut CK_ULONG) |shim| {
        if shim.quirks.nothing_is_wrapped {
            return cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED;
        }
        if refuses_query(shim, to) {
            return cryptoki_sys::CKR_ARGUMENTS_BAD;
        }
        with_mechanism(shim, mechanism, |real| real!(shim, C_WrapKey(session, real, by, key, to, room)))
    };
    C_UnwrapKey(session; mechanism: *mut CK_MECHANISM, by: CK_OBJECT_HANDLE, from: *mut CK_BYTE, len: CK_ULONG,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE) |shim| {
        if shim.quirks.nothing_is_wrapped {
            return cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED;
        }
        // SAFETY: the caller's contract is the same.
        let complete = unsafe { objects::names(template, count, cryptoki_sys::CKA_VALUE_LEN) };
        if shim.quirks.unwrap_needs_value_len && !complete {
            return cryptoki_sys::CKR_TEMPLATE_INCOMPLETE;
        }
        with_mechanism(shim, mechanism, |real| {
            real!(shim, C_UnwrapKey(session, real, by, from, len, template, count, key))
        })
    };
    C_GenerateRandom(session; to: *mut CK_BYTE, len: CK_ULONG) |shim| {
        if shim.quirks.random.is_some_and(|(least, most)| !(least..=most).contains(&len)) {
            return cryptoki_sys::CKR_ARGUMENTS_BAD;
        }
        real!(shim, C_GenerateRandom(session, to, len))
    };
}

fn open_session(
    shim: &Shim,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    if shim.quirks.no_ro_session && flags & cryptoki_sys::CKF_RW_SESSION == 0 {
        return cryptoki_sys::CKR_FUNCTION_FAILED;
    }
    if let Err(code) = shim.sessions.enter(shim.quirks.max_sessions) {
        return code;
    }
    let code = real!(shim, C_OpenSession(slot, flags, application, notify, session));
    if code != cryptoki_sys::CKR_OK {
        shim.sessions.leave(cryptoki_sys::CK_INVALID_HANDLE);
        return code;
    }
    // SAFETY: the real library has just written the handle there.
    sessions::log_in(shim, unsafe { *session })
}

fn refuses_query(shim: &Shim, to: *mut CK_BYTE) -> bool {
    shim.quirks.no_length_query && to.is_null()
}

/// Runs a call that processes data with the real library's number of the mechanism; `run` sees who makes a GCM's IV and
/// the mechanism as it was presented.
fn with_data_mechanism(
    shim: &Shim,
    mechanism: *mut CK_MECHANISM,
    run: impl FnOnce(Option<IvMode>, CK_MECHANISM, *mut CK_MECHANISM) -> Result<CK_RV, CK_RV>,
) -> CK_RV {
    let Some(presented) = read(mechanism) else { return cryptoki_sys::CKR_ARGUMENTS_BAD };
    let Some(number) = shim.quirks.real_data_mechanism(presented.mechanism) else {
        return cryptoki_sys::CKR_MECHANISM_INVALID;
    };
    let mut renamed = CK_MECHANISM { mechanism: number, ..presented };
    let mode = shim.quirks.iv_mode(presented.mechanism);
    run(mode, presented, &raw mut renamed).unwrap_or_else(|code| code)
}

/// Runs a call that wraps keys with the real library's number of the mechanism.
fn with_mechanism(shim: &Shim, mechanism: *mut CK_MECHANISM, run: impl FnOnce(*mut CK_MECHANISM) -> CK_RV) -> CK_RV {
    let Some(presented) = read(mechanism) else { return cryptoki_sys::CKR_ARGUMENTS_BAD };
    let Some(number) = shim.quirks.real_mechanism(presented.mechanism) else {
        return cryptoki_sys::CKR_MECHANISM_INVALID;
    };
    let mut renamed = CK_MECHANISM { mechanism: number, ..presented };
    run(&raw mut renamed)
}

fn read(mechanism: *mut CK_MECHANISM) -> Option<CK_MECHANISM> {
    // SAFETY: not null, and by the standard one mechanism that can be read.
    (!mechanism.is_null()).then(|| unsafe { *mechanism })
}
