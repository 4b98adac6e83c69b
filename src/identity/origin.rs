//! May a request with these headers come in over loopback TCP? Keeps browsers and DNS rebinding out.

use std::net::SocketAddr;

/// Whether the headers are those of a local client: no `Origin` at all (only browsers send one), and a `Host` that
/// names the listener by a loopback name and its port. A rebound DNS name arrives with the attacker's Host.
pub fn origin_allowed(host: Option<&str>, origin: Option<&str>, listen: SocketAddr) -> bool {
    let (None, Some(host)) = (origin, host) else { return false };
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let local = name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost");
    local && port == listen.port().to_string()
}
