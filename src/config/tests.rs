use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../examples/keyward.toml");

fn problems(text: &str) -> Vec<(String, String)> {
    match parse(text, Path::new("/usr/bin/keyward")) {
        Ok(_) => Vec::new(),
        Err(Problems(found)) => found.into_iter().map(|problem| (problem.path, problem.message)).collect(),
    }
}

#[test]
fn the_example_is_a_good_configuration() {
    assert_eq!(problems(EXAMPLE), []);
}

/// Every line of the example that shows a setting as a comment is a setting too.
#[test]
fn the_example_with_every_comment_uncommented_has_only_the_choices_as_problems() {
    let is_setting = |rest: &&str| {
        let key = rest.split(" = ").next().unwrap_or_default();
        rest.contains(" = ") && key.chars().all(|letter| letter.is_ascii_lowercase() || "_256".contains(letter))
    };
    let setting = |line: &str| line.strip_prefix("# ").filter(is_setting).map(str::to_owned);
    let all: Vec<String> = EXAMPLE.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect();
    let mut paths: Vec<String> = problems(&all.join("\n")).into_iter().map(|(path, _)| path).collect();
    paths.sort();
    let transit = ["address", "auth", "auth_mount", "ca_file"];
    let more = ["jwt_file", "key", "mount", "namespace", "role", "role_id", "secret_id_file", "token_file"];
    let software = ["file", "insecure_software_kek_for_development"];
    let kek = transit.iter().chain(&software).chain(&more).chain(&["pin_fd"]);
    let mut choices: Vec<String> = kek.map(|name| format!("kek.primary.{name}")).collect();
    choices.push("listen.tcp".to_owned());
    choices.sort();
    assert_eq!(paths, choices);
}

#[test]
fn every_setting_that_the_raw_configuration_knows_stands_in_the_example() {
    let raw = include_str!("raw.rs");
    let fields = raw.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    for (field, kind) in fields {
        let field = if field == "kind" && kind.contains("Option") { "type" } else { field };
        let shown = [
            format!("{field} ="),
            format!("[{field}]"),
            format!("[[{field}]]"),
            format!("[{field}."),
            format!(".{field}]"),
        ];
        assert!(shown.iter().any(|form| EXAMPLE.contains(form)), "examples/keyward.toml does not mention {field}");
    }
}

#[test]
fn all_problems_are_reported_at_once_with_their_paths() {
    let text = "schema = 1\nenvironment = \"staging\"\nstate_dir = \"state\"\nsate_dir = \"x\"\n\
        [listen]\ndata = 7\nunxi = 3\n[kek.primary]\ntype = \"pkcs11\"\n[cache]\nttl = \"5 minutes\"\n";
    let found = problems(text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    for path in [
        "sate_dir",
        "listen.unxi",
        "listen.data",
        "environment",
        "state_dir",
        "listen.control",
        "policy.dir",
        "principal",
        "kek.primary.profile",
        "kek.primary.token_label",
        "kek.primary.pin_file",
        "cache.ttl",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
}

#[test]
fn a_newer_schema_is_refused_with_the_version_that_is_read() {
    let found = problems(&EXAMPLE.replace("schema = 1", "schema = 2"));
    assert_eq!(found, [("schema".to_owned(), "is 2, this version of keyward reads 1".to_owned())]);
}

#[test]
fn production_refuses_a_software_key_and_plain_tcp() {
    let text = EXAMPLE.replace("type = \"pkcs11\"", "type = \"software\"").replace("# tcp =", "tcp =");
    let paths: Vec<String> = problems(&text).into_iter().map(|(path, _)| path).collect();
    assert!(paths.contains(&"kek.primary.type".to_owned()) && paths.contains(&"listen.tcp".to_owned()), "{paths:?}");
}

#[test]
fn text_that_is_not_toml_is_one_problem_with_its_line() {
    let found = problems("schema = \n");
    assert_eq!(found.first().map(|(path, _)| path.as_str()), Some("keyward.toml"));
    assert!(found.first().is_some_and(|(_, message)| message.contains("line 1")), "{found:?}");
}
