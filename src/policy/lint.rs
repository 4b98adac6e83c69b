//! What can a policy get wrong that the schema cannot see? Names that nobody has and codes that never occur.

use cedar_policy::Policy;
use serde_json::Value;

use crate::identity::{PrincipalKind, Proof};
use crate::names::{KeyringName, PrincipalName, Purpose, Tenant};

use super::GrantKind;
use super::documents::Home;
use super::schema::kind_name;

/// The problems of one policy, each with its place.
pub(super) fn problems(policy: &Policy, home: &Home<'_>, principals: &[(PrincipalName, PrincipalKind)]) -> Vec<String> {
    let mut found = Vec::new();
    for entity in policy.entity_literals() {
        let (kind, name) = (entity.type_name().to_string(), entity.id().unescaped());
        if let Some(problem) = name_problem(&kind, name, principals) {
            found.push(format!("{}: {kind}::{name:?} {problem}", home.mention(&format!("{kind}::{name:?}"))));
        }
    }
    match policy.to_json() {
        Ok(json) => code_problems(&json, &mut |attribute, code| {
            let place = home.mention(&format!("{code:?}"));
            found.push(format!("{place}: {code:?} never occurs as context.{attribute}"));
        }),
        Err(error) => found.push(format!("{}: {error}", home.at(home.start))),
    }
    found
}

fn name_problem(kind: &str, name: &str, principals: &[(PrincipalName, PrincipalKind)]) -> Option<String> {
    let whole = |keyring: KeyringName| keyring.to_string();
    match kind {
        "Keyring" => match name.parse().map(whole) {
            Ok(full) if full == name => None,
            Ok(full) => Some(format!("never matches: a keyring is named with its tenant, Keyring::{full:?}")),
            Err(_) => Some("is not a keyring's name (tenant/name)".to_owned()),
        },
        "Tenant" => name.parse::<Tenant>().err().map(|_| "is not a tenant's name".to_owned()),
        "Sidecar" => (name != "sidecar").then(|| "never matches: there is only Sidecar::\"sidecar\"".to_owned()),
        _ => {
            let kind = PrincipalKind::ALL.iter().copied().find(|known| kind_name(*known) == kind)?;
            let known = principals.iter().any(|(n, k)| n.as_str() == name && *k == kind);
            (!known).then(|| format!("is not configured as a principal of kind {kind}"))
        }
    }
}

/// Calls back for each text that is compared with a context attribute of closed values and is none of them.
fn code_problems(json: &Value, report: &mut impl FnMut(&str, &str)) {
    match json {
        Value::Object(map) => {
            for (op, operand) in map {
                if matches!(op.as_str(), "==" | "!=" | "contains") {
                    compared(operand, report);
                }
                code_problems(operand, report);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| code_problems(item, report)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn compared(operand: &Value, report: &mut impl FnMut(&str, &str)) {
    let (Some(left), Some(right)) = (operand.get("left"), operand.get("right")) else { return };
    for (attribute, other) in [(left, right), (right, left)] {
        let Some(name) = closed_attribute(attribute) else { continue };
        let one = std::slice::from_ref(other);
        let values = other.get("Set").and_then(Value::as_array).map_or(one, Vec::as_slice);
        for code in values.iter().filter_map(|value| value.get("Value").and_then(Value::as_str)) {
            if !occurs(name, code) {
                report(name, code);
            }
        }
    }
}

fn closed_attribute(expr: &Value) -> Option<&str> {
    let attribute = context_attribute(".", expr.get(".")?)?;
    matches!(attribute, "purpose" | "proof" | "grant").then_some(attribute)
}

fn occurs(attribute: &str, code: &str) -> bool {
    match attribute {
        "purpose" => code.parse::<Purpose>().is_ok(),
        "grant" => code.parse::<GrantKind>().is_ok(),
        _ => Proof::CODES.contains(&code),
    }
}

/// Whether a policy can see an attribute of the context: it names it, or takes the whole context as a value.
pub(super) fn looks_at(policy: &Policy, attribute: &str) -> bool {
    policy.to_json().map_or(true, |json| names(&json, attribute))
}

fn names(json: &Value, sought: &str) -> bool {
    match json {
        Value::Object(_) if is_context(json) => true,
        Value::Object(map) => map.iter().any(|(op, operand)| match context_attribute(op, operand) {
            Some(attribute) => attribute == sought,
            None => names(operand, sought),
        }),
        Value::Array(items) => items.iter().any(|item| names(item, sought)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The attribute, if the operator takes exactly one attribute of the context.
fn context_attribute<'a>(op: &str, operand: &'a Value) -> Option<&'a str> {
    let direct = matches!(op, "." | "has") && operand.get("left").is_some_and(is_context);
    if direct { operand.get("attr").and_then(Value::as_str) } else { None }
}

fn is_context(expr: &Value) -> bool {
    expr.get("Var").and_then(Value::as_str) == Some("context")
}
