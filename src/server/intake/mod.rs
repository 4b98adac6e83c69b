//! What does the head of a request say? Its id, its deadline, its route and who is asking; every rule that needs no body.
//! This module never looks at a body and never recognises a caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, header};

use crate::clock::{Deadline, Mono};
use crate::identity::{Credentials, Svid, origin_allowed};
use crate::names::RequestId;
use crate::secret::SecretBytes;
use crate::service::{Code, Refusal};

use super::routes::{Found, Route, Routes};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A Unix socket, with what the kernel says of the process that connected.
    Unix { uid: u32, gid: u32, exe: Option<Arc<str>> },
    /// Loopback TCP, with the address that it connected to.
    Tcp { listen: SocketAddr },
    /// Mutual TLS, with what the verified certificate says.
    Tls { svid: Svid },
}

/// What the head says; a rule that it breaks comes with it, so that the breach is recorded under its id.
pub(super) struct Head {
    pub(super) request: RequestId,
    pub(super) deadline: Deadline,
    pub(super) found: Found,
    pub(super) breach: Option<Refusal>,
}

/// The request id header, given by a caller and echoed.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's own, shorter limit.
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

impl Head {
    /// Reads the head; `limit` is the route's time.
    pub(super) fn read(
        parts: &Parts,
        peer: &Peer,
        routes: &Routes,
        started: Mono,
        limit: Duration,
        fresh: impl Fn() -> RequestId,
    ) -> Self {
        let mut breach = None;
        let request = request_id(&parts.headers).unwrap_or_else(|refusal| {
            breach = Some(refusal);
            None
        });
        let limit =
            timeout(&parts.headers).map(|own| own.map_or(limit, |own| own.min(limit))).unwrap_or_else(|refusal| {
                breach = Some(refusal);
                limit
            });
        let foreign = match peer {
            Peer::Unix { .. } => false,
            Peer::Tcp { listen } => !local(parts, *listen),
            // The handshake says where it leads; a browser that holds a certificate must not be led here by a page.
            Peer::Tls { .. } => parts.headers.contains_key(header::ORIGIN),
        };
        if foreign {
            breach = Some(Refusal::from(Code::ForbiddenOrigin));
        }
        Self {
            request: request.unwrap_or_else(fresh),
            deadline: Deadline(started.plus(limit)),
            found: routes.find(&parts.method, parts.uri.path()),
            breach,
        }
    }

    /// The route, if the head breaks no rule.
    pub(super) fn route(&self) -> Result<&Route, Refusal> {
        if let Some(breach) = &self.breach {
            return Err(breach.clone());
        }
        match &self.found {
            Found::Route(route) => Ok(route),
            Found::WrongMethod(methods) => Err(Refusal::because(Code::MethodNotAllowed, format!("use {methods}"))),
            Found::BadName(_) => Err(Refusal::because(
                Code::MalformedRequest,
                "the path does not name a keyring or key version: a name matches [a-z0-9][a-z0-9-]{0,62}, a version is 16 hexadecimal digits",
            )),
            Found::Nothing => Err(Refusal::from(Code::NotFound)),
        }
    }
}

/// What the caller offers as proof. On a Unix socket the kernel's word is the only one.
pub(super) fn credentials(headers: &HeaderMap, peer: &Peer) -> Credentials {
    match peer {
        Peer::Unix { uid, gid, exe } => Credentials::Peer { uid: *uid, gid: *gid, exe: exe.clone() },
        Peer::Tcp { .. } => bearer(headers).map_or(Credentials::None, Credentials::Bearer),
        Peer::Tls { svid } if headers.contains_key(header::AUTHORIZATION) => match bearer(headers) {
            Some(text) => Credentials::Certificate { svid: svid.clone(), bearer: Some(text) },
            // Whoever means to say more than the certificate and cannot be understood is not taken for less.
            None => Credentials::None,
        },
        Peer::Tls { svid } => Credentials::Certificate { svid: svid.clone(), bearer: None },
    }
}

/// Whether the body claims to be JSON in UTF-8, not compressed.
pub(super) fn media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|value| value == "identity");
    let json = single(headers, &header::CONTENT_TYPE).is_some_and(|value| {
        let mut parts = value.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
            && parts.all(|part| part.is_empty() || part.eq_ignore_ascii_case("charset=utf-8"))
    });
    if plain && json { Ok(()) } else { Err(Refusal::from(Code::UnsupportedMediaType)) }
}

/// The trace that the request belongs to, if it says so in W3C form; anything else is ignored, as the standard wants.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut fields = single(headers, &HeaderName::from_static("traceparent"))?.split('-');
    let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let (version, trace) = (fields.next()?, fields.next()?);
    let well_formed = version.len() == 2 && trace.len() == 32 && hexadecimal(version) && hexadecimal(trace);
    (well_formed && version != "ff" && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

fn bearer(headers: &HeaderMap) -> Option<SecretBytes> {
    let (scheme, token) = single(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| SecretBytes::copy_of(token.as_bytes()))
}

/// The rule that keeps browsers out. HTTP/2 names the host in `:authority`; if a `Host` stands beside it, they must agree.
fn local(parts: &Parts, listen: SocketAddr) -> bool {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = match (authority, single(&parts.headers, &header::HOST)) {
        (Some(authority), None) if !parts.headers.contains_key(header::HOST) => Some(authority),
        (Some(authority), Some(host)) if authority == host => Some(authority),
        (None, host) => host,
        (Some(_), _) => None,
    };
    let origin = parts.headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    origin_allowed(host, origin, listen)
}

fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Refusal> {
    if !headers.contains_key(REQUEST_ID) {
        return Ok(None);
    }
    let parsed = single(headers, &REQUEST_ID).and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| {
        Refusal::because(Code::MalformedRequest, "x-request-id takes 1 to 64 of A-Z a-z 0-9 . _ - and is sent once")
    })
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    if !headers.contains_key(TIMEOUT) {
        return Ok(None);
    }
    // Seven digits are 2 hours and 46 minutes: more than any route gives.
    let digits = |text: &&str| text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    let millis =
        single(headers, &TIMEOUT).filter(digits).and_then(|text| text.parse().ok()).filter(|millis| *millis > 0);
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(|| {
        Refusal::because(
            Code::MalformedRequest,
            "x-request-timeout-ms takes a number from 1 to 9999999 and is sent once",
        )
    })
}

/// The value of a header that is sent once and is printable ASCII.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
