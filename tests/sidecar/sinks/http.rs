//! Collectors behind HTTP: ones that take records, and ones that refuse, lie or never confirm. They are played by the test,
//! which knows what it was sent and what it answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{complete, recorded, seal, until, with_sink};
use crate::support::Setup;

/// A request: its path, its headers in one text, its body.
type Request = (String, String, String);

/// How a collector answers: a status and a body.
type Answer = Box<dyn Fn(&Request) -> (u16, String) + Send>;

/// A collector that answers as it is told.
struct Collector {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Collector {
    fn new(answer: impl Fn(&Request) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let made = Self { port, seen: Arc::default(), answer: Arc::new(Mutex::new(Box::new(answer))) };
        let (seen, answer) = (made.seen.clone(), made.answer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                let (mut first, mut head, mut length) = (String::new(), String::new(), 0);
                if stream.read_line(&mut first).unwrap_or(0) == 0 {
                    continue;
                }
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let line = line.to_ascii_lowercase();
                    if let Some(bytes) = line.strip_prefix("content-length: ") {
                        length = bytes.trim().parse().unwrap();
                    }
                    head += &line;
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let request = (path, head, String::from_utf8(body).unwrap());
                let (status, said) = (answer.lock().unwrap())(&request);
                seen.lock().unwrap().push(request);
                let length = said.len();
                let _sent = write!(
                    stream.get_mut(),
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{said}"
                );
            }
        });
        made
    }

    fn answers(&self, answer: impl Fn(&Request) -> (u16, String) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    fn sink(&self, setup: &str, kind: &str, path: &str) -> (Setup, u16) {
        with_sink(&format!("type = \"{kind}\"\nurl = \"http://127.0.0.1:{}{path}\"\n{setup}", self.port))
    }
}

/// The records of posts whose answer was a success.
fn posted(requests: &[Request], taken: impl Fn(usize) -> bool, of: impl Fn(Value) -> Value) -> Vec<Value> {
    let bodies = requests.iter().enumerate().filter(|(number, _)| taken(*number)).map(|(_, request)| &request.2);
    bodies
        .flat_map(|body| body.lines().map(|line| of(serde_json::from_str(line).unwrap())).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_collector_of_lines_gets_all_that_it_refused_before() {
    let collector = Collector::new(|_| (503, "full".to_owned()));
    let (setup, _) = collector.sink("", "http", "/take?from=keyward");
    let _serving = setup.serve();
    setup.keyring();
    seal(&setup, 5);
    recorded(&setup, "sink.failed", Some("refused"));
    let refused = collector.seen().len();
    collector.answers(|_| (204, String::new()));
    recorded(&setup, "sink.recovered", None);
    let after = collector
        .seen()
        .iter()
        .take(refused + 1)
        .all(|(path, head, _)| path == "/take?from=keyward" && head.contains("content-type: application/x-ndjson"));
    assert!(after);
    until("all records arrive", || {
        // Whatever came before the first success was refused; one post may have been under way.
        complete(&setup, &posted(&collector.seen(), |number| number >= refused, |line| line))
    });
}

#[test]
fn an_event_collector_is_believed_only_when_it_says_that_it_took_them() {
    let collector = Collector::new(|_| (200, "<html>welcome</html>".to_owned()));
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "11111111-aaaa\n").unwrap();
    let file = format!("token_file = \"{}\"", token.path().display());
    let (setup, port) = collector.sink(&file, "splunk", "/services/collector/event");
    let serving = setup.serve();
    setup.keyring();
    seal(&setup, 3);
    recorded(&setup, "sink.failed", Some("answer"));
    let text = super::get(port, "/readyz?verbose");
    assert!(text.contains("no answer of an event collector") && !text.contains("11111111"), "{text}");
    drop(serving);
    collector.answers(|_| (200, r#"{"text":"Success","code":0}"#.to_owned()));
    let lied = collector.seen().len();
    let _serving = setup.serve();
    until("all records arrive", || {
        complete(&setup, &posted(&collector.seen(), |number| number >= lied, |mut event| event["event"].take()))
    });
    let (_, head, body) = collector.seen().pop().unwrap();
    assert!(head.contains("authorization: splunk 11111111-aaaa"), "{head}");
    let event: Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
    let micros = event["event"]["record"]["time"].as_u64().unwrap();
    assert_eq!(event["time"].to_string(), format!("{}", micros as f64 / 1e6));
}

#[test]
fn with_acknowledgement_records_count_when_the_indexer_has_them() {
    let (asked, token) = (Arc::new(Mutex::new(0)), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(token.path(), "token").unwrap();
    let count = asked.clone();
    let collector = Collector::new(move |(path, head, _)| {
        assert!(head.contains("x-splunk-request-channel: "));
        if path == "/services/collector/ack" {
            let mut count = count.lock().unwrap();
            *count += 1;
            return (200, format!(r#"{{"acks":{{"7":{}}}}}"#, *count % 2 == 0));
        }
        (200, r#"{"text":"Success","code":0,"ackId":7}"#.to_owned())
    });
    let file = format!("token_file = \"{}\"\nacknowledge = true", token.path().display());
    let (setup, _) = collector.sink(&file, "splunk", "/services/collector/event");
    let _serving = setup.serve();
    setup.keyring();
    until("all records arrive", || {
        let seen: Vec<Request> = collector.seen().into_iter().filter(|request| !request.0.ends_with("/ack")).collect();
        complete(&setup, &posted(&seen, |_| true, |mut event| event["event"].take()))
    });
    assert!(*asked.lock().unwrap() >= 2);
    collector.answers(|_| (200, r#"{"text":"Success","code":0}"#.to_owned()));
    recorded(&setup, "sink.failed", Some("answer"));
}
