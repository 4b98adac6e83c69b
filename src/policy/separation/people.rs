//! Who stands where? Reporting lines, and whether configured principals and a roster fit the people of the file.

use std::collections::BTreeSet;

use super::{Person, Role, Separation, Tier};
use crate::identity::PrincipalKind;
use crate::names::PrincipalName;
use crate::policy::roster::{Member, Roster};

impl Separation {
    /// Whose reporting line a person is in: the manager's, or the person's own.
    pub fn line(&self, person: &PrincipalName) -> PrincipalName {
        self.person(person).and_then(|entry| entry.manager.clone()).unwrap_or_else(|| person.clone())
    }

    /// Whether one is the other's manager, or a manager's manager, and so on.
    pub fn stands_above(&self, upper: &PrincipalName, lower: &PrincipalName) -> bool {
        self.chain(lower).any(|above| above == upper)
    }

    /// How many of these people are pairwise of different lines, none standing above another: as many as can be chosen. From
    /// the lowest upward, since whoever stands in a person's way there (the one above, or one beside) stands in no fewer ways.
    pub fn count_lines<'a>(&self, people: impl IntoIterator<Item = &'a PrincipalName>) -> usize {
        let mut people: Vec<_> = people.into_iter().collect();
        people.sort_by_key(|person| (std::cmp::Reverse(self.chain(person).count()), *person));
        let mut chosen: Vec<&PrincipalName> = Vec::new();
        for person in people {
            let line = self.line(person);
            if !chosen.iter().any(|other| self.line(other) == line || self.stands_above(person, other)) {
                chosen.push(person);
            }
        }
        chosen.len()
    }

    /// How many groups these people are of.
    pub fn count_groups<'a>(&self, people: impl IntoIterator<Item = &'a PrincipalName>) -> usize {
        let groups = people.into_iter().filter_map(|person| self.person(person)?.group.as_ref());
        groups.collect::<BTreeSet<_>>().len()
    }

    /// The managers above a person, nearest first; as many steps as there are people, so that a circle ends.
    fn chain<'a>(&'a self, person: &PrincipalName) -> impl Iterator<Item = &'a PrincipalName> {
        let manager = |name: &PrincipalName| self.person(name).and_then(|entry| entry.manager.as_ref());
        std::iter::successors(manager(person), move |above| manager(above)).take(self.people.len())
    }

    /// Static check of configured principals: people are people of this file with a fitting role, services are not in it.
    pub fn check_principals(&self, principals: &[(PrincipalName, PrincipalKind)]) -> Vec<String> {
        principals.iter().filter_map(|(name, kind)| self.misfit(name, *kind)).collect()
    }

    fn misfit(&self, name: &PrincipalName, kind: PrincipalKind) -> Option<String> {
        let fitting = fitting(kind);
        match (kind, self.person(name)) {
            (PrincipalKind::Service, None) => None,
            (PrincipalKind::Service, Some(_)) => Some(format!(
                "{name} is a person of the separation file and a configured service: give the service another name"
            )),
            (_, None) => Some(format!(
                "{name} is configured as {kind} and is not in the separation file: add [person.{name}] with its roles"
            )),
            (_, Some(person)) if person.roles.iter().any(|role| fitting.contains(role)) => None,
            (_, Some(_)) => Some(format!(
                "{name} is configured as {kind} and holds none of the roles {}: give {name} one, or configure {name} otherwise",
                words(fitting)
            )),
        }
    }

    /// Static check of a roster: everybody active on it is known and holds a role that signs; everybody has a key, and no key
    /// stands in it twice. Not the margin: a revocation may always go below it.
    pub fn check_roster(&self, roster: &Roster) -> Vec<String> {
        let mut problems: Vec<_> = roster.members.iter().filter_map(|member| self.stranger(member)).collect();
        problems.extend(shared_keys(roster));
        problems
    }

    fn stranger(&self, member: &Member) -> Option<String> {
        let name = &member.person;
        if member.credentials.is_empty() {
            return Some(format!("{name} has no key: enrol one, or take {name} off the roster"));
        }
        // Whoever has left may be gone from the file while the revoked keys stay on the roster.
        if !member.is_active() {
            return None;
        }
        match self.person(name) {
            None => Some(format!("{name} is not in the separation file: add [person.{name}] with its roles")),
            Some(person) if person.roles.iter().any(|role| role.signs()) => None,
            Some(_) => Some(format!(
                "{name} holds none of the roles that sign ({}): nobody else is on the roster",
                words(Role::SIGNING)
            )),
        }
    }

    /// Active custodians without the most that a tier asks for: so many may be lost, and less than nothing is a lock-out.
    pub fn margin(&self, roster: &Roster) -> i64 {
        let custodians = roster.active().filter(|member| self.has(&member.person, Role::Custodian)).count();
        i64::try_from(custodians).unwrap_or(i64::MAX) - i64::from(self.rules.largest())
    }

    /// Whether the margin of a roster is the one that the file asks for.
    pub fn check_margin(&self, roster: &Roster) -> Vec<String> {
        let (margin, wanted) = (self.margin(roster), self.rules.margin);
        if margin >= i64::from(wanted) {
            return Vec::new();
        }
        let largest = self.rules.largest();
        vec![format!(
            "the active custodians without the {largest} that a tier asks for leave a margin of {margin}, and it is never below \
             {wanted}: enrol more custodians"
        )]
    }

    /// Whether the people on a roster could still enrol somebody: one to propose it, and beside them as many as its tier
    /// asks for. Below that nobody could ever be enrolled again.
    pub fn check_way_back(&self, roster: &Roster) -> Vec<String> {
        let rule = self.rule(Tier::Two);
        let active: Vec<&PrincipalName> = roster.active().map(|member| &member.person).collect();
        let enough = |initiator: &&&PrincipalName| {
            let rest: Vec<_> =
                active.iter().copied().filter(|one| *one != **initiator && self.has(one, Role::Custodian)).collect();
            let groups: BTreeSet<_> = rest.iter().filter_map(|one| self.person(one)?.group.as_ref()).collect();
            let counts =
                [(rest.len(), rule.approvals), (groups.len(), rule.groups), (self.count_lines(rest), rule.lines)];
            counts.into_iter().all(|(have, need)| have >= usize::try_from(need).unwrap_or(usize::MAX))
        };
        let mut initiators = active.iter().filter(|one| self.has(one, Role::KeyAdministrator));
        if initiators.any(|one| enough(&one)) {
            return Vec::new();
        }
        vec![
            "too few people would be left to enrol anybody ever again: enrol somebody first; to stop a person now, lock: \
             `keyward lock engage --principal NAME`"
                .to_owned(),
        ]
    }

    /// The static check of a founding roster: as every roster, with its margin, three custodians or more, and each of them
    /// with a key that counts where hardware is asked for.
    pub fn check_genesis(&self, roster: &Roster) -> Vec<String> {
        let mut problems = self.check_roster(roster);
        let custodians: Vec<_> = roster.active().filter(|member| self.has(&member.person, Role::Custodian)).collect();
        if custodians.len() < FOUNDERS {
            problems.push(format!("{} custodians found no store: at least {FOUNDERS} are needed", custodians.len()));
        }
        problems.extend(self.check_margin(roster));
        if !roster.is_rehearsal() {
            problems.extend(custodians.iter().filter_map(|member| self.without_token(member)));
        }
        problems
    }

    fn without_token(&self, member: &Member) -> Option<String> {
        let name = &member.person;
        let counts = |key: &crate::policy::roster::Credential| key.revoked.is_none() && key.key.is_in_token();
        if self.software_keys_count_for(name) || member.credentials.iter().any(counts) {
            return None;
        }
        Some(format!(
            "{name} has no key in a token, so that nothing {name} signs counts from tier 2 on: enrol a key of the kind sk-..., \
             or name {name} under [software-keys] with the reason"
        ))
    }
}

/// Keys that stand on the roster more than once, revoked ones with them: a key that was revoked never comes back.
fn shared_keys(roster: &Roster) -> Vec<String> {
    let mut seen: Vec<(String, &PrincipalName)> = Vec::new();
    let mut problems = Vec::new();
    for member in &roster.members {
        for credential in &member.credentials {
            let fingerprint = credential.key.fingerprint();
            let person = &member.person;
            match seen.iter().find(|(known, _)| *known == fingerprint) {
                Some((_, other)) if *other == person => {
                    problems.push(format!("{person} has the key {fingerprint} twice: leave one out"));
                }
                Some((_, other)) => {
                    problems.push(format!(
                        "{other} and {person} share the key {fingerprint}: each needs a key of their own"
                    ));
                }
                None => seen.push((fingerprint, person)),
            }
        }
    }
    problems
}

/// The roles of which a principal of this kind needs one.
const fn fitting(kind: PrincipalKind) -> &'static [Role] {
    match kind {
        PrincipalKind::Service => &[],
        PrincipalKind::Custodian => Role::SIGNING,
        PrincipalKind::Auditor => &[Role::Auditor],
        PrincipalKind::Operator => &[Role::Operator, Role::WitnessOperator],
    }
}

pub(super) fn words(roles: &[Role]) -> String {
    roles.iter().map(|role| role.code()).collect::<Vec<_>>().join(", ")
}

pub(super) type People = std::collections::BTreeMap<PrincipalName, Person>;

const FOUNDERS: usize = 3;
