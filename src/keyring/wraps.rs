//! How is a key of the store wrapped, and what does its wraps column hold? Every wrap is proven before it is kept.

use super::bodies::Unreadable;
use crate::clock::{Deadline, Wall};
use crate::crypto::{self, CryptoError, DataKey};
use crate::kek::{Kek, KekError, Wrap, WrapBinding, WrapRole};
use crate::names::{KekName, KeyVersionId, StoreId};

/// The first byte of the column.
const SCHEMA: u8 = 1;

/// What a wrap is bound to, apart from the KEK.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub store: StoreId,
    /// `tenant/name`, `kw.store` or `kw.pseudonym`.
    pub owner: String,
    pub key: KeyVersionId,
    pub created: Wall,
}

impl Owner {
    /// The binding of one of the owner's wraps.
    pub(super) fn binding(&self, kek: &KekName, role: WrapRole) -> WrapBinding {
        WrapBinding {
            store: self.store,
            owner: self.owner.clone(),
            key: self.key,
            kek: kek.clone(),
            role,
            created: self.created,
        }
    }
}

/// Why there is no new wrapped key.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrapError {
    #[error(transparent)]
    Kek(#[from] KekError),
    /// No randomness, or no room in locked memory.
    #[error("no key could be made in this process: {0}")]
    Crypto(#[from] CryptoError),
    /// The KEK wrapped something that does not unwrap to the same key.
    #[error("the key-encryption key {0} did not give back the key it had just wrapped")]
    NotReturned(KekName),
}

/// Wraps a key and unwraps it again: a wrap that does not open would be found when the values are needed.
pub(super) async fn wrap(
    kek: &dyn Kek,
    role: WrapRole,
    key: &DataKey,
    owner: &Owner,
    deadline: Deadline,
) -> Result<Wrap, WrapError> {
    let binding = owner.binding(kek.name(), role);
    let (wrap, back) = kek.wrap_and_open(key, &binding, deadline).await?;
    let same = crypto::constant_time_eq(&back.check_value(), &key.check_value())
        && crypto::constant_time_eq(&wrap.check_value, &key.check_value());
    if same && wrap.kek == *kek.name() { Ok(wrap) } else { Err(WrapError::NotReturned(kek.name().clone())) }
}

/// `schema || (role, u32 length, wrap)...`, big-endian.
pub(super) fn encode(wraps: &[(WrapRole, Wrap)]) -> Option<Vec<u8>> {
    let mut out = vec![SCHEMA];
    for (role, wrap) in wraps {
        let bytes = wrap.encode();
        out.push(number(*role));
        out.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
        out.extend(bytes);
    }
    Some(out)
}

/// Strict inverse of [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(WrapRole, Wrap)>, Unreadable> {
    let broken = || Unreadable::Broken("its wraps are not readable".to_owned());
    let mut rest = match bytes.split_first() {
        Some((&SCHEMA, rest)) => rest,
        Some((newer, _)) if *newer > SCHEMA => {
            return Err(Unreadable::Newer(format!("its wraps have schema {newer}, this keyward knows {SCHEMA}")));
        }
        _ => return Err(broken()),
    };
    let mut wraps = Vec::new();
    while !rest.is_empty() {
        let (role, wrap, after) = cut(rest).ok_or_else(broken)?;
        let wrap = Wrap::decode(wrap).map_err(|error| match error {
            KekError::Unsupported(what) => Unreadable::Newer(what),
            _ => broken(),
        })?;
        wraps.push((role, wrap));
        rest = after;
    }
    Ok(wraps)
}

fn cut(bytes: &[u8]) -> Option<(WrapRole, &[u8], &[u8])> {
    let (&role, bytes) = bytes.split_first()?;
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let (wrap, after) = bytes.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((of_number(role)?, wrap, after))
}

/// `NAME vN`, as views and rows show a wrap.
pub(super) fn shown(wraps: &[(WrapRole, Wrap)]) -> Vec<String> {
    wraps.iter().map(|(_, wrap)| format!("{} v{}", wrap.kek, wrap.kek_version)).collect()
}

const fn number(role: WrapRole) -> u8 {
    match role {
        WrapRole::Primary => 1,
        WrapRole::Escrow => 2,
    }
}

const fn of_number(number: u8) -> Option<WrapRole> {
    match number {
        1 => Some(WrapRole::Primary),
        2 => Some(WrapRole::Escrow),
        _ => None,
    }
}
