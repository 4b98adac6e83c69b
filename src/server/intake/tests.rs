use http::Request;

use super::*;
use crate::service::Surface;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8200);

fn parts(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn head(peer: Peer, target: &str, headers: &[(&str, &str)]) -> Head {
    let routes = Routes::new(Surface::DataTcp).unwrap();
    let fresh = || RequestId::from_random([0xab; 16]);
    Head::read(&parts(target, headers), &peer, &routes, Mono(0), Duration::from_secs(10), fresh)
}

fn unix(headers: &[(&str, &str)]) -> Head {
    head(Peer::Unix { uid: 7, gid: 8, exe: None }, "/v1/open", headers)
}

fn code(head: &Head) -> Option<Code> {
    head.route().err().map(|refusal| refusal.code)
}

#[test]
fn a_request_id_is_taken_or_made_and_a_bad_one_is_refused_under_a_fresh_one() {
    assert_eq!(unix(&[("x-request-id", "A.b_c-1")]).request.as_str(), "A.b_c-1");
    assert_eq!(unix(&[]).request.as_str(), "ab".repeat(16));
    for bad in
        [&[("x-request-id", "a b")][..], &[("x-request-id", "")], &[("x-request-id", "a"), ("x-request-id", "b")]]
    {
        let head = unix(bad);
        assert_eq!((head.request.as_str(), code(&head)), ("ab".repeat(16).as_str(), Some(Code::MalformedRequest)));
    }
}

#[test]
fn a_caller_can_shorten_its_deadline_but_not_lengthen_it() {
    let deadline = |millis| unix(&[("x-request-timeout-ms", millis)]).deadline.0;
    assert_eq!(deadline("250"), Mono(250_000_000));
    assert_eq!(deadline("9999999"), Mono(10_000_000_000));
    for bad in ["0", "-1", "+1", "1.5", "", "99999999", "1s"] {
        assert_eq!(code(&unix(&[("x-request-timeout-ms", bad)])), Some(Code::MalformedRequest), "{bad}");
    }
}

#[test]
fn loopback_tcp_refuses_browsers_and_foreign_hosts() {
    let tcp = |target: &str, headers: &[(&str, &str)]| code(&head(Peer::Tcp { listen: LISTEN }, target, headers));
    assert_eq!(tcp("/v1/open", &[("host", "127.0.0.1:8200")]), None);
    assert_eq!(tcp("http://localhost:8200/v1/open", &[]), None, "HTTP/2 names the host in :authority");
    let refused = Some(Code::ForbiddenOrigin);
    assert_eq!(tcp("/v1/open", &[]), refused);
    assert_eq!(tcp("/v1/open", &[("host", "evil.example:8200")]), refused);
    assert_eq!(tcp("/v1/open", &[("host", "127.0.0.1:8200"), ("origin", "http://127.0.0.1:8200")]), refused);
    assert_eq!(tcp("/v1/open", &[("host", "127.0.0.1:8200"), ("origin", "null")]), refused);
    assert_eq!(tcp("/v1/open", &[("host", "127.0.0.1:8200"), ("host", "127.0.0.1:8200")]), refused);
    assert_eq!(tcp("http://localhost:8200/v1/open", &[("host", "evil.example:8200")]), refused);
    assert_eq!(tcp("/v1/nothing", &[("host", "evil.example:8200")]), refused, "nothing is told before this rule");
}

#[test]
fn only_one_well_formed_bearer_token_is_a_proof_and_only_over_tcp() {
    let offered = |peer, headers: &[(&str, &str)]| match credentials(&parts("/", headers).headers, &peer) {
        Credentials::Bearer(token) => String::from_utf8(token.expose().to_vec()).unwrap(),
        Credentials::Peer { uid, gid, .. } => format!("{uid}:{gid}"),
        Credentials::Certificate { bearer, .. } => format!("certificate and {}", bearer.is_some()),
        Credentials::Untrusted(why) => String::from(why),
        Credentials::None => String::from("none"),
    };
    let tcp = || Peer::Tcp { listen: LISTEN };
    assert_eq!(offered(tcp(), &[("authorization", "Bearer t0ken")]), "t0ken");
    assert_eq!(offered(tcp(), &[("authorization", "bearer t0ken")]), "t0ken");
    for none in
        [&[][..], &[("authorization", "Basic dTpw")], &[("authorization", "Bearer ")], &[("authorization", "t")]]
    {
        assert_eq!(offered(tcp(), none), "none");
    }
    assert_eq!(offered(tcp(), &[("authorization", "Bearer a"), ("authorization", "Bearer b")]), "none");
    assert_eq!(offered(Peer::Unix { uid: 7, gid: 8, exe: None }, &[("authorization", "Bearer t0ken")]), "7:8");
}

#[test]
fn only_plain_json_is_a_body() {
    let accepted = |headers: &[(&str, &str)]| media_type(&parts("/", headers).headers).is_ok();
    for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;"] {
        assert!(accepted(&[("content-type", good)]), "{good}");
    }
    for bad in ["text/plain", "application/json; charset=latin1", "application/jsonx", ""] {
        assert!(!accepted(&[("content-type", bad)]), "{bad}");
    }
    assert!(!accepted(&[]));
    assert!(!accepted(&[("content-type", "application/json"), ("content-encoding", "gzip")]));
}

#[test]
fn a_trace_is_recognised_in_its_standard_form_only() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let of = |value: String| trace_id(&parts("/", &[("traceparent", &value)]).headers).map(str::to_owned);
    assert_eq!(of(format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
    for ignored in [format!("ff-{trace}-1-1"), "00-x-1-1".to_owned(), format!("00-{}-1-1", "0".repeat(32))] {
        assert_eq!(of(ignored), None);
    }
}

#[test]
fn over_tls_a_browser_is_refused_and_a_header_that_is_no_token_makes_nobody() {
    let svid = || crate::identity::Svid::for_tests("spiffe://example.org/a");
    let tls = |headers: &[(&str, &str)]| code(&head(Peer::Tls { svid: svid() }, "/v1/open", headers));
    assert_eq!(tls(&[("host", "keyward.example")]), None);
    assert_eq!(tls(&[("host", "keyward.example"), ("origin", "https://keyward.example")]), Some(Code::ForbiddenOrigin));
    let offered =
        |headers: &[(&str, &str)]| match credentials(&parts("/", headers).headers, &Peer::Tls { svid: svid() }) {
            Credentials::Certificate { bearer, .. } => Some(bearer.is_some()),
            _ => None,
        };
    assert_eq!(offered(&[]), Some(false));
    assert_eq!(offered(&[("authorization", "Bearer t")]), Some(true));
    assert_eq!(offered(&[("authorization", "Basic dTpw")]), None);
    assert_eq!(offered(&[("authorization", "Bearer t"), ("authorization", "Bearer u")]), None);
}
