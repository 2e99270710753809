//! Verifying lines as they come from a file or a pipe.

use std::{
    io::{self, BufRead, Read as _},
    thread,
};

use cnc_domain::ledger::{Break, Head, Verifier, Wrong, check_form};

/// A longer line is no entry: what is recorded is bounded far below it.
const LINE_BYTES_MAX: usize = 16 << 20;
/// So many bytes of lines are held at once.
const BATCH_BYTES: usize = 1 << 20;
/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What was verified.
pub struct Verified {
    /// The last entry.
    pub head: Head,
    /// How many lines.
    pub lines: u64,
}

/// Verifies all lines: how they follow each other, and their form.
pub fn verify(mut input: impl BufRead, mut verifier: Verifier) -> io::Result<Result<Verified, Break>> {
    let mut lines = 0;
    let broken = |verifier: &Verifier, lines: u64, wrong| {
        Err(Break { position: verifier.head().position + 1, line: lines + 1, wrong: Wrong::Form(wrong) })
    };
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        let rewritten = "begins with a byte order mark: the file was rewritten on its way; copy it again as bytes";
        return Ok(broken(&verifier, lines, rewritten));
    }
    loop {
        let (batch, ended) = Batch::read(&mut input)?;
        if let Err(found) = batch.check(&mut verifier, lines) {
            return Ok(Err(found));
        }
        lines += batch.ends.len() as u64;
        match ended {
            Ended::Full => {}
            Ended::TooLong => return Ok(broken(&verifier, lines, "is longer than 16 MiB, as no entry is")),
            Ended::Input => return Ok(verifier.finish().map(|head| Verified { head, lines })),
        }
    }
}

/// Some lines, without their newlines.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// Why a batch ends where it does.
enum Ended {
    Full,
    TooLong,
    Input,
}

impl Batch {
    fn read(input: &mut impl BufRead) -> io::Result<(Self, Ended)> {
        let mut batch = Self::default();
        while batch.text.len() < BATCH_BYTES {
            let start = batch.text.len();
            let read = input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut batch.text)?;
            if read == 0 {
                return Ok((batch, Ended::Input));
            }
            if batch.text.ends_with(b"\n") {
                batch.text.pop();
            } else if read > LINE_BYTES_MAX {
                batch.text.truncate(start);
                return Ok((batch, Ended::TooLong));
            }
            batch.ends.push(batch.text.len());
        }
        Ok((batch, Ended::Full))
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    /// The links in this thread, the form in another: hashing takes about as long as looking at each byte.
    fn check(&self, verifier: &mut Verifier, before: u64) -> Result<(), Break> {
        let position = verifier.head().position;
        let (links, form) = thread::scope(|scope| {
            let form =
                scope.spawn(|| (1..).zip(self.lines()).find_map(|(nth, line)| Some((nth, check_form(line).err()?))));
            let links = (1..).zip(self.lines()).find_map(|(nth, line)| Some((nth, verifier.line(line).err()?)));
            (links, form.join().expect("looking at bytes does not panic"))
        });
        match (links, form) {
            (None, None) => Ok(()),
            // Of a line that is wrong in both ways, what it lacks as an entry says more.
            (Some((nth, broken)), Some((other, _))) if nth <= other => Err(broken),
            (_, Some((nth, wrong))) => Err(Break { position: position + nth, line: before + nth, wrong }),
            (Some((_, broken)), None) => Err(broken),
        }
    }
}
