//! Which roles does one person never hold together? A table that no file switches off; a file may add to it.

use std::collections::BTreeSet;

use super::Role;
use super::people::People;
use crate::names::PrincipalName;

/// Two roles of a file that one person does not hold together either.
pub(super) type Conflict = (Role, Role);

/// Every person with two roles that exclude each other.
pub(super) fn check(people: &People, more: &[Conflict]) -> Vec<String> {
    people.iter().flat_map(|(name, person)| conflicts(name, &person.roles, more)).collect()
}

fn conflicts(name: &PrincipalName, roles: &BTreeSet<Role>, more: &[Conflict]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, one) in roles.iter().enumerate() {
        for other in roles.iter().skip(at + 1) {
            if let Some(why) = excluded(*one, *other, more) {
                found.push(format!("{name} is {one} and {other} at once: {why}; take one of the two away"));
            }
        }
    }
    found
}

/// Why one person does not hold both.
fn excluded(one: Role, other: Role, more: &[Conflict]) -> Option<&'static str> {
    let is = |pair: (Role, Role)| pair == (one, other) || pair == (other, one);
    if [one, other].contains(&Role::Service) {
        return Some("a service is not a person");
    }
    if [one, other].contains(&Role::Developer) {
        return Some("a developer has no role in production");
    }
    let built_in = NEVER.iter().find(|(one, other, _)| is((*one, *other))).map(|(_, _, why)| *why);
    built_in.or_else(|| more.iter().any(|pair| is(*pair)).then_some("the file's [[conflict]] says so"))
}

/// Beside developer and service, which exclude every other role.
pub(super) const NEVER: &[(Role, Role, &str)] = &[
    (Role::Custodian, Role::PolicyOfficer, WRITES),
    (Role::Custodian, Role::Auditor, AUDITS),
    (Role::Custodian, Role::Operator, RUNS),
    (Role::Custodian, Role::WitnessOperator, ELSEWHERE),
    (Role::Custodian, Role::Responder, "who approves does not use"),
    (Role::KeyAdministrator, Role::PolicyOfficer, WRITES),
    (Role::KeyAdministrator, Role::Auditor, AUDITS),
    (Role::KeyAdministrator, Role::Operator, RUNS),
    (Role::KeyAdministrator, Role::WitnessOperator, ELSEWHERE),
    (Role::CeremonyAdministrator, Role::PolicyOfficer, WRITES),
    (Role::CeremonyAdministrator, Role::Auditor, AUDITS),
    (Role::CeremonyAdministrator, Role::Operator, RUNS),
    (Role::InternalWitness, Role::Operator, RUNS),
    (Role::PolicyOfficer, Role::Auditor, AUDITS),
    (Role::PolicyOfficer, Role::Operator, RUNS),
    (Role::PolicyOfficer, Role::WitnessOperator, ELSEWHERE),
    (Role::Auditor, Role::Operator, AUDITS),
    (Role::Auditor, Role::Responder, AUDITS),
    (Role::Operator, Role::WitnessOperator, ELSEWHERE),
    (Role::Operator, Role::Responder, RUNS),
    (Role::Operator, Role::Reviewer, RUNS),
];

const WRITES: &str = "who writes policy neither keeps keys nor approves";
const AUDITS: &str = "who audits does nothing that is audited";
const RUNS: &str = "who has root on the host has no key and no audit role";
const ELSEWHERE: &str = "a witness of the log is somebody of another domain";
