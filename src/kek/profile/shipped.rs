//! Which profiles does keyward ship? The files of `hsm-profiles/`, compiled in; a test compares this list with the folder.

macro_rules! profile {
    ($id:literal) => {
        ($id, include_str!(concat!("../../../hsm-profiles/", $id, ".toml")))
    };
}

/// Id and text of every shipped profile, sorted by id.
pub const SHIPPED: &[(&str, &str)] = &[
    profile!("aws-cloudhsm"),
    profile!("azure-cloud-hsm"),
    profile!("entrust-nshield"),
    profile!("fortanix-dsm"),
    profile!("google-cloud-kms"),
    profile!("ibm-grep11"),
    profile!("kryoptic"),
    profile!("nss"),
    profile!("opencryptoki"),
    profile!("securosys-primus"),
    profile!("smartcard-hsm"),
    profile!("softhsm2"),
    profile!("thales-luna-7"),
    profile!("thales-luna-7-fips"),
    profile!("tpm2-pkcs11"),
    profile!("utimaco"),
    profile!("yubihsm-2"),
];
