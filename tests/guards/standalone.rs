//! Does the project stand alone and hold nothing it must not: foreign paths, unfinished code, silenced tests, keys?

use std::fs;

use crate::assert_none;
use crate::source::{relative, root, walk};

/// What no file may contain: the pattern in two halves (so that this file does not contain it), where, and why.
struct Rule {
    halves: (&'static str, &'static str),
    applies: fn(&str) -> bool,
    why: &'static str,
}

fn anywhere(_: &str) -> bool {
    true
}

/// Code, scripts and configuration; not the data of others.
fn ours(path: &str) -> bool {
    !path.contains("/data/") && !path.starts_with("fuzz/corpus/")
}

fn rust(path: &str) -> bool {
    ours(path) && path.ends_with(".rs")
}

fn shipped(path: &str) -> bool {
    path.starts_with("src/")
}

const RULES: &[Rule] = &[
    Rule { halves: ("/wo", "rk/"), applies: ours, why: "a path of one machine" },
    Rule { halves: ("../sha", "red"), applies: ours, why: "a path outside the project" },
    Rule { halves: ("/ro", "ot/"), applies: ours, why: "a path of one machine" },
    Rule { halves: ("\"/t", "mp/"), applies: rust, why: "a folder that tests share; use tempfile" },
    Rule { halves: ("TO", "DO"), applies: rust, why: "finish it, or say so to the users" },
    Rule { halves: ("FIX", "ME"), applies: rust, why: "finish it, or say so to the users" },
    Rule { halves: ("to", "do!("), applies: rust, why: "not finished" },
    Rule { halves: ("unimple", "mented!("), applies: rust, why: "not finished" },
    Rule { halves: ("#[ig", "nore"), applies: rust, why: "a test that does not run" },
    Rule { halves: ("PRIVATE KEY", "-----"), applies: anywhere, why: "a private key in the tree" },
    Rule { halves: ("AGE-SECRET", "-KEY-"), applies: anywhere, why: "a private key in the tree" },
    Rule {
        halves: ("env!(\"CARGO_MAN", "IFEST_DIR\")"),
        applies: shipped,
        why: "the binary must not know where it was built",
    },
];

#[test]
fn the_project_stands_alone_and_is_finished() {
    let mut files = Vec::new();
    walk(root(), &mut files);
    let mut breaches = Vec::new();
    for path in files {
        let text = fs::read(&path).unwrap_or_default();
        breaches.extend(file_breaches(&relative(&path), &String::from_utf8_lossy(&text)));
    }
    assert_none("the tree", &breaches);
}

fn file_breaches(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for rule in RULES.iter().filter(|r| (r.applies)(path)) {
        let pattern = format!("{}{}", rule.halves.0, rule.halves.1);
        for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(&pattern)) {
            breaches.push(format!("{path}:{}: `{pattern}`: {}", index + 1, rule.why));
        }
    }
    breaches
}

#[test]
fn every_rule_of_the_tree_reports_its_pattern() {
    for rule in RULES {
        let text = format!("fine\nx {}{} y\n", rule.halves.0, rule.halves.1);
        let found = file_breaches("src/x.rs", &text);
        assert!(found.len() == 1 && found[0].starts_with("src/x.rs:2: "), "{found:?}");
    }
    assert!(file_breaches("tests/data/x.json", "/wo\u{72}k/").is_empty());
}
