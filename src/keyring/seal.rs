//! Is this row as keyward wrote it? The one place that computes and checks rows' tags, roots and the chain's digests.

use crate::crypto::{self, CryptoError, DataKey, MacKey, canonical};
use crate::names::KeyVersionId;
use crate::store::{ChangeRow, GenesisRow, KeyringRow, PartitionRow, SealedKey, SidecarRow, Tag, UsageRow};

/// The label of the MAC key and of the tuples.
const ROWS: &str = "keyward/v1/rows";
/// Domains of the two plain digests.
const CHAIN: &[u8] = b"keyward/v1/chain\0";
const ROOT: &[u8] = b"keyward/v1/root\0";

/// A row of any table.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Genesis(&'a GenesisRow),
    Keyring(&'a KeyringRow),
    Key(&'a SealedKey),
    Partition(&'a PartitionRow),
    Usage(&'a UsageRow),
    Sidecar(&'a SidecarRow),
    Change(&'a ChangeRow),
}

/// Seals and verifies rows under the store key.
pub(super) struct RowSealer {
    key: MacKey,
    check: [u8; 16],
}

impl RowSealer {
    pub(super) fn new(store_key: &DataKey) -> Result<Self, CryptoError> {
        Ok(Self { key: MacKey::derive(store_key, ROWS)?, check: store_key.check_value() })
    }

    /// The store key's check value.
    pub(super) const fn check_value(&self) -> [u8; 16] {
        self.check
    }

    /// The tag of a row, whatever its tag field says now.
    pub(super) fn tag(&self, row: Row<'_>) -> Result<Tag, CryptoError> {
        Ok(Tag(self.key.tag(&[&row.tuple()?])))
    }

    /// Whether the row is one that this store key sealed.
    pub(super) fn verify(&self, row: Row<'_>) -> Result<(), CryptoError> {
        self.key.verify(&[&row.tuple()?], &row.tag_field().0)
    }
}

impl Row<'_> {
    const fn tag_field(&self) -> &Tag {
        match self {
            Self::Genesis(row) => &row.tag,
            Self::Keyring(row) => &row.tag,
            Self::Key(key) => &key.row.tag,
            Self::Partition(row) => &row.tag,
            Self::Usage(row) => &row.tag,
            Self::Sidecar(row) => &row.tag,
            Self::Change(row) => &row.tag,
        }
    }

    /// Every field but the tag, under the table's name. The structs are taken apart by name: a new field is a compiler
    /// error here, not a field without a seal.
    fn tuple(&self) -> Result<Vec<u8>, CryptoError> {
        match self {
            Self::Genesis(GenesisRow { generation, body, tag: _ }) => {
                encode(&[("table", b"genesis"), ("generation", &generation.to_be_bytes()), ("body", body.as_bytes())])
            }
            Self::Keyring(KeyringRow { name, generation, body, tag: _ }) => encode(&[
                ("table", b"keyrings"),
                ("name", name.as_bytes()),
                ("generation", &generation.to_be_bytes()),
                ("body", body.as_bytes()),
            ]),
            Self::Key(key) => key_tuple(key),
            Self::Partition(row) => partition_tuple(row),
            Self::Usage(UsageRow { key, sidecar, generation, body, tag: _ }) => encode(&[
                ("table", b"usage"),
                ("key", &key.0),
                ("sidecar", &sidecar.0),
                ("generation", &generation.to_be_bytes()),
                ("body", body.as_bytes()),
            ]),
            Self::Sidecar(SidecarRow { id, generation, body, tag: _ }) => encode(&[
                ("table", b"sidecars"),
                ("id", &id.0),
                ("generation", &generation.to_be_bytes()),
                ("body", body.as_bytes()),
            ]),
            Self::Change(ChangeRow { seq, previous, body, tag: _ }) => encode(&[
                ("table", b"changes"),
                ("seq", &seq.to_be_bytes()),
                ("previous", previous),
                ("body", body.as_bytes()),
            ]),
        }
    }
}

fn key_tuple(SealedKey { row, wraps }: &SealedKey) -> Result<Vec<u8>, CryptoError> {
    let crate::store::KeyRow { id, purpose, keyring, parent, state, generation, body, tag: _ } = row;
    encode(&[
        ("table", b"keys"),
        ("id", &id.0),
        ("purpose", purpose.as_bytes()),
        ("keyring", keyring.as_bytes()),
        ("parent", parent.as_bytes()),
        ("state", state.as_bytes()),
        ("generation", &generation.to_be_bytes()),
        ("body", body.as_bytes()),
        ("wraps", wraps),
    ])
}

fn partition_tuple(row: &PartitionRow) -> Result<Vec<u8>, CryptoError> {
    let PartitionRow { keyring, name, parent, state, generation, body, wrap, tag: _ } = row;
    encode(&[
        ("table", b"partitions"),
        ("keyring", keyring.as_bytes()),
        ("name", &name.0),
        ("parent", &parent.0),
        ("state", state.as_bytes()),
        ("generation", &generation.to_be_bytes()),
        ("body", body.as_bytes()),
        ("wrap", wrap),
    ])
}

fn encode(pairs: &[(&str, &[u8])]) -> Result<Vec<u8>, CryptoError> {
    canonical::encode(ROWS, &[], pairs.iter().map(|(key, value)| (key.as_bytes(), *value))).ok_or(CryptoError)
}

/// The digest of a link, which the next link names.
pub(super) fn digest(link: &ChangeRow) -> Result<[u8; 32], CryptoError> {
    Ok(crypto::sha256(&[CHAIN, &Row::Change(link).tuple()?, &link.tag.0]))
}

/// The root over a keyring's key rows, which must come in the order of their ids. Entries have one length each.
pub(super) fn root<'a>(rows: impl Iterator<Item = (&'a KeyVersionId, &'a Tag)>) -> [u8; 32] {
    let entries: Vec<u8> = rows.flat_map(|(id, tag)| id.0.iter().chain(&tag.0).copied()).collect();
    crypto::sha256(&[ROOT, &entries])
}
