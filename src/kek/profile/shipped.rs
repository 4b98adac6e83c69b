//! Which profiles does keyward ship? The files of `hsm-profiles/`, compiled in; a test compares this list with the folder.

macro_rules! profile {
    ($id:literal) => {
        ($id, include_str!(concat!("../../../hsm-profiles/", $id, ".toml")))
    };
}

/// Id and text of every shipped profile, sorted by id.
pub const SHIPPED: &[(&str, &str)] =
    &[profile!("kryoptic"), profile!("nss"), profile!("opencryptoki"), profile!("softhsm2"), profile!("tpm2-pkcs11")];
