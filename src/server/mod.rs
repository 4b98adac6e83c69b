pub mod status;
pub mod wire;
