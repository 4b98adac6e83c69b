//! Does what a file says make sense? Managers that are known and no circles of them, custodians in groups, and tiers that its
//! people can reach: a file that locks everybody out is refused.

use std::collections::BTreeSet;

use super::people::People;
use super::{Role, Separation, Tier};
use crate::names::PrincipalName;
use crate::policy::quorum::proposers;

impl Separation {
    /// Everything that can be seen without a roster, but for conflicts of roles.
    pub(super) fn check(&self) -> Vec<String> {
        let mut problems = lines(&self.people);
        problems.extend(circles(&self.people));
        for name in &self.rules.software_keys {
            let signs = self.person(name).is_some_and(|person| person.roles.iter().any(|role| role.signs()));
            if !signs {
                problems.push(format!("software-keys names {name}, who holds no role that signs: take {name} out"));
            }
        }
        problems
    }

    /// Whether every tier can be reached, whoever proposes; and one custodian be lost.
    pub(super) fn check_reach(&self) -> Vec<String> {
        let custodians = self.holders(&[Role::Custodian]);
        let (largest, wanted) = (self.rules.largest(), self.rules.margin);
        let margin = i64::try_from(custodians.len()).unwrap_or(i64::MAX) - i64::from(largest);
        if margin < i64::from(wanted) {
            return vec![format!(
                "{} custodians without the {largest} that a tier asks for leave a margin of {margin}, and it is never below \
                 {wanted}: name more custodians, or ask for fewer approvals where the floor lets you",
                custodians.len()
            )];
        }
        if self.holders(&[Role::KeyAdministrator]).is_empty() {
            return vec![
                "nobody is key-administrator, so that nobody could propose: give somebody the role".to_owned(),
            ];
        }
        Tier::ALL
            .iter()
            .filter(|tier| !self.is_reached(**tier, &custodians))
            .map(|tier| self.out_of_reach(*tier))
            .collect()
    }

    /// Whether somebody may propose for whom the others are enough. Break-glass without a responder is not used at all.
    fn is_reached(&self, tier: Tier, custodians: &BTreeSet<&PrincipalName>) -> bool {
        let rule = self.rule(tier);
        let initiators = self.holders(proposers(tier, ""));
        let enough = |have: usize, needed: u32| u32::try_from(have).is_ok_and(|have| have >= needed);
        let reaches = |initiator: &&PrincipalName| {
            let others = || custodians.iter().copied().filter(|name| name != initiator);
            enough(others().count(), rule.approvals)
                && (rule.approvals == 0
                    || enough(self.count_groups(others()), rule.groups)
                        && enough(self.count_lines(others()), rule.lines))
        };
        (tier == Tier::BreakGlass && initiators.is_empty()) || initiators.iter().any(reaches)
    }

    fn out_of_reach(&self, tier: Tier) -> String {
        let rule = self.rule(tier);
        format!(
            "tier {tier} asks for {} approvals of {} groups and {} reporting lines, and whoever proposes, the other custodians \
             are not enough: name custodians of other groups and lines",
            rule.approvals, rule.groups, rule.lines
        )
    }

    fn holders(&self, roles: &[Role]) -> BTreeSet<&PrincipalName> {
        let holds = |roles_of: &BTreeSet<Role>| roles.iter().any(|role| roles_of.contains(role));
        self.people.iter().filter(|(_, person)| holds(&person.roles)).map(|(name, _)| name).collect()
    }
}

fn lines(people: &People) -> Vec<String> {
    let managers = people.iter().filter_map(|(name, person)| Some((name, person.manager.as_ref()?)));
    let unknown = managers.filter(|(_, manager)| !people.contains_key(*manager));
    unknown
        .map(|(name, manager)| {
            format!("{name} reports to {manager}, who is not in the file: add [person.{manager}] with roles = []")
        })
        .collect()
}

/// Each circle once, from its first name on.
fn circles(people: &People) -> Vec<String> {
    let manager = |name: &PrincipalName| people.get(name).and_then(|person| person.manager.as_ref());
    let mut found = Vec::new();
    for name in people.keys() {
        let mut circle = vec![name];
        circle.extend(
            std::iter::successors(manager(name), |above| manager(above))
                .take(people.len())
                .take_while(|above| *above != name),
        );
        let closes = circle.last().and_then(|last| manager(last)) == Some(name);
        if closes && circle.iter().all(|other| *other >= name) {
            let words: Vec<_> = circle.iter().map(|name| name.as_str()).collect();
            found.push(format!(
                "{} -> {name} report to each other in a circle: take one manager away",
                words.join(" -> ")
            ));
        }
    }
    found
}
