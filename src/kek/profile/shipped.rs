//! Which profiles does keyward ship? The files of `hsm-profiles/`, compiled in; a test compares this list with the folder.

/// Id and text of every shipped profile.
pub const SHIPPED: &[(&str, &str)] = &[("softhsm2", include_str!("../../../hsm-profiles/softhsm2.toml"))];
