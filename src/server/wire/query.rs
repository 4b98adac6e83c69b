//! What does the query of a path say? Known names once each, plain digits; nothing is percent-encoded, so nothing is decoded.

use crate::names::KeyringName;
use crate::service::{Code, Operation, Refusal};

use super::{MAX_AUDIT_RECORDS, MAX_INVENTORY};

/// Records given when the caller names no limit.
const DEFAULT_AUDIT_RECORDS: u32 = 100;

/// Keyrings given when the caller names no limit.
const DEFAULT_INVENTORY: u32 = 100;

/// Reads `from=&limit=` of the audit route.
pub fn parse_audit_query(query: Option<&str>) -> Result<Operation, Refusal> {
    let (mut from, mut limit) = (None, None);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| malformed("a part of the query has no value"))?;
        let slot = match name {
            "from" => &mut from,
            "limit" => &mut limit,
            _ => return Err(malformed("the query takes from and limit")),
        };
        if slot.replace(number(value)?).is_some() {
            return Err(malformed("a part of the query is given twice"));
        }
    }
    let limit = match limit {
        None => DEFAULT_AUDIT_RECORDS,
        Some(limit) => u32::try_from(limit)
            .ok()
            .filter(|limit| (1..=MAX_AUDIT_RECORDS).contains(limit))
            .ok_or_else(|| malformed("limit is from 1 to 1000"))?,
    };
    Ok(Operation::ReadAudit { from, limit })
}

/// Reads `after=&limit=` of the inventory: the keyrings whose name stands after another one's.
pub fn parse_inventory_query(query: Option<&str>) -> Result<Operation, Refusal> {
    let (after, limit) = part(query)?;
    Ok(Operation::ReadInventory { after, limit: limit.unwrap_or(DEFAULT_INVENTORY) })
}

/// Reads the same of a listing.
pub fn parse_list_query(query: Option<&str>) -> Result<Operation, Refusal> {
    let (after, limit) = part(query)?;
    Ok(Operation::ListKeyrings { after, limit: limit.unwrap_or(MAX_INVENTORY) })
}

fn part(query: Option<&str>) -> Result<(Option<KeyringName>, Option<u32>), Refusal> {
    let (mut after, mut limit): (Option<KeyringName>, Option<u32>) = (None, None);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| malformed("a part of the query has no value"))?;
        let twice = match name {
            "after" => {
                let keyring = value.parse().map_err(|_| malformed("after is the name of a keyring, tenant/name"))?;
                after.replace(keyring).is_some()
            }
            "limit" => {
                let number = number(value)?;
                let fits = u32::try_from(number).ok().filter(|limit| (1..=MAX_INVENTORY).contains(limit));
                limit.replace(fits.ok_or_else(|| malformed("limit is from 1 to 1000"))?).is_some()
            }
            _ => return Err(malformed("the query takes after and limit")),
        };
        if twice {
            return Err(malformed("a part of the query is given twice"));
        }
    }
    Ok((after, limit))
}

/// Reads `change=` of the sidecars that follow.
pub fn parse_sidecars_query(query: Option<&str>) -> Result<Operation, Refusal> {
    let change = match query.unwrap_or_default() {
        "" => None,
        query => {
            let value = query.strip_prefix("change=").ok_or_else(|| malformed("the query takes change"))?;
            Some(number(value)?)
        }
    };
    Ok(Operation::ReadFollowing { change })
}

/// Refuses any query where none has a meaning.
pub fn no_query(query: Option<&str>) -> Result<(), Refusal> {
    if query.is_none_or(str::is_empty) { Ok(()) } else { Err(malformed("this route takes no query")) }
}

fn number(text: &str) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| malformed("from, limit and change are whole numbers"))
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::because(Code::MalformedRequest, detail)
}
