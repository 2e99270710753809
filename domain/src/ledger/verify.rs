//! Whether lines are an unbroken ledger. One pure function: the command line, the alarm, backups, imports and tests all
//! call it. The fixed order of an entry's members spares it a general parser.

use std::collections::HashMap;

use serde::Serialize;

use super::{Hash, Head, Position, Sequence};

/// The first thing that is wrong with a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("position {position} (line {line}): {wrong}")]
pub struct Break {
    /// The position that should stand there, counted on from the entry before.
    pub position: Position,
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// It does not have the form of an entry.
    #[error("not an entry: {0} is missing or malformed")]
    Malformed(&'static str),
    /// It belongs to another company.
    #[error("belongs to company {found}, not {expected}")]
    OtherCompany {
        /// The ledger's.
        expected: String,
        /// The line's.
        found: String,
    },
    /// Its position does not follow: a line was removed, doubled, swapped or invented.
    #[error("has position {found}, not the next one")]
    OtherPosition {
        /// The line's.
        found: Position,
    },
    /// It does not name the hash of the line before: that line, or this one, was changed.
    #[error("names {found} as the line before, which has the hash {expected}")]
    OtherPrevious {
        /// The hash of the line before.
        expected: Hash,
        /// The hash that this line names.
        found: Hash,
    },
    /// Its sequence does not follow in its stream.
    #[error("has sequence {found} of its {stream}, not {expected}")]
    OtherSequence {
        /// The kind of aggregate.
        stream: String,
        /// What follows the stream's entry before.
        expected: Sequence,
        /// The line's.
        found: Sequence,
    },
    /// Its text is not what an entry's may be.
    #[error("{0}")]
    Form(&'static str),
    /// Lines end with CR LF, as no ledger's do: something rewrote the file on its way.
    #[error("ends with CR LF: the file was rewritten on its way; copy it again as bytes (binary mode)")]
    CarriageReturn,
    /// Its time is before that of the line before.
    #[error("is recorded at {found}, before the line before it ({previous})")]
    BackInTime {
        /// The line's.
        found: String,
        /// The one before.
        previous: String,
    },
    /// The ledger ends before the head that it should reach.
    #[error("the ledger ends here, before the head at {0}")]
    CutOff(Position),
    /// The entry at the head has another hash.
    #[error("the head's hash is {found}, not {expected}")]
    OtherHead {
        /// The head that was kept.
        expected: Hash,
        /// The hash of the line at its position.
        found: Hash,
    },
}

/// Verifies lines as they come. Holds the last sequence of each stream, and nothing else that grows with the ledger.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    head: Head,
    lines: u64,
    company: Option<[u8; 36]>,
    at: [u8; 27],
    expected: Option<Head>,
    sequences: Sequences,
}

/// The last sequence of each stream.
#[derive(Clone, Debug, Default)]
struct Sequences {
    /// Where the first line that is seen is not a ledger's first, a stream may have begun before.
    begun: bool,
    /// The names of streams, of which there are some dozens.
    names: Vec<Box<[u8]>>,
    last: HashMap<(usize, u128), Sequence>,
}

impl Sequences {
    fn follow(&mut self, header: &Header<'_>) -> Result<(), Wrong> {
        let name = self.names.iter().position(|name| **name == *header.stream).unwrap_or_else(|| {
            self.names.push(header.stream.into());
            self.names.len() - 1
        });
        let last = self.last.entry((name, number(header.id))).or_insert(0);
        if *last + 1 != header.sequence && (*last > 0 || !self.begun) {
            let stream = String::from_utf8_lossy(header.stream).into_owned();
            return Err(Wrong::OtherSequence { stream, expected: *last + 1, found: header.sequence });
        }
        *last = header.sequence;
        Ok(())
    }
}

/// A UUID's 128 bits.
fn number(uuid: &[u8; 36]) -> u128 {
    let nibble = |digit: &u8| u128::from(if *digit < b'a' { digit & 15 } else { digit - b'a' + 10 });
    uuid.iter().filter(|byte| **byte != b'-').fold(0, |number, digit| number << 4 | nibble(digit))
}

/// Verifies a whole ledger, given as lines without newlines, and that it reaches `expected` where a head was kept.
pub fn verify<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>, expected: Option<Head>) -> Result<Head, Break> {
    let mut verifier = Verifier::new(expected);
    for line in lines {
        verifier.line(line.as_ref())?;
    }
    verifier.finish()
}

impl Verifier {
    /// Starts at the beginning of a ledger that should reach `expected`.
    pub fn new(expected: Option<Head>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// Starts after an entry whose place and hash are known: for a part of a ledger.
    pub fn after(head: Head, expected: Option<Head>) -> Self {
        let sequences = Sequences { begun: head.position > 0, ..Sequences::default() };
        Self { head, expected, sequences, ..Self::default() }
    }

    /// The head so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Break> {
        self.lines += 1;
        self.follow(line).map_err(|wrong| self.broken(wrong))
    }

    /// Says that there are no more lines.
    pub fn finish(mut self) -> Result<Head, Break> {
        match self.expected {
            Some(expected) if expected.position > self.head.position => {
                self.lines += 1;
                Err(self.broken(Wrong::CutOff(expected.position)))
            }
            _ => Ok(self.head),
        }
    }

    fn broken(&self, wrong: Wrong) -> Break {
        let position =
            if matches!(wrong, Wrong::OtherHead { .. }) { self.head.position } else { self.head.position + 1 };
        Break { position, line: self.lines, wrong }
    }

    /// The first line says whose ledger it is; in all others only the same bytes are looked for.
    fn is_of_company(&mut self, found: &[u8; 36]) -> Result<(), Wrong> {
        match &self.company {
            Some(company) if company == found => Ok(()),
            _ if !is_uuid(found) => Err(Wrong::Malformed("company")),
            Some(company) => Err(Wrong::OtherCompany { expected: text(company), found: text(found) }),
            None => {
                self.company = Some(*found);
                Ok(())
            }
        }
    }

    fn follow(&mut self, line: &[u8]) -> Result<(), Wrong> {
        if line.ends_with(b"\r") {
            return Err(Wrong::CarriageReturn);
        }
        let header = Scan::header(line)?;
        self.is_of_company(header.company)?;
        if header.position != self.head.position + 1 {
            return Err(Wrong::OtherPosition { found: header.position });
        }
        if *header.previous != self.head.hash.digits() {
            let found = text(header.previous).parse().map_err(|_| Wrong::Malformed("previous"))?;
            return Err(Wrong::OtherPrevious { expected: self.head.hash, found });
        }
        if *header.at < self.at {
            return Err(Wrong::BackInTime { found: text(header.at), previous: text(&self.at) });
        }
        self.sequences.follow(&header)?;
        self.at = *header.at;
        self.head = Head { position: header.position, hash: Hash::of(line) };
        match self.expected {
            Some(expected) if expected.position == self.head.position && expected.hash != self.head.hash => {
                Err(Wrong::OtherHead { expected: expected.hash, found: self.head.hash })
            }
            _ => Ok(()),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `verify` reads of a line.
struct Header<'a> {
    company: &'a [u8; 36],
    position: Position,
    previous: &'a [u8; 64],
    stream: &'a [u8],
    id: &'a [u8; 36],
    sequence: Sequence,
    at: &'a [u8; 27],
}

/// Walks a line from its start.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    /// Reads the header of a line, and that its last member is a payload.
    fn header(line: &'a [u8]) -> Result<Header<'a>, Wrong> {
        let mut scan = Self(line);
        let company = scan.after(b"{\"company\":\"").and_then(|()| scan.unread()).ok_or(Wrong::Malformed("company"))?;
        let position =
            scan.after(b"\",\"position\":").and_then(|()| scan.number()).ok_or(Wrong::Malformed("position"))?;
        let previous =
            scan.after(b",\"previous\":\"").and_then(|()| scan.unread()).ok_or(Wrong::Malformed("previous"))?;
        let stream = scan.after(b"\",\"stream\":\"").and_then(|()| scan.name()).ok_or(Wrong::Malformed("stream"))?;
        let id = scan.after(b"\",\"id\":\"").and_then(|()| scan.uuid()).ok_or(Wrong::Malformed("id"))?;
        let sequence =
            scan.after(b"\",\"sequence\":").and_then(|()| scan.number()).ok_or(Wrong::Malformed("sequence"))?;
        scan.after(b",\"event\":\"").and_then(|()| scan.name()).ok_or(Wrong::Malformed("event"))?;
        scan.after(b"\",\"version\":").and_then(|()| scan.number()).ok_or(Wrong::Malformed("version"))?;
        let at = scan.after(b",\"at\":\"").and_then(|()| scan.time()).ok_or(Wrong::Malformed("at"))?;
        scan.after(b"\",\"location\":").and_then(|()| scan.uuid_or_null()).ok_or(Wrong::Malformed("location"))?;
        scan.after(b",\"actor\":{").and_then(|()| scan.actor()).ok_or(Wrong::Malformed("actor"))?;
        let command = scan.after(b"},\"command\":\"").and_then(|()| scan.uuid()).ok_or(Wrong::Malformed("command"))?;
        scan.after(b"\",\"correlation\":\"")
            .and_then(|()| scan.after(command).or_else(|| scan.uuid().map(|_| ())))
            .ok_or(Wrong::Malformed("correlation"))?;
        scan.after(b"\",\"causation\":").and_then(|()| scan.uuid_or_null()).ok_or(Wrong::Malformed("causation"))?;
        scan.after(b",\"payload\":").and_then(|()| scan.payload()).ok_or(Wrong::Malformed("payload"))?;
        Ok(Header { company, position, previous, stream, id, sequence, at })
    }

    /// The payload is the last member: its brace and the line's close the line. What stands between is covered by the
    /// hash, and is not looked at, so that a large payload costs no more than its hashing.
    fn payload(&mut self) -> Option<()> {
        (self.0.len() > 2 && self.0.starts_with(b"{") && self.0.ends_with(b"}}")).then_some(())
    }

    /// One of the four forms of an actor, without its braces.
    fn actor(&mut self) -> Option<()> {
        if self.after(b"\"user\":\"").is_some() {
            self.uuid()?;
            self.after(b"\",\"role\":")?;
        } else {
            [&b"\"trigger\":"[..], b"\"deadline\":", b"\"tool\":"].into_iter().find_map(|form| self.after(form))?;
        }
        self.string()
    }

    fn uuid_or_null(&mut self) -> Option<()> {
        if self.after(b"null").is_some() {
            return Some(());
        }
        self.after(b"\"")?;
        self.uuid()?;
        self.after(b"\"")
    }

    /// A string with its quotes. What follows a backslash never ends it.
    fn string(&mut self) -> Option<()> {
        self.after(b"\"")?;
        loop {
            match self.take(1)?[0] {
                b'"' => return Some(()),
                b'\\' => self.take(1).map(|_| ())?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn after(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let taken = self.take(digits)?;
        if taken.first() == Some(&b'0') && digits > 1 || digits > 16 {
            return None;
        }
        std::str::from_utf8(taken).ok()?.parse().ok()
    }

    // The checks of forms count what fits rather than stop at what does not: a loop without a way out runs on many bytes
    // at once, and nearly every line is well formed.
    fn uuid(&mut self) -> Option<&'a [u8; 36]> {
        self.unread().filter(|taken| is_uuid(taken))
    }

    /// Bytes whose form is looked at only where they are not the ones that are expected.
    fn unread<const LENGTH: usize>(&mut self) -> Option<&'a [u8; LENGTH]> {
        self.take(LENGTH)?.try_into().ok()
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let fits = |byte: &&u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'_';
        let length = self.0.iter().take_while(fits).count();
        self.take(length).filter(|name| !name.is_empty())
    }

    fn time(&mut self) -> Option<&'a [u8; 27]> {
        const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
        let taken: &[u8; 27] = self.take(27)?.try_into().ok()?;
        let fits = |(byte, form): (&u8, &u8)| u8::from(*form == b'0' && byte.is_ascii_digit()) | u8::from(byte == form);
        let fitting: u8 = taken.iter().zip(FORM).map(fits).sum();
        (fitting == 27).then_some(taken)
    }
}

fn is_uuid(text: &[u8; 36]) -> bool {
    let digits: u8 = text.iter().map(|byte| u8::from(is_hex_digit(*byte))).sum();
    digits == 32 && [8, 13, 18, 23].iter().all(|place| text[*place] == b'-')
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_digit() | (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests;
