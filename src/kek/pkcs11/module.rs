//! How is a vendor's library called? Each PKCS#11 function that the worker needs, once, with lengths and owners kept.
//! This module never decides what a return code means and never keeps a pointer beyond a call.

#![expect(unsafe_code, reason = "PKCS#11 is a C interface: this file alone calls it")]

use std::ffi::{CString, c_void};
use std::mem::ManuallyDrop;
use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_INFO, CK_MECHANISM, CK_MECHANISM_INFO,
    CK_SESSION_INFO, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG,
};

use super::fault::Fault;

/// A slot's number; changes between runs, so it is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(CK_ULONG);

/// An open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId(pub(super) CK_ULONG);

/// An object as one session sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectId(pub(super) CK_ULONG);

/// One attribute of a template.
#[derive(Debug)]
pub enum Attribute<'a> {
    /// A flag.
    Flag(u64, bool),
    /// A number.
    Number(u64, CK_ULONG),
    /// Bytes or text.
    Bytes(u64, &'a [u8]),
}

/// A loaded library. Several threads of the worker call it, each in a session of its own, if the profile says that the
/// library may lock.
pub struct Module {
    pub(super) functions: CK_FUNCTION_LIST,
    // Never unloaded: libraries leave threads and exit handlers behind that would run in unmapped code.
    _library: ManuallyDrop<cryptoki_sys::Pkcs11>,
}

/// Calls a function of the list; a library that leaves one out gets a fault of its own.
/// The caller states at each use why the arguments are sound.
macro_rules! call {
    ($module:expr, $name:ident ( $($argument:expr),* $(,)? )) => {{
        let function = $module.functions.$name.ok_or_else(|| $crate::kek::pkcs11::fault::Fault::Module(concat!("it has no ", stringify!($name)).into()))?;
        $crate::kek::pkcs11::module::check(stringify!($name), function($($argument),*))
    }};
}

pub(super) use call;

impl Module {
    /// Loads a library.
    pub fn load(path: &str) -> Result<Self, Fault> {
        // SAFETY: loading runs the library's initialisers, which is what the operator configured it for; this process
        // has no other thread that uses PKCS#11, and the library stays loaded for as long as the process lives.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|error| Fault::Module(error.to_string()))?;
        if let Err(error) = &library.C_GetFunctionList {
            return Err(Fault::Module(error.to_string()));
        }
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol exists (checked above) and the argument is a valid place for one pointer.
        check("C_GetFunctionList", unsafe { library.C_GetFunctionList(&raw mut list) })?;
        if list.is_null() {
            return Err(Fault::Module("C_GetFunctionList gave no list".into()));
        }
        // SAFETY: the library answered CKR_OK with a non-null list, which by the standard is a readable, aligned
        // CK_FUNCTION_LIST of version 2 that lives as long as the library.
        let functions = unsafe { *list };
        Ok(Self { functions, _library: ManuallyDrop::new(library) })
    }

    /// C_Initialize.
    pub fn initialize(&self, reserved: &str, os_locking: bool) -> Result<(), Fault> {
        let reserved = CString::new(reserved).map_err(|_| Fault::Protocol("the reserved string holds a NUL".into()))?;
        let mut arguments = CK_C_INITIALIZE_ARGS {
            flags: if os_locking { cryptoki_sys::CKF_OS_LOCKING_OK } else { 0 },
            pReserved: if reserved.is_empty() { ptr::null_mut() } else { reserved.as_ptr().cast_mut().cast() },
            ..CK_C_INITIALIZE_ARGS::default()
        };
        // SAFETY: the arguments live through the call; the mutex callbacks are null, as OS locking or one thread
        // demands; the reserved string is NUL-terminated and libraries copy or parse it during the call.
        unsafe { call!(self, C_Initialize((&raw mut arguments).cast::<c_void>())) }
    }

    /// C_Finalize; nobody may be in another call.
    pub fn finalize(&self) -> Result<(), Fault> {
        // SAFETY: the argument must be null by the standard; the worker has one thread that calls the library.
        unsafe { call!(self, C_Finalize(ptr::null_mut())) }
    }

    /// What the library says of itself.
    pub fn info(&self) -> Result<CK_INFO, Fault> {
        let mut info = CK_INFO::default();
        // SAFETY: a valid place for one CK_INFO.
        unsafe { call!(self, C_GetInfo(&raw mut info)) }?;
        Ok(info)
    }

    /// The library's version, as `major.minor`.
    pub fn version(&self) -> Result<String, Fault> {
        let CK_INFO { libraryVersion: version, .. } = self.info()?;
        Ok(format!("{}.{}", version.major, version.minor))
    }

    /// What a slot says of itself.
    pub fn slot(&self, slot: SlotId) -> Result<CK_SLOT_INFO, Fault> {
        let mut info = CK_SLOT_INFO::default();
        // SAFETY: a valid place for one CK_SLOT_INFO.
        unsafe { call!(self, C_GetSlotInfo(slot.0, &raw mut info)) }?;
        Ok(info)
    }

    /// The mechanisms of a slot.
    pub fn mechanisms(&self, slot: SlotId) -> Result<Vec<u64>, Fault> {
        let mut numbers = vec![0; MAX_MECHANISMS];
        let mut count = ulong(numbers.len());
        // SAFETY: `count` holds the number of entries that the array has room for; the library writes at most those.
        unsafe { call!(self, C_GetMechanismList(slot.0, numbers.as_mut_ptr(), &raw mut count)) }?;
        numbers.truncate(length(count)?);
        Ok(numbers)
    }

    /// What a slot says of a mechanism.
    pub fn mechanism(&self, slot: SlotId, number: u64) -> Result<CK_MECHANISM_INFO, Fault> {
        let mut info = CK_MECHANISM_INFO::default();
        // SAFETY: a valid place for one CK_MECHANISM_INFO.
        unsafe { call!(self, C_GetMechanismInfo(slot.0, number, &raw mut info)) }?;
        Ok(info)
    }

    /// Slots with a token.
    pub fn slots(&self) -> Result<Vec<SlotId>, Fault> {
        let mut slots = vec![0; MAX_SLOTS];
        let mut count = ulong(slots.len());
        // SAFETY: `count` holds the number of entries that the array has room for; the library writes at most those.
        unsafe { call!(self, C_GetSlotList(cryptoki_sys::CK_TRUE, slots.as_mut_ptr(), &raw mut count)) }?;
        slots.truncate(length(count)?);
        Ok(slots.into_iter().map(SlotId).collect())
    }

    /// What a token says of itself.
    pub fn token(&self, slot: SlotId) -> Result<CK_TOKEN_INFO, Fault> {
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: a valid place for one CK_TOKEN_INFO.
        unsafe { call!(self, C_GetTokenInfo(slot.0, &raw mut info)) }?;
        Ok(info)
    }

    /// Opens a session.
    pub fn open_session(&self, slot: SlotId, read_write: bool) -> Result<SessionId, Fault> {
        let kind = if read_write { cryptoki_sys::CKF_RW_SESSION } else { 0 };
        let flags = cryptoki_sys::CKF_SERIAL_SESSION | kind;
        let mut session = 0;
        // SAFETY: no notification callback and no pointer for one; a valid place for one handle.
        unsafe { call!(self, C_OpenSession(slot.0, flags, ptr::null_mut(), None, &raw mut session)) }?;
        Ok(SessionId(session))
    }

    /// Closes a session.
    pub fn close_session(&self, session: SessionId) -> Result<(), Fault> {
        // SAFETY: a handle by value; the library refuses one that it does not know.
        unsafe { call!(self, C_CloseSession(session.0)) }
    }

    /// Whether the normal user is logged in, as this session sees it.
    pub fn is_logged_in(&self, session: SessionId) -> Result<bool, Fault> {
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: a valid place for one CK_SESSION_INFO.
        unsafe { call!(self, C_GetSessionInfo(session.0, &raw mut info)) }?;
        Ok(matches!(info.state, cryptoki_sys::CKS_RO_USER_FUNCTIONS | cryptoki_sys::CKS_RW_USER_FUNCTIONS))
    }

    /// Logs the normal user in.
    pub fn login(&self, session: SessionId, pin: &[u8]) -> Result<(), Fault> {
        let pin_len = ulong(pin.len());
        // SAFETY: pointer and length are those of a live slice. The interface lacks `const`: by the standard the PIN
        // is input only.
        unsafe { call!(self, C_Login(session.0, cryptoki_sys::CKU_USER, pin.as_ptr().cast_mut(), pin_len)) }
    }

    /// The first objects that match: two are enough to know that a label is not unique.
    pub fn find(&self, session: SessionId, template: &[Attribute<'_>]) -> Result<Vec<ObjectId>, Fault> {
        let mut raw = raw_template(template);
        // SAFETY: pointer and count are those of a live vector, whose entries point into `template`, which outlives
        // the call.
        unsafe { call!(self, C_FindObjectsInit(session.0, raw.as_mut_ptr(), ulong(raw.len()))) }?;
        let mut handles = [0; 2];
        let mut count = 0;
        // SAFETY: room for exactly the stated number of handles, and a valid place for the count.
        let found = unsafe {
            call!(self, C_FindObjects(session.0, handles.as_mut_ptr(), ulong(handles.len()), &raw mut count))
        };
        // SAFETY: a handle by value. The search is ended whatever it found: an open one blocks the session.
        let ended = unsafe { call!(self, C_FindObjectsFinal(session.0)) };
        found.and(ended)?;
        Ok(handles.into_iter().take(length(count)?).map(ObjectId).collect())
    }

    /// A flag; None if the token does not report it.
    pub fn flag(&self, session: SessionId, object: ObjectId, kind: u64) -> Result<Option<bool>, Fault> {
        let mut value: CK_BBOOL = 0;
        let read = self.attribute(session, object, kind, (&raw mut value).cast(), size_of::<CK_BBOOL>())?;
        Ok((read == Some(size_of::<CK_BBOOL>())).then_some(value != 0))
    }

    /// A number; None if the token does not report it.
    pub fn number(&self, session: SessionId, object: ObjectId, kind: u64) -> Result<Option<u64>, Fault> {
        let mut value: CK_ULONG = 0;
        let read = self.attribute(session, object, kind, (&raw mut value).cast(), size_of::<CK_ULONG>())?;
        Ok((read == Some(size_of::<CK_ULONG>())).then_some(value))
    }

    /// Bytes; empty if the token does not report them or they are longer than any that keyward asks for.
    pub fn bytes(&self, session: SessionId, object: ObjectId, kind: u64) -> Result<Vec<u8>, Fault> {
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        let read = self.attribute(session, object, kind, value.as_mut_ptr().cast(), value.len())?;
        value.truncate(read.unwrap_or(0));
        Ok(value)
    }

    /// Reads one attribute into `room` bytes at `value`, which the callers above own; each is asked for alone, since one
    /// that a token lacks spoils the answer for its neighbours.
    fn attribute(
        &self,
        session: SessionId,
        object: ObjectId,
        kind: u64,
        value: *mut c_void,
        room: usize,
    ) -> Result<Option<usize>, Fault> {
        let mut attribute = CK_ATTRIBUTE { type_: kind, pValue: value, ulValueLen: ulong(room) };
        // SAFETY: the only callers pass a live buffer of exactly `room` bytes; the library writes at most `ulValueLen`.
        let answer = unsafe { call!(self, C_GetAttributeValue(session.0, object.0, &raw mut attribute, 1)) };
        match answer {
            Ok(()) => Ok(usize::try_from(attribute.ulValueLen).ok().filter(|len| *len <= room)),
            Err(Fault::Code { code, .. }) if UNREPORTED.contains(&code) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Randomness of the token.
    pub fn random(&self, session: SessionId, out: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: pointer and length are those of a live, exclusively borrowed slice.
        unsafe { call!(self, C_GenerateRandom(session.0, out.as_mut_ptr(), ulong(out.len()))) }
    }

    /// Makes a secret key.
    pub fn generate(&self, session: SessionId, mechanism: u64, template: &[Attribute<'_>]) -> Result<ObjectId, Fault> {
        let mut raw = raw_template(template);
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let mut key = 0;
        // SAFETY: mechanism and template live through the call, the template's entries point into `template`; a valid
        // place for one handle.
        unsafe {
            call!(self, C_GenerateKey(session.0, &raw mut mechanism, raw.as_mut_ptr(), ulong(raw.len()), &raw mut key))
        }?;
        Ok(ObjectId(key))
    }

    /// Makes a key pair; the private key and the public one.
    pub fn generate_pair(
        &self,
        session: SessionId,
        mechanism: u64,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Result<(ObjectId, ObjectId), Fault> {
        let (mut public, mut private) = (raw_template(public), raw_template(private));
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: mechanism and templates live through the call, their entries point into the arguments; valid places
        // for two handles.
        unsafe {
            call!(
                self,
                C_GenerateKeyPair(
                    session.0,
                    &raw mut mechanism,
                    public.as_mut_ptr(),
                    ulong(public.len()),
                    private.as_mut_ptr(),
                    ulong(private.len()),
                    &raw mut public_key,
                    &raw mut private_key,
                )
            )
        }?;
        Ok((ObjectId(private_key), ObjectId(public_key)))
    }

    /// Makes an object, here a key of known value.
    pub fn create_object(&self, session: SessionId, template: &[Attribute<'_>]) -> Result<ObjectId, Fault> {
        let mut raw = raw_template(template);
        let mut object = 0;
        // SAFETY: the template lives through the call, its entries point into `template`; a valid place for one handle.
        unsafe { call!(self, C_CreateObject(session.0, raw.as_mut_ptr(), ulong(raw.len()), &raw mut object)) }?;
        Ok(ObjectId(object))
    }

    /// Removes an object.
    pub fn destroy_object(&self, session: SessionId, object: ObjectId) -> Result<(), Fault> {
        // SAFETY: handles by value; the library refuses what it does not know.
        unsafe { call!(self, C_DestroyObject(session.0, object.0)) }
    }

    /// CKA_VALUE of a key that may be read, straight into a buffer that is wiped.
    pub fn value(&self, session: SessionId, object: ObjectId, to: &mut [u8]) -> Result<usize, Fault> {
        let read = self.attribute(session, object, cryptoki_sys::CKA_VALUE, to.as_mut_ptr().cast(), to.len())?;
        read.ok_or_else(|| Fault::Code {
            call: "C_GetAttributeValue".into(),
            code: cryptoki_sys::CKR_ATTRIBUTE_SENSITIVE,
        })
    }
}

/// Entries that point into `template`: they are used while it is borrowed and nowhere else.
pub(super) fn raw_template(template: &[Attribute<'_>]) -> Vec<CK_ATTRIBUTE> {
    let raw = |attribute: &Attribute<'_>| {
        let (kind, value, len): (u64, *const c_void, usize) = match attribute {
            Attribute::Flag(kind, true) => (*kind, (&raw const TRUE).cast(), size_of::<CK_BBOOL>()),
            Attribute::Flag(kind, false) => (*kind, (&raw const FALSE).cast(), size_of::<CK_BBOOL>()),
            Attribute::Number(kind, number) => (*kind, ptr::from_ref(number).cast(), size_of::<CK_ULONG>()),
            Attribute::Bytes(kind, bytes) => (*kind, bytes.as_ptr().cast(), bytes.len()),
        };
        CK_ATTRIBUTE { type_: kind, pValue: value.cast_mut(), ulValueLen: ulong(len) }
    };
    template.iter().map(raw).collect()
}

pub(super) fn check(call: &'static str, code: CK_ULONG) -> Result<(), Fault> {
    if code == cryptoki_sys::CKR_OK { Ok(()) } else { Err(Fault::Code { call: call.into(), code }) }
}

pub(super) fn within(len: CK_ULONG, buffer: &[u8]) -> Result<usize, Fault> {
    let len = length(len)?;
    if len <= buffer.len() {
        Ok(len)
    } else {
        Err(Fault::Protocol("the library wrote more than there was room for".into()))
    }
}

fn length(len: CK_ULONG) -> Result<usize, Fault> {
    usize::try_from(len).map_err(|_| Fault::Protocol("the library gave an absurd length".into()))
}

pub(super) const fn ulong(len: usize) -> CK_ULONG {
    len as CK_ULONG
}

static TRUE: CK_BBOOL = cryptoki_sys::CK_TRUE;
static FALSE: CK_BBOOL = cryptoki_sys::CK_FALSE;
/// More slots than any product shows at once; a library with more answers CKR_BUFFER_TOO_SMALL.
const MAX_SLOTS: usize = 256;
/// The standard names some 400 mechanisms; no product has them all.
const MAX_MECHANISMS: usize = 1024;
/// CKA_ID and CKA_LABEL as people set them; the modulus of an RSA key has at most 1,024 bytes.
const MAX_ATTRIBUTE: usize = 1024;
/// How tokens say that they do not report an attribute: sensitive, unknown type, and too long for the buffer.
const UNREPORTED: [CK_ULONG; 3] = [
    cryptoki_sys::CKR_ATTRIBUTE_SENSITIVE,
    cryptoki_sys::CKR_ATTRIBUTE_TYPE_INVALID,
    cryptoki_sys::CKR_BUFFER_TOO_SMALL,
];
