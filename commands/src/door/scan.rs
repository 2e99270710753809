//! Reading JSON byte by byte, as strictly as the ledger needs it.

use std::borrow::Cow;

/// How deep arrays and objects may lie in one another.
pub const DEPTH: usize = 32;

/// The text is not JSON from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

pub struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// A string as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// With its quotes and escapes.
    pub raw: &'a str,
    escaped: bool,
    /// How many characters it stands for.
    pub length: usize,
    /// Why it cannot be recorded, though it is JSON.
    pub wrong: Option<&'static str>,
}

impl<'a> Word<'a> {
    /// What it stands for.
    pub fn text(&self) -> Cow<'a, str> {
        if self.escaped && self.wrong.is_none() {
            return serde_json::from_str(self.raw).map_or(Cow::Borrowed(""), Cow::Owned);
        }
        Cow::Borrowed(&self.raw[1..self.raw.len() - 1])
    }
}

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The text from `start` to here.
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte that is no white space.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes `byte` if it is the next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, byte: u8, wrong: &'static str) -> Result<(), Broken> {
        if self.eat(byte) { Ok(()) } else { Err(Broken(wrong)) }
    }

    /// Takes `true`, `false` or `null`.
    pub fn literal(&mut self) -> Result<&'a str, Broken> {
        self.peek();
        let rest = &self.text[self.at..];
        let found = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
        let found = found.ok_or(Broken("is not JSON: a value is missing or misspelt"))?;
        self.at += found.len();
        Ok(found)
    }

    /// Takes a number of any form that JSON has.
    pub fn number(&mut self) -> Result<&'a str, Broken> {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - from
        };
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        let first = bytes.get(at).copied();
        let whole = digits(&mut at);
        if whole == 0 || whole > 1 && first == Some(b'0') {
            return Err(Broken("is not JSON: a number is malformed"));
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            if digits(&mut at) == 0 {
                return Err(Broken("is not JSON: a number is malformed"));
            }
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            if digits(&mut at) == 0 {
                return Err(Broken("is not JSON: a number is malformed"));
            }
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Takes a string.
    pub fn word(&mut self) -> Result<Word<'a>, Broken> {
        self.expect(b'"', "is not JSON: a string is missing")?;
        let start = self.at - 1;
        let bytes = self.text.as_bytes();
        let (mut escaped, mut length, mut wrong) = (false, 0, None);
        loop {
            let byte = *bytes.get(self.at).ok_or(Broken("is not JSON: a string does not end"))?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    length += 1;
                    wrong = self.escape()?.or(wrong);
                }
                0..0x20 => return Err(Broken("is not JSON: a string holds a control character")),
                // Bytes that go on a character are not counted.
                0x80..0xC0 => {}
                _ => length += 1,
            }
        }
        Ok(Word { raw: &self.text[start..self.at], escaped, length, wrong })
    }

    fn escape(&mut self) -> Result<Option<&'static str>, Broken> {
        let malformed = Broken("is not JSON: an escape is malformed");
        let byte = *self.text.as_bytes().get(self.at).ok_or(malformed)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(None),
            b'u' => Ok(match self.hex().ok_or(malformed)? {
                0 => Some("must not hold U+0000"),
                0xD800..0xDC00 => self.low_surrogate()?,
                0xDC00..0xE000 => Some("holds half a surrogate pair"),
                _ => None,
            }),
            _ => Err(malformed),
        }
    }

    fn low_surrogate(&mut self) -> Result<Option<&'static str>, Broken> {
        let before = self.at;
        if self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            if (0xDC00..0xE000).contains(&self.hex().ok_or(Broken("is not JSON: an escape is malformed"))?) {
                return Ok(None);
            }
        }
        self.at = before;
        Ok(Some("holds half a surrogate pair"))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// Passes over a value of any form.
    pub fn skip(&mut self, depth: usize) -> Result<(), Broken> {
        if depth > DEPTH {
            return Err(Broken("is nested too deep"));
        }
        match self.peek() {
            Some(b'"') => self.word().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(open @ (b'{' | b'[')) => {
                let close = if open == b'{' { b'}' } else { b']' };
                self.at += 1;
                if self.eat(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.word()?;
                        self.expect(b':', "is not JSON: a colon is missing")?;
                    }
                    self.skip(depth + 1)?;
                    if self.eat(close) {
                        return Ok(());
                    }
                    self.expect(b',', "is not JSON: a comma is missing")?;
                }
            }
            _ => self.literal().map(|_| ()),
        }
    }
}
