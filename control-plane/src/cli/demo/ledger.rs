//! What the demo saw: every message sent, every handler entered and completed, by the revision that routed it.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossfade::{Error, Revision, Side};
use hdrhistogram::Histogram;

use super::order::Order;

/// Latencies are kept from 1 µs to 10 min.
const LONGEST: Duration = Duration::from_secs(600);

/// How many examples are kept.
const EXAMPLES: usize = 10;
/// How a send has ended.
const ACKED: u8 = 1;
/// Its transaction was rolled back: it is never to be handled.
const ROLLED_BACK: u8 = 2;

/// What was routed under one revision.
#[derive(Clone, Debug)]
struct Routed {
    sent: [u64; 2],
    handled: [u64; 2],
    send: Histogram<u64>,
    end_to_end: Histogram<u64>,
}

/// The figures of one stretch of the journey.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) sent: [u64; 2],
    pub(super) handled: [u64; 2],
    pub(super) send_p99: Duration,
    pub(super) end_to_end_p50: Duration,
    pub(super) end_to_end_p99: Duration,
}

/// What the whole journey came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) acked: u64,
    pub(super) handled: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) never_sent: u64,
    pub(super) entered_again: u64,
    pub(super) send_errors: u64,
    pub(super) inverted: u64,
    pub(super) rolled_back: u64,
    /// A few numbers of messages that were lost, doubled or inverted.
    pub(super) examples: Vec<u64>,
    /// What the first few sends failed with.
    pub(super) errors: Vec<String>,
}

/// Numbers the messages and remembers what became of each.
#[derive(Debug)]
pub(super) struct Ledger {
    started: Instant,
    routed: Mutex<BTreeMap<Revision, Arc<Mutex<Routed>>>>,
    next: AtomicU64,
    messages: u64,
    order: Order,
    /// [`ACKED`] or [`ROLLED_BACK`] once it has ended.
    acked: Vec<AtomicU8>,
    entered: Vec<AtomicU8>,
    completed: Vec<AtomicU8>,
    acks: AtomicU64,
    handled: AtomicU64,
    never_sent: AtomicU64,
    send_errors: AtomicU64,
    /// The first few of them.
    errors: Mutex<Vec<String>>,
}

impl Ledger {
    /// For so many messages, with so many ordering keys.
    pub(super) fn new(messages: u64, keys: u64) -> Self {
        let zeros = || (0..messages).map(|_| AtomicU8::new(0)).collect();
        Ledger {
            started: Instant::now(),
            routed: Mutex::default(),
            next: AtomicU64::new(0),
            messages,
            order: Order::new(keys),
            acked: zeros(),
            entered: zeros(),
            completed: zeros(),
            acks: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            never_sent: AtomicU64::new(0),
            send_errors: AtomicU64::new(0),
            errors: Mutex::default(),
        }
    }

    /// Takes the next number; `None` when all are taken.
    pub(super) fn begin(&self) -> Option<Sending> {
        let number = self
            .next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |next| {
                (next < self.messages).then_some(next + 1)
            })
            .ok()?;
        Some(Sending {
            number,
            at: self.started.elapsed(),
        })
    }

    /// The broker has the message.
    pub(super) fn sent(&self, sending: &Sending, side: Side, revision: Revision) {
        let now = self.started.elapsed();
        let latency = now.saturating_sub(sending.at);
        self.acked[sending.number as usize].store(ACKED, Ordering::Release);
        self.order.acked(sending.number, now);
        self.acks.fetch_add(1, Ordering::Relaxed);
        let routed = self.routed(revision);
        let mut routed = lock(&routed);
        routed.sent[side.index()] += 1;
        record(&mut routed.send, latency);
    }

    /// Its transaction was rolled back.
    pub(super) fn rolled_back(&self, sending: &Sending) {
        self.acked[sending.number as usize].store(ROLLED_BACK, Ordering::Release);
    }

    /// The send ended with an error.
    pub(super) fn failed(&self, error: &Error) {
        self.send_errors.fetch_add(1, Ordering::Relaxed);
        let mut errors = lock(&self.errors);
        if errors.len() < EXAMPLES {
            errors.push(error.to_string());
        }
    }

    /// A handler was entered with this body; `None` for a message that nobody sent.
    pub(super) fn enter_handler(&self, body: &[u8]) -> Option<Handling> {
        let sent = |sending: &Sending| {
            sending.number < self.begun()
                && self.acked[sending.number as usize].load(Ordering::Acquire) != ROLLED_BACK
        };
        let Some(sending) = Sending::parse(body).filter(sent) else {
            self.never_sent.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.entered[sending.number as usize].fetch_add(1, Ordering::AcqRel);
        self.order.entered(sending.number, sending.at);
        Some(Handling {
            sending,
            entered: self.started.elapsed(),
        })
    }

    /// The handler succeeded.
    pub(super) fn complete(&self, handling: &Handling, side: Side, revision: Revision) {
        let times = self.completed[handling.sending.number as usize].fetch_add(1, Ordering::AcqRel);
        self.order.completed(handling.sending.number);
        if times == 0 {
            self.handled.fetch_add(1, Ordering::Relaxed);
        }
        let routed = self.routed(revision);
        let mut routed = lock(&routed);
        routed.handled[side.index()] += 1;
        record(
            &mut routed.end_to_end,
            handling.entered.saturating_sub(handling.sending.at),
        );
    }

    /// How many numbers were taken.
    pub(super) fn begun(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// How many different messages were handled.
    pub(super) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Whether every message that was acked was handled.
    pub(super) fn all_handled(&self) -> bool {
        self.acked
            .iter()
            .zip(&self.completed)
            .all(|(acked, completed)| {
                acked.load(Ordering::Acquire) != ACKED || completed.load(Ordering::Acquire) > 0
            })
    }

    /// What was routed under these revisions.
    pub(super) fn figures(&self, revisions: Range<Revision>) -> Figures {
        let mut sum = Routed::new();
        for routed in lock(&self.routed)
            .range(revisions)
            .map(|(_, routed)| lock(routed))
        {
            for side in Side::BOTH.map(Side::index) {
                sum.sent[side] += routed.sent[side];
                sum.handled[side] += routed.handled[side];
            }
            // All histograms have the same bounds, so that adding cannot fail.
            let _ = sum.send.add(&routed.send);
            let _ = sum.end_to_end.add(&routed.end_to_end);
        }
        let quantile =
            |of: &Histogram<u64>, at: f64| Duration::from_micros(of.value_at_quantile(at));
        Figures {
            sent: sum.sent,
            handled: sum.handled,
            send_p99: quantile(&sum.send, 0.99),
            end_to_end_p50: quantile(&sum.end_to_end, 0.50),
            end_to_end_p99: quantile(&sum.end_to_end, 0.99),
        }
    }

    fn routed(&self, revision: Revision) -> Arc<Mutex<Routed>> {
        let mut routed = lock(&self.routed);
        Arc::clone(
            routed
                .entry(revision)
                .or_insert_with(|| Arc::new(Mutex::new(Routed::new()))),
        )
    }

    pub(super) fn totals(&self) -> Totals {
        let inverted = self.order.inverted();
        let mut totals = Totals {
            inverted: inverted.len() as u64,
            errors: lock(&self.errors).clone(),
            examples: inverted.into_iter().take(EXAMPLES).collect(),
            acked: self.acks.load(Ordering::Relaxed),
            handled: self.handled(),
            never_sent: self.never_sent.load(Ordering::Relaxed),
            send_errors: self.send_errors.load(Ordering::Relaxed),
            ..Totals::default()
        };
        for number in 0..self.messages as usize {
            let end = self.acked[number].load(Ordering::Acquire);
            let acked = end == ACKED;
            totals.rolled_back += u64::from(end == ROLLED_BACK);
            let completed = self.completed[number].load(Ordering::Acquire);
            let entered = self.entered[number].load(Ordering::Acquire);
            totals.entered_again += u64::from(entered > 1);
            let (lost, doubled) = (acked && completed == 0, completed > 1);
            totals.lost += u64::from(lost);
            totals.duplicated += u64::from(doubled);
            if (lost || doubled) && totals.examples.len() < EXAMPLES {
                totals.examples.push(number as u64);
            }
        }
        totals
    }
}

impl Routed {
    fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(1, longest, 3).expect("the bounds are in order");
        Routed {
            sent: [0; 2],
            handled: [0; 2],
            send: histogram.clone(),
            end_to_end: histogram,
        }
    }
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    number: u64,
    at: Duration,
}

impl Sending {
    /// `number microseconds `, padded to 256 bytes: what a small business event weighs.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = format!("{} {} ", self.number, self.at.as_micros()).into_bytes();
        body.resize(256, b'.');
        body
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn parse(body: &[u8]) -> Option<Sending> {
        let mut words = std::str::from_utf8(body).ok()?.split(' ');
        let number = words.next()?.parse().ok()?;
        let at = Duration::from_micros(words.next()?.parse().ok()?);
        Some(Sending { number, at })
    }
}

/// A message in a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handling {
    sending: Sending,
    entered: Duration,
}

impl Handling {
    pub(super) fn number(&self) -> u64 {
        self.sending.number
    }
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(
        u64::try_from(latency.as_micros())
            .unwrap_or(u64::MAX)
            .max(1),
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_and_handle(ledger: &Ledger, revision: u64, times: usize) {
        let sending = ledger.begin().unwrap();
        ledger.sent(&sending, Side::Source, Revision(revision));
        for _ in 0..times {
            let handling = ledger.enter_handler(&sending.body()).unwrap();
            ledger.complete(&handling, Side::Target, Revision(revision));
        }
    }

    #[test]
    fn lost_doubled_and_foreign_messages_are_counted() {
        let ledger = Ledger::new(4, 0);
        send_and_handle(&ledger, 1, 1);
        send_and_handle(&ledger, 2, 0);
        send_and_handle(&ledger, 3, 2);
        assert!(!ledger.all_handled());
        assert!(ledger.enter_handler(b"hello").is_none());
        assert!(
            ledger.enter_handler(b"3 5 ").is_none(),
            "number 3 was not sent yet"
        );
        let totals = ledger.totals();
        assert_eq!((totals.acked, totals.handled), (3, 2));
        assert_eq!(
            (totals.lost, totals.duplicated, totals.never_sent),
            (1, 1, 2)
        );
        assert_eq!(totals.examples, [1, 2]);
        let figures = ledger.figures(Revision(2)..Revision(4));
        assert_eq!((figures.sent, figures.handled), ([2, 0], [0, 2]));
    }

    #[test]
    fn numbers_end_at_the_limit() {
        let ledger = Ledger::new(2, 0);
        assert!(ledger.begin().is_some() && ledger.begin().is_some());
        assert!(ledger.begin().is_none());
    }
}
