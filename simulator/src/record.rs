//! What the processes did: checked at the end, and kept as text to compare two runs.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use crossfade_history::{Checker, CheckerOptions, Event, Header, Report, StreamId, What};
use tokio::time::Instant;

/// Takes events of all processes. Clones are the same record.
#[derive(Clone)]
pub(crate) struct Record {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    begun: Instant,
    checker: Checker,
    trace: Option<Vec<String>>,
    hash: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Record {
    pub(crate) fn new(keep_trace: bool) -> Self {
        Record {
            inner: Rc::new(RefCell::new(Inner {
                begun: Instant::now(),
                checker: Checker::new(CheckerOptions::default()),
                trace: keep_trace.then(Vec::new),
                hash: 0xcbf2_9ce4_8422_2325,
                counts: BTreeMap::new(),
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
        let text = match &what {
            What::Acked { id, side, revision } => format!("acked {id} {side:?} {revision}"),
            What::Enter { id, side, attempt } => format!("enter {id} {side:?} {attempt}"),
            What::Ambiguous { id, error } => format!("ambiguous {id} {error}"),
            What::Failed { id, error } => format!("failed {id} {error}"),
            other => format!("{} {}", other.name(), other.id().unwrap_or_default()),
        };
        self.note(who, &text);
        let inner = &mut *self.inner.borrow_mut();
        *inner.counts.entry(what.name()).or_default() += 1;
        inner.checker.add(stream, &Event { at_us, what });
    }

    /// A line of the trace that is no event of a history.
    pub(crate) fn note(&self, who: &str, text: &str) {
        let at_us = self.now_us();
        let inner = &mut *self.inner.borrow_mut();
        let line = format!("{:>12.6} {who} {text}", at_us as f64 / 1e6);
        // FNV-1a, 64 bits: enough to tell two traces apart.
        for byte in line.bytes() {
            inner.hash = (inner.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(trace) = &mut inner.trace {
            trace.push(line);
        }
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        self.inner.borrow().counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn finish(&self) -> (Report, u64, Vec<String>) {
        let inner = &mut *self.inner.borrow_mut();
        let checker = std::mem::take(&mut inner.checker);
        let trace = inner.trace.take().unwrap_or_default();
        (checker.finish(), inner.hash, trace)
    }
}
