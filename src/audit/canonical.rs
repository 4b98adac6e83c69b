//! Is this text canonical JSON? Sorted ASCII keys, no spaces, integers, printable ASCII (LOG-9).
//! One value has one text, so that an auditor can re-make and hash a record with tools that are not ours.
#![deny(clippy::indexing_slicing)]

/// Nesting that a record can have: object, list, object, object.
const MAX_DEPTH: u32 = 6;

/// Checks a whole text; the error says at which byte and why.
pub(super) fn check(text: &[u8]) -> Result<(), (usize, &'static str)> {
    let mut reader = Reader::new(text);
    let found = reader.value(0);
    match found {
        Err(why) => Err((reader.at, why)),
        Ok(()) if reader.at != text.len() => Err((reader.at, "bytes follow the value")),
        Ok(()) if text.first() != Some(&b'{') => Err((0, "a record is an object")),
        Ok(()) => Ok(()),
    }
}

/// Appends a text as a JSON string; None when it is not printable ASCII.
pub(super) fn string(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => return None,
        }
    }
    out.push(b'"');
    Some(())
}

/// Appends a number in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Appends bytes as a string of lower-case hexadecimal.
pub(super) fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    if let Some(place) = out.get_mut(start..) {
        // The length is right by construction.
        let _fits = hex::encode_to_slice(bytes, place);
    }
    out.push(b'"');
}

/// Reads a canonical text from its first byte on, and refuses any other spelling; it never allocates.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Reads an object: `each` reads the value behind each key. Keys are as they are spelt.
    pub(super) fn object<E: From<&'static str>>(
        &mut self,
        mut each: impl FnMut(&mut Self, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.took(b'{') {
            return Err("an object is missing".into());
        }
        if self.took(b'}') {
            return Ok(());
        }
        let mut last: Option<&[u8]> = None;
        loop {
            let key = self.string()?;
            if last.is_some_and(|last| last >= key) {
                return Err("the keys are not sorted and distinct".into());
            }
            last = Some(key);
            if !self.took(b':') {
                return Err("a colon is missing".into());
            }
            each(self, key)?;
            if self.took(b'}') {
                return Ok(());
            }
            if !self.took(b',') {
                return Err("neither a comma nor the end of the object".into());
            }
        }
    }

    /// Reads a list: `each` reads each value.
    pub(super) fn list<E: From<&'static str>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.took(b'[') {
            return Err("a list is missing".into());
        }
        if self.took(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if self.took(b']') {
                return Ok(());
            }
            if !self.took(b',') {
                return Err("neither a comma nor the end of the list".into());
            }
        }
    }

    /// Reads a string; gives what stands between its quotation marks, escapes as they are.
    pub(super) fn string(&mut self) -> Result<&'a [u8], &'static str> {
        if !self.took(b'"') {
            return Err("a string is missing");
        }
        let start = self.at;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
            self.at += rest.iter().position(|b| !plain(b)).unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') if matches!(self.text.get(self.at + 1), Some(b'"' | b'\\')) => self.at += 2,
                Some(b'\\') => return Err("only \\\" and \\\\ are escaped"),
                _ => return Err("a string holds printable ASCII only"),
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(text)
    }

    /// Reads an integer.
    pub(super) fn integer(&mut self) -> Result<u64, &'static str> {
        let (start, mut value) = (self.at, 0_u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        match self.text.get(start..self.at) {
            Some([]) | None => Err("an integer is missing"),
            Some([b'0', _, ..]) => Err("an integer has no leading zero"),
            Some(digits) if digits.len() > 16 => Err("an integer is below 2^53"),
            Some(_) => Ok(value),
        }
    }

    /// Where the reader is.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The bytes from a place up to where the reader is.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: u32) -> Result<(), &'static str> {
        if depth > MAX_DEPTH {
            return Err("it is nested too deeply");
        }
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.value(depth + 1)),
            Some(b'[') => self.list(|reader| reader.value(depth + 1)),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'0'..=b'9') => self.integer().map(|_| ()),
            _ => Err("neither object, list, string nor integer"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn took(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_pass() {
        for good in ["{}", r#"{"a":1,"b":[],"c":{"x":"y"}}"#, r#"{"a":"\"\\ ~","ab":0}"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let bad = [
            "",
            "1",
            "[]",
            "{} ",
            r#"{"a": 1}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":null}"#,
            r#"{"a":true}"#,
            "{\"a\":\"\\u0041\"}",
            "{\"a\":\"\\/\"}",
            "{\"a\":\"é\"}",
            "{\"a\":\"\n\"}",
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":"#,
            r#"{"a":12345678901234567}"#,
            r#"{"a":[[[[[[[1]]]]]]]}"#,
        ];
        for text in bad {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_spelt() {
        for value in [0, 7, 10, 1_795_000_000_000_000, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
