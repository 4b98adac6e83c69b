//! What do many records come to? Key versions, uses of them, and days, counted while the log is read.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{Group, Record};
use super::{Chart, Kind, Window, events};
use crate::audit::verify::Verified;
use crate::clock::Wall;

/// A table in the making.
pub(super) struct Table {
    kind: Kind,
    window: Window,
    period: u64,
    rows: Vec<Vec<String>>,
    versions: BTreeMap<(String, String), Version>,
    uses: BTreeMap<Vec<String>, Use>,
    days: BTreeMap<String, u64>,
}

/// A key version as the log tells it.
#[derive(Default)]
struct Version {
    created: Option<u64>,
    state: String,
    since: u64,
    sealed: Use,
    opened: Use,
}

/// How something was used.
#[derive(Default)]
struct Use {
    requests: u64,
    done: u64,
    failed: u64,
    first: u64,
    last: u64,
    subjects: BTreeSet<String>,
    sources: BTreeSet<String>,
}

impl Use {
    fn count(&mut self, record: &Record<'_>, done: u64, failed: u64) {
        if self.requests == 0 {
            self.first = record.time;
        }
        self.requests += 1;
        self.done += done;
        self.failed += failed;
        self.last = record.time;
    }

    fn cells(&self) -> [String; 5] {
        [self.requests.to_string(), self.done.to_string(), self.failed.to_string(), time(self.first), time(self.last)]
    }
}

/// The columns, the cells, and what happened on each day.
type Finished = (Vec<&'static str>, Vec<Vec<String>>, Chart);

impl Table {
    pub(super) fn new(kind: Kind, window: Window, period: u64) -> Self {
        let (rows, versions, uses, days) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { kind, window, period, rows, versions, uses, days }
    }

    /// Takes the next record of the log.
    pub(super) fn take(&mut self, record: &Record<'_>) {
        let inside = (self.window.from..self.window.to).contains(&record.time);
        match self.kind {
            // What became of a key is told up to the end of the window.
            Kind::KeyInventory | Kind::Cryptoperiods if record.time < self.window.to => self.version(record, inside),
            Kind::Access | Kind::Exposure if inside && record.event.starts_with("data.") => self.used(record),
            _ if inside => self.rows.extend(events::row(self.kind, record)),
            _ => {}
        }
    }

    fn version(&mut self, record: &Record<'_>, inside: bool) {
        if record.outcome != "done" && !record.event.starts_with("data.") {
            return;
        }
        let uses = record.event.starts_with("data.");
        let made = matches!(record.event, "key.created" | "key.rotated");
        let state = record.fact("to_state").or(made.then_some(ACTIVE)).filter(|_| record.event.starts_with("key."));
        for group in &record.groups {
            let named = record.fact("key_version").or(group.version);
            let Some(version) = named.filter(|_| state.is_some() || uses) else { continue };
            let entry = self.versions.entry((group.keyring.to_owned(), version.to_owned())).or_default();
            if made {
                entry.created = entry.created.or(Some(record.time));
            }
            if let Some(state) = state {
                // As the log says it: nothing is concluded from the kind of event.
                entry.state = match record.fact("destroy_at") {
                    Some(due) => format!("{state}, to be destroyed at {due}"),
                    None => state.to_owned(),
                };
                entry.since = record.time;
            }
            let failed = group.failed.values().sum();
            match record.event {
                "data.sealed" if inside => entry.sealed.count(record, group.done, failed),
                "data.opened" if inside => entry.opened.count(record, group.done, failed),
                _ => {}
            }
            // The version that a new one took the place of.
            if let Some(retired) = record.fact("retired_version") {
                let before = self.versions.entry((group.keyring.to_owned(), retired.to_owned())).or_default();
                (before.state, before.since) = ("deactivated".to_owned(), record.time);
            }
        }
    }

    fn used(&mut self, record: &Record<'_>) {
        let day = Wall(record.time).rfc3339_millis().chars().take(10).collect();
        *self.days.entry(day).or_default() += 1;
        let cell = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let who = [record.actor.named().to_owned(), cell(record.actor.proof)];
        let what = [record.event.to_owned(), record.outcome.to_owned(), cell(record.reason)];
        let nothing = [Group { keyring: "", version: None, done: 0, failed: BTreeMap::new() }];
        let groups = if record.groups.is_empty() { &nothing[..] } else { &record.groups[..] };
        for group in groups {
            let key = [group.keyring.to_owned(), cell(group.version)];
            let row: Vec<String> = if self.kind == Kind::Access {
                [&who[..], &[cell(record.purpose)], &what[..], &key[..1]].concat()
            } else {
                [&key[..], &who[..], &[cell(record.purpose)], &what[..]].concat()
            };
            let entry = self.uses.entry(row).or_default();
            entry.count(record, group.done, group.failed.values().sum());
            entry.subjects.extend(record.subjects.iter().map(|subject| (*subject).to_owned()));
            entry.sources.insert(record.source.to_owned());
        }
    }

    pub(super) fn finish(self, verified: &Verified) -> Finished {
        let chart = Chart { what: "requests a day", bars: self.days.into_iter().collect() };
        match self.kind {
            Kind::KeyInventory => (INVENTORY.to_vec(), self.versions.into_iter().map(inventory).collect(), chart),
            Kind::Cryptoperiods => {
                let (period, to) = (self.period, self.window.to);
                let rows: Vec<Vec<String>> =
                    self.versions.into_iter().map(|(name, version)| age(name, &version, period, to)).collect();
                let chart = ages(&rows);
                (AGES.to_vec(), rows, chart)
            }
            Kind::Access => (ACCESS.to_vec(), used(self.uses), chart),
            Kind::Exposure => (EXPOSURE.to_vec(), used(self.uses), chart),
            Kind::Integrity => (vec!["what", "found"], integrity(verified), chart),
            other => (events::columns(other).unwrap_or_default(), self.rows, chart),
        }
    }
}

/// How old the versions are that still seal, the oldest first.
fn ages(rows: &[Vec<String>]) -> Chart {
    let of = |row: &Vec<String>| {
        let age = row.get(4)?.parse().ok()?;
        (row.get(3)? == ACTIVE).then(|| Some((row.get(1)?.clone(), age)))?
    };
    let mut bars: Vec<(String, u64)> = rows.iter().filter_map(of).collect();
    bars.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    Chart { what: "days since each key version that seals was made", bars }
}

/// The one state in which a version seals (SP 800-57 part 1, section 7).
const ACTIVE: &str = "active";

const INVENTORY: &[&str] = &[
    "keyring",
    "key version",
    "created",
    "state",
    "since",
    "seal requests",
    "sealed",
    "seals failed",
    "first sealed",
    "last sealed",
    "open requests",
    "opened",
    "opens failed",
    "first opened",
    "last opened",
];

fn inventory(((keyring, name), version): ((String, String), Version)) -> Vec<String> {
    let created = version.created.map_or_else(|| "before this log".to_owned(), time);
    let mut row = vec![keyring, name, created, told(&version.state), time(version.since)];
    row.extend(version.sealed.cells());
    row.extend(version.opened.cells());
    row
}

const AGES: &[&str] = &["keyring", "key version", "created", "state", "age in days", "period in days", "compliance"];

fn age((keyring, name): (String, String), version: &Version, period: u64, to: u64) -> Vec<String> {
    const DAY: u64 = 86_400_000_000;
    let age = version.created.map(|created| to.saturating_sub(created));
    let verdict = match (version.state == ACTIVE, age) {
        (false, _) => "does not seal",
        (true, None) => "unknown: created before this log",
        (true, Some(age)) if age > period => "overdue",
        (true, Some(_)) => "within its period",
    };
    let created = version.created.map_or_else(|| "before this log".to_owned(), time);
    let days = |micros: u64| (micros / DAY).to_string();
    vec![
        keyring,
        name,
        created,
        told(&version.state),
        age.map(days).unwrap_or_default(),
        days(period),
        verdict.to_owned(),
    ]
}

fn told(state: &str) -> String {
    if state.is_empty() { "not told by this log" } else { state }.to_owned()
}

const ACCESS: &[&str] = &[
    "principal",
    "proved by",
    "purpose",
    "event",
    "outcome",
    "reason",
    "keyring",
    "requests",
    "items done",
    "items failed",
    "first",
    "last",
    "subjects",
    "sources",
];
const EXPOSURE: &[&str] = &[
    "keyring",
    "key version",
    "principal",
    "proved by",
    "purpose",
    "event",
    "outcome",
    "reason",
    "requests",
    "items done",
    "items failed",
    "first",
    "last",
    "subjects",
    "sources",
];

fn used(uses: BTreeMap<Vec<String>, Use>) -> Vec<Vec<String>> {
    let row = |(mut row, counted): (Vec<String>, Use)| {
        row.extend(counted.cells());
        row.push(counted.subjects.len().to_string());
        row.push(counted.sources.into_iter().collect::<Vec<_>>().join(", "));
        row
    };
    uses.into_iter().map(row).collect()
}

fn integrity(verified: &Verified) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["records read and hashed", &verified.records.to_string()].map(str::to_owned).to_vec(),
        ["bytes read", &verified.bytes.to_string()].map(str::to_owned).to_vec(),
        ["checkpoints compared with the tree", &verified.checkpoints.to_string()].map(str::to_owned).to_vec(),
        ["keys that signed, one after the other", &verified.keys.len().to_string()].map(str::to_owned).to_vec(),
        ["records after the newest checkpoint", &verified.unproven_tail.to_string()].map(str::to_owned).to_vec(),
        ["intents without an outcome", &verified.open_intents.len().to_string()].map(str::to_owned).to_vec(),
    ];
    rows.extend(verified.open_intents.iter().map(|index| vec!["open intent".to_owned(), format!("record {index}")]));
    rows.extend(
        verified.abandoned.iter().map(|head| vec!["store head that a restore gave up".to_owned(), head.clone()]),
    );
    rows
}

fn time(micros: u64) -> String {
    if micros == 0 { String::new() } else { Wall(micros).rfc3339_micros() }
}
