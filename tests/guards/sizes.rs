//! Is every function and file small enough to be read whole?

use crate::assert_none;
use crate::source::{Source, closing, rust_below};

const FUNCTION_LINES: usize = 60;
const FILE_LINES: usize = 500;
const INLINE_TEST_LINES: usize = 120;

/// Tables and exhaustive matches that are longer: `(file, function)`. This list only shrinks.
const LONGER: &[(&str, &str)] = &[];

/// A function with its length in lines.
struct Length {
    at: usize,
    name: String,
    lines: usize,
}

#[test]
fn functions_and_files_are_small_enough_to_read() {
    let mut breaches = Vec::new();
    for file in rust_below("src") {
        breaches.extend(size_breaches(&file, LONGER));
    }
    assert_none("sizes", &breaches);
}

#[test]
fn the_list_of_longer_functions_holds_only_longer_functions() {
    let files = rust_below("src");
    for (path, name) in LONGER {
        let file = files.iter().find(|f| f.path == *path);
        let still = file.is_some_and(|f| functions(f).iter().any(|l| l.name == *name && l.lines > FUNCTION_LINES));
        assert!(still, "{path} {name} is not longer than {FUNCTION_LINES} lines any more: take it off the list");
    }
}

fn size_breaches(file: &Source, longer: &[(&str, &str)]) -> Vec<String> {
    let mut breaches = Vec::new();
    if file.is_test() {
        return breaches;
    }
    let lines = |range: &std::ops::Range<usize>| file.line(range.end) - file.line(range.start) + 1;
    let tests = file.test_items();
    let body = file.text.lines().count() - tests.iter().map(lines).sum::<usize>();
    if body > FILE_LINES {
        breaches.push(format!("{}: {body} lines, at most {FILE_LINES} without tests", file.path));
    }
    for test in tests.iter().filter(|t| lines(t) > INLINE_TEST_LINES) {
        let place = file.place(test.start);
        breaches.push(format!("{place}: {} lines of inline tests, at most {INLINE_TEST_LINES}", lines(test)));
    }
    let listed = |length: &Length| longer.contains(&(file.path.as_str(), length.name.as_str()));
    for length in functions(file).iter().filter(|l| l.lines > FUNCTION_LINES && !listed(l)) {
        let place = file.place(length.at);
        breaches.push(format!("{place}: `{}` has {} lines, at most {FUNCTION_LINES}", length.name, length.lines));
    }
    breaches
}

/// The functions with a body outside test code.
fn functions(file: &Source) -> Vec<Length> {
    let tokens = file.shipped_tokens();
    let mut found = Vec::new();
    for index in 0..tokens.len().saturating_sub(1) {
        let name = tokens[index + 1].text;
        if tokens[index].text != "fn" || name == "(" {
            continue;
        }
        let Some(open) = body_of(&tokens, index) else { continue };
        let Some(close) = closing(&tokens, open) else { continue };
        let lines = file.line(tokens[close].at) - file.line(tokens[index].at) + 1;
        found.push(Length { at: tokens[index].at, name: name.to_owned(), lines });
    }
    found
}

/// The token that opens the body of the function at `index`; None for a declaration.
fn body_of(tokens: &[crate::source::Token<'_>], index: usize) -> Option<usize> {
    let mut at = index;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "(" | "[" => at = closing(tokens, at)?,
            "{" => return Some(at),
            ";" => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[test]
fn what_is_too_long_is_reported() {
    let long =
        format!("trait T {{ fn declared(&self) -> [u8; 4]; }}\nfn long(x: [u8; 3]) {{\n{}}}\n", "x();\n".repeat(59));
    let short = format!("fn short() {{\n{}}}\n", "\"}\";\n".repeat(58));
    let file = Source::new("src/x.rs", &(long.clone() + &short));
    let found = size_breaches(&file, &[]);
    assert!(found.len() == 1 && found[0].contains("src/x.rs:2: `long` has 61 lines"), "{found:?}");
    assert!(size_breaches(&file, &[("src/x.rs", "long")]).is_empty());
    let tests = |lines: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(lines));
    let body = |lines: usize| "const X: u8 = 1;\n".repeat(lines);
    assert!(size_breaches(&Source::new("src/x.rs", &(body(500) + &tests(117))), &[]).is_empty());
    assert_eq!(size_breaches(&Source::new("src/x.rs", &(body(501) + &tests(118))), &[]).len(), 2);
}
