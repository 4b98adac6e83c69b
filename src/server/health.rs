//! Is the process alive, can it do its work, and what do its counters say? Plain HTTP without a secret, on a listener
//! of its own that never asks the KEK, the store or the log: it reads a board that the parts are posted on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use crate::telemetry::Metrics;

/// How a part is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but someone should look.
    Degraded,
    /// It does not work; requests that need it fail.
    Failing,
}

/// One part as it was last posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name: `kek primary`, `log`, `store`.
    pub name: String,
    /// How it is doing.
    pub state: State,
    /// What to know, for people; no secret.
    pub text: String,
}

/// All parts. Whoever watches a part posts on it; the health listener only reads.
#[derive(Debug, Default)]
pub struct Board {
    parts: ArcSwap<Vec<Part>>,
}

impl Board {
    /// A board without parts: nothing is ready on it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Posts how a part is doing.
    pub fn post(&self, part: &Part) {
        self.parts.rcu(|parts| {
            let mut parts = Vec::clone(parts);
            match parts.iter_mut().find(|known| known.name == part.name) {
                Some(known) => known.clone_from(part),
                None => parts.push(part.clone()),
            }
            parts
        });
    }

    /// The parts in the order in which they were first posted.
    pub fn parts(&self) -> Arc<Vec<Part>> {
        self.parts.load_full()
    }

    /// Whether there are parts and none is failing.
    pub fn ready(&self) -> bool {
        let parts = self.parts.load();
        !parts.is_empty() && parts.iter().all(|part| part.state != State::Failing)
    }
}

/// Answers one request of the health listener.
pub(super) fn answer<B>(board: &Board, metrics: &Metrics, request: &Request<B>) -> Response<Full<Bytes>> {
    let (path, query) = (request.uri().path(), request.uri().query());
    let known = matches!(path, "/livez" | "/readyz" | "/metrics");
    if known && request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::from("GET only\n"));
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("GET"));
        return response;
    }
    match path {
        "/livez" => text(StatusCode::OK, PLAIN, String::from("ok\n")),
        "/readyz" => readiness(board, matches!(query, Some("verbose" | "verbose=" | "verbose=true"))),
        "/metrics" => match metrics.text() {
            Ok(all) => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", all),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::from("the metrics do not encode\n")),
        },
        _ => text(StatusCode::NOT_FOUND, PLAIN, String::from("there are /livez, /readyz and /metrics\n")),
    }
}

/// What a browser or a rebound name hears.
pub(super) fn foreign() -> Response<Full<Bytes>> {
    text(StatusCode::FORBIDDEN, PLAIN, String::from("call the loopback address directly and send no Origin\n"))
}

fn readiness(board: &Board, verbose: bool) -> Response<Full<Bytes>> {
    let ready = board.ready();
    let (status, word) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    let mut body = String::new();
    if verbose {
        for part in board.parts().iter() {
            body += &format!("[{}] {}: {}\n", mark(part.state), line(&part.name), line(&part.text));
        }
    }
    text(status, PLAIN, body + word + "\n")
}

const fn mark(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Degraded => "degraded",
        State::Failing => "failing",
    }
}

/// Texts may come from a token: what would break the line or the terminal is left out.
fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::telemetry::Build;

    fn part(name: &str, state: State, text: &str) -> Part {
        Part { name: name.to_owned(), state, text: text.to_owned() }
    }

    async fn get(board: &Board, target: &str) -> (u16, String) {
        let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
        let request = Request::get(target).body(()).unwrap();
        let response = answer(board, &metrics, &request);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_failing_part_makes_the_whole_not_ready_and_a_degraded_one_does_not() {
        let board = Board::new();
        assert_eq!(get(&board, "/readyz").await, (503, "not ready\n".to_owned()));
        board.post(&part("log", State::Ok, "appending"));
        board.post(&part("kek primary", State::Degraded, "slow\r\nX: y"));
        let listed = "[ok] log: appending\n[degraded] kek primary: slowX: y\nready\n";
        assert_eq!(get(&board, "/readyz?verbose").await, (200, listed.to_owned()));
        board.post(&part("log", State::Failing, "disk full"));
        assert_eq!(get(&board, "/readyz").await, (503, "not ready\n".to_owned()));
        assert_eq!(get(&board, "/livez").await, (200, "ok\n".to_owned()), "liveness asks no part");
        board.post(&part("log", State::Ok, "appending"));
        assert_eq!(board.parts().len(), 2);
        assert!(board.ready());
    }

    #[tokio::test]
    async fn the_listener_has_three_paths_and_one_method() {
        let board = Board::new();
        assert!(get(&board, "/metrics").await.1.contains("keyward_build_info"));
        assert_eq!(get(&board, "/").await.0, 404);
        let metrics = Metrics::new(&["ok"], &Build { version: "0" }).unwrap();
        let response = answer(&board, &metrics, &Request::post("/livez").body(()).unwrap());
        assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"GET".parse().unwrap()));
    }
}
