//! Which call fails, and how? Rules in a file that the test writes while the library runs. The count of a rule is kept in
//! the file itself, so that it outlives a crash that it has caused, and is shared by all processes.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// The file of rules.
pub struct Faults {
    file: Option<PathBuf>,
    /// How often the rules `per-process` have fired here.
    fired: Mutex<HashMap<String, u32>>,
}

/// `FUNCTION EVENT [COUNT] [after N] [per-process]`. EVENT is a return code (`0x30`: the call is not made), `sleep_ms N`,
/// `hang`, `crash`, `logout` or `close_sessions` (each before the call is made). COUNT is how many calls it meets, `*`
/// (or none given) for all; `after N` lets N calls pass first. With `per-process` each process counts anew.
pub struct Rule {
    function: String,
    event: Event,
    count: Option<u32>,
    after: u32,
    per_process: bool,
}

/// What befalls a call.
#[derive(Clone, Copy)]
pub enum Event {
    /// It answers with this and does nothing.
    Code(u64),
    /// It takes longer.
    Sleep(Duration),
    /// It never returns.
    Hang,
    /// The process dies in it.
    Crash,
    /// The token has logged the user out just before.
    Logout,
    /// The token has closed every session just before.
    CloseSessions,
}

impl Faults {
    /// None: no faults.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, fired: Mutex::default() }
    }

    /// What befalls this call of the function.
    pub fn due(&self, function: &str) -> Option<Event> {
        let file = self.file.as_deref()?;
        let text = std::fs::read_to_string(file).ok()?;
        // Most calls meet no rule: no lock for them.
        if !text.lines().any(|line| line.split(' ').next() == Some(function)) {
            return None;
        }
        let _locked = lock(file);
        let mut lines: Vec<String> = std::fs::read_to_string(file).ok()?.lines().map(str::to_owned).collect();
        let (at, mut rule) = lines.iter().enumerate().find_map(|(at, line)| {
            let rule = Rule::parse(line).filter(|rule| rule.function == function)?;
            (!rule.per_process || self.counts(line, &rule)).then_some((at, rule))
        })?;
        if rule.per_process {
            let passed = self.meet(&lines[at]);
            return (passed >= rule.after).then_some(rule.event);
        }
        let event = rule.meet();
        match rule.line() {
            Some(line) => lines[at] = line,
            None => drop(lines.remove(at)),
        }
        // In place and under the lock: a process that dies here has fired or has not, and the file says which.
        std::fs::write(file, lines.join("\n")).ok()?;
        event
    }

    fn counts(&self, line: &str, rule: &Rule) -> bool {
        let fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        let met = fired.get(line).copied().unwrap_or(0);
        rule.count.is_none_or(|count| met < count + rule.after)
    }

    /// How many calls it has met before this one.
    fn meet(&self, line: &str) -> u32 {
        let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        let met = fired.entry(line.to_owned()).or_default();
        *met += 1;
        *met - 1
    }
}

/// Held until it is dropped; the test takes the same lock when it writes rules.
fn lock(file: &Path) -> Option<File> {
    let held = std::fs::OpenOptions::new().create(true).append(true).open(file.with_extension("lock")).ok()?;
    flock(&held, FlockOperation::LockExclusive).ok()?;
    Some(held)
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let function = words.next()?.to_owned();
        let event = Event::parse(&mut words)?;
        let mut rule = Self { function, event, count: None, after: 0, per_process: false };
        while let Some(word) = words.next() {
            match word {
                "*" => {}
                "after" => rule.after = words.next()?.parse().ok()?,
                "per-process" => rule.per_process = true,
                count => rule.count = Some(count.parse().ok()?),
            }
        }
        Some(rule)
    }

    /// The event if this call is not one of those let through; one fewer is left either way.
    fn meet(&mut self) -> Option<Event> {
        if let Some(fewer) = self.after.checked_sub(1) {
            self.after = fewer;
            return None;
        }
        self.count = self.count.map(|count| count.saturating_sub(1));
        Some(self.event)
    }

    /// As it stands in the file; None when it is used up.
    fn line(&self) -> Option<String> {
        let count = match self.count {
            Some(0) => return None,
            Some(count) => count.to_string(),
            None => "*".to_owned(),
        };
        Some(format!("{} {} {count} after {}", self.function, self.event.words(), self.after))
    }
}

impl Event {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(match words.next()? {
            "sleep_ms" => Self::Sleep(Duration::from_millis(words.next()?.parse().ok()?)),
            "hang" => Self::Hang,
            "crash" => Self::Crash,
            "logout" => Self::Logout,
            "close_sessions" => Self::CloseSessions,
            code => Self::Code(u64::from_str_radix(code.strip_prefix("0x")?, 16).ok()?),
        })
    }

    fn words(self) -> String {
        match self {
            Self::Code(code) => format!("{code:#x}"),
            Self::Sleep(time) => format!("sleep_ms {}", time.as_millis()),
            Self::Hang => "hang".into(),
            Self::Crash => "crash".into(),
            Self::Logout => "logout".into(),
            Self::CloseSessions => "close_sessions".into(),
        }
    }
}
