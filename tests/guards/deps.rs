//! Does the lock file hold only libraries that keyward may ship, at versions without known holes?

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::assert_none;
use crate::source::root;

/// Libraries that must not come in, not even through others, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "a second TLS and cipher library beside ring"),
    ("openssl-sys", "a second TLS and cipher library beside ring"),
    ("native-tls", "TLS by whatever the machine has"),
    ("aws-lc-sys", "a second cipher library; the FIPS build is a decision of its own"),
    ("rsa", "decryption with measurable time (RUSTSEC-2023-0071)"),
    ("rustls-pemfile", "unmaintained"),
    ("serde_yaml", "unmaintained"),
    ("serde_yml", "unsound"),
    ("sharks", "biased shares"),
    ("sled", "loses writes"),
    ("tokio-uring", "unmaintained"),
    ("async-std", "unmaintained, and a second runtime"),
    ("jemalloc-sys", "unmaintained"),
];

/// The lowest versions without known holes; where a library is absent the floor waits for it.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("cryptoki", [0, 12, 1]),
    ("h2", [0, 4, 16]),
    ("ring", [0, 17, 14]),
    ("rustls", [0, 23, 45]),
    ("rustls-webpki", [0, 103, 13]),
    ("tokio-postgres", [0, 7, 18]),
    ("tracing-subscriber", [0, 3, 20]),
];

/// Versions that were withdrawn.
const YANKED: &[(&str, [u64; 3])] = &[("tokio", [1, 54, 0])];

/// Features that must stay off anywhere in the tree: `(package, feature, why)`.
const FEATURES_OFF: &[(&str, &str, &str)] = &[
    ("serde_json", "arbitrary_precision", "numbers pass through as bytes of the document, never through a parser"),
    ("refinery-core", "tokio-postgres", "brings a second database driver"),
];

#[test]
fn the_lock_file_holds_nothing_banned_and_nothing_too_old() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages: Vec<(String, String)> = lock["package"].as_array().unwrap().iter().map(name_and_version).collect();
    assert!(packages.iter().any(|(name, _)| name == "ring"), "the lock file was not understood");
    assert_none("dependencies", &breaches(&packages));
}

#[test]
fn no_feature_that_changes_the_meaning_of_a_format_is_on() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--all-features", "--prefix=none", "--no-dedupe", "--format={p} {f}"]);
    let output = cargo.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("serde_json v1"), "the tree was not understood");
    assert_none("features", &feature_breaches(&tree));
}

fn name_and_version(package: &toml::Value) -> (String, String) {
    let text = |key: &str| package[key].as_str().unwrap().to_owned();
    (text("name"), text("version"))
}

fn breaches(packages: &[(String, String)]) -> Vec<String> {
    let mut breaches = Vec::new();
    for (name, version) in packages {
        let banned = BANNED.iter().find(|(b, _)| b == name);
        breaches.extend(banned.map(|(_, why)| format!("{name} {version}: {why}")));
        let floor = FLOORS.iter().find(|(f, lowest)| f == name && numbers(version) < *lowest);
        breaches.extend(floor.map(|(_, lowest)| format!("{name} {version}: at least {lowest:?}")));
        let yanked = YANKED.iter().any(|(y, at)| y == name && numbers(version) == *at);
        breaches.extend(yanked.then(|| format!("{name} {version}: withdrawn")));
    }
    breaches
}

fn numbers(version: &str) -> [u64; 3] {
    let mut numbers = [0; 3];
    let release = version.split(['-', '+']).next().unwrap();
    for (slot, part) in numbers.iter_mut().zip(release.split('.')) {
        *slot = part.parse().unwrap();
    }
    numbers
}

/// From lines of `name vVERSION feature,feature`.
fn feature_breaches(tree: &str) -> Vec<String> {
    let mut breaches = BTreeSet::new();
    for line in tree.lines() {
        let name = line.split(' ').next();
        for (package, feature, why) in FEATURES_OFF.iter().filter(|(package, ..)| name == Some(package)) {
            if line.split([' ', ',']).skip(2).any(|f| f == *feature) {
                breaches.insert(format!("{package}: feature {feature} is on: {why}"));
            }
        }
    }
    breaches.into_iter().collect()
}

#[test]
fn banned_old_withdrawn_and_altered_libraries_are_reported() {
    let package = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    let bad = [
        package("rsa", "0.9.8"),
        package("h2", "0.4.15"),
        package("tokio", "1.54.0"),
        package("cryptoki", "0.12.0-rc.1"),
    ];
    assert_eq!(breaches(&bad).len(), bad.len());
    assert!(breaches(&[package("h2", "0.4.16"), package("tokio", "1.54.1"), package("ring", "1.0.0+x")]).is_empty());
    let tree = "keyward v0.1.0 (/x)\nserde_json v1.0.154 std,arbitrary_precision\ntoml v1.0.0 preserve_order\nserde_json v1.0.154 ";
    assert_eq!(feature_breaches(tree).len(), 1);
}
