//! What may a policy name? The Cedar schema, with the configured context keys, and the entities of a request.

use std::str::FromStr;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema};

use crate::identity::PrincipalKind;
use crate::names::{KeyringName, RESERVED_PREFIX};

use super::{Action, PolicyError};

const TEXT: &str = include_str!("schema.cedarschema");
const FIELDS: &str = "type Fields = {};";
/// Each key is part of every cache key and of every permit; the canonical form holds 64 pairs.
pub(super) const MAX_CONTEXT_KEYS: usize = 32;

/// The complete schema text for these context keys, as the validator sees it.
pub fn schema_text(context_keys: &[String]) -> String {
    let fields: String = context_keys.iter().map(|key| format!("\n  \"{key}\"?: String,")).collect();
    TEXT.replacen(FIELDS, &format!("type Fields = {{{fields}\n}};"), 1)
}

pub(super) fn build(context_keys: &[String]) -> Result<Schema, PolicyError> {
    let problems = key_problems(context_keys);
    if !problems.is_empty() {
        return Err(PolicyError { problems });
    }
    Schema::from_str(&schema_text(context_keys)).map_err(|error| PolicyError::one(format!("the schema: {error}")))
}

fn key_problems(context_keys: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if context_keys.len() > MAX_CONTEXT_KEYS {
        problems.push(format!("context_keys: at most {MAX_CONTEXT_KEYS} keys, not {}", context_keys.len()));
    }
    for (at, key) in context_keys.iter().enumerate() {
        // The key is written into the schema between quotes: nothing may end them.
        let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
        if key.is_empty() || key.starts_with(RESERVED_PREFIX) || !key.chars().all(plain) {
            problems.push(format!("context_keys: {key:?} cannot be a context key that policies name"));
        } else if context_keys.iter().take(at).any(|earlier| earlier == key) {
            problems.push(format!("context_keys: {key:?} is named twice"));
        }
    }
    problems
}

/// The Cedar names that every request needs, parsed once.
pub(super) struct Entities {
    kinds: [EntityTypeName; 4],
    tenant: EntityTypeName,
    keyring: EntityTypeName,
    action: EntityTypeName,
    sidecar: EntityUid,
}

impl Entities {
    pub(super) fn new() -> Result<Self, PolicyError> {
        let name = |text: &str| {
            EntityTypeName::from_str(text).map_err(|error| PolicyError::one(format!("the schema: {error}")))
        };
        let [service, custodian, auditor, operator] =
            [PrincipalKind::Service, PrincipalKind::Custodian, PrincipalKind::Auditor, PrincipalKind::Operator]
                .map(|kind| name(kind_name(kind)));
        Ok(Self {
            kinds: [service?, custodian?, auditor?, operator?],
            tenant: name("Tenant")?,
            keyring: name("Keyring")?,
            action: name("Action")?,
            sidecar: EntityUid::from_type_name_and_id(name("Sidecar")?, EntityId::new("sidecar")),
        })
    }

    pub(super) const fn kind(&self, kind: PrincipalKind) -> &EntityTypeName {
        let [service, custodian, auditor, operator] = &self.kinds;
        match kind {
            PrincipalKind::Service => service,
            PrincipalKind::Custodian => custodian,
            PrincipalKind::Auditor => auditor,
            PrincipalKind::Operator => operator,
        }
    }

    pub(super) fn principal(&self, kind: PrincipalKind, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.kind(kind).clone(), EntityId::new(name))
    }

    pub(super) fn action(&self, action: Action) -> EntityUid {
        EntityUid::from_type_name_and_id(self.action.clone(), EntityId::new(action.name()))
    }

    pub(super) fn sidecar(&self) -> EntityUid {
        self.sidecar.clone()
    }

    /// The keyring as an entity that lies in its tenant.
    pub(super) fn keyring(&self, name: &KeyringName) -> Entity {
        let tenant = EntityUid::from_type_name_and_id(self.tenant.clone(), EntityId::new(name.tenant().as_str()));
        let uid = EntityUid::from_type_name_and_id(self.keyring.clone(), EntityId::new(name.to_string()));
        Entity::new_no_attrs(uid, std::iter::once(tenant).collect())
    }
}

/// The entity type of a kind of principal.
pub(super) const fn kind_name(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Service => "Service",
        PrincipalKind::Custodian => "Custodian",
        PrincipalKind::Auditor => "Auditor",
        PrincipalKind::Operator => "Operator",
    }
}
