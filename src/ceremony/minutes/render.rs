//! How do minutes look to a person? As text, and as one page of HTML that loads nothing and runs nothing. Whatever is shown is
//! escaped: names and effects came from people.

use crate::ceremony::machine::Ceremony;
use crate::clock::Wall;

use super::Minutes;

/// A heading with its lines: what both forms show.
struct Part {
    title: &'static str,
    rows: Vec<(String, String)>,
}

pub(super) fn text(minutes: &Minutes) -> String {
    let mut out = String::from("MINUTES OF A CEREMONY\n");
    for part in parts(minutes) {
        out.push_str(&format!("\n{}\n", part.title.to_uppercase()));
        for (name, value) in part.rows {
            out.push_str(&format!("  {:<14} {}\n", plain(&name), plain(&value)));
        }
    }
    out
}

pub(super) fn html(minutes: &Minutes) -> String {
    let mut out = String::from(HEAD);
    for part in parts(minutes) {
        out.push_str(&format!("<h2>{}</h2>\n<table>\n", escaped(part.title)));
        for (name, value) in part.rows {
            out.push_str(&format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(&name), escaped(&value)));
        }
        out.push_str("</table>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn parts(minutes: &Minutes) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Ok(ceremony) = Ceremony::parse(&minutes.core.ceremony) {
        parts.extend([what(minutes, &ceremony), times(&ceremony)]);
    }
    parts.extend([people(minutes), count(minutes), steps(minutes), proof(minutes)]);
    parts
}

fn what(minutes: &Minutes, ceremony: &Ceremony) -> Part {
    let proposal = ceremony.proposal();
    let mut rows = vec![
        row("Ceremony", proposal.ceremony.as_str()),
        row("Environment", &proposal.environment),
        row("Store", &proposal.store),
        row("Action", &format!("{} (tier {})", proposal.action, proposal.tier)),
        row("Effect", &proposal.effect),
        row("State", &minutes.core.state),
        row("Initiator", proposal.initiator.as_str()),
        row("Reason", &proposal.reason),
        row("Ticket", &proposal.ticket),
        row("Digest", &hex::encode(minutes.core.digest)),
        row("In words", &minutes.core.words),
        row("Roster", &hex::encode(minutes.core.roster)),
        row("Separation", &hex::encode(minutes.core.separation)),
    ];
    rows.extend(proposal.parameters.iter().map(|(name, value)| (format!("  {name}"), value.clone())));
    Part { title: "What was proposed", rows }
}

fn times(ceremony: &Ceremony) -> Part {
    let proposal = ceremony.proposal();
    let mut rows = vec![
        row("Opened", &time(ceremony.opened().wall)),
        row("Good until", &time(proposal.not_after.saturating_mul(1_000_000))),
        row("Cools off", &format!("{} s", proposal.cool_off)),
    ];
    rows.extend(ceremony.met().map(|met| row("Quorum met", &time(met.wall))));
    rows.extend(ceremony.executing().map(|it| row("Carried out", &format!("{} by {}", time(it.at), it.by))));
    if let Some(end) = ceremony.end() {
        let by = end.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let why = end.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        rows.push(row("Ended", &format!("{} {}{by}{why}", end.kind.state().code(), time(end.at))));
    }
    Part { title: "When", rows }
}

fn people(minutes: &Minutes) -> Part {
    let rows = minutes.core.people.iter().map(|one| {
        let group = if one.group.is_empty() { "no group" } else { &one.group };
        let words = format!(
            "{} at {}, reason {}, with {} {} (key in a {}); {group}, line of {}",
            one.word,
            time(one.at),
            one.reason,
            one.algorithm,
            one.fingerprint,
            one.key,
            one.line
        );
        (one.person.clone(), words)
    });
    Part { title: "Who decided", rows: rows.collect() }
}

fn count(minutes: &Minutes) -> Part {
    let count = &minutes.core.count;
    let mut rows = vec![
        row("Approvals", &format!("{} of {}", count.have, count.needed)),
        row("Groups", &count.groups.to_string()),
        row("Lines", &count.lines.to_string()),
    ];
    rows.extend(count.missing.iter().map(|missing| row("Missing", missing)));
    Part { title: "Count", rows }
}

fn steps(minutes: &Minutes) -> Part {
    let rows = minutes.core.steps.iter();
    let rows = rows.map(|step| (step.name.clone(), format!("{} {} {}", time(step.at), step.result, step.output)));
    Part { title: "Steps", rows: rows.collect() }
}

fn proof(minutes: &Minutes) -> Part {
    let mut rows = vec![row("Minutes", &hex::encode(minutes.digest()))];
    if let Some(log) = &minutes.log {
        rows.push(row("Log key", &log.key));
        rows.push(row("Checkpoint", log.checkpoint.split("\n\n").next().unwrap_or_default()));
        rows.extend(log.records.iter().map(|record| (format!("Record {}", record.index), record.record.clone())));
    }
    Part { title: "Proof", rows }
}

fn row(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn time(micros: u64) -> String {
    Wall(micros).rfc3339_millis()
}

/// Nothing that would move a cursor or forge a line.
fn plain(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// What a reader sees as it is: documents of custody are ASCII but for the dash of a signed note. Anything else could turn
/// the line around, hide a part of it, or look like another letter.
const fn shown(c: char) -> char {
    match c {
        ' '..='~' | '\u{2014}' => c,
        c if c.is_ascii_control() => ' ',
        _ => '?',
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(shown(c)),
        }
    }
    out
}

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <title>Minutes of a ceremony</title>\n<style>\n\
    body{font:14px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\n\
    th{text-align:left;vertical-align:top;white-space:nowrap;padding-right:1.5em;font-weight:600}\n\
    td{overflow-wrap:anywhere;font-family:monospace}\n\
    </style>\n</head>\n<body>\n<h1>Minutes of a ceremony</h1>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_is_neither_markup_nor_a_line_of_its_own() {
        assert_eq!(escaped("<script>'&\"\u{1b}[2J"), "&lt;script&gt;&#39;&amp;&quot; [2J");
        assert_eq!(plain("a\nb\u{1b}"), "a b ");
    }

    #[test]
    fn what_people_wrote_neither_turns_a_line_around_nor_looks_like_other_letters() {
        for hostile in ["a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "a\u{85}b", "a\u{430}b"] {
            assert_eq!((plain(hostile), escaped(hostile)), ("a?b".to_owned(), "a?b".to_owned()));
        }
        assert_eq!(plain("\u{2014} keyward/log"), "\u{2014} keyward/log");
    }
}
