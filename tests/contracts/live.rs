//! The suite on every token that runs here, each with the method that its profile prefers, and on Kryoptic with all others.

use crate::softhsm::Softhsm;
use crate::suite::{self, Subject};
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
            a_wrap_outlives_the_worker_and_the_sidecar
            after_a_rotation_wraps_of_both_versions_open
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
    softhsm2: softhsm();
    kryoptic: kryoptic();
    nss: nss();
    opencryptoki: opencryptoki();
    tpm2_pkcs11: tpm2();
    p11_kit: p11kit();
}

async fn softhsm() -> Subject {
    let token = Softhsm::new();
    Subject::create(token.settings(), Box::new(token)).await
}

async fn kryoptic() -> Subject {
    let token = Kryoptic::new();
    Subject::create(token.settings(), Box::new(token)).await
}

async fn nss() -> Subject {
    let token = Nss::new();
    Subject::create(token.settings(), Box::new(token)).await
}

async fn opencryptoki() -> Subject {
    let token = Opencryptoki::new();
    Subject::create(token.settings(), Box::new(token)).await
}

async fn p11kit() -> Subject {
    let token = P11kit::new();
    Subject { stride: 7, ..Subject::create(token.settings(), Box::new(token)).await }
}

/// Its keys come from the vendor's tool.
async fn tpm2() -> Subject {
    let token = Tpm2::new();
    Subject { settings: token.settings(), stride: 40, _token: Box::new(token) }
}
