//! Rust source as the guards see it: without comments and literals, cut into tokens, test code marked.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The package's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file of Rust.
pub struct Source {
    /// Relative to the package, with `/`.
    pub path: String,
    /// As written.
    pub text: String,
    /// The same bytes with comments and the content of literals blanked, so that offsets and lines agree.
    pub code: String,
}

/// One token of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// An identifier, a number, `::`, `->`, or one other character.
    pub text: &'a str,
    /// Where it begins.
    pub at: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The line (from 1) of an offset.
    pub fn line(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// `file:line` of an offset.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line(at))
    }

    /// The module path below the crate: `src/a/b.rs` and `src/a/b/mod.rs` are `[a, b]`; `lib.rs` is empty.
    pub fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path).trim_end_matches(".rs");
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) && (parts.len() == 1 || parts.last() == Some(&"mod"))
        {
            parts.pop();
        }
        parts
    }

    /// Whether the whole file is test code (`tests.rs` or anything in a folder `tests`).
    pub fn is_test(&self) -> bool {
        self.path.split('/').skip(1).any(|part| part == "tests" || part == "tests.rs")
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.code)
    }

    /// The items under `#[cfg(test)]`, attribute included.
    pub fn test_items(&self) -> Vec<Range<usize>> {
        let tokens = self.tokens();
        let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for start in 0..tokens.len() {
            let here = tokens[start..].iter().map(|t| t.text).take(mark.len());
            let inside = ranges.last().is_some_and(|r| tokens[start].at < r.end);
            if !inside && here.eq(mark) {
                ranges.push(tokens[start].at..item_end(&tokens, start + mark.len()));
            }
        }
        ranges
    }

    /// The tokens outside test code.
    pub fn shipped_tokens(&self) -> Vec<Token<'_>> {
        let tests = self.test_items();
        self.tokens().into_iter().filter(|t| !tests.iter().any(|r| r.contains(&t.at))).collect()
    }
}

/// Where the item that begins at token `from` ends: its closing brace, or its semicolon.
fn item_end(tokens: &[Token<'_>], from: usize) -> usize {
    let mut depth = 0_usize;
    for token in &tokens[from.min(tokens.len())..] {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return token.at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return token.at + 1,
            _ => {}
        }
    }
    tokens.last().map_or(0, |t| t.at + t.text.len())
}

/// The token that closes the brace, bracket or parenthesis at `open`.
pub fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 1 => return Some(index),
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut end = at + 1;
        if bytes[at].is_ascii_whitespace() {
            at = end;
            continue;
        }
        if word(bytes[at]) {
            while end < bytes.len() && word(bytes[end]) {
                end += 1;
            }
        } else if code[at..].starts_with("::") || code[at..].starts_with("->") {
            end += 1;
        }
        found.push(Token { text: &code[at..end], at });
        at = end;
    }
    found
}

/// Blanks comments and the content of strings and characters; line feeds stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(word_end(bytes, at));
    }
    String::from_utf8(out).unwrap()
}

/// Past the word at `at`, so that the `r` of `for` does not begin a raw string.
fn word_end(bytes: &[u8], at: usize) -> usize {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let length = bytes[at..].iter().take_while(|b| word(b)).count();
    at + length.max(1)
}

/// The end of the comment or literal at `at`, or `at` if there is none.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_end(bytes, at),
        [b'"', ..] => quoted_end(bytes, at + 1, b'"'),
        [b'b' | b'c', b'"', ..] => quoted_end(bytes, at + 2, b'"'),
        [b'b', b'\'', ..] => quoted_end(bytes, at + 2, b'\''),
        [b'r', b'"' | b'#', ..] => raw_end(bytes, at, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] => raw_end(bytes, at, 2),
        [b'\'', ..] => character_end(bytes, at),
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `r#"..."#`; `r#name` is an identifier and ends where it begins.
fn raw_end(bytes: &[u8], at: usize, prefix: usize) -> usize {
    let hashes = bytes[at + prefix..].iter().take_while(|b| **b == b'#').count();
    let body = at + prefix + hashes + 1;
    if bytes.get(body - 1) != Some(&b'"') {
        return at;
    }
    let close = |from: usize| bytes[from..].iter().take_while(|b| **b == b'#').take(hashes).count() == hashes;
    (body..bytes.len()).find(|i| bytes[*i] == b'"' && close(i + 1)).map_or(bytes.len(), |i| i + 1 + hashes)
}

/// A character literal, or a lifetime, which is left as it is.
fn character_end(bytes: &[u8], at: usize) -> usize {
    match &bytes[at + 1..] {
        [b'\\', ..] => quoted_end(bytes, at + 1, b'\''),
        rest => {
            let width = std::str::from_utf8(&rest[..rest.len().min(4)])
                .unwrap_or_else(|e| std::str::from_utf8(&rest[..e.valid_up_to()]).unwrap())
                .chars()
                .next()
                .map_or(0, char::len_utf8);
            if width > 0 && rest.get(width) == Some(&b'\'') { at + width + 2 } else { at }
        }
    }
}

/// Every Rust file below a folder of the package, sorted.
pub fn rust_below(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort();
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| Source::new(&relative(path), &fs::read_to_string(path).unwrap()))
        .collect()
}

/// A path below the package, with `/`.
pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Every file below a folder; build output and the version control's own files are left out.
pub fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let skipped = path.file_name().is_some_and(|n| n == "target" || n == ".git");
        if path.is_dir() && !path.is_symlink() {
            if !skipped {
                walk(&path, files);
            }
        } else if !skipped {
            files.push(path);
        }
    }
}

#[test]
fn the_scanner_sees_through_comments_and_literals() {
    let text = r####"
        // crate::audit
        /* crate::audit /* nested */ crate::audit */
        let a = "crate::audit \" still"; let b = r#"crate::audit " "#; let c = b"x\"crate"; let d = br##"crate"##;
        let e = '"'; let f = '\''; let g: &'static str = "x"; let h = b'"'; let i = 'ä'; for r in crate::store {}
        let r#type = 1;
    "####;
    let source = Source::new("src/x.rs", text);
    let words: Vec<&str> = source.tokens().iter().map(|t| t.text).filter(|t| *t == "crate" || *t == "audit").collect();
    assert_eq!(words, ["crate"], "{}", source.code);
    assert_eq!(source.code.len(), text.len());
    let store = source.tokens().into_iter().find(|t| t.text == "store").unwrap();
    assert_eq!(source.place(store.at), "src/x.rs:5");
    assert!(source.tokens().iter().any(|t| t.text == "static"), "a lifetime is not a character");
}

#[test]
fn test_items_end_where_they_end() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { if x {} } }\nfn c() {}\n#[cfg(test)] use d::e;\nfn f() {}\n#[cfg(test)]\n#[allow(x)]\nfn g(h: [u8; 2]) {}\nfn i() {}";
    let source = Source::new("src/x.rs", text);
    let names: Vec<&str> = source
        .shipped_tokens()
        .iter()
        .map(|t| t.text)
        .filter(|t| t.len() == 1 && t.as_bytes()[0].is_ascii_lowercase())
        .collect();
    assert_eq!(names, ["a", "c", "f", "i"]);
}

#[test]
fn modules_are_named_after_their_files() {
    let module = |path: &str| Source::new(path, "").module().join("::");
    assert_eq!(module("src/lib.rs"), "");
    assert_eq!(module("src/clock.rs"), "clock");
    assert_eq!(module("src/kek/mod.rs"), "kek");
    assert_eq!(module("src/kek/pkcs11/main.rs"), "kek::pkcs11::main");
}
