//! Writing a history so that a killed process loses no line that it wrote.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    event::{Event, Header, What},
    line,
};

/// Gives times that grow with every call: the clock's, or one microsecond more than the last one. Share one among all streams of a
/// simulation, whose clock may stand still: then the order of events is the order of their times, without ties.
pub struct Stamp {
    clock_us: Box<dyn Fn() -> u64 + Send + Sync>,
    last_us: AtomicU64,
}

impl Stamp {
    /// Follows `clock_us`, in microseconds.
    pub fn new(clock_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Stamp {
            clock_us: Box::new(clock_us),
            last_us: AtomicU64::new(0),
        }
    }

    /// The time now; greater than any before.
    pub fn now_us(&self) -> u64 {
        let now = (self.clock_us)();
        let next = |last: u64| now.max(last.saturating_add(1));
        let advance = |last| Some(next(last));
        self.last_us
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, advance)
            .map_or(now, next)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp")
            .field("last_us", &self.last_us)
            .finish_non_exhaustive()
    }
}

/// Appends the events of one stream, one line and one `write` each. Share it between tasks and threads.
#[derive(Debug)]
pub struct Writer<W = File> {
    output: Mutex<W>,
    stamp: Arc<Stamp>,
    prefix: String,
}

impl Writer<File> {
    /// Begins a stream at the end of the file, which is made when it is not there. A line that an earlier process left unfinished is
    /// ended first, so that it spoils no other.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(path: impl AsRef<Path>, header: &Header, stamp: Arc<Stamp>) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
            }
        }
        Writer::new(file, header, stamp)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a stream. `output` should hand each `write` on at once: a buffer in between dies with the process.
    ///
    /// # Errors
    /// What `output` says.
    pub fn new(mut output: W, header: &Header, stamp: Arc<Stamp>) -> io::Result<Self> {
        output.write_all(&line::header(header))?;
        Ok(Writer {
            output: Mutex::new(output),
            stamp,
            prefix: format!("{}-{}-", header.instance, header.incarnation),
        })
    }

    /// The id of this process's message `number`: `<instance>-<incarnation>-<number>`. No other process makes the same.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    /// Writes one event, with the time of the writing; answers the time.
    ///
    /// # Errors
    /// What the output says. The event is not on record then: do not act on what it tells.
    pub fn record(&self, what: What<'_>) -> io::Result<u64> {
        // The time is taken under the lock, so that it grows from line to line.
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event {
            at_us: self.stamp.now_us(),
            what,
        };
        output.write_all(&line::event(&event))?;
        Ok(event.at_us)
    }

    /// The output, after the last event.
    pub fn into_inner(self) -> W {
        self.output
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
