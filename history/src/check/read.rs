//! Checking files.

use std::{
    fmt,
    io::{self, BufRead},
};

use super::Checker;
use crate::{
    line::VERSION,
    reader::{Line, Reader},
};

/// Why an input is no history.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It could not be read.
    Io(io::Error),
    /// There is nothing in it.
    Empty,
    /// It has no header: something else wrote it.
    NoHeader,
    /// It was written in a version that this crate does not read.
    Version {
        /// The version.
        version: u32,
        /// Where it says so; the first line is 1.
        line: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "cannot be read: {error}"),
            ReadError::Empty => f.write_str("is empty: did its process start?"),
            ReadError::NoHeader => f.write_str(
                "no line of it is the header of a history: is it what `crossfade load produce` or `crossfade load consume` wrote with --history?",
            ),
            ReadError::Version { version, line } => write!(
                f,
                "line {line} begins a history of version {version}; this program reads version {VERSION}"
            ),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Checker {
    /// Takes all streams of one file. `progress` is told now and then how many bytes of it were read.
    ///
    /// # Errors
    /// The check is of no use then, because a part of the run is missing.
    pub fn read(
        &mut self,
        input: impl BufRead,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ReadError> {
        let mut reader = Reader::new(input);
        let mut stream = None;
        // The line before was torn, which is harmless only at the end of a stream.
        let mut torn = false;
        loop {
            if reader.number().is_multiple_of(4_096) {
                progress(reader.bytes());
            }
            let line = reader.next_line().map_err(ReadError::Io)?;
            if std::mem::take(&mut torn) {
                match line {
                    None | Some(Line::Header(_)) => self.report.torn_lines += 1,
                    _ => self.report.foreign_lines += 1,
                }
            }
            match (line, stream) {
                (Some(Line::Header(header)), _) => stream = Some(self.stream(&header)),
                (Some(Line::Event(event)), Some(stream)) => self.add(stream, &event),
                (Some(Line::Torn), Some(_)) => torn = true,
                (Some(Line::Event(_) | Line::Torn | Line::Foreign), _) => {
                    self.report.foreign_lines += 1
                }
                (Some(Line::Version { version, line }), _) => {
                    return Err(ReadError::Version { version, line });
                }
                (None, _) => break,
            }
        }
        progress(reader.bytes());
        match stream {
            Some(_) => Ok(()),
            None if reader.bytes() == 0 => Err(ReadError::Empty),
            None => Err(ReadError::NoHeader),
        }
    }
}
