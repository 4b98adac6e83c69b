//! What people see before they sign, and how a ceremony stands.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::ceremony::proposal::Proposal;
use crate::cli::custody::digest;
use crate::cli::moment;

/// What a signature over it brings about: everything that people compare.
pub(in crate::cli) fn proposal(proposal: &Proposal) {
    let Proposal { ceremony, action, effect, initiator, reason, tier, ticket, .. } = proposal;
    let ticket = if ticket.is_empty() { String::new() } else { format!(", ticket {ticket}") };
    println!("ceremony    {ceremony}");
    println!("action      {action} (tier {tier})");
    println!("effect      {effect}");
    println!("store       {} ({})", proposal.store, proposal.environment);
    println!("proposed    by {initiator}, because of: {reason}{ticket}");
    println!("valid       from {} until {}", moment::shown(proposal.not_before), moment::shown(proposal.not_after));
    println!("needs       {}", needs(proposal));
    println!("digest, to be compared or read aloud:");
    println!("{}", digest(&proposal.digest()));
}

fn needs(proposal: &Proposal) -> String {
    let Proposal { approvals, groups, lines, cool_off, initiator, .. } = proposal;
    let people = if *approvals == 1 { "person" } else { "people" };
    let wait = match cool_off {
        0 => String::new(),
        wait => format!(", then {} in which it can still be denied", span(*wait)),
    };
    format!("{approvals} {people} beside {initiator}; groups: {groups}, reporting lines: {lines}{wait}")
}

fn span(seconds: u64) -> String {
    match seconds {
        hours if hours % 3_600 == 0 => format!("{} h", hours / 3_600),
        minutes if minutes % 60 == 0 => format!("{} min", minutes / 60),
        seconds => format!("{seconds} s"),
    }
}

/// Where a ceremony is, who decided, and what it waits for.
pub(super) fn standing(view: &Value) {
    println!("state       {}", state(view));
    for one in view["decisions"].as_array().into_iter().flatten() {
        let reason = match text(one, "reason") {
            "-" => String::new(),
            reason => format!(", because of: {reason}"),
        };
        println!("            {} {} {}{reason}", text(one, "at"), text(one, "person"), text(one, "word"));
    }
    for missing in view["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("missing     {missing}");
    }
}

/// The ceremonies of a listing.
pub(super) fn table(ceremonies: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["ceremony", "state", "tier", "effect", "proposed by", "until"]);
    for one in ceremonies.as_array().into_iter().flatten() {
        let until = one["not_after"].as_u64().map_or_else(|| "-".to_owned(), moment::shown);
        let cells =
            [text(one, "id"), &state(one), text(one, "tier"), text(one, "effect"), text(one, "initiator"), &until];
        table.add_row(cells.map(str::to_owned));
    }
    table
}

/// The state, with how many have approved while that matters.
pub(super) fn state(view: &Value) -> String {
    let state = text(view, "state").replace('_', " ");
    if view["open"] != true {
        return state;
    }
    let count = |key: &str| view["approvals"][key].as_u64().unwrap_or_default();
    let until = view["cool_off_until"].as_str().map_or_else(String::new, |until| format!(" until {until}"));
    format!("{state}{until}, {} of {} approvals", count("have"), count("needed"))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}
