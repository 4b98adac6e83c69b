//! Can a module forge a proof that is another module's to give? The compiler is asked: forging lines go into every
//! other module of a copied tree, and each must fail with the error that privacy gives, nothing else failing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::assert_none;
use crate::source::{Source, Token, closing, root, rust_below};

/// A type whose values prove something, and the one module that may make them.
struct Witness {
    name: &'static str,
    owner: &'static str,
    generics: &'static str,
    /// The private leaf file it lives in, where it has one.
    leaf: Option<&'static str>,
    /// Whether having one is having been allowed once: then no copy may be made either.
    single_use: bool,
}

const WITNESSES: &[Witness] = &[
    Witness { name: "Principal", owner: "identity", generics: "", leaf: None, single_use: false },
    Witness { name: "Permit", owner: "policy", generics: "", leaf: Some("permit"), single_use: true },
    Witness { name: "Founding", owner: "policy", generics: "", leaf: Some("authority"), single_use: true },
    Witness { name: "VerifiedDecision", owner: "policy", generics: "", leaf: None, single_use: false },
    Witness { name: "Quorum", owner: "policy", generics: "", leaf: None, single_use: true },
    Witness { name: "SealingKey", owner: "keyring", generics: "<'static>", leaf: None, single_use: true },
    Witness { name: "OpeningKey", owner: "keyring", generics: "<'static>", leaf: None, single_use: true },
    Witness { name: "RewrapKey", owner: "keyring", generics: "<'static>", leaf: None, single_use: true },
    Witness { name: "Recorded", owner: "audit", generics: "<u8>", leaf: Some("receipt"), single_use: true },
    Witness { name: "IntentReceipt", owner: "audit", generics: "", leaf: Some("receipt"), single_use: true },
    Witness { name: "Response", owner: "service", generics: "", leaf: Some("response"), single_use: true },
];

/// One forging line and the error it must meet.
struct Attempt {
    code: &'static str,
    line: String,
}

/// An error of the compiler.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    file: String,
    line: u64,
    code: String,
}

#[test]
fn no_other_module_can_call_the_constructor_of_a_proof_or_copy_one() {
    assert_none("proofs can be forged", &forge("calls", calls, |_, text| text));
}

/// Apart from the calls, since the compiler looks at fields only when everything else is right.
#[test]
fn no_other_module_can_write_the_fields_of_a_proof() {
    assert_none("proofs can be forged", &forge("fields", fields, |_, text| text));
}

#[test]
fn an_opened_constructor_and_a_copyable_proof_are_noticed() {
    let opened = |path: &str, text: String| match path {
        "src/policy/permit.rs" => {
            text.replace("pub(super)", "pub").replace("#[derive(Debug)]", "#[derive(Debug, Clone)]")
        }
        _ => text,
    };
    let found = forge("opened", calls, opened);
    let others = module_files(&rust_below("src")).len() - 1;
    assert_eq!(found.iter().filter(|b| b.ends_with("compiles, or not E0624")).count(), others, "{found:?}");
    assert_eq!(found.iter().filter(|b| b.ends_with("compiles, or not E0277")).count(), others, "{found:?}");
}

#[test]
fn a_public_constructor_of_a_proof_takes_another_proof() {
    let files = rust_below("src");
    let mut breaches = Vec::new();
    for witness in WITNESSES {
        for made in constructors(witness, &files).iter().filter(|c| c.public && !c.takes_proof) {
            breaches.push(format!("{}: anyone can call {}::{}", made.place, witness.name, made.name));
        }
        if definition(witness, &files).is_none() {
            breaches.push(format!("{} is not in {} any more", witness.name, witness.owner));
        }
    }
    assert_none("open constructors", &breaches);
}

impl Witness {
    fn path(&self) -> String {
        format!("crate::{}::{}{}", self.owner, self.name, self.generics)
    }
}

/// Calling the constructor, naming the private leaf, and copying.
fn calls(witness: &Witness, files: &[Source]) -> Vec<Attempt> {
    let Witness { name, owner, generics, .. } = witness;
    let path = witness.path();
    let turbofish = if generics.is_empty() { String::new() } else { format!("::{generics}") };
    let mut attempts: Vec<Attempt> = Vec::new();
    for made in constructors(witness, files).iter().filter(|c| !c.public) {
        let line = format!("let _ = crate::{owner}::{name}{turbofish}::{};", made.name);
        attempts.push(Attempt { code: "E0624", line });
    }
    if let Some(leaf) = witness.leaf {
        let line = format!("fn x(_: crate::{owner}::{leaf}::{name}{generics}) {{}}");
        attempts.push(Attempt { code: "E0603", line });
    }
    if witness.single_use {
        let clone = format!("fn x(w: &{path}) -> {path} {{ Clone::clone(w) }}");
        attempts.push(Attempt { code: "E0277", line: clone });
        attempts.push(Attempt { code: "E0277", line: format!("let _: {path} = Default::default();") });
    }
    attempts
}

/// Writing the value down, its fields taken from another.
fn fields(witness: &Witness, _: &[Source]) -> Vec<Attempt> {
    let (path, name) = (witness.path(), format!("crate::{}::{}", witness.owner, witness.name));
    vec![Attempt { code: "E0451", line: format!("fn x(w: {path}) -> {path} {{ {name} {{ ..w }} }}") }]
}

/// Copies the tree, forges everything everywhere, and compares what the compiler refuses with what it must refuse.
fn forge(
    kind: &str,
    attempts: fn(&Witness, &[Source]) -> Vec<Attempt>,
    edit: fn(&str, String) -> String,
) -> Vec<String> {
    let tree = copy_of_the_tree(kind);
    let files = rust_below("src");
    let mut expected = BTreeSet::new();
    for file in &files {
        fs::write(tree.join(&file.path), edit(&file.path, file.text.clone())).unwrap();
    }
    for file in module_files(&files) {
        let mut text = edit(&file.path, file.text.clone()).trim_end().to_owned();
        let mut count = 0;
        for witness in WITNESSES.iter().filter(|w| file.module().first() != Some(&w.owner)) {
            for attempt in attempts(witness, &files) {
                count += 1;
                write!(text, "\nfn forged_{count}() {{ {} }}", attempt.line).unwrap();
                let line = u64::try_from(text.lines().count()).unwrap();
                expected.insert(Refusal { file: file.path.clone(), line, code: attempt.code.to_owned() });
            }
        }
        fs::write(tree.join(&file.path), text + "\n").unwrap();
    }
    assert!(!expected.is_empty(), "nothing was forged");
    let refused = compile(&tree);
    let missing = expected.difference(&refused).map(|r| format!("{}:{}: compiles, or not {}", r.file, r.line, r.code));
    let others = refused.difference(&expected).map(|r| format!("{}:{}: unexpected {}", r.file, r.line, r.code));
    missing.chain(others).collect()
}

/// A copy below the target folder: `src` for writing, everything else by link, and no workspace around it.
fn copy_of_the_tree(kind: &str) -> PathBuf {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("forging-{kind}"));
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).unwrap();
    for entry in fs::read_dir(root()).unwrap() {
        let (path, name) = { entry.map(|e| (e.path(), e.file_name())).unwrap() };
        if !["src", "target", ".git", "Cargo.toml", "Cargo.lock"].iter().any(|n| name == *n) {
            std::os::unix::fs::symlink(&path, tree.join(&name)).unwrap();
        }
    }
    copy_folder(&root().join("src"), &tree.join("src"));
    let mut manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    if !manifest.lines().any(|l| l.trim() == "[workspace]") {
        manifest.push_str("\n[workspace]\n");
    }
    // Under its own version: cargo names artifacts by package and version, not by place, and a build that fails removes
    // what stands under its name.
    let (ours, forged) = (format!("version = \"{}\"", env!("CARGO_PKG_VERSION")), "version = \"0.0.0-forged\"");
    assert!(manifest.contains(&ours));
    fs::write(tree.join("Cargo.toml"), manifest.replacen(&ours, forged, 1)).unwrap();
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let (name, locked) = ("name = \"keyward\"\n", format!("name = \"keyward\"\n{ours}"));
    assert!(lock.contains(&locked));
    fs::write(tree.join("Cargo.lock"), lock.replacen(&locked, &format!("{name}{forged}"), 1)).unwrap();
    tree
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Compiles the copy with the dependencies that this test run was itself built with, and gives every error.
/// The guards are asked for beside the library so that cargo chooses the same features of the dependencies.
fn compile(tree: &Path) -> BTreeSet<Refusal> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--locked", "--lib", "--test", "guards", "--message-format=json"]);
    cargo.args(if cfg!(feature = "faults") { &["--features", "faults"][..] } else { &[] });
    // What the outer cargo tells a test about itself would look like a change to build scripts and rebuild them.
    for (name, _) in std::env::vars_os().filter(|(name, _)| told_by_cargo(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let output = cargo.arg("--target-dir").arg(target).current_dir(tree).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("could not compile"), "the copy was not compiled:\n{errors}");
    String::from_utf8(output.stdout).unwrap().lines().filter_map(refusal).collect()
}

fn told_by_cargo(name: &str) -> bool {
    let families =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR"];
    families.iter().any(|family| name.starts_with(family)) || ["CARGO", "LD_LIBRARY_PATH", "OUT_DIR"].contains(&name)
}

/// The error in one line of cargo's messages.
fn refusal(message: &str) -> Option<Refusal> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let message = message.get("message").filter(|m| m["level"] == "error")?;
    let span = message["spans"].as_array()?.iter().find(|s| s["is_primary"] == true)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("without a code").to_owned();
    Some(Refusal {
        file: text(&span["file_name"]),
        line: span["line_start"].as_u64()?,
        code: text(&message["code"]["code"]),
    })
}

/// The crate's root and its top modules. What these may not see, the modules below them may not see either: privacy
/// ends at an ancestor of the defining module, so all modules outside the owner stand alike.
fn module_files(files: &[Source]) -> Vec<&Source> {
    files.iter().filter(|f| f.module().len() <= 1 && f.path != "src/main.rs").collect()
}

/// The file of a witness and the token `struct` there.
fn definition<'a>(witness: &Witness, files: &'a [Source]) -> Option<(&'a Source, usize)> {
    let owned = files.iter().filter(|f| f.module().first() == Some(&witness.owner));
    owned.into_iter().find_map(|file| {
        let tokens = file.shipped_tokens();
        let at = tokens.windows(2).position(|t| t[0].text == "struct" && t[1].text == witness.name)?;
        Some((file, at))
    })
}

/// A function of the type's own `impl` that gives one.
struct Constructor {
    name: String,
    place: String,
    public: bool,
    takes_proof: bool,
}

fn constructors(witness: &Witness, files: &[Source]) -> Vec<Constructor> {
    let Some((file, _)) = definition(witness, files) else { return Vec::new() };
    let tokens = file.shipped_tokens();
    let mut found = Vec::new();
    for open in impl_blocks(&tokens, witness.name) {
        let close = closing(&tokens, open).unwrap_or(tokens.len());
        for index in (open..close).filter(|i| tokens[*i].text == "fn") {
            let Some(from) = (index..close).find(|i| tokens[*i].text == "(") else { continue };
            let to = closing(&tokens, from).unwrap_or(close);
            let end = (to..close).find(|i| matches!(tokens[*i].text, "{" | ";")).unwrap_or(close);
            let names = |range: &[Token<'_>], name: &str| range.iter().any(|t| t.text == name);
            if !(names(&tokens[to..end], "Self") || names(&tokens[to..end], witness.name)) {
                continue;
            }
            found.push(Constructor {
                name: tokens[index + 1].text.to_owned(),
                place: file.place(tokens[index].at),
                public: is_public(&tokens[open..index]),
                takes_proof: WITNESSES.iter().any(|w| names(&tokens[from..to], w.name))
                    || names(&tokens[from..to], "self"),
            });
        }
    }
    found
}

/// The opening braces of `impl Name { ... }` and `impl<T> Name<T> { ... }`.
fn impl_blocks(tokens: &[Token<'_>], name: &str) -> Vec<usize> {
    let mut blocks = Vec::new();
    for index in (0..tokens.len()).filter(|i| tokens[*i].text == "impl") {
        let Some(open) = (index..tokens.len()).find(|i| tokens[*i].text == "{") else { continue };
        let head = &tokens[index..open];
        if head.iter().any(|t| t.text == name) && !head.iter().any(|t| t.text == "for") {
            blocks.push(open);
        }
    }
    blocks
}

/// Whether the words before `fn` say `pub` or `pub(crate)`; `pub(super)` in a leaf file stays in its owner.
fn is_public(before: &[Token<'_>]) -> bool {
    let words: Vec<&str> = before.iter().rev().map(|t| t.text).take_while(|t| !matches!(*t, ";" | "{" | "}")).collect();
    let at = words.iter().position(|w| *w == "pub");
    at.is_some_and(|at| at.checked_sub(2).and_then(|i| words.get(i)) != Some(&"super"))
}
