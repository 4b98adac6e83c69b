//! Does every module import only what the table allows, and does every library stay behind its door?

use std::collections::HashMap;

use crate::assert_none;
use crate::source::{Source, Token, closing, rust_below};
use crate::table::{
    DOORS, EVERYWHERE, SEEN_THROUGH, TABLE, UNSAFE_FOLDERS, UNSAFE_ONE_FILE, UNSAFE_TEST_LIBRARIES, UNWRAPS_KEYS,
};

/// A path as resolved: `crate::...` for ours, the crate's name first for others.
type Resolved = Vec<String>;

/// One path that a file names.
struct Named {
    at: usize,
    path: Resolved,
    /// The name under which a `use` or `type` makes it visible to other modules.
    exported_as: Option<String>,
    /// A private `use`, which reaches nothing by itself: what the file says through it is looked at there.
    only_a_name: bool,
}

/// A path as written in a `use`, with the name it gets.
struct Leaf<'a> {
    at: usize,
    path: Vec<&'a str>,
    name: &'a str,
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    assert_none("the import table (tests/guards/table.rs)", &import_breaches(&rust_below("src")));
}

#[test]
fn libraries_and_effects_stay_behind_their_doors() {
    assert_none("the doors (tests/guards/table.rs)", &door_breaches(&rust_below("src")));
}

#[test]
fn outside_of_the_product_only_the_libraries_that_tests_load_are_unsafe() {
    let files: Vec<Source> = ["examples", "tests", "benches", "fuzz"].into_iter().flat_map(rust_below).collect();
    assert_none("the places of `unsafe` (tests/guards/table.rs)", &unsafe_outside(&files));
}

#[test]
fn the_table_allows_no_import_of_a_later_row() {
    let at = |module: &str| TABLE.iter().position(|r| r.module == module.split("::").next().unwrap());
    for (index, row) in TABLE.iter().enumerate() {
        for may in row.may.iter().filter(|m| **m != "app::health") {
            assert!(at(may).is_some_and(|i| i < index), "{} may import {may}, which is not below it", row.module);
        }
    }
}

fn import_breaches(files: &[Source]) -> Vec<String> {
    let files: Vec<(&Source, Vec<Named>)> =
        files.iter().filter(|f| !f.is_test()).map(|f| (f, named_paths(f))).collect();
    let exports = exports(&files);
    let mut breaches = Vec::new();
    for (file, names) in &files {
        let module = top(file);
        if module.is_empty() {
            breaches.extend(root_breaches(file));
            continue;
        }
        let Some(row) = TABLE.iter().find(|r| r.module == module) else {
            breaches.push(format!("{}: the module `{module}` has no row in the table", file.path));
            continue;
        };
        for named in names {
            breaches.extend(import_breach(row.module, row.may, named, &exports).map(|b| file.place(named.at) + &b));
        }
    }
    breaches
}

/// The first module of the crate that a file belongs to; `main` for the binary, nothing for `lib.rs`.
fn top(file: &Source) -> String {
    if file.path == "src/main.rs" {
        return "main".to_owned();
    }
    file.module().first().map_or_else(String::new, |m| (*m).to_owned())
}

/// `lib.rs` is a map: an item or re-export there would be reachable for everyone.
fn root_breaches(file: &Source) -> Vec<String> {
    let tokens = file.shipped_tokens();
    let item =
        |t: &&Token<'_>| matches!(t.text, "use" | "fn" | "struct" | "enum" | "type" | "trait" | "static" | "const");
    tokens.iter().filter(item).map(|t| format!("{}: `{}` at the crate's root", file.place(t.at), t.text)).collect()
}

type Exports = HashMap<(String, String), Resolved>;

/// What modules hand on of other modules: `(module, name)` to the true path.
fn exports(files: &[(&Source, Vec<Named>)]) -> Exports {
    let mut exports = Exports::new();
    for (file, names) in files {
        for named in names {
            let foreign = named.path.first().is_some_and(|c| c == "crate") && named.path.get(1) != Some(&top(file));
            if let (Some(name), true) = (&named.exported_as, foreign) {
                exports.insert((top(file), name.clone()), named.path.clone());
            }
        }
    }
    exports
}

fn import_breach(module: &str, may: &[&str], named: &Named, exports: &Exports) -> Option<String> {
    let [krate, rest @ ..] = &named.path[..] else { return None };
    if krate != "crate" {
        return None;
    }
    let Some(target) = rest.first() else { return Some(format!(": `{module}` takes the whole crate")) };
    if target == module {
        return None;
    }
    if named.only_a_name && may.iter().any(|entry| leads_to(rest, entry)) {
        return None;
    }
    if !allowed(may, rest) {
        return Some(format!(": `{module}` may not import `{}`", rest.join("::")));
    }
    let through = rest[1..].iter().find_map(|name| exports.get(&(target.clone(), name.clone())))?;
    let blessed = SEEN_THROUGH.iter().any(|(importer, seen)| *importer == module && begins(&through[1..], seen));
    let own = through[1] == module;
    (!blessed && !own && !allowed(may, &through[1..]))
        .then(|| format!(": `{module}` may not see `{}` through `{}`", through[1..].join("::"), rest.join("::")))
}

fn allowed(may: &[&str], path: &[String]) -> bool {
    may.iter().chain(EVERYWHERE).any(|entry| begins(path, entry))
}

/// Whether a path is the entry or lies below it.
fn begins(path: &[String], entry: &str) -> bool {
    let mut parts = path.iter();
    entry.split("::").all(|wanted| parts.next().is_some_and(|p| p == wanted))
}

/// Whether an allowed entry lies below the path, so that naming the module is on the way to something allowed.
fn leads_to(path: &[String], entry: &str) -> bool {
    let parts: Vec<&str> = entry.split("::").collect();
    path.len() < parts.len() && path.iter().zip(&parts).all(|(a, b)| a == b)
}

fn door_breaches(files: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut unsafe_files: Vec<&str> = Vec::new();
    for file in files {
        let here = module_of(file);
        let inside = |only: &[&str]| only.iter().any(|o| begins(&here, o));
        if !file.is_test() {
            for named in named_paths(file) {
                let door = DOORS.iter().filter(|d| begins(&named.path, d.path)).max_by_key(|d| d.path.len());
                breaches.extend(door.filter(|d| !inside(d.only)).map(|d| {
                    format!(
                        "{}: `{}` belongs to {} only",
                        file.place(named.at),
                        named.path.join("::"),
                        d.only.join(", ")
                    )
                }));
            }
            if !inside(UNWRAPS_KEYS) {
                breaches.extend(key_unwraps(file));
            }
        }
        for token in file.tokens().iter().filter(|t| t.text == "unsafe" && !inside(UNSAFE_FOLDERS)) {
            if !inside(UNSAFE_ONE_FILE) {
                breaches.push(format!("{}: `unsafe` outside its two places", file.place(token.at)));
            } else if unsafe_files.last() != Some(&file.path.as_str()) {
                unsafe_files.push(&file.path);
            }
        }
    }
    if unsafe_files.len() > 1 {
        breaches.push(format!("`unsafe` in more than one file of secret: {}", unsafe_files.join(", ")));
    }
    breaches
}

fn unsafe_outside(files: &[Source]) -> Vec<String> {
    let elsewhere = |file: &&Source| !UNSAFE_TEST_LIBRARIES.iter().any(|folder| file.path.starts_with(folder));
    let mut breaches = Vec::new();
    for file in files.iter().filter(elsewhere) {
        let found = file.tokens().into_iter().filter(|token| token.text == "unsafe");
        breaches.extend(found.map(|token| format!("{}: `unsafe` in a test", file.place(token.at))));
    }
    breaches
}

fn module_of(file: &Source) -> Vec<String> {
    let own: Vec<String> = file.module().iter().map(|m| (*m).to_owned()).collect();
    if own.is_empty() { vec![top(file)] } else { own }
}

/// `.unwrap(wrap, ...)` and `Kek::unwrap`: an Option's `unwrap` takes no argument, a KEK's does.
fn key_unwraps(file: &Source) -> Vec<String> {
    let tokens = file.shipped_tokens();
    let mut breaches = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, t)| t.text == "unwrap") {
        let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
        let before = |n: usize| index.checked_sub(n).map_or("", text);
        let method = before(1) == "." && text(index + 1) == "(" && text(index + 2) != ")";
        let by_path = before(1) == "::" && (before(2) == "Kek" || before(2) == ">");
        if method || by_path {
            breaches.push(format!("{}: a key is unwrapped outside {}", file.place(token.at), UNWRAPS_KEYS.join(", ")));
        }
    }
    breaches
}

/// Every path outside test code, resolved through the file's own imports and the modules it stands in.
fn named_paths(file: &Source) -> Vec<Named> {
    let tokens = file.shipped_tokens();
    let nested = inline_modules(&tokens);
    let module_at = |at: usize| {
        let mut module = file.module();
        module.extend(nested.iter().filter(|(from, to, _)| (*from..*to).contains(&at)).map(|(_, _, name)| *name));
        module
    };
    let mut aliases: HashMap<&str, Resolved> = HashMap::new();
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let token = tokens[index];
        if token.text == "use" && tokens.get(index + 1).is_some_and(|t| t.text != "<") {
            let exported = index > 0 && matches!(tokens[index - 1].text, "pub" | ")");
            let mut leaves = Vec::new();
            index = use_tree(&tokens, index + 1, &[], &mut leaves);
            for leaf in leaves {
                let path = resolve(&leaf.path, &module_at(leaf.at), &aliases);
                aliases.insert(leaf.name, path.clone());
                let exported_as = exported.then(|| leaf.name.to_owned());
                found.push(Named { at: leaf.at, path, exported_as, only_a_name: !exported });
            }
        } else if let Some((path, next)) = expression_path(&tokens, index) {
            let path = resolve(&path, &module_at(token.at), &aliases);
            let exported_as = aliased_type(&tokens, index);
            found.push(Named { at: token.at, path, exported_as, only_a_name: false });
            index = next;
        } else {
            index += 1;
        }
    }
    found
}

/// `mod x { ... }` blocks: from, to, name.
fn inline_modules<'a>(tokens: &[Token<'a>]) -> Vec<(usize, usize, &'a str)> {
    let mut modules = Vec::new();
    for index in 0..tokens.len().saturating_sub(2) {
        if tokens[index].text == "mod" && tokens[index + 2].text == "{" {
            let end = closing(tokens, index + 2).map_or(usize::MAX, |i| tokens[i].at);
            modules.push((tokens[index].at, end, tokens[index + 1].text));
        }
    }
    modules
}

fn is_word(token: Token<'_>) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads a `use` tree from `index`; gives the index after it.
fn use_tree<'a>(tokens: &[Token<'a>], mut index: usize, prefix: &[&'a str], leaves: &mut Vec<Leaf<'a>>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = tokens.get(index).map_or(0, |t| t.at);
    while let Some(token) = tokens.get(index) {
        match token.text {
            "::" => index += 1,
            "{" => {
                index += 1;
                while tokens.get(index).is_some_and(|t| t.text != "}") {
                    index = use_tree(tokens, index, &path, leaves);
                    index += usize::from(tokens.get(index).is_some_and(|t| t.text == ","));
                }
                return index + 1;
            }
            "as" => {
                let name = tokens.get(index + 1).map_or("_", |t| t.text);
                leaves.push(Leaf { at, path, name });
                return index + 2;
            }
            "self" if !path.is_empty() => index += 1,
            "," | ";" | "}" => break,
            word => {
                path.push(word);
                at = token.at;
                index += 1;
            }
        }
    }
    let name = path.last().copied().unwrap_or("_");
    leaves.push(Leaf { at, path, name });
    index
}

/// `a::b::c` in an expression, type or attribute that begins at `index`; gives the index after it.
fn expression_path<'a>(tokens: &[Token<'a>], index: usize) -> Option<(Vec<&'a str>, usize)> {
    let after_path = index > 0 && matches!(tokens[index - 1].text, "." | "::") && !leading(tokens, index);
    if !is_word(tokens[index]) || after_path {
        return None;
    }
    let mut path = vec![tokens[index].text];
    let mut next = index + 1;
    while tokens.get(next).is_some_and(|t| t.text == "::") && tokens.get(next + 1).is_some_and(|t| is_word(*t)) {
        path.push(tokens[next + 1].text);
        next += 2;
    }
    (path.len() > 1).then_some((path, next))
}

/// Whether the `::` before `index` begins a path (`::ring::aead`).
fn leading(tokens: &[Token<'_>], index: usize) -> bool {
    tokens[index - 1].text == "::" && (index < 2 || !(is_word(tokens[index - 2]) || tokens[index - 2].text == ">"))
}

/// The name of `pub type NAME = path`, if the path at `index` is its right side.
fn aliased_type(tokens: &[Token<'_>], index: usize) -> Option<String> {
    let start = tokens[..index].iter().rposition(|t| matches!(t.text, ";" | "{" | "}")).map_or(0, |i| i + 1);
    let words: Vec<&str> = tokens[start..index].iter().map(|t| t.text).collect();
    let at = words.iter().position(|w| *w == "type")?;
    (words.contains(&"pub") && words.last() == Some(&"=")).then(|| words[at + 1].to_owned())
}

fn resolve(path: &[&str], module: &[&str], aliases: &HashMap<&str, Resolved>) -> Resolved {
    let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let mut resolved = match *first {
        "crate" | "keyward" => own(&["crate"]),
        "self" | "super" => {
            let ups = path.iter().take_while(|w| **w == "super").count();
            let mut base = own(&["crate"]);
            base.extend(own(&module[..module.len().saturating_sub(ups)]));
            base
        }
        name => aliases.get(name).cloned().unwrap_or_else(|| own(&[name])),
    };
    resolved.extend(own(rest).into_iter().skip_while(|w| *first == "super" && w == "super"));
    resolved
}

#[cfg(test)]
mod planted {
    use super::*;

    fn breaches(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        let mut all = import_breaches(&files);
        all.extend(door_breaches(&files));
        all
    }

    #[track_caller]
    fn caught(path: &str, text: &str, message: &str) {
        let found = breaches(&[(path, text)]);
        assert!(found.len() == 1 && found[0].contains(message), "{text}: {found:?}");
    }

    #[test]
    fn imports_in_every_spelling_are_caught() {
        let place = "src/operations/seal.rs:1: `operations` may not import `audit";
        for text in [
            "use crate::audit::Log;",
            "use crate::{names::Name, audit};",
            "use crate::{names::{self, Name}, audit::{Log}};",
            "fn a() { crate::audit::append() }",
            "use super::super::audit::Log;",
            "fn a(x: &super::super::audit::Log) {}",
            "mod inner { use super::super::super::audit::Log; }",
            "pub(crate) use crate::audit as story;",
            "fn a() -> Vec<crate::audit::Log> { x.map(crate::names::f) }",
            "macro_rules! m { () => { $crate::audit::Log } }",
        ] {
            caught("src/operations/seal.rs", text, place);
        }
        caught("src/operations/mod.rs", "use super::audit::Log;", "may not import `audit::Log`");
        caught("src/operations/mod.rs", "use crate as c;", "takes the whole crate");
        caught("src/operations/mod.rs", "use crate::*;", "may not import `*`");
        caught("src/keyring/mod.rs", "use crate::audit::{IntentReceipt, Log};", "may not import `audit::Log`");
        caught(
            "src/keyring/mod.rs",
            "use crate::audit;\nfn a(x: &audit::Log) {}",
            "mod.rs:2: `keyring` may not import `audit::Log`",
        );
        caught("src/keyring/mod.rs", "pub use crate::audit;", "may not import `audit`");
        caught("src/keyring/mod.rs", "use crate::audit::*;", "may not import `audit::*`");
        caught("src/main.rs", "use keyward::app;", "`main` may not import `app`");
        caught("src/lib.rs", "pub mod names;\npub use names::Name;", "src/lib.rs:2: `use` at the crate's root");
        caught("src/helpers.rs", "", "has no row");
    }

    #[test]
    fn what_is_seen_through_another_module_is_caught() {
        let hands_on = ("src/keyring/mod.rs", "pub use crate::audit::IntentReceipt;");
        let names = ("src/keyring/mod.rs", "pub type Receipt = crate::audit::IntentReceipt;");
        let found = breaches(&[hands_on, ("src/operations/mod.rs", "use crate::keyring::IntentReceipt;")]);
        assert!(found.len() == 1 && found[0].contains("may not see `audit::IntentReceipt`"), "{found:?}");
        let found = breaches(&[names, ("src/operations/mod.rs", "use crate::keyring::Receipt;")]);
        assert_eq!(found.len(), 1, "{found:?}");
        let service = ("src/service/mod.rs", "pub use crate::operations::Operation;");
        assert_eq!(breaches(&[service, ("src/server/mod.rs", "use crate::service::Operation;")]), [""; 0]);
    }

    #[test]
    fn what_is_allowed_is_not_reported() {
        let text = "use crate::names::{self, Name};\nuse crate::policy::Permit;\nuse super::open;\nuse std::fmt;\n\
                    // use crate::audit::Log;\n#[cfg(test)]\nmod tests { use crate::audit::Log; }\n\
                    fn a() { x.unwrap(); names::f(); self::b(); \"crate::audit\"; }";
        assert_eq!(breaches(&[("src/operations/seal.rs", text)]), [""; 0]);
        assert_eq!(breaches(&[("src/audit/tests.rs", "use crate::store::Writer;")]), [""; 0]);
    }

    #[test]
    fn closed_doors_are_reported() {
        let door = "belongs to";
        caught("src/policy/mod.rs", "use ring::aead;", door);
        caught("src/policy/mod.rs", "fn a() { ::ring::rand::x() }", door);
        caught("src/policy/mod.rs", "use {std::fmt, rusqlite::Connection as C};", door);
        caught("src/kek/mod.rs", "fn a() { std::env::var(b) }", "config, cli, main only");
        assert_eq!(breaches(&[("src/durable/mod.rs", "fn a() { std::env::temp_dir() }")]), [""; 0]);
        caught("src/kek/mod.rs", "use cryptoki::session;", "kek::pkcs11 only");
        caught("src/audit/mod.rs", "use std::{fmt, time::{Duration, Instant}};", "clock only");
        caught("src/service/mod.rs", "use crate::store::Writer;", "store, keyring only");
        assert_eq!(breaches(&[("src/service/mod.rs", "use crate::store;\nfn a(w: store::Writer) {}")]).len(), 1);
        assert_eq!(breaches(&[("src/audit/mod.rs", "use std::time;\nfn a() { time::Instant::now() }")]).len(), 1);
        assert_eq!(breaches(&[("src/kek/pkcs11/worker.rs", "use cryptoki::session;\nunsafe fn a() {}")]), [""; 0]);
    }

    #[test]
    fn key_unwraps_and_unsafe_are_reported() {
        caught("src/service/mod.rs", "fn a() { kek.unwrap(&wrap, &binding, d).await }", "a key is unwrapped");
        caught("src/service/mod.rs", "fn a() { Kek::unwrap(k, w) }", "a key is unwrapped");
        caught("src/service/mod.rs", "fn a() { <dyn Kek>::unwrap(k, w) }", "a key is unwrapped");
        caught("src/store/sqlite.rs", "fn a() { unsafe { b() } }", "outside its two places");
        caught("src/store/tests.rs", "fn a() { unsafe { b() } }", "outside its two places");
        let two = [("src/secret/slab.rs", "unsafe fn a() {}"), ("src/secret/lock.rs", "unsafe fn a() {}")];
        assert!(breaches(&two)[0].contains("more than one file"));
        assert_eq!(breaches(&two[..1]), [""; 0]);
        let test = Source::new("tests/contracts/x.rs", "fn a() { unsafe { b() } }");
        let library = Source::new("examples/p11-shim/calls.rs", "unsafe fn a() {}");
        assert_eq!(unsafe_outside(&[test, library]), ["tests/contracts/x.rs:1: `unsafe` in a test"]);
    }
}
