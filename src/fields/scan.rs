//! Is this text JSON, and where do its values stand? A strict RFC 8259 scanner that keeps every byte (FLD-1 to FLD-4).
//! It never converts a number or a string, never recurses and never panics.

use std::borrow::Cow;

use super::document::{Document, Kind, Node};
use super::error::{FieldsError, Position, ScanFault};
use super::text::unescape;

/// Containers within containers. FHIR documents stay under 30; serde_json, which clients use, stops at 128 too.
pub const MAX_DEPTH: usize = 128;

/// Scans a whole document in time linear in its size (but for sorting the names of each object).
pub fn scan(document: &[u8]) -> Result<Document<'_>, FieldsError> {
    let refuse = |Stop { fault, offset }| FieldsError::Syntax { fault, at: Position::of(document, offset) };
    if u32::try_from(document.len()).is_err() {
        return Err(refuse(Stop { fault: ScanFault::TooLarge, offset: 0 }));
    }
    if document.starts_with(b"\xEF\xBB\xBF") {
        return Err(refuse(Stop { fault: ScanFault::ByteOrderMark, offset: 0 }));
    }
    let text = std::str::from_utf8(document)
        .map_err(|e| refuse(Stop { fault: ScanFault::InvalidUtf8, offset: e.valid_up_to() }))?;
    let mut scanner = Scanner { text, at: 0, nodes: Vec::new(), open: Vec::new(), key: (0, 0), names: Vec::new() };
    scanner.run().map_err(refuse)?;
    Ok(Document::new(text, scanner.nodes))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    nodes: Vec<Node>,
    /// The containers that are not closed yet, as indices into `nodes`.
    open: Vec<usize>,
    /// The name that the next value belongs to.
    key: (u32, u32),
    /// Scratch of the duplicate check, kept for its capacity.
    names: Vec<(Cow<'a, [u8]>, usize)>,
}

struct Stop {
    fault: ScanFault,
    offset: usize,
}

/// What may come next.
enum Expect {
    Value,
    FirstItem,
    FirstName,
    Name,
    Separator,
    End,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        let mut expect = Expect::Value;
        loop {
            self.skip_whitespace();
            expect = match expect {
                Expect::Value => self.value()?,
                Expect::FirstItem if self.take(b']') => self.close()?,
                Expect::FirstItem => self.value()?,
                Expect::FirstName if self.take(b'}') => self.close()?,
                Expect::FirstName | Expect::Name => self.name()?,
                Expect::Separator => self.separator()?,
                Expect::End if self.at == self.text.len() => return Ok(()),
                Expect::End => return Err(self.stop(ScanFault::TrailingContent)),
            };
        }
    }

    fn value(&mut self) -> Result<Expect, Stop> {
        match self.peek() {
            Some(b'{') => self.open(Kind::Object, Expect::FirstName),
            Some(b'[') => self.open(Kind::Array, Expect::FirstItem),
            Some(b'"') => self.leaf(Kind::String, Self::string),
            Some(b'-' | b'0'..=b'9') => self.leaf(Kind::Number, Self::number),
            Some(b't') => self.leaf(Kind::Boolean, |s| s.word(b"true")),
            Some(b'f') => self.leaf(Kind::Boolean, |s| s.word(b"false")),
            Some(b'n') => self.leaf(Kind::Null, |s| s.word(b"null")),
            _ => Err(self.expected("a value")),
        }
    }

    fn open(&mut self, kind: Kind, next: Expect) -> Result<Expect, Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.stop(ScanFault::TooDeep));
        }
        self.open.push(self.nodes.len());
        self.push_node(kind, self.at);
        self.at += 1;
        Ok(next)
    }

    fn leaf(&mut self, kind: Kind, token: impl FnOnce(&mut Self) -> Result<(), Stop>) -> Result<Expect, Stop> {
        let start = self.at;
        token(self)?;
        self.push_node(kind, start);
        Ok(self.next())
    }

    fn push_node(&mut self, kind: Kind, start: usize) {
        let key = std::mem::take(&mut self.key);
        let after = narrow(self.nodes.len() + 1);
        self.nodes.push(Node { kind, key, start: narrow(start), end: narrow(self.at), after });
    }

    fn name(&mut self) -> Result<Expect, Stop> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        let start = self.at;
        self.string()?;
        self.key = (narrow(start), narrow(self.at));
        self.skip_whitespace();
        if !self.take(b':') {
            return Err(self.expected("a colon"));
        }
        Ok(Expect::Value)
    }

    fn separator(&mut self) -> Result<Expect, Stop> {
        let in_object = self.open.last().and_then(|at| self.nodes.get(*at)).is_some_and(|n| n.kind == Kind::Object);
        let (end, next) = if in_object { (b'}', Expect::Name) } else { (b']', Expect::Value) };
        if self.take(b',') {
            return Ok(next);
        }
        if self.take(end) {
            return self.close();
        }
        Err(self.expected(if in_object { "a comma or }" } else { "a comma or ]" }))
    }

    fn close(&mut self) -> Result<Expect, Stop> {
        let (end, after) = (narrow(self.at), narrow(self.nodes.len()));
        if let Some(index) = self.open.pop() {
            if let Some(node) = self.nodes.get_mut(index) {
                (node.end, node.after) = (end, after);
            }
            self.refuse_duplicates(index)?;
        }
        Ok(self.next())
    }

    /// FLD-2: two names are the same when they are the same after unescaping.
    fn refuse_duplicates(&mut self, object: usize) -> Result<(), Stop> {
        self.names.clear();
        let mut at = object + 1;
        while let Some(node) = self.nodes.get(at) {
            let (start, end) = (node.key.0 as usize, node.key.1 as usize);
            if end <= start {
                // The items of an array have no names.
                return Ok(());
            }
            let name = self.text.get(start + 1..end - 1).unwrap_or_default();
            self.names.push((unescape(name), start));
            at = node.after as usize;
        }
        self.names.sort_unstable();
        let twice = self.names.windows(2).filter_map(|pair| match pair {
            [a, b] if a.0 == b.0 => Some(b.1),
            _ => None,
        });
        match twice.min() {
            Some(offset) => Err(Stop { fault: ScanFault::DuplicateKey, offset }),
            None => Ok(()),
        }
    }

    const fn next(&self) -> Expect {
        if self.open.is_empty() { Expect::End } else { Expect::Separator }
    }

    fn string(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let Some(plain) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) else {
                self.at = self.text.len();
                return Err(self.stop(ScanFault::UnexpectedEnd));
            };
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.stop(ScanFault::ControlCharacter)),
            }
        }
    }

    /// FLD-3: a `\u` escape is taken whatever its value, so lone surrogates pass and stay as they are.
    fn escape(&mut self) -> Result<(), Stop> {
        let used = match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
            _ => return Err(self.stop(ScanFault::InvalidEscape)),
        };
        self.at += used;
        Ok(())
    }

    /// FLD-4: the number's text is checked and kept, never read as a number.
    fn number(&mut self) -> Result<(), Stop> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        match self.peek() {
            Some(b'0'..=b'9') => Err(self.stop(ScanFault::InvalidNumber)),
            _ => Ok(()),
        }
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.stop(ScanFault::InvalidNumber));
        }
        self.at += count;
        Ok(())
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Stop> {
        if !self.rest().starts_with(word) {
            return Err(self.expected("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        self.at += self.rest().iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn expected(&self, what: &'static str) -> Stop {
        self.stop(if self.peek().is_none() { ScanFault::UnexpectedEnd } else { ScanFault::Expected(what) })
    }

    const fn stop(&self, fault: ScanFault) -> Stop {
        Stop { fault, offset: self.at }
    }
}

/// `scan` has refused every document whose offsets need more than 32 bits, and a node takes at least one byte.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
