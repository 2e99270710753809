//! Whether a line's text is JSON as entries have it: whole numbers, each member once, no white space, no U+0000, one
//! spelling of every number. The chain does not depend on it; readers in other languages do.

use std::{borrow::Cow, collections::HashSet};

use super::Wrong;

/// Deeper than this nothing that is recorded goes; a reader that recurses would run out of stack.
const DEPTH_MAX: usize = 128;
/// The greatest whole number, either side of zero: beyond it, readers with floating-point numbers lose digits.
const NUMBER_MAX: u64 = 1 << 53;
/// With more members than this, names are looked up rather than compared with each other.
const MEMBERS_COMPARED: usize = 24;

/// Checks the text of a line (without its newline). What its members are, and the chain, a
/// [`Verifier`](super::Verifier) checks.
pub fn check_form(line: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(line).map_err(|_| Wrong::Form("is not UTF-8"))?;
    // Counted rather than looked for, so that many bytes are compared at once.
    if line.iter().map(|byte| usize::from(*byte < b' ')).sum::<usize>() > 0 {
        return Err(Wrong::Form("holds a control character"));
    }
    let mut scan = Scan { text, at: 0 };
    scan.value(0).map_err(Wrong::Form)?;
    if scan.at < line.len() { Err(Wrong::Form("goes on after its object")) } else { Ok(()) }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

type Checked = Result<(), &'static str>;

impl<'a> Scan<'a> {
    fn value(&mut self, depth: usize) -> Checked {
        if depth > DEPTH_MAX {
            return Err("is nested too deep");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b' ') => Err("has white space between its members"),
            _ => ["true", "false", "null"].into_iter().find(|word| self.take(word)).map(drop).ok_or("is not JSON"),
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        self.at += 1;
        if self.take("}") {
            return Ok(());
        }
        let mut names = Names::default();
        loop {
            if self.peek() == Some(b' ') {
                return Err("has white space between its members");
            }
            if !names.add(self.string()?) {
                return Err("has two members of one name in an object");
            }
            if !self.take(":") {
                return Err("is not JSON");
            }
            self.value(depth + 1)?;
            if self.take("}") {
                return Ok(());
            }
            self.comma()?;
        }
    }

    fn array(&mut self, depth: usize) -> Checked {
        self.at += 1;
        if self.take("]") {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take("]") {
                return Ok(());
            }
            self.comma()?;
        }
    }

    fn comma(&mut self) -> Checked {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(())
            }
            Some(b' ') => Err("has white space between its members"),
            _ => Err("is not JSON"),
        }
    }

    /// A string, as it stands between its quotes.
    fn string(&mut self) -> Result<&'a str, &'static str> {
        if !self.take("\"") {
            return Err("is not JSON");
        }
        let start = self.at;
        loop {
            match self.text.as_bytes()[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                None => return Err("has a string that does not end"),
                Some(length) => self.at += length,
            }
            if self.take("\"") {
                return Ok(&self.text[start..self.at - 1]);
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Checked {
        let rest = &self.text.as_bytes()[self.at + 1..];
        match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', b'0', b'0', b'0', b'0', ..] => return Err("holds U+0000"),
            [b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => self.at += 6,
            _ => return Err("has a string with a wrong escape"),
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        let negative = self.take("-");
        let digits = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = &self.text[self.at..self.at + digits];
        self.at += digits;
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err("has a number that is not whole");
        }
        if text.is_empty() || (text.len() > 1 && text.starts_with('0')) || (negative && text == "0") {
            return Err("has a number that is spelled otherwise than numbers are");
        }
        match text.parse::<u64>() {
            Ok(number) if number <= NUMBER_MAX => Ok(()),
            _ => Err("has a number beyond 2^53"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, expected: &str) -> bool {
        let there = self.text.as_bytes()[self.at..].starts_with(expected.as_bytes());
        self.at += if there { expected.len() } else { 0 };
        there
    }
}

/// The names of one object's members.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// Takes a name as it stands between its quotes. False where it was there.
    fn add(&mut self, spelled: &'a str) -> bool {
        let name = if spelled.contains('\\') {
            // Escapes are checked: only a lone surrogate does not read, and equals nothing but itself.
            serde_json::from_str(&format!("\"{spelled}\"")).map_or(Cow::Borrowed(spelled), Cow::Owned)
        } else {
            Cow::Borrowed(spelled)
        };
        if self.few.len() < MEMBERS_COMPARED {
            let new = !self.few.contains(&name);
            self.few.push(name);
            return new;
        }
        !self.few.contains(&name) && self.many.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> &'static str {
        match check_form(text.as_bytes()) {
            Err(Wrong::Form(wrong)) => wrong,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_recorded_has_the_form() {
        for text in [
            r#"{"a":1,"b":-9007199254740992,"c":[],"d":{},"e":null,"f":true,"g":"Zoë \"x\" \\ \u00e9"}"#,
            r#"{"a":{"a":{"a":[0,[0],{"a":"","b":" spaces stand in strings "}]}}}"#,
        ] {
            assert_eq!(check_form(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_line_of_another_form_says_what_is_wrong() {
        for (text, expected) in [
            (r#"{"a":1.0}"#, "has a number that is not whole"),
            (r#"{"a":1e3}"#, "has a number that is not whole"),
            (r#"{"a":01}"#, "has a number that is spelled otherwise than numbers are"),
            (r#"{"a":-0}"#, "has a number that is spelled otherwise than numbers are"),
            (r#"{"a":9007199254740993}"#, "has a number beyond 2^53"),
            (r#"{"a":-99999999999999999999999}"#, "has a number beyond 2^53"),
            (r#"{"a":1,"a":1}"#, "has two members of one name in an object"),
            (r#"{"a":1,"\u0061":1}"#, "has two members of one name in an object"),
            (r#"{"b":{"a":1,"c":2,"a":3}}"#, "has two members of one name in an object"),
            (r#"{"a": 1}"#, "has white space between its members"),
            (r#"{"a":1, "b":1}"#, "has white space between its members"),
            (r#"{ "a":1}"#, "has white space between its members"),
            (r#"{"a":"\u0000"}"#, "holds U+0000"),
            (r#"{"a":"\x"}"#, "has a string with a wrong escape"),
            (r#"{"a":"#, "is not JSON"),
            (r#"{"a":"b}"#, "has a string that does not end"),
            (r#"{"a":1}}"#, "goes on after its object"),
            ("{\"a\":1}\r", "holds a control character"),
            ("{\"a\":\"\t\"}", "holds a control character"),
        ] {
            assert_eq!(wrong(text), expected, "{text}");
        }
        assert_eq!(check_form(b"{\"a\":\"\xff\"}"), Err(Wrong::Form("is not UTF-8")));
        assert_eq!(wrong(&format!("{}{}", "[".repeat(200), "]".repeat(200))), "is nested too deep");
        let names: Vec<String> = (0..100).map(|n| format!("\"{n}\":1")).collect();
        assert_eq!(check_form(format!("{{{}}}", names.join(",")).as_bytes()), Ok(()));
        assert_eq!(wrong(&format!("{{{},\"99\":1}}", names.join(","))), "has two members of one name in an object");
    }
}
