//! Which rules of which products are kept? Facts of the vendors' documents, one name each.

use std::collections::{HashMap, HashSet};

use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_MECHANISM_TYPE, CK_RV, CK_ULONG};

use crate::gcm::IvMode;

/// The comma list of `P11SHIM_QUIRKS`, each `NAME` or `NAME:NUMBER`:
/// - `gcm_iv_writeback[:MECHANISM]`: the IV must be 12 zero bytes; C_EncryptInit writes its own there (CloudHSM).
/// - `gcm_iv_appended[:MECHANISM]`: no IV may be given; 16 bytes follow the output, C_Decrypt gets them as its IV (Luna, FIPS).
/// - `gcm_iv_prepended[:MECHANISM]`: pIv must be NULL; 12 bytes precede the output and the input of C_Decrypt (CloudHSM, 0x80001087).
/// - `cloudkms`: GCM is 0x8001E101 alone, C_Encrypt writes the IV; nothing is wrapped or created; 8 to 1,024 random bytes.
/// - `no_ro_session`: C_OpenSession without CKF_RW_SESSION answers CKR_FUNCTION_FAILED (CloudHSM).
/// - `max_sessions:N`: one more answers CKR_SESSION_COUNT (YubiHSM).
/// - `no_cka_value`: CKA_VALUE is always sensitive (Azure, FIPS).
/// - `no_attribute:TYPE`: the type is unknown.
/// - `no_length_query`: a NULL output answers CKR_ARGUMENTS_BAD.
/// - `wrap_only:MECHANISM`: for C_WrapKey and C_UnwrapKey, not for data (CloudHSM, nShield).
/// - `unwrap_needs_value_len`: C_UnwrapKey without CKA_VALUE_LEN answers CKR_TEMPLATE_INCOMPLETE (Luna).
#[derive(Default)]
pub struct Quirks {
    pub no_ro_session: bool,
    pub no_length_query: bool,
    pub nothing_is_wrapped: bool,
    pub unwrap_needs_value_len: bool,
    pub max_sessions: Option<usize>,
    /// The least and the most that C_GenerateRandom gives.
    pub random: Option<(CK_ULONG, CK_ULONG)>,
    /// What C_GetAttributeValue answers for a type.
    pub attributes: HashMap<CK_ATTRIBUTE_TYPE, CK_RV>,
    gcm: HashMap<CK_MECHANISM_TYPE, IvMode>,
    renamed: HashMap<CK_MECHANISM_TYPE, CK_MECHANISM_TYPE>,
    absent: HashSet<CK_MECHANISM_TYPE>,
    wrap_only: HashSet<CK_MECHANISM_TYPE>,
}

impl Quirks {
    /// Both lists. A name that is not known is an error: a test must not pass because its quirk was misspelt.
    pub fn parse(quirks: &str, mechanisms: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for quirk in quirks.split(',').map(str::trim).filter(|quirk| !quirk.is_empty()) {
            let (name, value) = quirk.split_once(':').map_or((quirk, None), |(name, value)| (name, Some(value)));
            let value = value.map(number).transpose()?;
            parsed.add(name, value).ok_or_else(|| format!("no such quirk: {quirk}"))?;
        }
        for entry in mechanisms.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match (entry.strip_prefix('!'), entry.split_once('=')) {
                (Some(absent), _) => parsed.absent.extend([number(absent)?]),
                (None, Some((new, real))) => parsed.renamed.extend([(number(new)?, number(real)?)]),
                (None, None) => return Err(format!("neither NEW=REAL nor !NUMBER: {entry}")),
            }
        }
        Ok(parsed)
    }

    fn add(&mut self, name: &str, value: Option<u64>) -> Option<()> {
        let standard = cryptoki_sys::CKM_AES_GCM;
        let prepended = value.unwrap_or(CKM_CLOUDHSM_AES_GCM);
        match (name, value) {
            ("gcm_iv_writeback", _) => self.gcm.extend([(value.unwrap_or(standard), IvMode::WrittenAtInit)]),
            ("gcm_iv_appended", _) => self.gcm.extend([(value.unwrap_or(standard), IvMode::Appended)]),
            ("gcm_iv_prepended", _) => self.gcm.extend([(prepended, IvMode::Prepended)]),
            ("cloudkms", None) => {
                self.gcm.extend([(CKM_CLOUDKMS_AES_GCM, IvMode::WrittenAtEncrypt)]);
                self.absent.extend([standard]);
                self.nothing_is_wrapped = true;
                self.random = Some((8, 1024));
            }
            ("no_ro_session", None) => self.no_ro_session = true,
            ("max_sessions", Some(max)) => self.max_sessions = Some(usize::try_from(max).ok()?),
            ("no_cka_value", None) => {
                self.attributes.extend([(cryptoki_sys::CKA_VALUE, cryptoki_sys::CKR_ATTRIBUTE_SENSITIVE)]);
            }
            ("no_attribute", Some(kind)) => {
                self.attributes.extend([(kind, cryptoki_sys::CKR_ATTRIBUTE_TYPE_INVALID)]);
            }
            ("no_length_query", None) => self.no_length_query = true,
            ("wrap_only", Some(mechanism)) => self.wrap_only.extend([mechanism]),
            ("unwrap_needs_value_len", None) => self.unwrap_needs_value_len = true,
            _ => return None,
        }
        Some(())
    }

    /// Who makes the IV under this mechanism; None if the caller does, or it is no GCM.
    pub fn iv_mode(&self, mechanism: CK_MECHANISM_TYPE) -> Option<IvMode> {
        self.gcm.get(&mechanism).copied()
    }

    /// The real library's number for a mechanism; None if the product lacks it.
    pub fn real_mechanism(&self, mechanism: CK_MECHANISM_TYPE) -> Option<CK_MECHANISM_TYPE> {
        if self.absent.contains(&mechanism) {
            return None;
        }
        let gcm = self.gcm.get(&mechanism).map(|_| cryptoki_sys::CKM_AES_GCM);
        Some(gcm.or_else(|| self.renamed.get(&mechanism).copied()).unwrap_or(mechanism))
    }

    /// As [`Self::real_mechanism`], for a mechanism that is to process data.
    pub fn real_data_mechanism(&self, mechanism: CK_MECHANISM_TYPE) -> Option<CK_MECHANISM_TYPE> {
        self.real_mechanism(mechanism).filter(|_| !self.wrap_only.contains(&mechanism))
    }

    /// Mechanisms beyond the real library's.
    pub fn added(&self) -> impl Iterator<Item = CK_MECHANISM_TYPE> {
        self.gcm.keys().chain(self.renamed.keys()).copied()
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.map_err(|_| format!("not a number: {text}"))
}

/// CKM_VENDOR_DEFINED | CKM_AES_GCM.
const CKM_CLOUDHSM_AES_GCM: CK_MECHANISM_TYPE = 0x8000_1087;
/// Google's vendor range.
const CKM_CLOUDKMS_AES_GCM: CK_MECHANISM_TYPE = 0x8001_E101;
