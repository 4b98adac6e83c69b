//! How does one HTTP request become one answer? Head, body, operation, service, bytes; what the service answers with is
//! the only thing that is ever sent, and a client that hangs up stops nothing that has begun.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, header};
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{BoxFuture, Deadline, SharedClock};
use crate::identity::Credentials;
use crate::names::RequestId;
use crate::secret::SecretBytes;
use crate::service::{Answer, Call, Code, Operation, Refusal, Surface};
use crate::telemetry::{Metrics, Verb};

use super::body::{self, Reply};
use super::intake::{self, Head, Peer, REQUEST_ID};
use super::routes::{Found, Route, Routes};
use super::tracker::Tracker;
use super::wire::{self, Encoded, LookupPath, MAX_BODY_BYTES, Shape};
use super::{FreshRequestId, Limits};

/// Answers a call. In the product this is `Service::handle` and nothing else (see `Server::start`).
pub(super) type Answers = Arc<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// Whether credentials are anybody's at a surface. In the product this is `Service::knows` and nothing else.
pub(super) type Knows = Arc<dyn Fn(Surface, &Credentials) -> bool + Send + Sync>;

/// What to wait for before credentials are nobody's for good. In the product this is `Service::learn` and nothing else.
pub(super) type Learns = Arc<dyn Fn(&Credentials) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

/// What a listener needs to answer requests.
pub(super) struct Desk {
    pub(super) surface: Surface,
    pub(super) routes: Routes,
    pub(super) answers: Answers,
    pub(super) knows: Knows,
    pub(super) learns: Learns,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) fresh: FreshRequestId,
    pub(super) limits: Limits,
    /// Requests at once.
    pub(super) room: Arc<Semaphore>,
    /// Bodies at once, in KiB.
    pub(super) memory: Arc<Semaphore>,
    pub(super) at_work: Tracker,
}

/// The room and the memory that a request holds while it is answered.
type Held = Vec<OwnedSemaphorePermit>;

/// A refusal is recorded even when the request's own time is up; the log gets this long for it.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// The service answers by the deadline; if it does not, the caller is told so after this long, and the work goes on to
/// its record.
const GRACE: Duration = Duration::from_secs(1);
/// How long a client that sent too much may go on sending before it is answered.
const DISCARD_TIME: Duration = Duration::from_secs(2);

impl Desk {
    /// Answers one request.
    pub(super) async fn exchange(&self, peer: Peer, request: Request<Incoming>) -> Response<Reply> {
        let started = self.clock.mono();
        let (parts, mut body) = request.into_parts();
        let limit = self.limits.request_timeout;
        let head = Head::read(&parts, &peer, &self.routes, started, limit, &*self.fresh);
        let mut held = Held::new();
        let credentials = intake::credentials(&parts.headers, &peer);
        // Whoever is nobody takes no room and no memory, and not a byte of the body is read.
        let asked = if self.known(&credentials, head.deadline).await || head.route().is_err() {
            self.operation(&head, &parts, &mut body, &mut held).await
        } else {
            Err(Code::Unauthenticated.into())
        };
        let (operation, shape) = match asked {
            Ok((operation, shape)) => (Ok(operation), shape),
            Err(refusal) => (Err(refusal), Shape::One),
        };
        let deadline = match &operation {
            Ok(_) => head.deadline,
            Err(_) => head.deadline.max(Deadline(self.clock.mono().plus(REFUSAL_TIME))),
        };
        let call = Call { surface: self.surface, credentials, request: head.request.clone(), deadline, operation };
        let (answer, held) = self.ask(call, held).await;
        let result = self.count(head.found.verb(), &answer);
        let created = matches!(head.found, Found::Route(Route::CreateKeyring | Route::Lookup(LookupPath::Create)));
        let encoded = wire::encode(answer, shape, created, &head.request);
        let took = self.clock.mono().since(started);
        self.metrics.answered(head.found.verb(), result, took.as_secs_f64());
        let trace = intake::trace_id(&parts.headers);
        let operation = head.found.verb().name();
        tracing::debug!(request = %head.request, trace, operation, result, micros = took.as_micros(), "answered");
        respond(encoded, &head, held)
    }

    /// Records that somebody came who cannot be spoken with: a request like any other, but for its bytes.
    pub(super) async fn turned_away(&self, why: &'static str) {
        let deadline = Deadline(self.clock.mono().plus(REFUSAL_TIME));
        let (credentials, operation) = (Credentials::Untrusted(why), Err(Code::Unauthenticated.into()));
        let call = Call { surface: self.surface, credentials, request: (self.fresh)(), deadline, operation };
        let (_answer, _held) = self.ask(call, Held::new()).await;
    }

    /// Whether credentials are somebody's, perhaps after a look at the keys of their issuer.
    async fn known(&self, credentials: &Credentials, deadline: Deadline) -> bool {
        if (self.knows)(self.surface, credentials) {
            return true;
        }
        let Some(learnt) = (self.learns)(credentials) else { return false };
        tokio::select! {
            () = learnt => {}
            () = self.clock.sleep_until(deadline.0) => {}
        }
        (self.knows)(self.surface, credentials)
    }

    /// What is asked; on the way the request takes its place and the memory of its body.
    async fn operation(
        &self,
        head: &Head,
        parts: &Parts,
        body: &mut Incoming,
        held: &mut Held,
    ) -> Result<(Operation, Shape), Refusal> {
        let route = head.route()?;
        held.push(Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            let most = self.limits.concurrency;
            Refusal::because(Code::RateLimited, format!("this listener answers {most} requests at once"))
        })?);
        let query = parts.uri.query();
        if let Some(asked) = without_body(route, query) {
            no_body(body)?;
            return asked.map(one);
        }
        let bytes = self.body(head, parts, body, held).await?;
        with_body(route, bytes.expose())
    }

    /// The body, within its limit and before the deadline. A request whose body never arrives whole asks nothing.
    async fn body(
        &self,
        head: &Head,
        parts: &Parts,
        body: &mut Incoming,
        held: &mut Held,
    ) -> Result<SecretBytes, Refusal> {
        wire::no_query(parts.uri.query())?;
        intake::media_type(&parts.headers)?;
        let reading = async {
            let announced = body::announced(body, MAX_BODY_BYTES)?;
            let kib = announced.unwrap_or(MAX_BODY_BYTES).div_ceil(1024).min(self.limits.body_kib);
            let kib = u32::try_from(kib).unwrap_or(u32::MAX);
            held.extend(Arc::clone(&self.memory).acquire_many_owned(kib).await);
            body::read(body, announced, MAX_BODY_BYTES).await
        };
        let read = tokio::select! {
            read = reading => read,
            () = self.clock.sleep_until(head.deadline.0) => {
                Err(Refusal::because(Code::DeadlineExceeded, "the body did not arrive in time"))
            }
        };
        // A client that waits for `100 Continue` has sent nothing that could be discarded.
        if matches!(&read, Err(refusal) if refusal.code == Code::TooLarge)
            && !parts.headers.contains_key(header::EXPECT)
        {
            tokio::select! {
                () = body::discard(body, MAX_BODY_BYTES) => {}
                () = self.clock.sleep_until(self.clock.mono().plus(DISCARD_TIME)) => {}
            }
        }
        read
    }

    /// Asks in a task of its own: what has begun goes on to its record whether or not anybody still listens.
    /// Room and memory stay taken until the answer has left: an answer that nobody reads counts against the limits.
    async fn ask(&self, call: Call, held: Held) -> (Answer, Held) {
        let latest = call.deadline.0.plus(GRACE);
        let answering = (self.answers)(call);
        let (at_work, metrics) = (self.at_work.begin(), Arc::clone(&self.metrics));
        let task = tokio::spawn(async move {
            let _in_flight = InFlight::begin(metrics);
            let answer = answering.await;
            drop(at_work);
            (answer, held)
        });
        tokio::select! {
            // The task cannot be cancelled; it ends early only by a panic, which is a defect.
            done = task => done.unwrap_or_else(|_| (Answer::Refused(Refusal::from(Code::Internal)), Held::new())),
            () = self.clock.sleep_until(latest) => (Answer::Refused(Refusal::from(Code::DeadlineExceeded)), Held::new()),
        }
    }

    /// Counts the items and says what the request comes to.
    fn count(&self, verb: Verb, answer: &Answer) -> &'static str {
        match answer {
            Answer::Refused(refusal) => refusal.code.as_str(),
            Answer::Sealed(items) => self.count_items(verb, items.iter().map(|item| item.as_ref().err())),
            Answer::Opened(items) => self.count_items(verb, items.iter().map(|item| item.as_ref().err())),
            Answer::ValuesRewrapped(items) => self.count_items(verb, items.iter().map(|item| item.as_ref().err())),
            Answer::Keyrings { .. }
            | Answer::Keyring(_)
            | Answer::Shredded(_)
            | Answer::PartitionsRewrapped { .. }
            | Answer::Inventory { .. }
            | Answer::Stepped(..)
            | Answer::Following(_)
            | Answer::Custody(_)
            | Answer::Keks { .. }
            | Answer::Wraps(_)
            | Answer::Rewrapped(_)
            | Answer::PolicyLoaded(_)
            | Answer::Records { .. } => super::OK,
        }
    }

    fn count_items<'a>(&self, verb: Verb, items: impl Iterator<Item = Option<&'a Refusal>>) -> &'static str {
        let mut done = 0;
        for failed in items {
            match failed {
                None => done += 1,
                Some(refusal) => self.metrics.items.add(verb, refusal.code.as_str(), 1),
            }
        }
        self.metrics.items.add(verb, super::OK, done);
        super::OK
    }
}

impl Found {
    const fn verb(&self) -> Verb {
        match self {
            Self::Route(route) => route.verb(),
            Self::BadName(verb) => *verb,
            Self::WrongMethod(_) | Self::Nothing => Verb::None,
        }
    }
}

/// Holds up the gauge of requests.
struct InFlight(Arc<Metrics>);

impl InFlight {
    fn begin(metrics: Arc<Metrics>) -> Self {
        metrics.requests_in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests_in_flight.dec();
    }
}

/// What a route without a body asks; None if it takes one.
fn without_body(route: &Route, query: Option<&str>) -> Option<Result<Operation, Refusal>> {
    let plain = |operation: Operation| wire::no_query(query).map(|()| operation);
    Some(match route {
        Route::ReadInventory => wire::parse_inventory_query(query),
        Route::ReadAudit => wire::parse_audit_query(query),
        Route::ReadWraps => plain(Operation::ReadWraps),
        Route::ReadKeks => plain(Operation::ReadKeks),
        Route::ReadFollowing => wire::parse_sidecars_query(query),
        Route::ListKeyrings => wire::parse_list_query(query),
        Route::Custody(path, name) => return wire::custody_without_body(*path, name, query),
        Route::ShowKeyring(name) => plain(Operation::ShowKeyring(name.clone())),
        _ => return None,
    })
}

/// What a route with a body asks.
fn with_body(route: &Route, bytes: &[u8]) -> Result<(Operation, Shape), Refusal> {
    match route {
        Route::Seal(name) => wire::parse_seal(name.clone(), bytes).map(|(seal, shape)| (Operation::Seal(seal), shape)),
        Route::Open => wire::parse_open(bytes).map(|(open, shape)| (Operation::Open(open), shape)),
        Route::Rewrap => wire::parse_rewrap(bytes).map(|(rewrap, shape)| (Operation::Rewrap(rewrap), shape)),
        Route::CreateKeyring => wire::parse_create_keyring(bytes).map(Operation::CreateKeyring).map(one),
        Route::Rotate(name) => wire::parse_rotate(name.clone(), bytes).map(Operation::Rotate).map(one),
        Route::Configure(name) => wire::parse_configure(name.clone(), bytes).map(Operation::Configure).map(one),
        Route::Step(verb, name, version) => {
            wire::parse_step(*verb, name.clone(), *version, bytes).map(Operation::Step).map(one)
        }
        Route::Lookup(path) => wire::parse_lookup(*path, bytes).map(Operation::Lookup).map(one),
        Route::ShredPartition(name) => {
            wire::parse_shred_partition(name.clone(), bytes).map(Operation::ShredPartition).map(one)
        }
        Route::RewrapKeys => wire::parse_rewrap_keys(bytes).map(one),
        Route::RewrapPartitions(name) => wire::parse_rewrap_partitions(name.clone(), bytes).map(one),
        Route::LookUpSubject => wire::parse_subject(bytes).map(one),
        Route::ReloadPolicy => wire::parse_nothing(bytes).map(|()| one(Operation::ReloadPolicy)),
        Route::RetireKek(kek) => wire::parse_retire_kek(kek.clone(), bytes).map(one),
        Route::Custody(path, name) => wire::parse_custody(*path, name, bytes).map(Operation::Custody).map(one),
        Route::ReadInventory
        | Route::ReadAudit
        | Route::ReadWraps
        | Route::ReadKeks
        | Route::ReadFollowing
        | Route::ListKeyrings
        | Route::ShowKeyring(_) => Err(Refusal::because(Code::MalformedRequest, "this route takes no body")),
    }
}

fn no_body(body: &Incoming) -> Result<(), Refusal> {
    if body.is_end_stream() {
        Ok(())
    } else {
        Err(Refusal::because(Code::MalformedRequest, "this route takes no body"))
    }
}

const fn one(operation: Operation) -> (Operation, Shape) {
    (operation, Shape::One)
}

fn respond(encoded: Encoded, head: &Head, held: Held) -> Response<Reply> {
    let mut response = Response::new(body::reply(encoded.body, held));
    *response.status_mut() = encoded.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoded.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(value) = echo(&head.request) {
        headers.insert(REQUEST_ID, value);
    }
    let mut say = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    if encoded.retry {
        say(header::RETRY_AFTER, "1");
    }
    if encoded.status == http::StatusCode::UNAUTHORIZED {
        say(header::WWW_AUTHENTICATE, "Bearer");
    }
    if let (http::StatusCode::METHOD_NOT_ALLOWED, Found::WrongMethod(methods)) = (encoded.status, &head.found) {
        say(header::ALLOW, methods);
    }
    response
}

fn echo(request: &RequestId) -> Option<HeaderValue> {
    HeaderValue::from_str(request.as_str()).ok()
}
