//! What people see of custody: digests as they compare them, the roster as they know each other.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::ceremony::words;
use crate::policy::roster::Roster;

/// How custody stands.
pub(super) fn custody(answer: &Value, json: bool) {
    if json {
        println!("{answer:#}");
        return;
    }
    let text = |key: &str| answer[key].as_str().unwrap_or("-").to_owned();
    println!("store       {} ({})", text("store"), text("environment"));
    if answer["founded"] != true {
        println!("custodians  none yet: one person may change keys; see `keyward custody draft --help`");
    } else {
        let roster = &answer["roster"];
        println!("roster      generation {} with the digest", roster["generation"]);
        println!(
            "{}",
            both(roster["digest"].as_str().unwrap_or_default(), roster["words"].as_str().unwrap_or_default())
        );
        println!("margin      {} more than the most that a tier asks for", answer["margin"]);
        println!("{}", members(&roster["members"]));
    }
    duties(answer);
    for problem in answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("warning: {problem}");
    }
}

/// What somebody's leaving asks for: proposals that wait for whoever signs them first.
pub(in crate::cli) fn duties(answer: &Value) {
    for duty in answer["duties"].as_array().into_iter().flatten() {
        let text = |key: &str| duty[key].as_str().unwrap_or("-");
        let late = if duty["overdue"] == true { "OVERDUE since" } else { "due" };
        println!("to rotate   {}, because {}: {late} {}", text("keyring"), text("because"), text("due"));
        println!("            {}", text("propose"));
    }
}

/// A digest as it is compared: in hexadecimal, and in words to be read aloud.
pub(in crate::cli) fn digest(digest: &[u8; 32]) -> String {
    both(&hex::encode(digest), &words::encode(digest))
}

/// A roster that people are about to sign.
pub(super) fn roster(roster: &Roster) {
    println!("store       {} ({})", roster.store, roster.environment);
    println!("roster      generation {}, {} people:", roster.generation, roster.members.len());
    for member in &roster.members {
        for (at, credential) in member.credentials.iter().enumerate() {
            let name = if at == 0 { member.person.as_str() } else { "" };
            println!("            {name:<16} {} ({})", credential.key.fingerprint(), credential.key.algorithm());
        }
    }
    println!("digest, to be read aloud by everybody:");
    println!("{}", digest(&roster.digest()));
}

fn both(hexadecimal: &str, words: &str) -> String {
    let groups: Vec<String> =
        hexadecimal.as_bytes().chunks(8).map(|group| String::from_utf8_lossy(group).into()).collect();
    let words: Vec<&str> = words.split(' ').collect();
    let lines = groups.chunks(4).map(|line| line.join(" "));
    let lines = lines.chain(words.chunks(8).map(|line| line.join(" ")));
    lines.map(|line| format!("            {line}")).collect::<Vec<_>>().join("\n")
}

fn members(members: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["person", "roles", "group", "line", "since", "confirm by", "keys"]);
    for one in members.as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        let day = |key: &str| text(key).chars().take(10).collect::<String>();
        let roles: Vec<&str> = one["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let keys: Vec<String> = one["keys"].as_array().into_iter().flatten().map(key).collect();
        let cells = [text("person"), roles.join(", "), text("group"), text("line"), day("since"), day("recertify_by")];
        table.add_row(cells.into_iter().chain([keys.join("\n")]));
    }
    table
}

fn key(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or("-");
    let place = if key["hardware"] == true { "in a token" } else { "in software" };
    let end = if key["revoked"].is_null() { String::new() } else { ", REVOKED".to_owned() };
    format!("{} {} {place}{end}", text("fingerprint"), text("algorithm"))
}
