//! How does a probe's report look to a person? Tables, then what to change.

use std::fmt::Write;

use comfy_table::{Table, presets};

use crate::kek::probe::{Answer, Report, Slot, Token, Trial};

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let Report { library, .. } = report;
    say(&mut out, &format!("library   {} {} {}", library.manufacturer, library.description, library.version));
    say(&mut out, &format!("          {} (PKCS#11 {})", library.path, library.cryptoki));
    say(&mut out, &format!("          SHA-256 {}", library.sha256));
    for slot in &report.slots {
        say(&mut out, &format!("token     {}", slot_line(slot)));
        if report.token.is_none() {
            say(&mut out, &mechanisms(slot).to_string());
        }
    }
    if report.slots.is_empty() {
        say(&mut out, "token     none");
    }
    if let Some(token) = &report.token {
        say(&mut out, &format!("sessions  {}", sessions(token)));
        say(&mut out, &format!("random    {}", random(token)));
        say(&mut out, &format!("reported  {}", token.reported.join(" ")));
        say(&mut out, &trials(&token.trials).to_string());
        if token.trials.iter().any(|trial| !trial.rates.is_empty()) {
            say(&mut out, &rates(&token.trials).to_string());
        }
        conclusion(&mut out, token);
    }
    out
}

fn conclusion(out: &mut String, token: &Token) {
    for note in &token.notes {
        say(out, &format!("note: {note}"));
    }
    for finding in &token.findings {
        say(out, &format!("contradiction: [{}] {}", finding.table, finding.found));
        say(out, &format!("     to change: {}", finding.change));
    }
    match (&token.profile, token.holds) {
        (Some(profile), Some(true)) => say(out, &format!("the profile {profile} holds")),
        (Some(profile), Some(false)) => say(out, &format!("the profile {profile} does not hold")),
        (Some(_), None) | (None, _) => {}
    }
}

fn slot_line(slot: &Slot) -> String {
    let Slot { label, manufacturer, model, serial, firmware, .. } = slot;
    let state = if slot.initialized { "" } else { ", not initialised" };
    let label = if label.is_empty() { "(no label)" } else { label };
    format!("{label}: {manufacturer} {model}, serial {serial}, firmware {firmware}{state}")
}

fn sessions(token: &Token) -> String {
    match &token.sessions.refused {
        Some(answer) => format!("{}, then {}", token.sessions.open, answer.text),
        None => format!("{} open at once, no limit met", token.sessions.open),
    }
}

fn random(token: &Token) -> String {
    let drawn = token.random.iter().map(|random| match &random.refused {
        None => format!("{} ok", random.bytes),
        Some(answer) => format!("{}: {}", random.bytes, answer.text),
    });
    format!("bytes: {}", drawn.collect::<Vec<_>>().join(", "))
}

fn mechanisms(slot: &Slot) -> Table {
    let mut table = framed(&["mechanism", "name", "keys", "does"]);
    for mechanism in &slot.mechanisms {
        let keys = format!("{} to {}", mechanism.key_min, mechanism.key_max);
        table.add_row([&mechanism.number, mechanism.name.unwrap_or_default(), &keys, &mechanism.does.join(" ")]);
    }
    table
}

fn trials(trials: &[Trial]) -> Table {
    let mut table = framed(&["mechanism", "method", "IV mode, hash", "result", "wrong context", "changed wrap"]);
    for trial in trials {
        let result = match (trial.result, trial.stage, &trial.answer) {
            ("works", _, _) => "works".to_owned(),
            (result, Some(stage), Some(answer)) => format!("{result} ({stage}): {}", answer.text),
            (result, None, Some(answer)) => format!("{result}: {}", answer.text),
            (result, _, None) => result.to_owned(),
        };
        let told = |answer: &Option<Answer>| answer.as_ref().map(|answer| answer.text.clone()).unwrap_or_default();
        table.add_row([
            &trial.mechanism,
            trial.method,
            trial.variant.unwrap_or_default(),
            &result,
            &told(&trial.wrong_context),
            &told(&trial.changed),
        ]);
    }
    table
}

fn rates(trials: &[Trial]) -> Table {
    let mut table = framed(&["method", "sessions", "unwraps/s in the worker", "through it", "ratio", "added"]);
    for trial in trials {
        for rate in &trial.rates {
            let method = trial.variant.map_or(trial.method.to_owned(), |variant| format!("{}/{variant}", trial.method));
            table.add_row([
                method,
                rate.sessions.to_string(),
                format!("{:.0}", rate.raw_per_second),
                format!("{:.0}", rate.worker_per_second),
                format!("{:.2}", rate.ratio),
                format!("{:.1} us", rate.added_us),
            ]);
        }
    }
    table
}

fn framed(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    table
}

fn say(out: &mut String, line: &str) {
    // Writing into a String cannot fail.
    let _written = writeln!(out, "{line}");
}
