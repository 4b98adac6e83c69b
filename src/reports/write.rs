//! How is a report read? As CSV by spreadsheets, as JSON by programs, as one HTML page or PDF by people; the same cells in each.

use std::fmt::Write as _;

use serde_json::json;

use super::{Chart, Report};
use crate::clock::Wall;

/// One way to write a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, the first line names the columns. No cell is a formula for a spreadsheet.
    Csv,
    /// One object with everything.
    Json,
    /// One page that needs nothing else.
    Html,
    /// Pages to print and to file.
    Pdf,
}

impl Format {
    /// The end of its files' names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Html => "html",
            Self::Pdf => "pdf",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Csv, Self::Json, Self::Html, Self::Pdf].into_iter().find(|format| format.name() == name)
    }

    /// Writes a report.
    pub fn write(self, report: &Report) -> Vec<u8> {
        match self {
            Self::Csv => csv(report).into_bytes(),
            Self::Json => json(report).into_bytes(),
            Self::Html => html(report).into_bytes(),
            Self::Pdf => super::pdf::write(report),
        }
    }
}

fn csv(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        out += &cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",");
        out += "\r\n";
    };
    line(report.columns.iter().map(|column| (*column).to_owned()).collect());
    report.rows.iter().for_each(|row| line(row.clone()));
    out
}

/// A cell that a spreadsheet shows and never computes: what begins as a formula gets an apostrophe.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) || formula { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

fn json(report: &Report) -> String {
    let rows: Vec<serde_json::Map<String, serde_json::Value>> = report
        .rows
        .iter()
        .map(|row| {
            report.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.clone().into())).collect()
        })
        .collect();
    let facts: Vec<_> = report.facts.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let bars: Vec<_> = report.chart.bars.iter().map(|(name, count)| json!({ "name": name, "count": count })).collect();
    let (from, to) = (Wall(report.window.from).rfc3339_micros(), Wall(report.window.to).rfc3339_micros());
    let whole = json!({
        "schema": 1,
        "report": report.kind.name(),
        "title": report.kind.title(),
        "from": from,
        "to": to,
        "facts": facts,
        "columns": report.columns,
        "rows": rows,
        "chart": { "what": report.chart.what, "bars": bars },
    });
    format!("{whole:#}\n")
}

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2rem;color:#1b1f24}h1{font-size:1.5rem}\
    table{border-collapse:collapse;margin:1rem 0;font-size:12.5px}th,td{border:1px solid #c9d1d9;padding:.25rem .5rem;\
    text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#eef1f4;position:sticky;top:0}\
    .facts td{max-width:60rem}tr:nth-child(even) td{background:#f8f9fb}svg{margin:1rem 0}\
    @media print{body{margin:0}th{position:static}tr{break-inside:avoid}}";

fn html(report: &Report) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<table class=\"facts\">\n",
        escaped(report.kind.title())
    );
    for (name, value) in &report.facts {
        out += &format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value));
    }
    out += "</table>\n";
    if report.chart.bars.len() > 1 {
        out += &chart(&report.chart);
    }
    if report.rows.is_empty() {
        out += "<p>The log has nothing of this kind in this time.</p>\n";
    }
    out += "<table class=\"rows\">\n<tr>";
    report.columns.iter().for_each(|column| out += &format!("<th>{}</th>", escaped(column)));
    out += "</tr>\n";
    for row in &report.rows {
        out += "<tr>";
        row.iter().for_each(|cell| out += &format!("<td>{}</td>", escaped(cell)));
        out += "</tr>\n";
    }
    out += "</table>\n</body></html>\n";
    out
}

/// A bar for each thing.
fn chart(chart: &Chart) -> String {
    let Chart { what, bars: days } = chart;
    const WIDTH: usize = 900;
    const HEIGHT: u64 = 160;
    let most = days.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let step = (WIDTH / days.len()).max(1);
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"{what}\" width=\"{}\" height=\"{}\" font-size=\"11\">\n",
        step * days.len() + 80,
        HEIGHT + 40
    );
    for (number, (day, count)) in days.iter().enumerate() {
        let tall = count * HEIGHT / most.max(1);
        let _written = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{tall}\" fill=\"#3b6ea5\"><title>{}: {count}</title></rect>",
            number * step,
            HEIGHT - tall + 14,
            step.saturating_sub(1).max(1),
            escaped(day)
        );
    }
    let (first, last) = (days.first().map_or("", |day| day.0.as_str()), days.last().map_or("", |day| day.0.as_str()));
    let _written = writeln!(
        out,
        "<text x=\"0\" y=\"10\">{what}: at most {most}</text><text x=\"0\" y=\"{0}\">{1}</text>\
         <text x=\"{2}\" y=\"{0}\" text-anchor=\"end\">{3}</text></svg>",
        HEIGHT + 30,
        escaped(first),
        (step * days.len()).max(160),
        escaped(last)
    );
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::{Kind, Window};

    #[test]
    fn no_cell_is_a_formula_or_markup() {
        let rows: Vec<Vec<String>> = ["=1+1", "+1", "-1", "@a", "\tx", "a,b", "say \"x\"", "<script>", "plain"]
            .iter()
            .map(|cell| vec![(*cell).to_owned()])
            .collect();
        let window = Window { from: 0, to: 1 };
        let (facts, chart) = (vec![("log", "<b>".to_owned())], Chart::default());
        let report = Report { kind: Kind::Access, window, facts, columns: vec!["cell"], rows, chart };
        let text = |format: Format| String::from_utf8(format.write(&report)).unwrap();
        let lines: Vec<String> = text(Format::Csv).split("\r\n").map(str::to_owned).collect();
        let expected = [
            "cell",
            "\"'=1+1\"",
            "\"'+1\"",
            "\"'-1\"",
            "\"'@a\"",
            "\"'\tx\"",
            "\"a,b\"",
            "\"say \"\"x\"\"\"",
            "<script>",
            "plain",
            "",
        ];
        assert_eq!(lines, expected);
        let page = text(Format::Html);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;") && !page.contains("<b>"));
    }
}
