//! Where do sealed rows rest? A store compares generations and never interprets a row.

/// A store opened for reading and for its one writer.
pub struct Opened {}
