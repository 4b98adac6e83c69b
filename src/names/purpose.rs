//! Why a caller opens data: HL7 PurposeOfUse (code system `v3-ActReason`).

use std::fmt;
use std::str::FromStr;

use super::NameError;

macro_rules! purposes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// A purpose of use, by its HL7 v3-ActReason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Purpose {
            $($(#[$doc])* $variant,)+
        }

        impl Purpose {
            /// All purposes that keyward knows.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The HL7 code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }

        impl FromStr for Purpose {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text { $($code => Ok(Self::$variant),)+ _ => Err(NameError::of("the purpose of use")) }
            }
        }
    };
}

purposes! {
    /// Treatment.
    Treatment = "TREAT",
    /// Emergency treatment.
    EmergencyTreatment = "ETREAT",
    /// Break the glass.
    BreakGlass = "BTG",
    /// Health care payment.
    Payment = "HPAYMT",
    /// Health care operations.
    Operations = "HOPERAT",
    /// Patient requested.
    PatientRequest = "PATRQT",
    /// Public health.
    PublicHealth = "PUBHLTH",
    /// Health care research.
    Research = "HRESCH",
    /// Care management.
    CareManagement = "CAREMGT",
    /// Legal.
    Legal = "HLEGAL",
    /// System administration.
    SystemAdministration = "HSYSADMIN",
    /// Health data quality.
    DataQuality = "HDM",
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
