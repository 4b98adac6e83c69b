use super::*;

fn softhsm() -> String {
    SHIPPED[0].1.to_owned()
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
    assert_eq!(error, "keyward ships no profile luna9: it ships softhsm2");
}
