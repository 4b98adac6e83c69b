use super::*;

fn softhsm() -> String {
    Profile::text_of("softhsm2").unwrap().to_owned()
}

fn refusal(text: &str) -> String {
    Profile::parse(text).unwrap_err().to_string()
}

#[test]
fn every_shipped_profile_parses_and_carries_the_id_it_is_shipped_under() {
    for (id, text) in SHIPPED {
        assert_eq!(Profile::parse(text).unwrap().id, *id);
    }
}

#[test]
fn every_file_of_the_folder_is_shipped_once_and_in_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-profiles");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = names.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let mut found: Vec<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    found.sort();
    let shipped: Vec<&str> = SHIPPED.iter().map(|(id, _)| *id).collect();
    assert_eq!(found, shipped);
}

#[test]
fn a_file_of_the_operators_is_read_like_a_shipped_profile() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-profiles/thales-luna-7-fips.toml");
    let read = Profile::load(&ProfileChoice::File(file)).unwrap();
    assert_eq!(read, Profile::load(&ProfileChoice::Shipped("thales-luna-7-fips".into())).unwrap());
    let absent = Profile::load(&ProfileChoice::File("/nowhere/mine.toml".into())).unwrap_err().to_string();
    assert!(absent.starts_with("/nowhere/mine.toml: "), "{absent}");
}

/// Shipped profiles whose product no test has run.
fn from_documents() -> Vec<Profile> {
    let all = SHIPPED.iter().map(|(_, text)| Profile::parse(text).unwrap());
    all.filter(|profile| profile.verified != Verified::Live).collect()
}

#[test]
fn a_profile_from_documents_claims_nothing_that_was_run() {
    for profile in from_documents() {
        let tables = [
            &profile.module.source,
            &profile.slot.source,
            &profile.login.source,
            &profile.session.source,
            &profile.calls.source,
            &profile.errors.source,
            &profile.attributes.source,
            &profile.setup.source,
        ];
        let wraps = profile.wrap.iter().map(WrapMethod::source);
        let pitfalls = profile.pitfall.iter().map(|pitfall| pitfall.source.as_str());
        let sources = tables.into_iter().map(String::as_str).chain(wraps).chain(pitfalls);
        let run: Vec<&str> = sources.filter(|source| source.split([':', ';', ' ']).any(|word| word == "run")).collect();
        assert_eq!(run, [""; 0], "{}", profile.id);
        assert!(!profile.pitfall.is_empty(), "{}", profile.id);
    }
}

#[test]
fn the_lines_for_keyward_toml_in_a_setup_name_the_profile_and_only_variables_that_it_passes_on() {
    for profile in from_documents() {
        let mark = "keyward.toml, [kek.primary]: ";
        let lines = profile.setup.steps.iter().find_map(|step| step.strip_prefix(mark)).unwrap();
        let table: toml::Table = toml::from_str(&format!("kek = {{ {lines} }}")).unwrap();
        let kek = table["kek"].as_table().unwrap();
        assert_eq!(kek["profile"].as_str(), Some(profile.id.as_str()));
        assert_eq!(kek["type"].as_str(), Some("pkcs11"));
        assert_eq!(kek.contains_key("pin_file"), profile.login.user == User::User, "{}", profile.id);
        let env = kek.get("env").and_then(toml::Value::as_table).into_iter().flatten();
        let foreign: Vec<&String> =
            env.map(|(name, _)| name).filter(|name| !profile.module.env.contains(name)).collect();
        assert!(foreign.is_empty(), "{}: {foreign:?}", profile.id);
    }
}

#[test]
fn every_return_code_for_a_pin_stops_logins_in_every_shipped_profile() {
    for (id, text) in SHIPPED {
        let errors = Profile::parse(text).unwrap().errors;
        for code in [0xA0, 0xA1, 0xA2, 0xA3, 0xA4] {
            assert_eq!(errors.class(code), ErrorClass::PinStop, "{id}: {code:#x}");
        }
    }
}

#[test]
fn an_unknown_field_is_refused_in_every_table() {
    for table in
        ["[module]", "[slot]", "[login]", "[session]", "[calls]", "[[wrap]]", "[errors]", "[attributes]", "[setup]"]
    {
        let text = softhsm().replacen(table, &format!("{table}\nsurprise = 1"), 1);
        assert!(refusal(&text).contains("surprise"), "{table}");
    }
}

#[test]
fn a_newer_schema_names_the_version_needed_even_if_it_has_new_fields() {
    let text = softhsm().replacen("schema = 1", "schema = 2\nnovelty = true", 1);
    assert_eq!(refusal(&text), "a profile of schema 2 needs a newer keyward: this one reads schema 1");
}

#[test]
fn a_code_in_two_classes_and_an_empty_source_are_refused() {
    let twice = softhsm().replacen("busy = []", "busy = [0x05]", 1);
    assert!(refusal(&twice).contains("the code 0x5 stands in two classes"));
    let silent = softhsm().replacen("source = \"run\"\n", "source = \" \"\n", 1);
    assert!(refusal(&silent).contains("names no source"));
}

#[test]
fn a_variable_of_the_loader_is_refused() {
    let text = softhsm().replacen("[\"SOFTHSM2_CONF\"]", "[\"SOFTHSM2_CONF\", \"LD_PRELOAD\"]", 1);
    assert!(refusal(&text).contains("LD_PRELOAD is the loader's"));
}

#[test]
fn an_iv_mode_that_keyward_does_not_know_is_refused_and_never_replaced() {
    let text = softhsm().replacen("iv = \"caller\"", "iv = \"counter\"", 1);
    assert!(refusal(&text).contains("counter"));
    let silent = softhsm().replacen("iv = \"caller\"\n", "", 1);
    assert!(refusal(&silent).contains("missing field `iv`"));
}

#[test]
fn a_pool_that_the_token_or_its_library_cannot_have_is_refused() {
    let small = softhsm().replacen("max = 0", "max = 4", 1);
    assert!(refusal(&small).contains("more than max 4"));
    let unlocked = softhsm().replacen("os_locking = true", "os_locking = false", 1);
    assert!(refusal(&unlocked).contains("needs os_locking"));
}

#[test]
fn two_tables_of_one_name_are_told_apart_by_their_variant() {
    let profile = Profile::load(&ProfileChoice::Shipped("aws-cloudhsm".into())).unwrap();
    assert_eq!(profile.chosen(Some("aes-gcm")).unwrap().method(), Method::AesGcmHsmPrepended);
    assert_eq!(profile.chosen(Some("aes-gcm/hsm-writeback")).unwrap().method(), Method::AesGcmHsmWriteback);
    assert!(profile.chosen(Some("aes-gcm/caller")).unwrap_err().contains("has no method aes-gcm/caller"));
}

#[test]
fn unwrapping_by_value_is_taken_only_when_it_is_named() {
    let mut profile = Profile::parse(&softhsm()).unwrap();
    profile.wrap.retain(|wrap| wrap.name() == "unwrap-getattr");
    assert_eq!(
        profile.chosen(None),
        Err("the profile softhsm2 has only unwrap-getattr, which `method` must ask for by name".into())
    );
    assert_eq!(profile.chosen(Some("unwrap-getattr")).unwrap().method(), Method::UnwrapGetattr);
}

#[test]
fn an_unlisted_code_is_ambiguous() {
    let profile = Profile::parse(&softhsm()).unwrap();
    assert_eq!(profile.errors.class(0x8000_1234), ErrorClass::Ambiguous);
    assert_eq!(profile.errors.class(0x40), ErrorClass::BadInput);
    assert_eq!(profile.errors.class(0xA0), ErrorClass::PinStop);
}

#[test]
fn an_unknown_id_lists_what_is_shipped() {
    let choice = ProfileChoice::Shipped("luna9".into());
    let error = Profile::load(&choice).unwrap_err().to_string();
    let shipped: Vec<&str> = SHIPPED.iter().map(|(id, _)| *id).collect();
    assert_eq!(error, format!("keyward ships no profile luna9: it ships {}", shipped.join(", ")));
}
