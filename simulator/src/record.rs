//! What the processes did: checked at the end, and kept as text to compare two runs.

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt::{self, Write},
    rc::Rc,
};

use crossfade_history::{Checker, CheckerOptions, Event, Header, Report, StreamId, What};
use tokio::time::Instant;

/// How much of what the processes did is written down as text. The checker sees all of it in any case.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trace {
    /// Nothing.
    #[default]
    Nothing,
    /// A hash, to tell two traces apart.
    Hash,
    /// The hash and every line.
    Lines,
}

/// Takes events of all processes. Clones are the same record.
#[derive(Clone)]
pub(crate) struct Record {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    begun: Instant,
    checker: Checker,
    wanted: Trace,
    trace: Vec<String>,
    hash: u64,
    /// Written anew for each line.
    line: String,
    /// Sends that were not acked.
    failed_sends: u64,
    /// Hashes of group and id: handled, and failed at least once.
    handled: HashSet<u64>,
    failed: HashSet<u64>,
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: enough to tell two traces apart.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn of(group: &str, id: &str) -> u64 {
    fnv(fnv(FNV_OFFSET, group.as_bytes()), id.as_bytes())
}

impl Record {
    pub(crate) fn new(wanted: Trace) -> Self {
        Record {
            inner: Rc::new(RefCell::new(Inner {
                begun: Instant::now(),
                checker: Checker::new(CheckerOptions::default()),
                wanted,
                trace: Vec::new(),
                hash: FNV_OFFSET,
                line: String::new(),
                failed_sends: 0,
                handled: HashSet::new(),
                failed: HashSet::new(),
            })),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        let begun = self.inner.borrow().begun;
        u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn stream(&self, mut header: Header) -> StreamId {
        header.started_at_us = self.now_us();
        self.inner.borrow_mut().checker.stream(&header)
    }

    pub(crate) fn add(&self, stream: StreamId, who: &str, what: What<'_>) {
        let at_us = self.now_us();
        self.write(at_us, who, |line| match &what {
            What::Acked { id, side, revision } => {
                write!(line, "acked {id} {side:?} {revision}")
            }
            What::Enter { id, side, attempt } => write!(line, "enter {id} {side:?} {attempt}"),
            What::Ambiguous { id, error } => write!(line, "ambiguous {id} {error}"),
            What::Failed { id, error } => write!(line, "failed {id} {error}"),
            other => write!(line, "{} {}", other.name(), other.id().unwrap_or_default()),
        });
        let inner = &mut *self.inner.borrow_mut();
        let failed = matches!(what, What::Failed { .. } | What::Ambiguous { .. });
        inner.failed_sends += u64::from(failed);
        inner.checker.add(stream, &Event { at_us, what });
    }

    /// A line of the trace that is no event of a history.
    pub(crate) fn note(&self, who: &str, text: &str) {
        self.write(self.now_us(), who, |line| line.write_str(text));
    }

    fn write(&self, at_us: u64, who: &str, what: impl FnOnce(&mut String) -> fmt::Result) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.wanted == Trace::Nothing {
            return;
        }
        inner.line.clear();
        let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
        // A string takes everything.
        let _ = write!(inner.line, "{seconds:>5}.{micros:06} {who} ");
        let _ = what(&mut inner.line);
        inner.hash = fnv(inner.hash, inner.line.as_bytes());
        if inner.wanted == Trace::Lines {
            inner.trace.push(inner.line.clone());
        }
    }

    /// A handler of `group` has succeeded with `id`.
    pub(crate) fn note_handled(&self, group: &str, id: &str) {
        self.inner.borrow_mut().handled.insert(of(group, id));
    }

    /// A handler of `group` has failed with `id`.
    pub(crate) fn note_failed(&self, group: &str, id: &str) {
        self.inner.borrow_mut().failed.insert(of(group, id));
    }

    /// Whether a handler of `group` has succeeded with `id`, and whether one has failed.
    pub(crate) fn fate(&self, group: &str, id: &str) -> (bool, bool) {
        let inner = self.inner.borrow();
        let key = of(group, id);
        (inner.handled.contains(&key), inner.failed.contains(&key))
    }

    pub(crate) fn failed_sends(&self) -> u64 {
        self.inner.borrow().failed_sends
    }

    pub(crate) fn finish(&self) -> (Report, u64, Vec<String>) {
        let inner = &mut *self.inner.borrow_mut();
        let checker = std::mem::take(&mut inner.checker);
        let trace = std::mem::take(&mut inner.trace);
        (checker.finish(), inner.hash, trace)
    }
}
