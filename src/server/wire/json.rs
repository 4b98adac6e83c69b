//! What do the bytes of a request say, strictly? A JSON reader for objects, arrays, strings and whole numbers, the only
//! shapes a request has. It never copies a value on its own, never nests deeper than its callers do, and its faults name the
//! place, never what stands there.
//!
//! Why not serde_json: it decodes escaped strings into a buffer that is not wiped, and its messages quote values.

use std::borrow::Cow;
use std::fmt::{self, Write};

use crate::secret::SecretBytes;
use crate::service::{Code, Refusal};

/// Reads one JSON text from the front.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// A string of the text, checked but not yet decoded.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    raw: &'a str,
    len: usize,
    at: usize,
}

/// Why the text was refused, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    code: Code,
    what: Cow<'static, str>,
    at: usize,
    /// Innermost first: pushed while the fault travels outward.
    path: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Item(usize),
}

enum Piece<'a> {
    Run(&'a str),
    Char(char),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(wrong) => Err(Fault::malformed("the body is not UTF-8", wrong.valid_up_to())),
        }
    }

    /// Where the reader stands, for a fault.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Reads an object; `field` is called with each key and must read its value.
    pub(super) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, Token<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'{', "an object is expected")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "a colon is expected")?;
            field(self, key)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "a comma or the end of the object is expected")?;
        }
    }

    /// Reads an array; `item` is called with each index and must read the element.
    pub(super) fn array(&mut self, mut item: impl FnMut(&mut Self, usize) -> Result<(), Fault>) -> Result<(), Fault> {
        self.expect(b'[', "an array is expected")?;
        if self.take(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            item(self, index).map_err(|fault| fault.inside(Step::Item(index)))?;
            index += 1;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "a comma or the end of the array is expected")?;
        }
    }

    /// Reads a string without decoding it.
    pub(super) fn string(&mut self) -> Result<Token<'a>, Fault> {
        self.expect(b'"', "a string is expected")?;
        let start = self.at;
        let mut len = 0;
        self.scan(|piece| {
            len += match piece {
                Piece::Run(run) => run.len(),
                Piece::Char(char) => char.len_utf8(),
            }
        })?;
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Token { raw, len, at: start })
    }

    /// Reads a whole number from 1 to `most`: no sign, no fraction, no exponent, no leading zero.
    pub(super) fn number(&mut self, most: u64) -> Result<u64, Fault> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let wrong = || Fault::malformed(format!("a whole number from 1 to {most} is expected"), self.at);
        let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest.get(..end).filter(|digits| !digits.starts_with('0')).ok_or_else(wrong)?;
        let number = digits.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(wrong)?;
        // What could continue a number makes it another one.
        if rest.as_bytes().get(end).is_some_and(|b| matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
            return Err(wrong());
        }
        self.at += end;
        Ok(number)
    }

    /// Refuses anything but white space behind the value.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Fault::malformed("nothing may follow the object", self.at)),
        }
    }

    /// Walks to the closing quote (or to the end of a raw token) and leaves it unread.
    fn scan(&mut self, mut sink: impl FnMut(Piece<'a>)) -> Result<(), Fault> {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(stop) = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20) else {
                return Err(Fault::malformed("a string does not end", self.at));
            };
            sink(Piece::Run(rest.get(..stop).unwrap_or_default()));
            self.at += stop;
            match self.byte() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    self.at += 1;
                    sink(Piece::Char(self.escape()?));
                }
                _ => return Err(Fault::malformed("a control character stands in a string unescaped", self.at)),
            }
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let wrong = Fault::malformed("an escape of a string is not one", self.at);
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(wrong),
        })
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let lone = Fault::malformed("a string holds half of a surrogate pair", self.at);
        let first = self.hex4()?;
        if !(0xD800..=0xDFFF).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        if first >= 0xDC00 || !self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            return Err(lone);
        }
        self.at += 2;
        let second = self.hex4()?;
        if !(0xDC00..=0xDFFF).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.text.get(self.at..self.at + 4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|four| u32::from_str_radix(four, 16).ok());
        let value = value.ok_or_else(|| Fault::malformed("a \\u escape needs four hexadecimal digits", self.at))?;
        self.at += 4;
        Ok(value)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space, unread.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), Fault> {
        if self.take(wanted) { Ok(()) } else { Err(Fault::malformed(what, self.at)) }
    }
}

impl<'a> Token<'a> {
    /// Bytes of the decoded string.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where it begins.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The decoded string, borrowed if nothing in it is escaped. Not for plaintext: a copy is not wiped.
    pub(super) fn text(&self) -> Cow<'a, str> {
        if self.raw.len() == self.len {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.len);
        self.decode(|piece| match piece {
            Piece::Run(run) => text.push_str(run),
            Piece::Char(char) => text.push(char),
        });
        Cow::Owned(text)
    }

    /// The decoded string as a secret: one allocation of the exact size, no copy beside it.
    pub(super) fn secret(&self) -> SecretBytes {
        let mut bytes = Vec::with_capacity(self.len);
        self.decode(|piece| match piece {
            Piece::Run(run) => bytes.extend_from_slice(run.as_bytes()),
            Piece::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        });
        SecretBytes::new(bytes)
    }

    /// The raw text, if nothing in it is escaped.
    pub(super) fn plain(&self) -> Option<&'a str> {
        (self.raw.len() == self.len).then_some(self.raw)
    }

    fn decode(&self, mut sink: impl FnMut(Piece<'a>)) {
        let mut reader = Reader { text: self.raw, at: 0 };
        loop {
            let rest = self.raw.get(reader.at..).unwrap_or_default();
            let Some(stop) = rest.find('\\') else { return sink(Piece::Run(rest)) };
            sink(Piece::Run(rest.get(..stop).unwrap_or_default()));
            reader.at += stop + 1;
            // The token was scanned when it was read, so every escape in it is one.
            let Ok(char) = reader.escape() else { return };
            sink(Piece::Char(char));
        }
    }
}

impl Fault {
    pub(super) fn malformed(what: impl Into<Cow<'static, str>>, at: usize) -> Self {
        Self::of(Code::MalformedRequest, what, at)
    }

    pub(super) fn of(code: Code, what: impl Into<Cow<'static, str>>, at: usize) -> Self {
        Self { code, what: what.into(), at, path: Vec::new() }
    }

    /// The fault as seen from the object around it.
    pub(super) fn within(self, field: &'static str) -> Self {
        self.inside(Step::Field(field))
    }

    fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// The refusal: what is wrong, the JSON path, line and column. No byte of the body.
    pub(super) fn refusal(&self, body: &[u8]) -> Refusal {
        let before = body.get(..self.at).unwrap_or(body);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let in_line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(in_line).chars().count() + 1;
        let mut path = String::from("$");
        for step in self.path.iter().rev() {
            // Writing to a String cannot fail.
            let _ok = write!(path, "{step}");
        }
        Refusal::because(self.code, format!("{}, at {path} (line {line}, column {column})", self.what))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// Fills a slot once; the second time is a fault.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, key: Token<'_>) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::malformed("a field is given twice", key.at())),
    }
}
