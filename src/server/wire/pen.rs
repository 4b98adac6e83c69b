//! How is a body written without leaving copies of plaintext behind? Twice by the same code: first counted, then
//! written into one buffer of exactly that size, which is wiped when it has been sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret::SecretBytes;

/// Writes JSON, or counts what it would write.
pub(super) struct Pen {
    ink: Ink,
}

enum Ink {
    Count(usize),
    Write(Vec<u8>),
}

/// The body that `write` describes; it is called twice and must say the same both times.
pub(super) fn body(write: impl Fn(&mut Pen)) -> SecretBytes {
    let mut counting = Pen { ink: Ink::Count(0) };
    write(&mut counting);
    let size = match counting.ink {
        Ink::Count(size) => size,
        Ink::Write(_) => 0,
    };
    let mut writing = Pen { ink: Ink::Write(Vec::with_capacity(size)) };
    write(&mut writing);
    match writing.ink {
        Ink::Write(bytes) => SecretBytes::new(bytes),
        Ink::Count(_) => SecretBytes::new(Vec::new()),
    }
}

impl Pen {
    /// Text as it is.
    pub(super) fn raw(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A JSON string.
    pub(super) fn string(&mut self, text: &str) {
        self.raw("\"");
        let mut rest = text;
        while let Some(stop) = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20) {
            let (run, from) = rest.split_at(stop);
            self.raw(run);
            self.escaped(from.as_bytes().first().copied().unwrap_or_default());
            // The byte at `stop` is ASCII, so the next one begins a character.
            rest = from.get(1..).unwrap_or_default();
        }
        self.raw(rest);
        self.raw("\"");
    }

    /// A JSON string that holds the bytes as padded base64.
    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.raw("\"");
        let size = bytes.len().div_ceil(3) * 4;
        match &mut self.ink {
            Ink::Count(count) => *count += size,
            Ink::Write(out) => {
                let start = out.len();
                out.resize(start + size, 0);
                let written = out.get_mut(start..).map(|tail| STANDARD.encode_slice(bytes, tail));
                debug_assert_eq!(written, Some(Ok(size)), "the tail has the size that base64 needs");
            }
        }
        self.raw("\"");
    }

    /// A whole number.
    pub(super) fn number(&mut self, number: u64) {
        self.raw(&number.to_string());
    }

    /// `[...]` with each item written by `write`.
    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.raw("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            write(self, item);
        }
        self.raw("]");
    }

    fn escaped(&mut self, byte: u8) {
        match byte {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            b'\n' => self.raw("\\n"),
            b'\r' => self.raw("\\r"),
            b'\t' => self.raw("\\t"),
            other => {
                let digit = |nibble: u8| b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0');
                self.bytes(&[b'\\', b'u', b'0', b'0', digit(other >> 4), digit(other & 15)]);
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match &mut self.ink {
            Ink::Count(count) => *count += bytes.len(),
            Ink::Write(out) => out.extend_from_slice(bytes),
        }
    }
}
