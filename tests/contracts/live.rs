//! The suite on every token that runs here, each with the method that its profile prefers, and Kryoptic, SoftHSM, NSS and
//! openCryptoki with the other methods of theirs.

use keyward::kek::pkcs11::Pkcs11Settings;

use crate::softhsm::Softhsm;
use crate::suite::{self, Second, Subject};
use crate::tokens::kryoptic::Kryoptic;
use crate::tokens::nss::Nss;
use crate::tokens::opencryptoki::Opencryptoki;
use crate::tokens::p11kit::P11kit;
use crate::tokens::tpm2::Tpm2;

/// One module with a test for each claim.
macro_rules! kept_by {
    ($($token:ident: $subject:expr;)*) => { $(mod $token {
        use super::*;
        tests_of! {
            $subject;
            a_wrap_opens_to_its_key_and_survives_its_stored_form
            two_wraps_of_one_key_share_no_eight_bytes
            a_wrap_opens_under_no_other_binding
            a_changed_wrap_is_refused_and_the_token_keeps_its_worker
            a_wrap_by_another_key_of_the_token_is_refused
            thirty_two_callers_at_once_all_get_their_own_key
            the_token_gives_randomness
            the_key_is_fit_and_the_token_reports_what_its_profile_says
            a_key_for_another_use_is_refused
            a_wrap_outlives_the_worker_and_the_sidecar
            after_a_rotation_wraps_of_both_versions_open
            a_rotation_makes_the_next_version_once_and_both_old_and_new_sidecars_open_its_wraps
        }
    })* };
}

macro_rules! tests_of {
    ($subject:expr; $($claim:ident)*) => { $(
        #[tokio::test]
        async fn $claim() {
            suite::$claim(&$subject.await).await;
        }
    )* };
}

kept_by! {
    softhsm2: softhsm("aes-gcm");
    kryoptic: kryoptic("aes-gcm");
    nss: nss("aes-gcm");
    opencryptoki: opencryptoki("aes-cbc-hmac");
    tpm2_pkcs11: tpm2();
    p11_kit: p11kit();
    softhsm2_by_rsa_oaep: softhsm("rsa-oaep");
    softhsm2_by_aes_cbc_hmac: softhsm("aes-cbc-hmac");
    softhsm2_by_unwrap_getattr: softhsm("unwrap-getattr");
    kryoptic_by_aes_kwp: kryoptic("aes-kwp");
    kryoptic_by_aes_kw: kryoptic("aes-kw");
    kryoptic_by_aes_cbc_hmac: kryoptic("aes-cbc-hmac");
    kryoptic_by_rsa_oaep: kryoptic("rsa-oaep");
    kryoptic_by_unwrap_getattr: kryoptic("unwrap-getattr");
    nss_by_aes_kwp: nss("aes-kwp");
    nss_by_aes_kw: nss("aes-kw");
    nss_by_aes_cbc_hmac: nss("aes-cbc-hmac");
    nss_by_rsa_oaep: nss("rsa-oaep");
    nss_by_unwrap_getattr: nss("unwrap-getattr");
    opencryptoki_by_rsa_oaep: opencryptoki("rsa-oaep");
}

/// The method of that name.
fn by(method: &str, settings: Pkcs11Settings) -> Pkcs11Settings {
    Pkcs11Settings { method: Some(method.into()), ..settings }
}

async fn softhsm(method: &str) -> Subject {
    let token = Softhsm::new();
    Subject::create(by(method, token.settings()), Box::new(token)).await.sparing(method)
}

async fn kryoptic(method: &str) -> Subject {
    let token = Kryoptic::new();
    Subject::create(by(method, token.settings()), Box::new(token)).await.sparing(method)
}

async fn nss(method: &str) -> Subject {
    let token = Nss::new();
    Subject::create(by(method, token.settings()), Box::new(token)).await.sparing(method)
}

async fn opencryptoki(method: &str) -> Subject {
    let token = Opencryptoki::new();
    Subject::create(by(method, token.settings()), Box::new(token)).await.sparing(method)
}

async fn p11kit() -> Subject {
    let token = P11kit::new();
    Subject::create(token.settings(), Box::new(token)).await.sparing("rsa-oaep")
}

/// Its keys come from the vendor's tool.
async fn tpm2() -> Subject {
    let token = Tpm2::new();
    Subject { settings: token.settings(), second: Second::Made, stride: 40, _token: Box::new(token) }
}
