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
        if rest.starts_with('[') && rest.ends_with(']') {
            return true;
        }
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
    let database = ["host", "socket", "port", "dbname", "user", "password_file", "tls", "ca_file"];
    let times = ["connect_timeout", "statement_timeout", "connections", "poll"];
    choices.extend(database.iter().chain(&times).map(|name| format!("store.{name}")));
    choices.extend(["jwt.cluster.jwks_url", "keyring.retiring", "listen.tcp"].map(str::to_owned));
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

/// Two keys of one token label each, and what `[keyring]` says of them.
fn two_keks(keyring: &str) -> Vec<(String, String)> {
    let start = EXAMPLE.find("[keyring]").unwrap();
    let end = EXAMPLE.find("[store]").unwrap();
    problems(&format!("{}[keyring]\n{keyring}\n{}", &EXAMPLE[..start], &EXAMPLE[end..]))
}

#[test]
fn of_several_keks_the_primary_must_be_named_and_none_may_be_left_over() {
    let one = |path: &str, message: &str| vec![(path.to_owned(), message.to_owned())];
    assert_eq!(two_keks(""), one("keyring.primary", "is missing, and there is more than one key-encryption key"));
    assert_eq!(two_keks("primary = \"backup\"\nescrow = \"primary\""), []);
    assert_eq!(two_keks("primary = \"primary\""), one("kek.backup", "is used by nothing"));
    assert_eq!(two_keks("primary = \"primary\"\nescrow = \"primary\""), one("keyring.escrow", "is the primary too"));
    let unknown = two_keks("primary = \"primry\"\nescrow = \"bakcup\"");
    let expected =
        [one("keyring.primary", "there is no [kek.primry]"), one("keyring.escrow", "there is no [kek.bakcup]")];
    assert_eq!(unknown, expected.concat());
}

#[test]
fn an_escrow_that_is_the_primary_under_another_name_is_no_second_wrap() {
    let same = EXAMPLE.replace("keyward-backup", "keyward");
    assert_eq!(problems(&same), [("kek.backup".to_owned(), "is the same key as kek.primary".to_owned())]);
    let fds = EXAMPLE.replace("pin_file = \"/etc/keyward/pin\"", "pin_fd = 3");
    let fds = fds.replace("pin_file = \"/etc/keyward/backup-pin\"", "pin_fd = 3");
    let told = "is the descriptor of kek.primary too, and can be read once";
    assert_eq!(problems(&fds), [("kek.backup.pin_fd".to_owned(), told.to_owned())]);
}

#[test]
fn a_single_kek_of_any_name_is_the_primary_and_each_problem_names_its_table() {
    let start = EXAMPLE.find("# A second key").unwrap();
    let end = EXAMPLE.find("[policy]").unwrap();
    let single = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]).replace("[kek.primary]", "[kek.hsm-1]");
    let config = parse(&single, Path::new("/usr/bin/keyward")).unwrap();
    assert_eq!((config.keks.primary.name().as_str(), config.keks.escrow), ("hsm-1", None));
    let paths = |text: String| problems(&text).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(single.replace("[kek.hsm-1]", "[kek.HSM_1]")), ["kek.HSM_1"]);
    assert_eq!(
        paths(EXAMPLE.replace("keyward-backup\"\nkey_label", "keyward-backup\"\nkey_lable")),
        ["kek.backup.key_lable", "kek.backup.key_label"]
    );
    assert_eq!(paths(single.replace("[kek.hsm-1]", "[unrelated]")), ["unrelated", "kek"]);
}

#[test]
fn production_refuses_a_software_escrow() {
    let start = EXAMPLE.find("[kek.backup]").unwrap();
    let end = EXAMPLE.find("[keyring]").unwrap();
    let software = "[kek.backup]\ntype = \"software\"\nfile = \"/k\"\ninsecure_software_kek_for_development = true\n";
    let text = format!("{}{software}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    assert_eq!(problems(&text), [("kek.backup.type".to_owned(), "a software key is for development".to_owned())]);
    assert_eq!(problems(&text.replace("\"production\"", "\"development\"")), []);
}

#[test]
fn a_store_key_check_is_sixteen_bytes_in_hexadecimal() {
    let with = |check: &str| EXAMPLE.replace("# store_key_check = \"00112233445566778899aabbccddeeff\"", check);
    let good = with("store_key_check = \"00112233445566778899aabbccddeeff\"");
    let pinned = parse(&good, Path::new("/usr/bin/keyward")).unwrap().store_key_check.unwrap();
    assert_eq!((pinned[0], pinned[15]), (0, 0xff));
    assert_eq!(problems(&with("store_key_check = \"0011\"")).len(), 1);
    assert!(parse(EXAMPLE, Path::new("/usr/bin/keyward")).unwrap().store_key_check.is_none());
}

#[test]
fn text_that_is_not_toml_is_one_problem_with_its_line() {
    let found = problems("schema = \n");
    assert_eq!(found.first().map(|(path, _)| path.as_str()), Some("keyward.toml"));
    assert!(found.first().is_some_and(|(_, message)| message.contains("line 1")), "{found:?}");
}

#[test]
fn lifetimes_have_limits_and_none_is_longer_than_the_hard_one() {
    let with = |section: &str| {
        let text = EXAMPLE.replace("[cache]\n", &format!("[cache]\n{section}\n"));
        problems(&text).into_iter().map(|(path, message)| format!("{path} {message}")).collect::<Vec<_>>()
    };
    assert_eq!(with("ttl = \"1h\"\noffline_max = \"0s\"\nstore_offline_max = \"15s\""), Vec::<String>::new());
    assert_eq!(with("ttl = \"0s\""), ["cache.ttl is not between 1s and 1h"]);
    assert_eq!(with("offline_max = \"2h\""), ["cache.offline_max is not between 0s and 1h"]);
    assert_eq!(with("store_offline_max = \"1s\""), ["cache.store_offline_max is not between 15s and 1h"]);
    let rotation = |section: &str| {
        let text = EXAMPLE.replace("[rotation]\n", &format!("[rotation]\n{section}\n"));
        problems(&text).into_iter().map(|(path, message)| format!("{path} {message}")).collect::<Vec<_>>()
    };
    assert_eq!(rotation("hard_limit = \"30d\""), Vec::<String>::new(), "shorter periods follow it");
    assert_eq!(rotation("hard_limit = \"731d\""), ["rotation.hard_limit is not between 1d and 730d"]);
    assert_eq!(rotation("data_key = \"100d\"\nhard_limit = \"60d\""), ["rotation.data_key is not between 1h and 60d"]);
    assert_eq!(rotation("messages = 0"), ["rotation.messages is not a positive number of a sensible size"]);
    assert_eq!(rotation("bytes = \"0\""), ["rotation.bytes is 0"]);
}
