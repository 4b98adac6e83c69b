//! `keyward rewrap`: sealed values, one a line, come back under the active version of their keyring. No line is ever lost: one
//! that could not be rewrapped is printed as it was, so that what comes out can take the place of what went in.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::connect::{Listener, Sidecar, Target, block_on, problem};
use super::failure::{Context, Exit, Failure, exit};
use super::value::{object, pair};

/// Bring sealed values under the active key version, or into another context.
///
/// Reads one value a line from standard input and prints one line for each, in order: the sealed value that takes its place. A
/// line may also be a JSON object with "sealed" and, beside what the options give for all, pairs of its own in "context" and
/// "new_context"; its other members are printed as they were, beside "unchanged" or "error". A line that could not be rewrapped
/// is printed with the value that it had, the reason stands on standard error, and the exit code is 1. Plaintext never leaves
/// the sidecar.
///
/// Lines are printed as batches are answered: whatever was interrupted goes on behind the last line that was printed.
#[derive(Debug, clap::Args)]
pub(super) struct RewrapValues {
    /// One sealed value (kw1....) instead of standard input
    sealed: Option<String>,
    /// A context pair KEY=VALUE, as it was when the values were sealed (may be repeated)
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// A pair of the context that values are to take: all of it, nothing of the old one is kept (may be repeated)
    #[arg(long = "new-context", value_name = "KEY=VALUE", value_parser = pair)]
    new_context: Vec<(String, String)>,
    /// Purpose of use, if policy asks for one: HOPERAT, HSYSADMIN, ...
    #[arg(long, short)]
    purpose: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Values a request; the sidecar's limit is 1,000.
const BATCH_LINES: usize = 500;
/// Bytes of lines a request; the sidecar's limit for a body is 8 MiB.
const BATCH_BYTES: usize = 2 << 20;
/// The longest line: the largest sealed value takes 1.4 MiB, and two contexts 14 KiB.
const LINE_BYTES: usize = 3 << 20;

/// One line of the input.
struct Line {
    /// As it was read.
    raw: Vec<u8>,
    content: Content,
}

enum Content {
    Blank,
    /// A sealed value alone.
    Text(String),
    Object(Map<String, Value>),
    /// Nothing that can be asked for.
    Bad(&'static str),
}

/// What became of the lines so far.
#[derive(Default)]
struct Tally {
    lines: u64,
    anew: u64,
    unchanged: u64,
    failed: u64,
}

impl RewrapValues {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Data).await?;
            let Some(sealed) = &self.sealed else { return self.lines(&mut sidecar).await };
            let mut body = self.request();
            body["sealed"] = json!(sealed);
            let answer = sidecar.ask("POST", "/v1/rewrap", Some(&body)).await?;
            print(answer["sealed"].as_str().unwrap_or_default().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        })
    }

    /// What all values of a request share.
    fn request(&self) -> Value {
        let mut body = json!({ "context": object(self.context.clone()) });
        if !self.new_context.is_empty() {
            body["new_context"] = object(self.new_context.clone());
        }
        if let Some(purpose) = &self.purpose {
            body["purpose"] = json!(purpose);
        }
        body
    }

    async fn lines(&self, sidecar: &mut Sidecar) -> Result<ExitCode, Failure> {
        let (mut input, mut tally, bar) = (std::io::stdin().lock(), Tally::default(), bar());
        loop {
            let batch = read_batch(&mut input)?;
            if batch.is_empty() {
                break;
            }
            let answers = self.ask(sidecar, &batch).await.map_err(|failure| {
                bar.abandon();
                let (done, next) = (tally.lines, tally.lines.saturating_add(1));
                failure.hint(format!("the first {done} lines are done and printed: go on with line {next}"))
            })?;
            let printed = tally.tell(&batch, answers, &bar);
            print(printed.strip_suffix(b"\n").unwrap_or(&printed))?;
            bar.set_position(tally.lines);
        }
        bar.finish_and_clear();
        let Tally { lines: _, anew, unchanged, failed } = tally;
        eprintln!("{} values: {anew} rewrapped, {unchanged} unchanged, {failed} failed", anew + unchanged + failed);
        Ok(if failed == 0 { ExitCode::SUCCESS } else { exit(Exit::Finding) })
    }

    /// The answers to the lines that ask for something, in their order. If nobody may do what the whole batch asks for, each
    /// of its lines has failed; if keyward cannot answer at all, the work ends.
    async fn ask(&self, sidecar: &mut Sidecar, batch: &[Line]) -> Result<Vec<Value>, Failure> {
        let items: Vec<Value> = batch.iter().filter_map(Line::item).collect();
        if items.is_empty() {
            return Ok(items);
        }
        let asked = items.len();
        let mut body = self.request();
        body["items"] = Value::Array(items);
        let answers = match sidecar.ask("POST", "/v1/rewrap", Some(&body)).await {
            Ok(mut answer) => match answer["items"].take() {
                Value::Array(answers) if answers.len() == asked => answers,
                _ => return Err(Failure::new(Exit::Software, "the sidecar answered another number of items")),
            },
            Err(failure) if failure.exit() == Exit::Denied => vec![denied(); asked],
            Err(failure) => return Err(failure),
        };
        match answers.first() {
            Some(first) if answers.iter().all(|answer| answer["error"]["code"] == "unavailable") => {
                Err(problem(&first["error"]))
            }
            _ => Ok(answers),
        }
    }
}

/// An item's error where the whole of a batch is refused.
fn denied() -> Value {
    json!({ "error": { "code": "denied", "title": "policy does not allow this" } })
}

impl Line {
    fn read(raw: Vec<u8>) -> Self {
        let content = match std::str::from_utf8(&raw).map(str::trim) {
            _ if raw.len() > LINE_BYTES => Content::Bad("the line is too long"),
            Err(_) => Content::Bad("the line is not UTF-8"),
            Ok("") => Content::Blank,
            Ok(text) if text.starts_with('{') => Self::parse(text),
            Ok(text) => Content::Text(text.to_owned()),
        };
        Self { raw, content }
    }

    fn parse(text: &str) -> Content {
        let Ok(Value::Object(mut members)) = serde_json::from_str(text) else {
            return Content::Bad("the line is not a JSON object");
        };
        let is_context = |value: &Value| value.as_object().is_some_and(|pairs| pairs.values().all(Value::is_string));
        if !members.get("sealed").is_some_and(Value::is_string) {
            return Content::Bad("the object has no text \"sealed\"");
        }
        if ["context", "new_context"].iter().filter_map(|key| members.get(*key)).any(|value| !is_context(value)) {
            return Content::Bad("a context is an object of texts");
        }
        // What an earlier run said of the line.
        for said in ["error", "unchanged"] {
            members.remove(said);
        }
        Content::Object(members)
    }

    /// What it asks for.
    fn item(&self) -> Option<Value> {
        match &self.content {
            Content::Text(sealed) => Some(json!({ "sealed": sealed })),
            Content::Object(members) => {
                let asked = ["sealed", "context", "new_context"].iter();
                let kept = asked.filter_map(|key| members.get_key_value(*key));
                Some(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
            }
            Content::Blank | Content::Bad(_) => None,
        }
    }
}

impl Tally {
    /// What is printed for a batch: a line for each line.
    fn tell(&mut self, batch: &[Line], answers: Vec<Value>, bar: &ProgressBar) -> Vec<u8> {
        let (mut out, mut answers) = (Vec::new(), answers.into_iter());
        for line in batch {
            self.lines = self.lines.saturating_add(1);
            match &line.content {
                Content::Blank => {}
                Content::Bad(why) => {
                    self.fail(why, bar);
                    out.extend_from_slice(&line.raw);
                }
                Content::Text(sealed) => {
                    let answer = answers.next().unwrap_or_default();
                    let now = self.count(&answer, bar).unwrap_or(sealed);
                    out.extend_from_slice(now.as_bytes());
                }
                Content::Object(members) => {
                    let (mut members, mut answer) = (members.clone(), answers.next().unwrap_or_default());
                    if let Some(now) = self.count(&answer, bar) {
                        members.insert("sealed".to_owned(), json!(now));
                    }
                    for said in ["error", "unchanged"] {
                        members.extend(answer.get_mut(said).map(|said_of_it| (said.to_owned(), said_of_it.take())));
                    }
                    out.extend_from_slice(Value::Object(members).to_string().as_bytes());
                }
            }
            out.push(b'\n');
        }
        out
    }

    /// The sealed value of an answer; None if it is an error, which is told.
    fn count<'a>(&mut self, answer: &'a Value, bar: &ProgressBar) -> Option<&'a str> {
        let Some(sealed) = answer["sealed"].as_str() else {
            self.fail(&problem(&answer["error"]).to_string(), bar);
            return None;
        };
        let counter = if answer["unchanged"] == true { &mut self.unchanged } else { &mut self.anew };
        *counter = counter.saturating_add(1);
        Some(sealed)
    }

    fn fail(&mut self, why: &str, bar: &ProgressBar) {
        self.failed = self.failed.saturating_add(1);
        bar.suspend(|| eprintln!("error: line {}: {why}", self.lines));
    }
}

/// As many lines as a request takes; none at the end of the input.
fn read_batch(input: &mut impl BufRead) -> Result<Vec<Line>, Failure> {
    let (mut batch, mut bytes) = (Vec::new(), 0_usize);
    while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
        let mut raw = Vec::new();
        let limit = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let read = input.by_ref().take(limit).read_until(b'\n', &mut raw).doing(Exit::Data, "standard input")?;
        if read == 0 {
            break;
        }
        if raw.last() == Some(&b'\n') {
            raw.pop();
        } else if raw.len() > LINE_BYTES {
            // The rest of it; such a line is printed as it was.
            input.read_until(b'\n', &mut raw).doing(Exit::Data, "standard input")?;
            raw.pop_if(|last| *last == b'\n');
        }
        bytes = bytes.saturating_add(raw.len());
        batch.push(Line::read(raw));
    }
    Ok(batch)
}

fn print(line: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .doing(Exit::CannotCreate, "cannot write the values")
}

/// Only on a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} lines  {per_sec}  {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
