//! Is every clause of a format document upheld by code that cites it and proven by a test that cites it?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::assert_none;
use crate::source::{Source, relative, root, rust_below, walk};

#[test]
fn every_clause_of_a_format_is_cited_by_code_and_by_a_test() {
    let mut documents = Vec::new();
    walk(&root().join("src"), &mut documents);
    documents.retain(|path| path.file_name().is_some_and(|n| n == "FORMAT.md"));
    assert!(!documents.is_empty(), "no FORMAT.md below src");
    let texts: Vec<(String, String)> =
        documents.iter().map(|d| (relative(d), fs::read_to_string(d).unwrap())).collect();
    let sources: Vec<Source> = ["src", "tests", "fuzz"].iter().flat_map(|folder| rust_below(folder)).collect();
    assert_none("clauses of formats", &clause_breaches(&texts, &sources, &vectors()));
}

/// The vectors that tests read: each names the clause it is about.
fn vectors() -> String {
    let mut files = Vec::new();
    walk(&root().join("tests/data/vectors"), &mut files);
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn clause_breaches(documents: &[(String, String)], sources: &[Source], vectors: &str) -> Vec<String> {
    let mut stated: BTreeMap<String, &str> = BTreeMap::new();
    for (path, text) in documents {
        stated.extend(clauses(text).into_iter().map(|clause| (clause, path.as_str())));
    }
    let families: BTreeSet<&str> = stated.keys().filter_map(|c| c.split('-').next()).collect();
    let (mut in_code, mut in_tests) = (BTreeSet::new(), clauses(vectors));
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|s| !s.path.starts_with("tests/guards/")) {
        let (code, tests) = split(source);
        for cited in clauses(&source.text) {
            let known = stated.contains_key(&cited);
            if !known && cited.split('-').next().is_some_and(|family| families.contains(family)) {
                breaches.push(format!("{} cites {cited}, which no FORMAT.md states", source.path));
            }
        }
        in_code.extend(clauses(&code));
        in_tests.extend(clauses(&tests));
        in_tests.extend(named(&Source::new(&source.path, &tests)));
    }
    for (clause, path) in &stated {
        for (cited, by) in [(&in_code, "code"), (&in_tests, "a test")] {
            if !cited.contains(clause) {
                breaches.push(format!("{path}: {clause} is not cited by {by}"));
            }
        }
    }
    breaches
}

/// The shipped part of a file and its test part, comments and literals included.
fn split(source: &Source) -> (String, String) {
    if !source.path.starts_with("src/") || source.is_test() {
        return (String::new(), source.text.clone());
    }
    let (mut code, mut tests) = (source.text.clone(), String::new());
    for range in source.test_items().into_iter().rev() {
        tests.push_str(&source.text[range.clone()]);
        code.replace_range(range, "");
    }
    (code, tests)
}

/// Every `ABC-n` of a text: three capitals, a dash, digits. `A-1 to A-3` and `A-1..3` are not spelled out: write each.
fn clauses(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    let mut found = BTreeSet::new();
    for at in 0..bytes.len().saturating_sub(4) {
        let begins = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'-');
        if !begins || bytes[at + 3] != b'-' || !FAMILIES.iter().any(|f| bytes[at..].starts_with(f.as_bytes())) {
            continue;
        }
        let digits = bytes[at + 4..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 {
            found.insert(text[at..at + 4 + digits].to_owned());
        }
    }
    found
}

/// Clauses that the names of tests say: `fld_3_and_4_...`, `fld_20_to_22_...`.
fn named(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let tokens = source.tokens();
    for two in tokens.windows(2).filter(|t| t[0].text == "fn") {
        let (family, rest) = two[1].text.split_once('_').unwrap_or_default();
        let mut words = rest.split('_');
        let mut last: Option<u32> = None;
        let mut joint = "and";
        while let Some(number) = words.next().and_then(|w| w.parse::<u32>().ok()) {
            let from = if joint == "to" { last.unwrap_or(number) } else { number };
            found.extend((from..=number).map(|n| format!("{}-{n}", family.to_uppercase())));
            last = Some(number);
            joint = words.next().unwrap_or_default();
        }
    }
    found
}

/// The envelope, the log, the fields and paths of documents, ceremonies.
const FAMILIES: &[&str] = &["ENV", "LOG", "FLD", "CER"];

#[test]
fn clauses_in_the_names_of_tests_are_read() {
    let tests = "fn fld_3_and_4_stay() {} fn fld_20_to_22_are_refused() {} fn log_7_holds() {} fn plain_text() {}";
    let found = named(&Source::new("tests/x.rs", tests));
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        ["FLD-20", "FLD-21", "FLD-22", "FLD-3", "FLD-4", "LOG-7"]
    );
}

#[test]
fn a_clause_without_code_or_test_and_an_unknown_one_are_reported() {
    let documents = [("src/a/FORMAT.md".to_owned(), "ENV-1 must. ENV-2 must, (ENV-3) SP800-38D".to_owned())];
    let code = "// ENV-1, ENV-2\nfn a() {}\n#[cfg(test)]\nmod tests { // ENV-1 ENV-9\n }";
    let sources = [Source::new("src/a/mod.rs", code), Source::new("tests/vectors/a.rs", "fn env() { \"ENV-3\" }")];
    let found = clause_breaches(&documents, &sources, "{}");
    assert_eq!(
        found,
        [
            "src/a/mod.rs cites ENV-9, which no FORMAT.md states",
            "src/a/FORMAT.md: ENV-2 is not cited by a test",
            "src/a/FORMAT.md: ENV-3 is not cited by code",
        ]
    );
}
