//! Which policies can apply to a principal's action at all? Decided when the set is loaded, since the cost of an
//! evaluation grows with every policy that it looks at.
//!
//! A slice leaves out only policies whose scope excludes the action or the principal: the answer stays the same. For an
//! exception (`Action::excepts`) it leaves out each `permit` that does not name it, too.

use std::collections::HashMap;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicySet, PrincipalConstraint, Schema};

use crate::identity::PrincipalKind;
use crate::names::PrincipalName;

use super::schema::Entities;
use super::{Action, PolicyError, lint};

/// The policies for one action of one principal.
#[derive(Default)]
pub(super) struct Slice {
    pub(super) policies: PolicySet,
    /// Whether a policy looks at the time: then the answer holds for one instant only.
    pub(super) looks_at_time: bool,
    /// Whether a policy looks at how the principal proved who it is: then it may be another answer by another proof.
    pub(super) looks_at_proof: bool,
    /// Whether a policy looks at the grant that is in force.
    pub(super) looks_at_grant: bool,
    /// Whether there is a `permit` among them.
    pub(super) permits: bool,
}

/// All slices of a set. An action that the schema does not give to a kind has no entry: nothing permits it.
pub(super) struct Slices(HashMap<(PrincipalKind, Action), OfKind>);

struct OfKind {
    named: HashMap<PrincipalName, Slice>,
    /// For principals that are not configured; a policy that names them is refused, so only general ones apply.
    others: Slice,
}

impl Slices {
    pub(super) fn new(
        set: &PolicySet,
        schema: &Schema,
        entities: &Entities,
        principals: &[(PrincipalName, PrincipalKind)],
    ) -> Result<Self, PolicyError> {
        let mut slices = HashMap::new();
        for action in Action::ALL {
            let uid = entities.action(*action);
            let kinds: Vec<_> = match schema.principals_for_action(&uid) {
                Some(kinds) => kinds.collect(),
                None => return Err(PolicyError::one(format!("the schema does not name {uid}"))),
            };
            for kind in PrincipalKind::ALL.iter().filter(|kind| kinds.contains(&entities.kind(**kind))) {
                let of = |name: Option<&PrincipalName>| {
                    let principal = name.map(|name| entities.principal(*kind, name.as_str()));
                    slice(set, &uid, entities.kind(*kind), (principal.as_ref(), action.excepts().is_some()))
                };
                let same_kind = principals.iter().filter(|(_, k)| k == kind);
                let named = same_kind.map(|(name, _)| Ok((name.clone(), of(Some(name))?))).collect::<Result<_, _>>()?;
                slices.insert((*kind, *action), OfKind { named, others: of(None)? });
            }
        }
        Ok(Self(slices))
    }

    pub(super) fn find(&self, kind: PrincipalKind, name: &PrincipalName, action: Action) -> Option<&Slice> {
        let of_kind = self.0.get(&(kind, action))?;
        Some(of_kind.named.get(name).unwrap_or(&of_kind.others))
    }
}

fn slice(
    set: &PolicySet,
    action: &EntityUid,
    kind: &cedar_policy::EntityTypeName,
    (principal, explicit): (Option<&EntityUid>, bool),
) -> Result<Slice, PolicyError> {
    let mut slice = Slice::default();
    for policy in set.policies() {
        let named =
            !explicit || policy.effect() == Effect::Forbid || policy.action_constraint() != ActionConstraint::Any;
        if named && scope_has_action(policy, action) && scope_has_principal(policy, kind, principal) {
            slice.looks_at_time |= lint::looks_at(policy, "now");
            slice.looks_at_proof |= lint::looks_at(policy, "proof");
            slice.looks_at_grant |= lint::looks_at(policy, "grant");
            slice.permits |= policy.effect() == Effect::Permit;
            slice.policies.add(policy.clone()).map_err(|error| PolicyError::one(error.to_string()))?;
        }
    }
    Ok(slice)
}

/// The schema has no action groups, so `in` means one of the list.
fn scope_has_action(policy: &Policy, action: &EntityUid) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::In(listed) => listed.contains(action),
        ActionConstraint::Eq(one) => one == *action,
    }
}

/// Principals have no parents in the schema, so `in` means the principal itself.
fn scope_has_principal(policy: &Policy, kind: &cedar_policy::EntityTypeName, principal: Option<&EntityUid>) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(named) => named == *kind,
        PrincipalConstraint::Eq(one) | PrincipalConstraint::In(one) | PrincipalConstraint::IsIn(_, one) => {
            Some(&one) == principal
        }
    }
}
