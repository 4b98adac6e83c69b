//! How does an answer become a status and bytes? Success as JSON in the shape of the request, every no as a problem
//! (RFC 9457) with its stable code.

use http::StatusCode;

use crate::names::RequestId;
use crate::secret::SecretBytes;
use crate::server::status;
use crate::service::{Answer, Certificate, Code, Form, Opened, Refusal, RewrappedValue, Shredded};

use super::Shape;
use super::custody;
use super::following;
use super::keks;
use super::keyrings::{inventory, keyring, rest, stepped};
use super::pen::{self, Pen};
use super::policy;
use super::wraps;

/// An answer as HTTP sees it.
pub struct Encoded {
    /// The status.
    pub status: StatusCode,
    /// `application/json` or `application/problem+json`.
    pub content_type: &'static str,
    /// Whether trying again soon is right.
    pub retry: bool,
    /// The body, wiped once it has been sent.
    pub body: SecretBytes,
}

/// Turns an answer into bytes in the shape that the request had.
pub fn encode(answer: Answer, shape: Shape, created: bool, request: &RequestId) -> Encoded {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let write = match answer {
        Answer::Refused(refusal) => return refuse(&refusal, request),
        Answer::Sealed(values) => {
            return values_body(values, shape, request, |pen, sealed: &String| sealed_body(pen, sealed));
        }
        Answer::Opened(values) => return opened(values, shape, request),
        Answer::ValuesRewrapped(values) => return values_body(values, shape, request, rewrapped_body),
        Answer::Keyrings { keyrings, next, damaged } => pen::body(|pen| {
            pen.raw("{\"keyrings\":");
            pen.list(&keyrings, |pen, view| keyring(pen, view));
            rest(pen, next.as_ref(), damaged.as_deref());
        }),
        Answer::Keyring(view) => pen::body(|pen| keyring(pen, &view)),
        Answer::Stepped(view, following) => pen::body(|pen| stepped(pen, &view, following.as_ref())),
        Answer::Following(following) => pen::body(|pen| following::following(pen, &following)),
        Answer::Shredded(certificate) => pen::body(|pen| certified(pen, &certificate)),
        Answer::PartitionsRewrapped { done, remaining, damaged } => pen::body(|pen| {
            pen.raw("{\"rewrapped\":");
            pen.number(done);
            pen.raw(",\"remaining\":");
            pen.number(remaining);
            pen.raw(",\"damaged\":");
            pen.number(damaged);
            pen.raw("}");
        }),
        Answer::Wraps(report) => pen::body(|pen| wraps::report(pen, &report)),
        Answer::Rewrapped(step) => pen::body(|pen| wraps::step(pen, &step)),
        Answer::Keks { uses, now } => pen::body(|pen| keks::uses(pen, &uses, now)),
        Answer::Inventory { keyrings, next, now, damaged } => pen::body(|pen| {
            inventory(pen, &keyrings, now);
            rest(pen, next.as_ref(), damaged.as_deref());
        }),
        Answer::Custody(answer) => match custody::write_custody(&answer) {
            Some(bytes) => SecretBytes::new(bytes),
            None => return refuse(&Refusal::from(Code::Internal), request),
        },
        Answer::PolicyLoaded(loaded) => pen::body(|pen| policy::loaded(pen, &loaded)),
        Answer::Records { records, next } => pen::body(|pen| audit_records(pen, &records, next)),
    };
    Encoded { status, content_type: JSON, retry: false, body: write }
}

/// A no as a problem.
pub fn refuse(refusal: &Refusal, request: &RequestId) -> Encoded {
    let status = status::of(refusal.code);
    let body = pen::body(|pen| problem(pen, refusal, Some(request)));
    Encoded { status, content_type: PROBLEM, retry: status::retry(refusal.code), body }
}

fn opened(values: Vec<Result<Opened, Refusal>>, shape: Shape, request: &RequestId) -> Encoded {
    // `open` gives text only where the plaintext is UTF-8; should it ever not, the item says so and nothing leaks.
    let checked = values.into_iter().map(|value| match value {
        Ok(opened) if opened.form == Form::Text && std::str::from_utf8(opened.plaintext.expose()).is_err() => {
            Err(Refusal::from(Code::NotText))
        }
        value => value,
    });
    values_body(checked.collect(), shape, request, opened_body)
}

fn values_body<T>(
    values: Vec<Result<T, Refusal>>,
    shape: Shape,
    request: &RequestId,
    write: impl Fn(&mut Pen, &T),
) -> Encoded {
    let body = match (shape, values.as_slice()) {
        (Shape::One, [Ok(value)]) => pen::body(|pen| write(pen, value)),
        (Shape::One, [Err(refusal)]) => return refuse(refusal, request),
        (Shape::One, _) => return refuse(&Refusal::from(Code::Internal), request),
        (Shape::Many, values) => pen::body(|pen| {
            pen.raw("{\"items\":");
            pen.list(values, |pen, value| match value {
                Ok(value) => write(pen, value),
                Err(refusal) => {
                    pen.raw("{\"error\":");
                    problem(pen, refusal, None);
                    pen.raw("}");
                }
            });
            pen.raw("}");
        }),
    };
    Encoded { status: StatusCode::OK, content_type: JSON, retry: false, body }
}

fn sealed_body(pen: &mut Pen, sealed: &str) {
    pen.raw("{\"sealed\":");
    pen.string(sealed);
    pen.raw("}");
}

fn rewrapped_body(pen: &mut Pen, value: &RewrappedValue) {
    pen.raw("{\"sealed\":");
    pen.string(&value.sealed);
    pen.raw(if value.unchanged { ",\"unchanged\":true}" } else { ",\"unchanged\":false}" });
}

fn opened_body(pen: &mut Pen, opened: &Opened) {
    match opened.form {
        Form::Text => {
            pen.raw("{\"text\":");
            pen.string(std::str::from_utf8(opened.plaintext.expose()).unwrap_or_default());
        }
        Form::Bytes => {
            pen.raw("{\"bytes\":");
            pen.base64(opened.plaintext.expose());
        }
    }
    pen.raw("}");
}

fn problem(pen: &mut Pen, refusal: &Refusal, request: Option<&RequestId>) {
    let code = refusal.code;
    pen.raw("{\"type\":\"urn:keyward:error:");
    pen.raw(code.as_str());
    pen.raw("\",\"title\":");
    pen.string(code.title());
    pen.raw(",\"status\":");
    pen.number(status::of(code).as_u16().into());
    if let Some(detail) = &refusal.detail {
        pen.raw(",\"detail\":");
        pen.string(detail);
    }
    pen.raw(",\"code\":");
    pen.string(code.as_str());
    pen.raw(",\"advice\":");
    pen.string(code.advice());
    if let Some(request) = request {
        pen.raw(",\"request_id\":");
        pen.string(request.as_str());
    }
    pen.raw("}");
}

fn audit_records(pen: &mut Pen, records: &[(u64, String)], next: u64) {
    pen.raw("{\"records\":");
    pen.list(records, |pen, (index, record)| {
        pen.raw("{\"index\":");
        pen.number(*index);
        // Canonical JSON as the log holds it: spliced, never re-encoded, so that its bytes stay the ones that are hashed.
        pen.raw(",\"record\":");
        pen.raw(record);
        pen.raw("}");
    });
    pen.raw(",\"next\":");
    pen.number(next);
    pen.raw("}");
}

/// The certificate of a shredding. A list of pairs keeps the order in which a person reads it.
fn certified(pen: &mut Pen, certificate: &Certificate) {
    let Shredded { name, at, actor, reason, log, intent, before } = &certificate.shredded;
    let texts = [
        ("{\"store\":", certificate.store.to_string()),
        (",\"keyring\":", certificate.keyring.to_string()),
        (",\"partition\":", hex::encode(name.0)),
        (",\"shredded\":", at.rfc3339_micros()),
        (",\"by\":", actor.clone()),
        (",\"reason\":", reason.clone()),
        (",\"log\":", log.clone()),
    ];
    for (key, text) in &texts {
        pen.raw(key);
        pen.string(text);
    }
    pen.raw(",\"intent_record\":");
    pen.number(*intent);
    pen.raw(",\"shredded_before\":");
    pen.raw(if *before { "true" } else { "false" });
    pen.raw(",\"other_sidecars\":{\"that_reach_the_store_until\":");
    pen.string(&certificate.heard_by().rfc3339_micros());
    pen.raw(",\"that_do_not_until\":");
    pen.string(&certificate.unheard_until().rfc3339_micros());
    if let Some(following) = &certificate.following {
        pen.raw(",");
        following::fields(pen, following);
    }
    pen.raw("},\"backups\":{");
    if let Some(until) = certificate.backups_until() {
        pen.raw("\"gone_by\":");
        pen.string(&until.rfc3339_micros());
        pen.raw(",");
    }
    pen.raw("\"made_before\":");
    pen.string(&at.rfc3339_micros());
    pen.raw("},\"survives\":");
    pen.list(Certificate::SURVIVES, |pen, what| pen.string(what));
    pen.raw("}");
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
