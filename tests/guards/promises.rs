//! Does every test that a promise to the users names exist, and does every boundary name one?

use std::collections::BTreeSet;
use std::fs;

use crate::assert_none;
use crate::source::{root, rust_below};

#[test]
fn every_test_that_the_documents_name_exists() {
    let sources: Vec<_> = ["src", "tests"].iter().flat_map(|folder| rust_below(folder)).collect();
    let mut functions = BTreeSet::new();
    for source in &sources {
        let tokens = source.tokens();
        functions.extend(tokens.windows(2).filter(|t| t[0].text == "fn").map(|t| t[1].text.to_owned()));
    }
    // A metric is a promise too: its name stands in the telemetry, without the prefix that all have.
    let telemetry: String = rust_below("src/telemetry").iter().map(|source| source.text.as_str()).collect();
    let metric =
        |name: &str| name.strip_prefix("keyward_").is_some_and(|name| telemetry.contains(&format!("\"{name}\"")));
    let mut breaches = Vec::new();
    for document in ["SECURITY.md", "README.md", "CHANGELOG.md", "docs/outages.md"].iter().chain(PAGES) {
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        let missing = claims(&text).into_iter().filter(|(_, name)| !functions.contains(*name) && !metric(name));
        breaches.extend(missing.map(|(line, name)| format!("{document}:{line}: no test `{name}`")));
    }
    assert_none("promises", &breaches);
}

/// Pages that promise something to operators.
const PAGES: &[&str] = &[
    "docs/audit.md",
    "docs/recovery.md",
    "docs/rotation.md",
    "docs/identity.md",
    "docs/keys.md",
    "docs/policy.md",
    "docs/partitions.md",
    "docs/postgresql.md",
    "docs/exit-codes.md",
];

#[test]
fn every_page_of_promises_names_the_tests_that_prove_them() {
    let unproven = |page: &&&str| !proves(&fs::read_to_string(root().join(page)).unwrap());
    let breaches: Vec<String> =
        PAGES.iter().filter(unproven).map(|page| format!("{page}: no `## Proven by`")).collect();
    assert_none("promises", &breaches);
}

/// Whether a page ends with a section that names tests.
fn proves(text: &str) -> bool {
    text.split("\n## ").last().is_some_and(|section| section.starts_with("Proven by\n") && !claims(section).is_empty())
}

#[test]
fn every_boundary_of_the_security_document_names_a_test() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    assert_none("boundaries", &unproven(&text));
}

/// Sections `## Boundary: ...` without a test.
fn unproven(text: &str) -> Vec<String> {
    let sections: Vec<&str> = text.split("\n## ").filter(|s| s.starts_with("Boundary")).collect();
    let mut breaches: Vec<String> = sections
        .iter()
        .filter(|s| claims(s).is_empty())
        .map(|s| format!("SECURITY.md: no test in `{}`", s.lines().next().unwrap()))
        .collect();
    if sections.is_empty() {
        breaches.push("SECURITY.md names no boundary".to_owned());
    }
    breaches
}

/// The names of tests in a document, with their lines: words in backquotes with three underscores or more.
fn claims(text: &str) -> Vec<(usize, &str)> {
    let is_name = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let claim = |word: &str| word.matches('_').count() >= 3 && is_name(word);
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2).map(|word| word.rsplit("::").next().unwrap());
        found.extend(quoted.filter(|w| claim(w)).map(|w| (index + 1, w)));
    }
    found
}

#[test]
fn named_tests_are_found_in_text() {
    let text = "a `one_two_three_four`, `file::five_six_seven_eight` and `a_b`\n`CARGO_A_B_C` `x`";
    assert_eq!(claims(text), [(1, "one_two_three_four"), (1, "five_six_seven_eight")]);
    let document = "# S\n\n## Boundary: a\n`one_two_three_four`\n## Boundary: b\nnothing\n## Scope\nnothing";
    assert_eq!(unproven(document), ["SECURITY.md: no test in `Boundary: b`"]);
    assert_eq!(unproven("# S").len(), 1);
    assert!(proves("# P\n\n## Proven by\n\n`one_two_three_four`.\n"));
    for lacking in ["# P\n`one_two_three_four`", "# P\n\n## Proven by\nnothing", "\n## Proven by\n`a_b_c_d`\n## More\n"]
    {
        assert!(!proves(lacking), "{lacking}");
    }
}
