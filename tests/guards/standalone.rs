//! Does the project stand alone and hold nothing it must not: foreign paths, unfinished code, silenced tests, keys?

use std::fs;

use crate::assert_none;
use crate::source::{Source, relative, root, walk};

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
    Rule {
        halves: ("#[ig", "nore"),
        applies: rust,
        why: "a test that does not run; write `= \"run by TEST ...\"` if one does",
    },
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
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.contains(&pattern)) {
            let fine_in_tests = pattern.starts_with("env!") && in_tests(path, text, index + 1);
            if !(run_by_another(line, text) || fine_in_tests) {
                breaches.push(format!("{path}:{}: `{pattern}`: {}", index + 1, rule.why));
            }
        }
    }
    breaches
}

/// `= "run by TEST ..."`: a test that needs a process of its own and is started by a test of the same file.
fn run_by_another(line: &str, text: &str) -> bool {
    let name = line.split_once("= \"run by ").and_then(|(_, rest)| rest.split([' ', '"']).next());
    name.is_some_and(|name| text.contains(&format!("fn {name}(")))
}

fn in_tests(path: &str, text: &str, line: usize) -> bool {
    let source = Source::new(path, text);
    source.is_test() || source.test_items().iter().any(|r| (source.line(r.start)..=source.line(r.end)).contains(&line))
}

#[test]
fn every_rule_of_the_tree_reports_its_pattern() {
    for rule in RULES {
        let text = format!("fine\nx {}{} y\n", rule.halves.0, rule.halves.1);
        let found = file_breaches("src/x.rs", &text);
        assert!(found.len() == 1 && found[0].starts_with("src/x.rs:2: "), "{found:?}");
    }
    let waits = format!("#[ig{}]\nfn b() {{}}\nfn a() {{}}", "nore = \"run by a in a process of its own\"");
    assert!(file_breaches("src/x.rs", &waits).is_empty());
    assert_eq!(file_breaches("src/x.rs", &waits.replace("fn a", "fn c")).len(), 1);
    let data = format!("#[cfg(test)]\nmod tests {{ const A: &str = env!(\"CARGO_MAN{}; }}", "IFEST_DIR\")");
    assert!(file_breaches("src/x.rs", &data).is_empty());
    assert!(file_breaches("tests/data/x.json", "/wo\u{72}k/").is_empty());
}
