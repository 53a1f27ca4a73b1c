//! What a load has done so far, and its last words.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crossfade::Side;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::instance::Instance;

/// Latencies are kept from 1 µs to this.
const LONGEST: Duration = Duration::from_secs(600);

/// Sends.
#[derive(Debug)]
pub(super) struct Sends {
    started: Instant,
    limit: u64,
    called: AtomicU64,
    acked: [AtomicU64; 2],
    ambiguous: AtomicU64,
    failed: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

impl Sends {
    pub(super) fn new(limit: Option<u64>) -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        Sends {
            started: Instant::now(),
            limit: limit.unwrap_or(u64::MAX),
            called: AtomicU64::new(0),
            acked: Default::default(),
            ambiguous: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latency: Mutex::new(
                Histogram::new_with_bounds(1, longest, 3).expect("the bounds are in order"),
            ),
        }
    }

    /// The next message's number; `None` after the last one.
    pub(super) fn begin(&self) -> Option<u64> {
        let next = |called| (called < self.limit).then_some(called + 1);
        self.called.fetch_update(Relaxed, Relaxed, next).ok()
    }

    pub(super) fn succeeded(&self, side: Side, latency_us: u64) {
        self.acked[side.index()].fetch_add(1, Relaxed);
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.saturating_record(latency_us);
    }

    pub(super) fn failed(&self, ambiguous: bool) {
        let count = if ambiguous {
            &self.ambiguous
        } else {
            &self.failed
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn called(&self) -> u64 {
        self.called.load(Relaxed)
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.iter().map(|acked| acked.load(Relaxed)).sum()
    }

    /// For people, while it goes on.
    pub(super) fn line(&self) -> String {
        format!(
            "{} acked ({} on the source, {} on the target), {} ambiguous, {} failed, {:.0} a second",
            self.acked(),
            self.acked[0].load(Relaxed),
            self.acked[1].load(Relaxed),
            self.ambiguous.load(Relaxed),
            self.failed.load(Relaxed),
            rate(self.acked(), self.started),
        )
    }

    pub(super) fn summary(&self, instance: &Instance, as_json: bool) -> String {
        if !as_json {
            return self.line();
        }
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let own = json!({
            "messages": self.called(),
            "acked": self.acked(),
            "acked_source": self.acked[0].load(Relaxed),
            "acked_target": self.acked[1].load(Relaxed),
            "ambiguous": self.ambiguous.load(Relaxed),
            "failed": self.failed.load(Relaxed),
            "per_second": rate(self.acked(), self.started),
            "send_p50_us": latency.value_at_quantile(0.50),
            "send_p99_us": latency.value_at_quantile(0.99),
        });
        with_instance(own, instance, self.started)
    }
}

/// Handlers.
#[derive(Debug)]
pub(super) struct Handled {
    started: Instant,
    pub(super) entered: [AtomicU64; 2],
    pub(super) done: AtomicU64,
    pub(super) handler_failed: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) not_acked: AtomicU64,
}

impl Handled {
    pub(super) fn new() -> Self {
        Handled {
            started: Instant::now(),
            entered: Default::default(),
            done: AtomicU64::new(0),
            handler_failed: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            not_acked: AtomicU64::new(0),
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// For people, while it goes on.
    pub(super) fn line(&self) -> String {
        format!(
            "{} handled (entered: {} from the source, {} from the target), {} handlers failed, {} foreign messages, {:.0} a second",
            self.done(),
            self.entered[0].load(Relaxed),
            self.entered[1].load(Relaxed),
            self.handler_failed.load(Relaxed),
            self.foreign.load(Relaxed),
            rate(self.done(), self.started),
        )
    }

    pub(super) fn summary(&self, instance: &Instance, as_json: bool) -> String {
        if !as_json {
            return self.line();
        }
        let own = json!({
            "messages": self.done(),
            "entered_source": self.entered[0].load(Relaxed),
            "entered_target": self.entered[1].load(Relaxed),
            "done": self.done(),
            "handler_failed": self.handler_failed.load(Relaxed),
            "foreign": self.foreign.load(Relaxed),
            "not_acked": self.not_acked.load(Relaxed),
            "per_second": rate(self.done(), self.started),
        });
        with_instance(own, instance, self.started)
    }
}

fn with_instance(mut own: Value, instance: &Instance, started: Instant) -> String {
    own["instance"] = json!(instance.client.instance());
    own["incarnation"] = json!(instance.client.incarnation());
    own["seconds"] = json!(started.elapsed().as_secs_f64());
    own.to_string()
}

fn rate(count: u64, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64().max(1e-9)
}
