//! What does a separation file say? TOML, read key by key, so that all its problems are told at once.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::{Table, Value};

use super::matrix::Conflict;
use super::people::People;
use super::rules::{self, BreakGlassRule, Rules, TierRule};
use super::{Person, Role};
use crate::names::PrincipalName;

/// A file that was read; what it says may still make no sense.
pub(super) struct File {
    pub people: People,
    pub conflicts: Vec<Conflict>,
    pub rules: Rules,
}

/// Reads everything that can be read. None only where nothing can be.
pub(super) fn read(text: &str, problems: &mut Vec<String>) -> Option<File> {
    if text.len() > MOST_BYTES {
        problems.push("the file is longer than 1 MiB".to_owned());
        return None;
    }
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            problems.push(syntax(text, &error));
            return None;
        }
    };
    let mut root = Section { path: String::new(), table };
    match root.table.remove("schema") {
        Some(Value::Integer(SCHEMA)) => {}
        Some(Value::Integer(newer)) if newer > SCHEMA => {
            let what = format!("the file has schema {newer}, this version reads schema {SCHEMA}: use a newer keyward");
            problems.push(what);
            return None;
        }
        _ => problems.push("the file does not begin with schema = 1".to_owned()),
    }
    let people = people(root.section("person", problems), problems);
    let conflicts = conflicts(&mut root, problems);
    let rules = rules(&mut root, problems);
    root.end(problems);
    Some(File { people, conflicts, rules })
}

fn people(section: Section, problems: &mut Vec<String>) -> People {
    let mut people = People::new();
    for (name, value) in section.table {
        let path = format!("person.{name}");
        let Ok(known) = name.parse::<PrincipalName>() else {
            problems.push(format!("{path}: a person's name matches [a-z0-9][a-z0-9-]{{0,62}}"));
            continue;
        };
        let Value::Table(table) = value else {
            problems.push(format!("{path} is not a person: write [{path}] and the person's roles below"));
            continue;
        };
        people.insert(known, person(Section { path, table }, problems));
    }
    people
}

fn person(mut section: Section, problems: &mut Vec<String>) -> Person {
    let path = section.path.clone();
    let roles = match section.texts("roles", problems) {
        Some(texts) => roles(&path, &texts, problems),
        None => {
            problems.push(format!("{path} has no roles: write roles = [] for who only stands in reporting lines"));
            BTreeSet::new()
        }
    };
    if roles.contains(&Role::Custodian) && !section.table.contains_key("group") {
        problems.push(format!(
            "{path} is a custodian without a group: a custodian is of exactly one, write group = \"...\""
        ));
    }
    if let Some(Value::Array(groups)) = section.table.get("group") {
        problems.push(format!("{path}.group names {} groups: a person is of exactly one", groups.len()));
        section.table.remove("group");
    }
    let group = section.name("group", problems);
    let manager = section.name("manager", problems);
    section.end(problems);
    Person { roles, group, manager }
}

fn roles(path: &str, texts: &[String], problems: &mut Vec<String>) -> BTreeSet<Role> {
    let mut roles = BTreeSet::new();
    for text in texts {
        match text.parse() {
            Ok(role) if roles.insert(role) => {}
            Ok(role) => problems.push(format!("{path}.roles names {role} twice")),
            Err(error) => problems.push(format!("{path}.roles: {text:?} is {error}")),
        }
    }
    roles
}

/// `[[conflict]]`: of the roles of each, one person holds one.
fn conflicts(root: &mut Section, problems: &mut Vec<String>) -> Vec<Conflict> {
    let list = match root.table.remove("conflict") {
        None => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push("conflict is not a list: write [[conflict]] and its roles below".to_owned());
            return Vec::new();
        }
    };
    let mut pairs = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let path = format!("conflict {}", index + 1);
        let Value::Table(table) = value else {
            problems.push(format!("{path} is not a table: write [[conflict]] and its roles below"));
            continue;
        };
        let mut section = Section { path, table };
        let texts = section.texts("roles", problems).unwrap_or_default();
        let named = roles(&section.path, &texts, problems);
        if named.len() < 2 {
            problems.push(format!("{} names fewer than two roles: name those that exclude each other", section.path));
        }
        pairs.extend(named.iter().flat_map(|one| named.range(one..).skip(1).map(|other| (*one, *other))));
        section.end(problems);
    }
    pairs
}

fn rules(root: &mut Section, problems: &mut Vec<String>) -> Rules {
    let usual = Rules::default();
    let mut tiers = root.section("tier", problems);
    let mut of = |name, floor, usual| tier(tiers.section(name, problems), floor, usual, problems);
    let (one, two) = (of("1", rules::ONE, usual.one), of("2", rules::TWO, usual.two));
    let three = of("3", rules::THREE, usual.three);
    tiers.end(problems);
    let break_glass = break_glass(root.section("break-glass", problems), problems);
    let mut section = root.section("margin", problems);
    let margin = section.at_least("custodians", rules::MARGIN, usual.margin, problems);
    section.end(problems);
    let mut section = root.section("recertification", problems);
    let recertify_every = section.at_most("every", rules::RECERTIFY_MOST, usual.recertify_every, problems);
    section.end(problems);
    let software_keys = software_keys(root.section("software-keys", problems), problems);
    Rules { one, two, three, break_glass, margin, software_keys, recertify_every }
}

fn tier(mut section: Section, floor: TierRule, usual: TierRule, problems: &mut Vec<String>) -> TierRule {
    let approvals = section.at_least("approvals", floor.approvals, usual.approvals, problems);
    let groups = section.at_least("groups", floor.groups, usual.groups, problems);
    let lines = section.at_least("lines", floor.lines, usual.lines, problems);
    let expires = section.at_most("expires", floor.expires, usual.expires, problems);
    let cool_off = section.duration("cool_off", problems).unwrap_or(usual.cool_off);
    let path = section.path.clone();
    if cool_off < floor.cool_off {
        problems.push(format!("{path}.cool_off is {}, it is at least {}", words(cool_off), words(floor.cool_off)));
    }
    if cool_off >= expires {
        let (cool_off, expires) = (words(cool_off), words(expires));
        problems.push(format!("{path}.cool_off is {cool_off} and expires is {expires}: nothing could ever be done"));
    }
    for (name, count) in [("groups", groups), ("lines", lines)] {
        if count > approvals {
            problems.push(format!("{path}.{name} is {count} and approvals is {approvals}: raise approvals to {count}"));
        }
    }
    section.end(problems);
    TierRule { approvals, groups, lines, expires, cool_off, hardware: floor.hardware }
}

fn break_glass(mut section: Section, problems: &mut Vec<String>) -> BreakGlassRule {
    let usual = rules::BREAK_GLASS;
    let rule = BreakGlassRule {
        approvals: section.at_least("approvals", 0, usual.approvals, problems),
        approve_within: section.at_most("approve_within", usual.approve_within, usual.approve_within, problems),
        use_for: section.at_most("use_for", usual.use_for, usual.use_for, problems),
        review_within: section.at_most("review_within", usual.review_within, usual.review_within, problems),
    };
    section.end(problems);
    rule
}

fn software_keys(mut section: Section, problems: &mut Vec<String>) -> BTreeSet<PrincipalName> {
    let mut people = BTreeSet::new();
    for text in section.texts("people", problems).unwrap_or_default() {
        match text.parse() {
            Ok(name) => drop(people.insert(name)),
            Err(_) => problems.push(format!("software-keys.people: {text:?} is not the name of a person")),
        }
    }
    let reason = section.text("reason", problems).unwrap_or_default();
    if !people.is_empty() && reason.trim().is_empty() {
        problems.push("software-keys has no reason: write why these people have no tokens yet".to_owned());
    }
    section.end(problems);
    people
}

/// A table of the file; what is read is taken out of it.
struct Section {
    path: String,
    table: Table,
}

impl Section {
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The table of that name; an empty one where there is none.
    fn section(&mut self, key: &str, problems: &mut Vec<String>) -> Self {
        let path = self.path_of(key);
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                problems.push(format!("{path} is not a table: write [{path}]"));
                Table::new()
            }
        };
        Self { path, table }
    }

    /// A whole number that is not below the floor.
    fn at_least(&mut self, key: &str, floor: u32, usual: u32, problems: &mut Vec<String>) -> u32 {
        let path = self.path_of(key);
        let number = match self.table.remove(key) {
            None => return usual,
            Some(Value::Integer(number)) => u32::try_from(number).ok().filter(|number| *number <= MOST_PEOPLE),
            Some(_) => None,
        };
        match number {
            Some(number) if number >= floor => return number,
            Some(number) => problems.push(format!("{path} is {number}, it is at least {floor}")),
            None => problems.push(format!("{path} is not a whole number from {floor} to {MOST_PEOPLE}")),
        }
        usual
    }

    /// A duration above zero that is not above the ceiling.
    fn at_most(&mut self, key: &str, most: Duration, usual: Duration, problems: &mut Vec<String>) -> Duration {
        let path = self.path_of(key);
        let duration = self.duration(key, problems).unwrap_or(usual);
        if duration.is_zero() {
            problems.push(format!("{path} is zero: leave it out for {}", words(usual)));
        } else if duration > most {
            problems.push(format!("{path} is {}, it is at most {}", words(duration), words(most)));
        } else {
            return duration;
        }
        usual
    }

    fn duration(&mut self, key: &str, problems: &mut Vec<String>) -> Option<Duration> {
        let text = self.text(key, problems)?;
        let read = duration(&text);
        if read.is_none() {
            problems.push(format!(
                "{}: {text:?} is not a duration such as \"90s\", \"15m\", \"24h\", \"7d\"",
                self.path_of(key)
            ));
        }
        read
    }

    fn text(&mut self, key: &str, problems: &mut Vec<String>) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) => Some(text),
            _ => {
                problems.push(format!("{} is not a text", self.path_of(key)));
                None
            }
        }
    }

    fn name<T: std::str::FromStr>(&mut self, key: &str, problems: &mut Vec<String>) -> Option<T> {
        let text = self.text(key, problems)?;
        let name = text.parse().ok();
        if name.is_none() {
            problems.push(format!("{}: {text:?} does not match [a-z0-9][a-z0-9-]{{0,62}}", self.path_of(key)));
        }
        name
    }

    fn texts(&mut self, key: &str, problems: &mut Vec<String>) -> Option<Vec<String>> {
        let texts = match self.table.remove(key)? {
            Value::Array(list) => list.into_iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        if texts.is_none() {
            problems.push(format!("{} is not a list of texts", self.path_of(key)));
        }
        // Told once: what is there and unreadable is not missing too.
        Some(texts.unwrap_or_default())
    }

    /// Nothing may be left.
    fn end(self, problems: &mut Vec<String>) {
        for key in self.table.keys() {
            problems
                .push(format!("{} is not known in a separation file: take it out or correct it", self.path_of(key)));
        }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

const SCHEMA: i64 = 1;
const MOST_BYTES: usize = 1 << 20;
/// More approvals than anybody collects within a week.
const MOST_PEOPLE: u32 = 1_000;
