//! Reading a history line by line, in bounded memory.

use std::io::{self, BufRead, Read as _};

use crate::{
    event::{Event, Header},
    line::{self, LineError, Parsed},
};

/// The longest line that is taken for one of ours; what is longer is foreign, and read past without being kept.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// One line of the input.
#[derive(Debug)]
pub enum Line<'a> {
    /// A stream begins; the events that follow are its own.
    Header(Header),
    /// Something happened.
    Event(Event<'a>),
    /// The beginning of a line: at the end of the input, or before the next header, where a process was killed while it wrote. Whatever it
    /// told had not been acted on.
    Torn,
    /// Not a line of a history.
    Foreign,
    /// A header of another version.
    Version {
        /// The version.
        version: u32,
        /// The number of the line.
        line: u64,
    },
}

/// Reads lines.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Reader {
            input,
            line: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// The number of the line that was read last; the first is 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line; `None` at the end. Empty lines are left out.
    ///
    /// # Errors
    /// What the input says.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let mut bounded = (&mut self.input).take(MAX_LINE_BYTES);
            let read = bounded.read_until(b'\n', &mut self.line)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read;
            let whole = self.line.ends_with(b"\n");
            if !whole && read == MAX_LINE_BYTES {
                self.bytes += skip_line(&mut self.input)?;
                return Ok(Some(Line::Foreign));
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some(match line::parse(self.line.trim_ascii()) {
                Ok(Parsed::Header(header)) => Line::Header(header),
                Ok(Parsed::Event(event)) => Line::Event(event),
                Err(LineError::Version(version)) => Line::Version {
                    version,
                    line: self.number,
                },
                Err(LineError::Torn) => Line::Torn,
                Err(LineError::Foreign) => Line::Foreign,
            }));
        }
    }
}

/// Reads to the end of the line.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Ok(skipped);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(available.len(), |end| end + 1);
        input.consume(used);
        skipped += used as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}
