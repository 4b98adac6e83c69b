//! Who makes the IV of AES-GCM, and where is it seen? Four products' answers over a library where the caller makes it.

use cryptoki_sys::{CK_BYTE, CK_GCM_PARAMS, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG};

use crate::{Shim, real};

/// Who makes the IV.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IvMode {
    /// The token, written over the caller's zeros by C_EncryptInit.
    WrittenAtInit,
    /// The token, written over the caller's zeros by C_Encrypt.
    WrittenAtEncrypt,
    /// The token, 16 bytes behind the tag.
    Appended,
    /// The token, 12 bytes before the ciphertext.
    Prepended,
}

/// What a session has begun.
pub enum Operation {
    /// C_EncryptInit was answered with CKR_OK.
    Encrypt {
        mode: IvMode,
        iv: Vec<u8>,
        /// Where the caller wants to see it: the address of 12 bytes that it keeps until C_Encrypt.
        shown_at: usize,
    },
    /// C_DecryptInit, which waits for the IV in C_Decrypt's input.
    Decrypt { key: CK_OBJECT_HANDLE, aad: Vec<u8>, tag_bits: CK_ULONG },
}

type Answer = Result<CK_RV, CK_RV>;

/// C_EncryptInit under a mechanism whose IV the token makes.
///
/// # Safety
/// The mechanism's parameters are as the standard demands.
pub unsafe fn encrypt_init(
    shim: &Shim,
    mode: IvMode,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    // SAFETY: by the caller's contract.
    let given = unsafe { parameters(mechanism) }?;
    // SAFETY: by the caller's contract pIv has ulIvLen bytes.
    let shown = unsafe { bytes(given.pIv, given.ulIvLen) };
    let acceptable = match mode {
        IvMode::WrittenAtInit | IvMode::WrittenAtEncrypt => shown == Some(&[0; WRITTEN_BYTES]),
        IvMode::Appended => given.ulIvLen == 0,
        // The vendor asks for a null pointer and is silent about the length.
        IvMode::Prepended => given.pIv.is_null(),
    };
    if !acceptable {
        return Err(cryptoki_sys::CKR_MECHANISM_PARAM_INVALID);
    }
    let mut iv = vec![0; if mode == IvMode::Appended { APPENDED_BYTES } else { WRITTEN_BYTES }];
    passed(real!(shim, C_GenerateRandom(session, iv.as_mut_ptr(), iv.len() as CK_ULONG)))?;
    passed(begin(shim, Direction::Encrypt, session, key, &mut iv, given))?;
    if mode == IvMode::WrittenAtInit {
        // SAFETY: pIv has 12 bytes, as was checked above.
        unsafe { show(&iv, given.pIv) };
    }
    shim.sessions.operations().insert(session, Operation::Encrypt { mode, iv, shown_at: given.pIv as usize });
    Ok(cryptoki_sys::CKR_OK)
}

/// C_DecryptInit under a mechanism whose IV the token has made.
///
/// # Safety
/// The mechanism's parameters are as the standard demands.
pub unsafe fn decrypt_init(
    shim: &Shim,
    mode: IvMode,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    if shim.sessions.operations().contains_key(&session) {
        return Err(cryptoki_sys::CKR_OPERATION_ACTIVE);
    }
    // SAFETY: by the caller's contract.
    let given = unsafe { parameters(mechanism) }?;
    // SAFETY: by the caller's contract each pointer has as many bytes as its length says.
    let (iv, aad) = unsafe { (bytes(given.pIv, given.ulIvLen), bytes(given.pAAD, given.ulAADLen)) };
    let wanted = match mode {
        IvMode::WrittenAtInit | IvMode::WrittenAtEncrypt => WRITTEN_BYTES,
        IvMode::Appended => APPENDED_BYTES,
        IvMode::Prepended => 0,
    };
    let iv = match (mode, iv) {
        (IvMode::Prepended, None) => {
            let waiting = Operation::Decrypt { key, aad: aad.unwrap_or_default().to_vec(), tag_bits: given.ulTagBits };
            shim.sessions.operations().insert(session, waiting);
            return Ok(cryptoki_sys::CKR_OK);
        }
        (_, Some(iv)) if mode != IvMode::Prepended && iv.len() == wanted => iv,
        _ => return Err(cryptoki_sys::CKR_MECHANISM_PARAM_INVALID),
    };
    Ok(begin(shim, Direction::Decrypt, session, key, &mut iv.to_vec(), given))
}

/// C_Encrypt; None if the session's operation is none of ours.
///
/// # Safety
/// The buffers are as the standard demands.
pub unsafe fn encrypt(shim: &Shim, session: CK_SESSION_HANDLE, from: Input, to: Output) -> Option<CK_RV> {
    let (mode, iv, shown_at) = match shim.sessions.operations().remove(&session)? {
        Operation::Encrypt { mode, iv, shown_at } => (mode, iv, shown_at),
        other => {
            shim.sessions.operations().insert(session, other);
            return None;
        }
    };
    // SAFETY: by the caller's contract.
    let (code, goes_on) = unsafe { encrypt_with(shim, session, mode, &iv, shown_at, from, to) };
    if goes_on {
        shim.sessions.operations().insert(session, Operation::Encrypt { mode, iv, shown_at });
    }
    Some(code)
}

/// The code, and whether the operation goes on (a length query, a buffer too small).
///
/// # Safety
/// The buffers are as the standard demands.
unsafe fn encrypt_with(
    shim: &Shim,
    session: CK_SESSION_HANDLE,
    mode: IvMode,
    iv: &[u8],
    shown_at: usize,
    from: Input,
    to: Output,
) -> (CK_RV, bool) {
    let within = matches!(mode, IvMode::Appended | IvMode::Prepended);
    let extra = if within { iv.len() as CK_ULONG } else { 0 };
    let needed = from.len + TAG_BYTES + extra;
    // SAFETY: by the caller's contract `to.len` is a valid place.
    let room = unsafe { *to.len };
    if to.at.is_null() || room < needed {
        // SAFETY: as above.
        unsafe { *to.len = needed };
        let query = if to.at.is_null() { cryptoki_sys::CKR_OK } else { cryptoki_sys::CKR_BUFFER_TOO_SMALL };
        return (query, true);
    }
    let before = if mode == IvMode::Prepended { iv.len() } else { 0 };
    let mut len = room - extra;
    // SAFETY: `to.at` has `room` bytes, which are at least `extra` more than are used from `before` on.
    let code = real!(shim, C_Encrypt(session, from.at, from.len, to.at.add(before), &raw mut len));
    if code != cryptoki_sys::CKR_OK {
        return (code, false);
    }
    let behind = usize::try_from(len).unwrap_or_default();
    match mode {
        // SAFETY: `len + extra` bytes fit, as was checked; the IV stands before or behind the real library's output.
        IvMode::Appended => unsafe { show(iv, to.at.add(behind)) },
        // SAFETY: as above.
        IvMode::Prepended => unsafe { show(iv, to.at) },
        // SAFETY: the caller keeps its parameters until the operation has ended.
        IvMode::WrittenAtEncrypt => unsafe { show(iv, shown_at as *mut CK_BYTE) },
        IvMode::WrittenAtInit => {}
    }
    // SAFETY: by the caller's contract a valid place.
    unsafe { *to.len = len + extra };
    (code, false)
}

/// C_Decrypt of input that begins with its IV; None if the session's operation is none of ours.
///
/// # Safety
/// The buffers are as the standard demands.
pub unsafe fn decrypt(shim: &Shim, session: CK_SESSION_HANDLE, from: Input, to: Output) -> Option<CK_RV> {
    let mut operations = shim.sessions.operations();
    let Operation::Decrypt { key, aad, tag_bits } = operations.get(&session)? else { return None };
    let (key, mut aad, tag_bits) = (*key, aad.clone(), *tag_bits);
    let least = WRITTEN_BYTES as CK_ULONG + TAG_BYTES;
    if to.at.is_null() {
        // SAFETY: by the caller's contract a valid place.
        unsafe { *to.len = from.len.saturating_sub(least) };
        return Some(cryptoki_sys::CKR_OK);
    }
    operations.remove(&session);
    drop(operations);
    // SAFETY: by the caller's contract the input has `from.len` bytes.
    let Some(iv) = unsafe { bytes(from.at, from.len) }.filter(|_| from.len >= least).map(|all| &all[..WRITTEN_BYTES])
    else {
        return Some(cryptoki_sys::CKR_ENCRYPTED_DATA_LEN_RANGE);
    };
    let given = CK_GCM_PARAMS {
        pAAD: aad.as_mut_ptr(),
        ulAADLen: aad.len() as CK_ULONG,
        ulTagBits: tag_bits,
        ..CK_GCM_PARAMS::default()
    };
    let code = begin(shim, Direction::Decrypt, session, key, &mut iv.to_vec(), given);
    if code != cryptoki_sys::CKR_OK {
        return Some(code);
    }
    let behind = WRITTEN_BYTES as CK_ULONG;
    // SAFETY: the input is longer than the IV.
    Some(real!(shim, C_Decrypt(session, from.at.add(WRITTEN_BYTES), from.len - behind, to.at, to.len)))
}

/// A call's input.
#[derive(Clone, Copy)]
pub struct Input {
    pub at: *mut CK_BYTE,
    pub len: CK_ULONG,
}

/// A call's output: null asks for the length.
#[derive(Clone, Copy)]
pub struct Output {
    pub at: *mut CK_BYTE,
    pub len: *mut CK_ULONG,
}

#[derive(Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// The real library's init call with an IV of ours.
fn begin(
    shim: &Shim,
    direction: Direction,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    iv: &mut [u8],
    given: CK_GCM_PARAMS,
) -> CK_RV {
    let len = iv.len() as CK_ULONG;
    let mut parameters = CK_GCM_PARAMS { pIv: iv.as_mut_ptr(), ulIvLen: len, ulIvBits: len * 8, ..given };
    let mut mechanism = CK_MECHANISM {
        mechanism: cryptoki_sys::CKM_AES_GCM,
        pParameter: (&raw mut parameters).cast(),
        ulParameterLen: size_of::<CK_GCM_PARAMS>() as CK_ULONG,
    };
    match direction {
        Direction::Encrypt => real!(shim, C_EncryptInit(session, &raw mut mechanism, key)),
        Direction::Decrypt => real!(shim, C_DecryptInit(session, &raw mut mechanism, key)),
    }
}

fn passed(code: CK_RV) -> Result<(), CK_RV> {
    if code == cryptoki_sys::CKR_OK { Ok(()) } else { Err(code) }
}

/// # Safety
/// If the length is that of CK_GCM_PARAMS, the pointer leads to one.
unsafe fn parameters(mechanism: CK_MECHANISM) -> Result<CK_GCM_PARAMS, CK_RV> {
    let fits = mechanism.ulParameterLen == size_of::<CK_GCM_PARAMS>() as CK_ULONG && !mechanism.pParameter.is_null();
    if !fits {
        return Err(cryptoki_sys::CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: of the right size and not null; by the caller's contract one that can be read.
    Ok(unsafe { mechanism.pParameter.cast::<CK_GCM_PARAMS>().read_unaligned() })
}

/// None for a null pointer.
///
/// # Safety
/// The pointer is null or leads to `len` bytes that live through the call.
unsafe fn bytes<'a>(at: *const CK_BYTE, len: CK_ULONG) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok().filter(|_| !at.is_null())?;
    // SAFETY: by the caller's contract.
    Some(unsafe { std::slice::from_raw_parts(at, len) })
}

/// # Safety
/// There is room for the IV.
unsafe fn show(iv: &[u8], at: *mut CK_BYTE) {
    // SAFETY: by the caller's contract; the IV is a buffer of ours, which overlaps nothing.
    unsafe { std::ptr::copy_nonoverlapping(iv.as_ptr(), at, iv.len()) };
}

const TAG_BYTES: CK_ULONG = 16;
const WRITTEN_BYTES: usize = 12;
const APPENDED_BYTES: usize = 16;
