//! An OpenBao server is sealed, stopped, hung, or takes a token or a permission away under a whole sidecar.

use serde_json::json;

use super::bench::{AWAY, Bench, Fault, HASTY, REFUSED, TAKEN_AWAY, UNNOTICED, Unavailable};
use crate::openbao::{FULL, OpenBao, Place};

/// What a server says without a worker failing first.
const FORBIDDEN: Fault<'_> = Fault { records: &["kek.refused", "kek.recovered"], ..REFUSED };

fn bench(place: &Place<'_>) -> Bench {
    let (address, mount, token) = (place.bao.address(), &place.name, place.file("token").display().to_string());
    Bench::configured(&format!(
        "[kek.primary]\ntype = \"transit\"\naddress = {address:?}\nmount = {mount:?}\nkey = \"kek\"\nauth = \"token\"\n\
         token_file = {token:?}\n\n"
    ))
}

#[test]
fn an_openbao_that_is_sealed_stopped_or_hung_is_an_outage_until_it_is_back() {
    let bao = OpenBao::new();
    let place = bao.place();
    let bench = bench(&place);
    Fault { name: "OpenBao sealed", ..TAKEN_AWAY }.befalls(&bench, || bao.seal(), || bao.unseal());
    let restart = || {
        bao.start();
        bao.unseal();
    };
    Fault { name: "OpenBao stopped", ..TAKEN_AWAY }.befalls(&bench, || bao.stop(), restart);
    let hung = Fault { name: "OpenBao hangs", deadline_ms: HASTY, ..TAKEN_AWAY };
    let hang = || {
        bao.signal("STOP");
        assert_eq!(bench.open_uncached_within(HASTY), Unavailable);
        bench.shows(AWAY, "when nobody waits for it any longer");
    };
    hung.befalls(&bench, hang, || bao.signal("CONT"));
}

#[test]
fn an_openbao_that_takes_a_token_or_a_permission_away_is_a_refusal_until_it_is_given_back() {
    let place = OpenBao::shared().place();
    let bench = bench(&place);
    let forbidden = Fault { name: "permission removed", detail: "permission denied", ..FORBIDDEN };
    forbidden.befalls(&bench, || place.allow(&FULL[..2]), || place.allow(FULL));
    let revoked = Fault { name: "token revoked", detail: "its file holds no other", ..FORBIDDEN };
    let revoke = || drop(place.bao.admin("POST", "auth/token/revoke", &json!({ "token": place.token() })));
    revoked.befalls(&bench, revoke, || drop(place.new_token(&json!({}))));
    let raised = Fault { name: "key version raised", ..UNNOTICED };
    raised.befalls(&bench, || drop(place.key("POST", "/rotate", &json!({}))), || ());
}
