//! Reads the histories while they grow: how far the run is, and what is still on its way.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crossfade_history::{Line, Reader, Role, Side, What};
use serde::Serialize;

use crate::failure::{Result, failed};

/// Most bytes that are read of one file in one look.
const CHUNK: u64 = 8 * 1024 * 1024;
/// Bit of a message that was acked; the groups' bits follow.
const ACKED: u16 = 1;
/// Most groups of a run.
pub const MOST_GROUPS: usize = 14;

/// Totals over all histories read so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Sends begun.
    pub called: u64,
    /// Sends that succeeded, by side.
    pub acked: [u64; 2],
    /// Sends that perhaps stored their message.
    pub ambiguous: u64,
    /// Sends that did not.
    pub failed: u64,
    /// Handlers entered, by side.
    pub entered: [u64; 2],
    /// Handlers that succeeded.
    pub done: u64,
    /// Acked messages that some group has not handled.
    pub open: u64,
}

impl Counts {
    /// Sends that succeeded.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.iter().sum()
    }
}

/// The reader of a folder of histories.
#[derive(Debug)]
pub struct Tally {
    folder: PathBuf,
    groups: Vec<String>,
    tails: HashMap<PathBuf, Tail>,
    /// What of each message was seen, as bits; gone when all was.
    open: HashMap<Box<str>, u16>,
    counts: Counts,
}

/// How far one file was read.
#[derive(Debug, Default)]
struct Tail {
    offset: u64,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
    /// Of the process that writes it; 0 for a producer.
    group_bit: u16,
}

impl Tally {
    /// For the histories (`*.jsonl`) in `folder` of consumers in these groups, at most [`MOST_GROUPS`].
    #[must_use]
    pub fn new(folder: &Path, groups: &[String]) -> Self {
        Tally {
            folder: folder.to_owned(),
            groups: groups.to_vec(),
            tails: HashMap::new(),
            open: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Reads what was appended since the last call.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&mut self) -> Result<Counts> {
        let folder = self.folder.clone();
        let told = |path: &Path, error: io::Error| failed(format!("{}: {error}", path.display()));
        let listed = fs::read_dir(&folder).map_err(|error| told(&folder, error))?;
        for entry in listed {
            let path = entry.map_err(|error| told(&folder, error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                self.follow(&path).map_err(|error| told(&path, error))?;
            }
        }
        self.counts.open = self
            .open
            .values()
            .filter(|bits| **bits & ACKED != 0)
            .count() as u64;
        Ok(self.counts)
    }

    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let mut tail = self.tails.remove(path).unwrap_or_default();
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(tail.offset))?;
        let mut bytes = tail.partial;
        // A file that grows as fast as it is read must not keep the others waiting.
        let read = file.take(CHUNK).read_to_end(&mut bytes)?;
        tail.offset += read as u64;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        tail.partial = bytes.split_off(whole);
        let mut reader = Reader::new(&bytes[..]);
        while let Some(line) = reader.next_line()? {
            match line {
                Line::Header(header) => {
                    tail.group_bit = match header.role {
                        Role::Producer => 0,
                        Role::Consumer { group, .. } => self.bit_of(&group),
                    };
                }
                Line::Event(event) => self.count(&event.what, tail.group_bit),
                // The checker counts those.
                Line::Torn | Line::Foreign | Line::Version { .. } => {}
            }
        }
        self.tails.insert(path.to_owned(), tail);
        Ok(())
    }

    fn bit_of(&self, group: &str) -> u16 {
        let place = self.groups.iter().position(|known| known == group);
        place.map_or(0, |place| 2 << place)
    }

    fn count(&mut self, what: &What<'_>, group_bit: u16) {
        let counts = &mut self.counts;
        match what {
            What::Call { .. } => counts.called += 1,
            What::Acked { id, side, .. } => {
                counts.acked[usize::from(*side == Side::Target)] += 1;
                self.mark(id, ACKED);
            }
            What::Ambiguous { .. } => counts.ambiguous += 1,
            What::Failed { .. } => counts.failed += 1,
            What::Enter { side, .. } => counts.entered[usize::from(*side == Side::Target)] += 1,
            What::Done { id } => {
                counts.done += 1;
                self.mark(id, group_bit);
            }
            What::Settled { .. } | What::HandlerFailed { .. } | What::End => {}
        }
    }

    /// A message of which all was seen is forgotten; if it is handled once more, it is remembered for nothing.
    fn mark(&mut self, id: &str, bit: u16) {
        let all = ACKED | ((2 << self.groups.len()) - 2);
        let bits = self.open.entry(id.into()).or_default();
        *bits |= bit;
        if *bits == all {
            self.open.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use crossfade_history::{DedupScope, Header, Stamp, Writer};

    use super::*;

    fn header(role: Role) -> Header {
        Header {
            instance: "i".into(),
            incarnation: "1".into(),
            role,
            topic: "t".into(),
            clock: String::new(),
            started_at_us: 0,
            started_unix_ms: 0,
        }
    }

    fn writer(folder: &Path, name: &str, role: Role) -> Writer {
        let stamp = Arc::new(Stamp::new(|| 0));
        Writer::append(folder.join(name), &header(role), stamp).unwrap()
    }

    fn consumer(folder: &Path, name: &str, group: &str) -> Writer {
        let role = Role::Consumer {
            group: group.into(),
            dedup: DedupScope::Process,
        };
        writer(folder, name, role)
    }

    #[test]
    fn message_is_open_until_every_group_has_handled_it_whoever_is_read_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut tally = Tally::new(path, &["a".to_owned(), "b".to_owned()]);
        let producer = writer(path, "p.jsonl", Role::Producer);
        let (a, b) = (
            consumer(path, "a.jsonl", "a"),
            consumer(path, "b.jsonl", "b"),
        );
        let done = |id| What::Done {
            id: std::borrow::Cow::Borrowed(id),
        };
        a.record(done("early")).unwrap();
        assert_eq!(tally.read().unwrap().open, 0);
        let id = std::borrow::Cow::Borrowed("early");
        producer.record(What::Call { id, key: None }).unwrap();
        for id in ["early", "late"] {
            let id = std::borrow::Cow::Borrowed(id);
            producer
                .record(What::Acked {
                    id,
                    side: Side::Target,
                    revision: 1,
                })
                .unwrap();
        }
        let counts = tally.read().unwrap();
        assert_eq!((counts.called, counts.acked, counts.open), (1, [0, 2], 2));
        for id in ["early", "late"] {
            b.record(done(id)).unwrap();
        }
        assert_eq!(tally.read().unwrap().open, 1);
        a.record(done("late")).unwrap();
        let counts = tally.read().unwrap();
        assert_eq!((counts.done, counts.open), (4, 0));
    }

    #[test]
    fn line_that_is_still_being_written_is_read_once_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut tally = Tally::new(folder.path(), &["a".to_owned()]);
        writer(folder.path(), "p.jsonl", Role::Producer);
        let mut file = File::options()
            .append(true)
            .open(folder.path().join("p.jsonl"))
            .unwrap();
        file.write_all(br#"{"at_us":1,"event":"ca"#).unwrap();
        assert_eq!(tally.read().unwrap().called, 0);
        file.write_all(b"ll\",\"id\":\"x\"}\n").unwrap();
        assert_eq!(tally.read().unwrap().called, 1);
        assert_eq!(tally.read().unwrap().called, 1);
    }
}
