//! Are these minutes true? Every digest, word, signature, count, time and proof in them is computed again, offline, from the
//! minutes and the export of the roster alone. This module believes nothing that it can compute, and says of each check how
//! it went.

use crate::clock::Wall;
use crate::policy::approval::{self, Desk};

use super::super::action::form::rules;
use super::super::machine::Ceremony;
use super::super::words;
use super::export::Export;
use super::log::{LogProof, ProvenRecord, Said};
use super::replay::Scene;
use super::{Core, Count, Minutes, latest};

/// What somebody else keeps, outside of the minutes and the export.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pinned<'a> {
    /// The digest of the founding roster, hexadecimal, as it was read aloud.
    pub genesis: Option<&'a str>,
    /// The log's verifier key.
    pub log_key: Option<&'a str>,
    /// UTC: nothing may lie in the future.
    pub now: Option<Wall>,
}

/// One check and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its closed name.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub words: String,
}

/// All checks, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Each of them.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether all of them hold.
    pub fn is_ok(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }

    /// The names of those that do not.
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    fn add(&mut self, name: &'static str, found: Result<String, String>) {
        let ok = found.is_ok();
        self.checks.push(Check { name, ok, words: found.unwrap_or_else(|why| why) });
    }
}

/// Verifies minutes against the export of a roster.
pub fn verify(minutes: &str, export: &str, pinned: &Pinned<'_>) -> Report {
    let mut report = Report { checks: Vec::new() };
    let read = Minutes::parse(minutes).map_err(|error| error.to_string());
    let read = read
        .and_then(|minutes| Ceremony::parse(&minutes.core.ceremony).map(|it| (minutes, it)).map_err(|e| e.to_string()));
    let (minutes, ceremony) = match read {
        Ok(read) => read,
        Err(why) => {
            report.add("form", Err(why));
            return report;
        }
    };
    report.add("form", Ok("the minutes and the document in them are canonical".to_owned()));
    report.add("digest", digest(&minutes.core, &ceremony));
    report.add(
        "effect",
        same(minutes.core.effect == ceremony.proposal().effect, "the words are those of the parameters"),
    );
    match Export::read(export) {
        Ok(export) => by_roster(&mut report, &minutes, &ceremony, &export, pinned),
        Err(why) => report.add("roster", Err(why)),
    }
    log(&mut report, &minutes, &ceremony, pinned);
    if let Some(now) = pinned.now {
        report.add("present", same(latest(&ceremony, &minutes.core.steps) <= now.0, "nothing lies in the future"));
    }
    report
}

fn digest(core: &Core, ceremony: &Ceremony) -> Result<String, String> {
    let digest = ceremony.digest();
    same(core.digest == digest, "the digest is that of the proposal")?;
    same(core.words == words::encode(&digest), &format!("the digest is that of the proposal: {}", core.words))
}

fn by_roster(report: &mut Report, minutes: &Minutes, ceremony: &Ceremony, export: &Export, pinned: &Pinned<'_>) {
    let genesis = export.genesis().unwrap_or_default();
    let founded =
        format!("the founders signed the first roster: {} ({})", hex::encode(genesis), words::encode(&genesis));
    let known = pinned.genesis.is_none_or(|digest| digest == hex::encode(genesis));
    report.add(
        "genesis",
        if known { Ok(founded) } else { Err("the first roster is not the one that was pinned".to_owned()) },
    );
    let then = &ceremony.proposal().preconditions;
    let roster = export.roster(&then.roster).filter(|roster| roster.digest() == minutes.core.roster);
    report.add("roster", same(roster.is_some(), "the export holds the roster that the proposal names"));
    let separation = export.separation(&then.separation).filter(|one| one.digest() == minutes.core.separation);
    let named = roster.is_some_and(|roster| hex::encode(roster.separation) == then.separation);
    let words = "the export holds the separation of duties that the proposal and its roster name";
    report.add("separation", same(separation.is_some() && named, words));
    let (Some(roster), Some(separation)) = (roster, separation) else { return };
    let rule = ceremony.proposal().check_rule(separation);
    report.add(
        "rule",
        rule.map(|()| "the proposal asks for what its tier asks for".to_owned()).map_err(|e| e.to_string()),
    );
    let next = ceremony.proposal().parameters.get("rules").and_then(|text| rules(text));
    let scene = Scene { ceremony, roster, separation, next: next.as_deref() };
    report.add("signatures", signatures(&scene));
    let again = Core::of(&scene, minutes.core.steps.clone());
    report.add("quorum", quorum(&minutes.core, &again, ceremony));
    report.add("state", same(minutes.core.state == again.state, &format!("the ceremony is {}", again.state)));
    let played = scene.replay().map(|()| "every event was allowed at its time, and led to this document".to_owned());
    report.add("history", played);
    let words = "people, keys, groups and lines are as the roster has them";
    report.add("people", same(minutes.core.people == again.people, words));
    let revoked = again.people.iter().find(|one| export.is_revoked(&one.fingerprint, Wall(one.at)));
    let found = match revoked {
        Some(one) => Err(format!("the key {} of {} was revoked before it signed", one.fingerprint, one.person)),
        None => Ok("no key that signed was revoked by then, as later generations have it".to_owned()),
    };
    report.add("revoked", found);
    report.add("steps", steps(&minutes.core, ceremony));
}

/// Each as of its time.
fn signatures(scene: &Scene<'_>) -> Result<String, String> {
    let namespace = scene.ceremony.proposal().namespace();
    let desk = Desk { roster: scene.roster, separation: scene.separation, namespace, last_counter: &|_| None };
    for one in scene.ceremony.decisions() {
        let found = approval::verify(&desk, &one.text, &one.signature, Wall(one.at));
        drop(found.map_err(|error| format!("the decision at {}: {error}", Wall(one.at).rfc3339_millis()))?);
    }
    Ok(format!("{} decisions are signed by the people whom they name", scene.ceremony.decisions().len()))
}

/// The count again, as of when it mattered.
fn quorum(core: &Core, again: &Core, ceremony: &Ceremony) -> Result<String, String> {
    let Count { needed, have, groups, lines, missing } = &again.count;
    if ceremony.executing().is_some() && !missing.is_empty() {
        return Err(format!("it was carried out without a quorum: {}", missing.join("; ")));
    }
    same(core.count == again.count, &format!("{have} of {needed} approvals, {groups} groups, {lines} lines"))
}

/// Steps happened while it was carried out, in order, and only then.
fn steps(core: &Core, ceremony: &Ceremony) -> Result<String, String> {
    let times: Vec<u64> = core.steps.iter().map(|step| step.at).collect();
    let within = match (ceremony.executing(), ceremony.end()) {
        (None, _) => times.is_empty(),
        (Some(begun), None) => times.iter().all(|at| *at >= begun.at),
        (Some(begun), Some(end)) => times.iter().all(|at| (begun.at..=end.at).contains(at)),
    };
    same(times.is_sorted() && within, &format!("{} steps in order, while it was carried out", times.len()))
}

fn log(report: &mut Report, minutes: &Minutes, ceremony: &Ceremony, pinned: &Pinned<'_>) {
    let Some(proof) = &minutes.log else {
        report.add("log", Err("the minutes hold no proof that the log has them".to_owned()));
        return;
    };
    let known = pinned.log_key.is_none_or(|key| key.trim() == proof.key);
    report.add("log_key", {
        let pinned = if pinned.log_key.is_some() {
            "the one that was pinned"
        } else {
            "NOT PINNED: nothing says that it is the log's"
        };
        same(known, &format!("the log's key is {pinned}: {}", proof.key))
    });
    report.add("log", records(proof, ceremony));
    let (digest, proposal) = (hex::encode(minutes.digest()), hex::encode(ceremony.digest()));
    let said: Vec<Said> = proof.records.iter().filter_map(ProvenRecord::said).collect();
    let minuted = |one: &Said| {
        one.is("ceremony.minuted", "done") && one.actor.kind == "sidecar" && one.fact("minutes") == Some(&*digest)
    };
    report.add("log_minutes", same(said.iter().any(minuted), "the log says that these minutes were written"));
    let proposed =
        said.iter().filter(|one| one.is("ceremony.proposed", "done") && one.fact("proposal") == Some(&*proposal));
    report.add("log_proposal", same(proposed.count() == 1, "the log has the proposal, with this digest"));
    report.add("once", same(once(&said, ceremony, &proposal), "it was carried out once at most, as the log has it"));
}

/// Where it was carried out: the intent at its place, and one record that it is done. Where it was not: none of these.
fn once(said: &[Said], ceremony: &Ceremony, proposal: &str) -> bool {
    // What only moves a ceremony along has events of its own name; whatever else was intended for it is its effect.
    let effect = |one: &&Said| !one.event.starts_with("ceremony.") && one.fact("proposal") == Some(proposal);
    let done = |intent: u64| {
        said.iter().filter(effect).filter(|one| one.outcome == "done" && one.intent == Some(intent)).count()
    };
    match ceremony.executing() {
        Some(executing) => {
            let intents =
                said.iter().filter(effect).filter(|one| one.outcome == "intent" && one.index == executing.intent);
            intents.count() == 1 && done(executing.intent) == 1
        }
        None => !said.iter().filter(effect).any(|one| one.outcome == "done"),
    }
}

fn records(proof: &LogProof, ceremony: &Ceremony) -> Result<String, String> {
    let checkpoint = proof.open()?;
    let before = &ceremony.proposal().log;
    if checkpoint.origin != before.origin || checkpoint.size < before.size {
        return Err("the checkpoint is of another log, or older than the proposal".to_owned());
    }
    let extends = proof.extends(before.size, &before.root, &checkpoint);
    if extends == Some(false) {
        return Err("the log of the checkpoint did not grow from the log of the proposal".to_owned());
    }
    let id = ceremony.proposal().ceremony.as_str();
    for record in &proof.records {
        if !record.is_in(&checkpoint) {
            return Err(format!("record {} is not in the log", record.index));
        }
        let about = record.said().filter(|said| said.index == record.index && said.fact("ceremony") == Some(id));
        if record.index < before.size || about.is_none() {
            return Err(format!("record {} is not about this ceremony", record.index));
        }
    }
    if proof.records.windows(2).any(|pair| matches!(pair, [a, b] if a.index >= b.index)) {
        return Err("the records are not in order".to_owned());
    }
    let grown = if extends.is_some() { "" } else { "; that it grew from the log of the proposal was not proven" };
    Ok(format!("{} records are in the log of {} records{grown}", proof.records.len(), checkpoint.size))
}

fn same(is: bool, words: &str) -> Result<String, String> {
    if is { Ok(words.to_owned()) } else { Err(format!("does not hold: {words}")) }
}
