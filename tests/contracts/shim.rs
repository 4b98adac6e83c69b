//! Does the shim keep the rules that it claims to keep, and break as often as it is told? Proved over Kryoptic through a
//! PKCS#11 client that is not ours. A library is loaded once a process, so each test that loads it has a child of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its token must fail")]
#![allow(clippy::disallowed_methods, reason = "a child learns by its environment which library to load")]

use std::process::{Command, Output};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use cryptoki_sys::CK_GCM_PARAMS;

use crate::tokens::PIN;
use crate::tokens::shim::Shimmed;

const PLAIN: [u8; 32] = [7; 32];
const AAD: &[u8] = b"context";
const MODULE: &str = "SHIM_TEST_MODULE";

/// Runs the calling test once more, in a process of its own, which does the work of [`is_child`].
fn child(test: &str, shim: &Shimmed) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("shim::{test}"), "--exact", "--nocapture"]).env(MODULE, shim.module());
    command.output().unwrap()
}

/// Whether this process is the one that loads the library.
fn is_child() -> bool {
    std::env::var_os(MODULE).is_some()
}

#[track_caller]
fn passes(test: &str, shim: &Shimmed) {
    let output = child(test, shim);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A client in the child.
struct Client {
    module: Pkcs11,
    slot: Slot,
    session: Session,
}

impl Client {
    fn open() -> Self {
        let module = Pkcs11::new(std::env::var(MODULE).unwrap()).unwrap();
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slot = module.get_slots_with_token().unwrap()[0];
        let session = module.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        Self { module, slot, session }
    }

    fn key(&self, more: &[Attribute]) -> ObjectHandle {
        let common = [Attribute::Encrypt(true), Attribute::Decrypt(true), Attribute::ValueLen(32.into())];
        self.session.generate_key(&Mechanism::AesKeyGen, &[&common, more].concat()).unwrap()
    }

    fn seal(&self, key: ObjectHandle, iv: &mut [u8]) -> Result<Vec<u8>, RvError> {
        let parameters = GcmParams::new(iv, AAD, 128.into()).unwrap();
        self.session.encrypt(&Mechanism::AesGcm(parameters), key, &PLAIN).map_err(code)
    }

    fn open_sealed(&self, key: ObjectHandle, iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, RvError> {
        let mut iv = iv.to_vec();
        let parameters = GcmParams::new(&mut iv, AAD, 128.into()).unwrap();
        self.session.decrypt(&Mechanism::AesGcm(parameters), key, sealed).map_err(code)
    }

    /// Under a vendor's number, with an IV or with a null pointer; the buffer holds afterwards what the library has written.
    fn vendor_gcm<T>(
        &self,
        number: u64,
        iv: Option<&mut [u8]>,
        run: impl FnOnce(&Session, &Mechanism<'_>) -> Result<T, Error>,
    ) -> Result<T, RvError> {
        let len = iv.as_deref().map_or(0, <[u8]>::len) as u64;
        let parameters = CK_GCM_PARAMS {
            pIv: iv.map_or(std::ptr::null_mut(), <[u8]>::as_mut_ptr),
            ulIvLen: len,
            ulIvBits: len * 8,
            pAAD: AAD.as_ptr().cast_mut(),
            ulAADLen: AAD.len() as u64,
            ulTagBits: 128,
        };
        let kind = MechanismType::new_vendor_defined(number).unwrap();
        run(&self.session, &Mechanism::VendorDefined(VendorDefinedMechanism::new(kind, Some(&parameters))))
            .map_err(code)
    }
}

fn code(error: Error) -> RvError {
    match error {
        Error::Pkcs11(code, _) => code,
        other => panic!("{other}"),
    }
}

#[test]
fn an_iv_that_is_written_back_must_be_given_as_zeros() {
    if is_child() {
        return written_back();
    }
    passes("an_iv_that_is_written_back_must_be_given_as_zeros", &Shimmed::new("gcm_iv_writeback", ""));
}

fn written_back() {
    let client = Client::open();
    let key = client.key(&[]);
    assert_eq!(client.seal(key, &mut [1; 12]), Err(RvError::MechanismParamInvalid));
    assert_eq!(client.seal(key, &mut []), Err(RvError::MechanismParamInvalid));
    assert_eq!(client.seal(key, &mut [0; 16]), Err(RvError::MechanismParamInvalid));
    let (mut one, mut two) = ([0; 12], [0; 12]);
    let sealed = client.seal(key, &mut one).unwrap();
    client.seal(key, &mut two).unwrap();
    assert!(one != [0; 12] && one != two);
    assert_eq!(client.open_sealed(key, &one, &sealed).unwrap(), PLAIN);
    assert_eq!(client.open_sealed(key, &two, &sealed), Err(RvError::EncryptedDataInvalid));
}

#[test]
fn an_iv_that_is_appended_must_not_be_given() {
    if is_child() {
        return appended();
    }
    passes("an_iv_that_is_appended_must_not_be_given", &Shimmed::new("gcm_iv_appended", ""));
}

fn appended() {
    let client = Client::open();
    let key = client.key(&[]);
    assert_eq!(client.seal(key, &mut [1; 12]), Err(RvError::MechanismParamInvalid));
    assert_eq!(client.seal(key, &mut [0; 12]), Err(RvError::MechanismParamInvalid));
    let output = client.seal(key, &mut []).unwrap();
    assert_eq!(output.len(), PLAIN.len() + 16 + 16);
    let (sealed, iv) = output.split_at(PLAIN.len() + 16);
    assert_eq!(client.open_sealed(key, iv, sealed).unwrap(), PLAIN);
    assert_eq!(client.open_sealed(key, &iv[..12], sealed), Err(RvError::MechanismParamInvalid));
    assert_ne!(client.seal(key, &mut []).unwrap()[PLAIN.len() + 16..], *iv);
}

#[test]
fn an_iv_that_is_prepended_must_be_a_null_pointer() {
    if is_child() {
        return prepended();
    }
    passes("an_iv_that_is_prepended_must_be_a_null_pointer", &Shimmed::new("gcm_iv_prepended", ""));
}

fn prepended() {
    const NUMBER: u64 = 0x8000_1087;
    let client = Client::open();
    let key = client.key(&[]);
    let seal = |iv: Option<&mut [u8]>| client.vendor_gcm(NUMBER, iv, |s, gcm| s.encrypt(gcm, key, &PLAIN));
    let open = |blob: &[u8]| client.vendor_gcm(NUMBER, None, |s, gcm| s.decrypt(gcm, key, blob));
    assert_eq!(seal(Some(&mut [0; 12])), Err(RvError::MechanismParamInvalid));
    let blob = seal(None).unwrap();
    assert_eq!(blob.len(), 12 + PLAIN.len() + 16);
    assert_eq!(open(&blob).unwrap(), PLAIN);
    assert_eq!(open(&blob[..27]), Err(RvError::EncryptedDataLenRange));
    let mut bent = blob.clone();
    bent[0] ^= 1;
    assert_eq!(open(&bent), Err(RvError::EncryptedDataInvalid));
    let (iv, sealed) = blob.split_at(12);
    assert_eq!(client.open_sealed(key, iv, sealed).unwrap(), PLAIN, "it is AES-GCM");
    let given = client.vendor_gcm(NUMBER, Some(&mut iv.to_vec()), |s, gcm| s.decrypt(gcm, key, sealed));
    assert_eq!(given, Err(RvError::MechanismParamInvalid));
}

#[test]
fn the_library_for_cloud_kms_has_a_gcm_of_its_own_and_wraps_nothing() {
    if is_child() {
        return cloud_kms();
    }
    passes("the_library_for_cloud_kms_has_a_gcm_of_its_own_and_wraps_nothing", &Shimmed::new("cloudkms", ""));
}

fn cloud_kms() {
    const NUMBER: u64 = 0x8001_E101;
    let client = Client::open();
    let key = client.key(&[Attribute::Wrap(true), Attribute::Extractable(true)]);
    assert_eq!(client.seal(key, &mut [0; 12]), Err(RvError::MechanismInvalid));
    let mut iv = [0; 12];
    let seal = |iv: &mut [u8]| client.vendor_gcm(NUMBER, Some(iv), |s, gcm| s.encrypt(gcm, key, &PLAIN));
    assert_eq!(seal(&mut [1; 12]), Err(RvError::MechanismParamInvalid));
    let sealed = seal(&mut iv).unwrap();
    assert_ne!(iv, [0; 12]);
    let opened = client.vendor_gcm(NUMBER, Some(&mut iv), |s, gcm| s.decrypt(gcm, key, &sealed));
    assert_eq!(opened.unwrap(), PLAIN);
    let random = |len| client.session.generate_random_vec(len).map(|bytes| bytes.len()).map_err(code);
    assert_eq!(random(7), Err(RvError::ArgumentsBad));
    assert_eq!((random(8), random(1024)), (Ok(8), Ok(1024)));
    assert_eq!(random(1025), Err(RvError::ArgumentsBad));
    let wrapped = client.session.wrap_key(&Mechanism::AesKeyWrap, key, key).map_err(code);
    assert_eq!(wrapped, Err(RvError::FunctionNotSupported));
    let made = client.session.create_object(&[Attribute::Class(ObjectClass::DATA)]).map_err(code);
    assert_eq!(made, Err(RvError::FunctionNotSupported));
}

#[test]
fn sessions_are_read_write_or_refused_and_there_are_no_more_than_the_maximum() {
    if is_child() {
        return few_sessions();
    }
    passes(
        "sessions_are_read_write_or_refused_and_there_are_no_more_than_the_maximum",
        &Shimmed::new("no_ro_session,max_sessions:2", ""),
    );
}

fn few_sessions() {
    let client = Client::open();
    let open = || client.module.open_rw_session(client.slot).map_err(code);
    assert_eq!(client.module.open_ro_session(client.slot).map_err(code).err(), Some(RvError::FunctionFailed));
    let second = open().unwrap();
    assert_eq!(open().err(), Some(RvError::SessionCount));
    drop(second);
    open().unwrap();
}

#[test]
fn hidden_attributes_are_hidden_and_their_neighbours_are_not() {
    if is_child() {
        return hidden_attributes();
    }
    passes(
        "hidden_attributes_are_hidden_and_their_neighbours_are_not",
        &Shimmed::new("no_cka_value,no_attribute:0x161", ""),
    );
}

fn hidden_attributes() {
    let client = Client::open();
    let key = client.key(&[Attribute::Sensitive(false), Attribute::Extractable(true), Attribute::Label(b"x".into())]);
    let wanted = [AttributeType::Value, AttributeType::ValueLen, AttributeType::Label];
    let told = client.session.get_attributes(key, &wanted).unwrap();
    assert!(told.contains(&Attribute::Label(b"x".into())), "{told:?}");
    assert!(!told.iter().any(|a| matches!(a, Attribute::Value(bytes) if !bytes.is_empty())), "{told:?}");
    assert!(!told.iter().any(|a| matches!(a, Attribute::ValueLen(_))), "{told:?}");
}

#[test]
fn mechanisms_are_renamed_taken_away_and_kept_for_keys_alone() {
    if is_child() {
        return other_mechanisms();
    }
    passes(
        "mechanisms_are_renamed_taken_away_and_kept_for_keys_alone",
        &Shimmed::new("wrap_only:0x80002109", "0x80002109=0x2109,0x8000210B=0x210B,!0x1085"),
    );
}

fn other_mechanisms() {
    let client = Client::open();
    let key = client.key(&[Attribute::Wrap(true), Attribute::Unwrap(true)]);
    let vendor = |number| {
        let kind = MechanismType::new_vendor_defined(number).unwrap();
        Mechanism::VendorDefined(VendorDefinedMechanism::new::<u8>(kind, None))
    };
    let kwp = client.session.encrypt(&vendor(0x8000_210B), key, &PLAIN[..30]).unwrap();
    assert_eq!((kwp.len(), client.session.decrypt(&vendor(0x8000_210B), key, &kwp).unwrap().len()), (40, 30));
    let kw = vendor(0x8000_2109);
    assert_eq!(client.session.encrypt(&kw, key, &PLAIN).map_err(code), Err(RvError::MechanismInvalid));
    let inner = client.key(&[Attribute::Extractable(true)]);
    let wrapped = client.session.wrap_key(&kw, key, inner).unwrap();
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    client.session.unwrap_key(&kw, key, &wrapped, &template).unwrap();
    let cbc = client.session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, &PLAIN).map_err(code);
    assert_eq!(cbc, Err(RvError::MechanismInvalid));
    let listed = client.module.get_mechanism_list(client.slot).unwrap();
    assert!(listed.contains(&MechanismType::AES_GCM) && !listed.contains(&MechanismType::AES_CBC_PAD));
}

#[test]
fn a_length_query_and_an_incomplete_template_are_refused() {
    if is_child() {
        return strict_calls();
    }
    passes(
        "a_length_query_and_an_incomplete_template_are_refused",
        &Shimmed::new("no_length_query,unwrap_needs_value_len", "0x8000210B=0x210B"),
    );
}

fn strict_calls() {
    let client = Client::open();
    let key = client.key(&[Attribute::Unwrap(true)]);
    // This client asks for the length before it encrypts.
    assert_eq!(client.seal(key, &mut [1; 12]), Err(RvError::ArgumentsBad));
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    let unwrap = |template: &[Attribute]| client.session.unwrap_key(&Mechanism::AesKeyWrap, key, &[0; 40], template);
    assert_eq!(unwrap(&template).map_err(code), Err(RvError::TemplateIncomplete));
    let complete = [&template[..], &[Attribute::ValueLen(32.into())]].concat();
    assert_ne!(unwrap(&complete).map_err(code), Err(RvError::TemplateIncomplete));
}

#[test]
fn a_fault_befalls_the_stated_number_of_calls_of_its_function() {
    if is_child() {
        return counted_faults();
    }
    let shim = Shimmed::new("", "");
    shim.faults(&["C_DecryptInit 0x30 3", "C_GenerateRandom 0x31 1 after 2", "C_OpenSession 0xB1 * after 1"]);
    passes("a_fault_befalls_the_stated_number_of_calls_of_its_function", &shim);
    assert_eq!(shim.faults_left(), ["C_OpenSession 0xb1 * after 0"]);
    assert_eq!(shim.calls("C_Login"), 1);
    let failed = |line: &&String| **line == "C_DecryptInit 0x30";
    assert_eq!(shim.log().iter().filter(failed).count(), 3);
}

fn counted_faults() {
    let client = Client::open();
    let key = client.key(&[]);
    let sealed = client.seal(key, &mut [1; 12]).unwrap();
    for _ in 0..3 {
        assert_eq!(client.open_sealed(key, &[1; 12], &sealed), Err(RvError::DeviceError));
    }
    assert_eq!(client.open_sealed(key, &[1; 12], &sealed).unwrap(), PLAIN);
    let random = || client.session.generate_random_vec(8).map(|_| ()).map_err(code);
    assert_eq!([random(), random(), random(), random()], [Ok(()), Ok(()), Err(RvError::DeviceMemory), Ok(())]);
    for _ in 0..5 {
        assert_eq!(client.module.open_rw_session(client.slot).map_err(code).err(), Some(RvError::SessionCount));
    }
}

#[test]
fn a_count_outlives_the_crash_that_it_has_caused_and_one_per_process_does_not() {
    if is_child() {
        return survives_one_encryption();
    }
    let shim = Shimmed::new("", "");
    shim.faults(&["C_Encrypt crash 2"]);
    for left in [&["C_Encrypt crash 1 after 0"][..], &[]] {
        assert!(
            !child("a_count_outlives_the_crash_that_it_has_caused_and_one_per_process_does_not", &shim)
                .status
                .success()
        );
        assert_eq!(shim.faults_left(), left);
    }
    passes("a_count_outlives_the_crash_that_it_has_caused_and_one_per_process_does_not", &shim);
    let rule = "C_Encrypt crash 1 per-process";
    shim.faults(&[rule]);
    for _ in 0..2 {
        assert!(
            !child("a_count_outlives_the_crash_that_it_has_caused_and_one_per_process_does_not", &shim)
                .status
                .success()
        );
        assert_eq!(shim.faults_left(), [rule]);
    }
    assert_eq!(shim.log().iter().filter(|line| *line == "C_Encrypt crash").count(), 4);
}

fn survives_one_encryption() {
    let client = Client::open();
    client.seal(client.key(&[]), &mut [1; 12]).unwrap();
}

#[test]
fn a_login_and_sessions_are_lost_behind_the_callers_back() {
    if is_child() {
        return lost_sessions();
    }
    let shim = Shimmed::new("", "");
    shim.faults(&["C_GenerateRandom logout 1", "C_GetSessionInfo close_sessions 1 after 1"]);
    passes("a_login_and_sessions_are_lost_behind_the_callers_back", &shim);
    assert!(shim.faults_left().is_empty(), "{:?}", shim.faults_left());
}

fn lost_sessions() {
    use cryptoki::session::SessionState;
    let client = Client::open();
    client.session.generate_random_vec(8).unwrap();
    assert_eq!(client.session.get_session_info().unwrap().session_state(), SessionState::RwPublic);
    assert_eq!(client.session.get_session_info().map_err(code).err(), Some(RvError::SessionHandleInvalid));
}

#[test]
fn a_hung_call_does_not_hold_up_another_thread() {
    if is_child() {
        return many_threads();
    }
    let shim = Shimmed::new("", "");
    shim.faults(&["C_Encrypt hang 1", "C_DecryptInit sleep_ms 1 8"]);
    passes("a_hung_call_does_not_hold_up_another_thread", &shim);
    assert!(shim.faults_left().is_empty(), "{:?}", shim.faults_left());
}

fn many_threads() {
    let client = Client::open();
    let key = client.key(&[]);
    let (sender, ended) = std::sync::mpsc::channel();
    for thread in 0..5_u8 {
        let session = client.module.open_rw_session(client.slot).unwrap();
        let (slot, module, sender) = (client.slot, client.module.clone(), sender.clone());
        std::thread::spawn(move || {
            let other = Client { module, slot, session };
            let sealed = other.seal(key, &mut [thread; 12]).unwrap();
            for _ in 0..20 {
                assert_eq!(other.open_sealed(key, &[thread; 12], &sealed).unwrap(), PLAIN);
            }
            sender.send(thread).unwrap();
        });
    }
    drop(sender);
    // One of five hangs for ever and keeps its sender; the others end.
    assert_eq!((0..4).map(|_| ended.recv().unwrap()).collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn a_misspelt_quirk_is_an_error() {
    if is_child() {
        return survives_one_encryption();
    }
    assert!(!child("a_misspelt_quirk_is_an_error", &Shimmed::new("gcm_iv_apended", "")).status.success());
    passes("a_misspelt_quirk_is_an_error", &Shimmed::new("", ""));
}
