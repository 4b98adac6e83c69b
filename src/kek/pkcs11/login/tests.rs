use std::os::unix::fs::PermissionsExt;

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write_pin("12345678\n");
        place
    }

    #[expect(clippy::disallowed_methods, reason = "a test plays the operator who writes the PIN file")]
    fn write_pin(&self, pin: &str) {
        let path = self.pin();
        std::fs::write(&path, pin).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pin(&self) -> PathBuf {
        self.0.path().join("pin")
    }

    fn login(&self, source: PinSource) -> Login {
        Login::read(&kek(), &source, &rules(PinShape::Free), self.0.path(), Disk::real()).unwrap()
    }

    fn with_file(&self) -> Login {
        self.login(PinSource::File(self.pin()))
    }
}

fn kek() -> KekName {
    "primary".parse().unwrap()
}

fn rules(pin_shape: PinShape) -> profile::Login {
    let (user, source) = (profile::User::User, "a test".to_owned());
    profile::Login { user, pin_shape, pin_min: 0, pin_max: 32, lockout_after: 3, source }
}

#[test]
fn a_pin_that_cannot_be_right_never_reaches_the_token() {
    let told = |pin: &str, shape| check_shape(pin.as_bytes(), &rules(shape)).err();
    assert_eq!(told("12345678", PinShape::Free), None);
    assert!(told(&"1".repeat(33), PinShape::Free).unwrap().contains("0 to 32 bytes"));
    assert_eq!(told("crypto:secret", PinShape::UserPassword), None);
    for bad in ["secret", ":secret", "crypto:"] {
        assert!(told(bad, PinShape::UserPassword).unwrap().contains("USER:PASSWORD"), "{bad}");
    }
    assert_eq!(told("0001password", PinShape::KeyIdPassword), None);
    assert!(told("password", PinShape::KeyIdPassword).is_some());
}

#[test]
fn a_login_that_did_not_finish_blocks_the_next_one_across_restarts() {
    let place = Place::new();
    assert_eq!(place.with_file().begin("42").unwrap().expose(), b"12345678");
    assert_eq!(place.with_file().begin("42").err(), Some(Blocked::Latched(Latch::Pending)));
}

#[test]
fn a_refused_pin_blocks_until_its_source_changes_and_another_token_is_not_concerned() {
    let place = Place::new();
    let login = place.with_file();
    login.begin("42").unwrap();
    login.refuse("42");
    assert_eq!(place.with_file().begin("42").err(), Some(Blocked::Latched(Latch::Refused)));
    assert!(place.with_file().begin("43").is_ok());
    place.write_pin("87654321 is longer");
    assert_eq!(login.begin("42").unwrap().expose(), b"87654321 is longer", "the running sidecar sees the new PIN");
}

#[test]
fn a_pin_refused_under_one_name_is_not_tried_under_another_and_logins_take_turns() {
    let place = Place::new();
    let login = place.with_file();
    login.begin("42").unwrap();
    let named = |name: &str| {
        let (kek, source) = (name.parse().unwrap(), PinSource::File(place.pin()));
        Login::read(&kek, &source, &rules(PinShape::Free), place.0.path(), Disk::real()).unwrap()
    };
    assert!(matches!(named("backup").begin("42").err(), Some(Blocked::Disk(why)) if why.contains("another login")));
    login.refuse("42");
    assert_eq!(named("backup").begin("42").err(), Some(Blocked::Latched(Latch::Refused)));
    assert!(named("backup").begin("43").is_ok(), "another token");
}

#[test]
fn a_settled_login_and_a_cleared_latch_open_the_way() {
    let place = Place::new();
    let login = place.with_file();
    login.begin("42").unwrap();
    login.settle("42").unwrap();
    login.begin("42").unwrap();
    login.refuse("42");
    assert_eq!(clear_login(&Disk::real(), place.0.path(), &kek()).unwrap(), 1);
    assert!(login.begin("42").is_ok());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages the latch")]
fn a_damaged_latch_forbids() {
    let place = Place::new();
    std::fs::write(latch_path(place.0.path(), &kek(), "42"), "keyward login latch 2\nfile 1\npending\n").unwrap();
    assert_eq!(place.with_file().begin("42").err(), Some(Blocked::Latched(Latch::Pending)));
}

#[test]
fn a_credential_made_anew_at_each_start_does_not_lift_the_block() {
    let place = Place::new();
    let login = place.login(PinSource::Credential(place.pin()));
    login.begin("42").unwrap();
    login.refuse("42");
    place.write_pin("12345678");
    let again = place.login(PinSource::Credential(place.pin()));
    assert_eq!(again.begin("42").err(), Some(Blocked::Latched(Latch::Refused)));
}

#[test]
fn an_empty_pin_and_a_standard_stream_are_refused() {
    let place = Place::new();
    place.write_pin("\r\n");
    let rules = rules(PinShape::Free);
    let refusal =
        |source| Login::read(&kek(), &source, &rules, place.0.path(), Disk::real()).err().unwrap().to_string();
    assert!(refusal(PinSource::File(place.pin())).ends_with("it is empty"));
    assert!(refusal(PinSource::Descriptor(0)).ends_with("descriptor 0 is not open"));
}
