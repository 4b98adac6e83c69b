//! Is this text canonical JSON? Sorted ASCII keys, no spaces, integers, printable ASCII (LOG-9).
//! One value has one text, so that an auditor can re-make and hash a record with tools that are not ours.
#![deny(clippy::indexing_slicing)]

/// Nesting that a record can have: object, list, object, object.
const MAX_DEPTH: u32 = 6;

/// Checks a whole text; the error says at which byte and why.
pub(super) fn check(text: &[u8]) -> Result<(), (usize, &'static str)> {
    let mut reader = Reader { text, at: 0 };
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

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u32) -> Result<(), &'static str> {
        if depth > MAX_DEPTH {
            return Err("it is nested too deeply");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'0'..=b'9') => self.integer(),
            _ => Err("neither object, list, string nor integer"),
        }
    }

    fn object(&mut self, depth: u32) -> Result<(), &'static str> {
        self.at += 1;
        if self.took(b'}') {
            return Ok(());
        }
        let mut last: Option<&[u8]> = None;
        loop {
            let key = self.string()?;
            if last.is_some_and(|last| last >= key) {
                return Err("the keys are not sorted and distinct");
            }
            last = Some(key);
            if !self.took(b':') {
                return Err("a colon is missing");
            }
            self.value(depth + 1)?;
            if self.took(b'}') {
                return Ok(());
            }
            if !self.took(b',') {
                return Err("neither a comma nor the end of the object");
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<(), &'static str> {
        self.at += 1;
        if self.took(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.took(b']') {
                return Ok(());
            }
            if !self.took(b',') {
                return Err("neither a comma nor the end of the list");
            }
        }
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        if !self.took(b'"') {
            return Err("a string is missing");
        }
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    if !matches!(self.peek(), Some(b'"' | b'\\')) {
                        return Err("only \\\" and \\\\ are escaped");
                    }
                }
                Some(b' '..=b'~') => {}
                _ => return Err("a string holds printable ASCII only"),
            }
            self.at += 1;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(text)
    }

    fn integer(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.text.get(start..self.at) {
            Some([b'0', _, ..]) => Err("an integer has no leading zero"),
            Some(digits) if digits.len() > 16 => Err("an integer is below 2^53"),
            _ => Ok(()),
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
