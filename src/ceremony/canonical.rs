//! Is this text the one text of its document? Canonical JSON (RFC 8785) as `policy::json` writes it, where signatures and
//! decisions may also hold line feeds (CER-1). What is read is written again and compared.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::policy::json;

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than any such document.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// Made by a newer keyward.
    #[error("its schema is {0} and this version reads {SCHEMA}: use a newer keyward")]
    Newer(u64),
    /// Not what this version writes.
    #[error("it is not readable: {0}")]
    Unreadable(String),
}

/// Every document of ceremonies that this version writes.
pub(super) const SCHEMA: u64 = 1;

/// Reads a document of at most so many bytes.
pub(super) fn read<T: DeserializeOwned + Serialize>(text: &str, most: usize) -> Result<T, Malformed> {
    if text.len() > most {
        return Err(Malformed::TooLong(most));
    }
    let value: Value = serde_json::from_str(text).map_err(unreadable)?;
    match value.get("schema").and_then(Value::as_u64) {
        Some(SCHEMA) => {}
        Some(newer) if newer > SCHEMA => return Err(Malformed::Newer(newer)),
        _ => return Err(unreadable("it has no schema that this version knows")),
    }
    plain(&value)?;
    let read: T = serde_json::from_value(value).map_err(unreadable)?;
    if write(&read) == text { Ok(read) } else { Err(unreadable("it is not written as such documents are")) }
}

/// Writes a document.
pub(super) fn write<T: Serialize>(document: &T) -> String {
    // Structs of texts, whole numbers and maps with text keys always become values.
    json::canonical(&serde_json::to_value(document).unwrap_or_default())
}

/// Nothing but texts, whole numbers, lists and objects; of control characters the line feed alone.
fn plain(value: &Value) -> Result<(), Malformed> {
    match value {
        Value::Null | Value::Bool(_) => Err(unreadable("it holds null, true or false")),
        Value::Number(number) => match number.as_u64() {
            Some(whole) if whole <= json::MOST => Ok(()),
            _ => Err(unreadable("a number is not whole and below 2^53")),
        },
        Value::String(text) if text.chars().any(|c| c.is_control() && c != '\n') => {
            Err(unreadable("a text holds a control character"))
        }
        Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(plain),
        Value::Object(members) => members.values().try_for_each(plain),
    }
}

pub(super) fn unreadable(why: impl ToString) -> Malformed {
    Malformed::Unreadable(why.to_string())
}

/// A digest as documents spell it.
pub(super) mod digest {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::ceremony) fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(digest))
    }

    pub(in crate::ceremony) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(&text, &mut digest).map_err(|_| D::Error::custom("a digest is 64 hexadecimal digits"))?;
        Ok(digest)
    }
}

/// A name or a code as documents spell it.
pub(super) mod named {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::ceremony) fn serialize<T: Display, S: Serializer>(name: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub(in crate::ceremony) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
