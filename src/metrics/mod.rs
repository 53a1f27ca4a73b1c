//! Counters and latencies per topic, side and revision.

mod latency;
mod prometheus;
mod revisions;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use self::{
    latency::Latencies,
    revisions::{ByRevision, Row},
};
use crate::{
    control::wire::Counters,
    side::{Revision, Side},
};

/// Revisions of one topic that keep counters of their own; the oldest are added up into the one after them.
pub const MAX_REVISIONS: usize = 32;
/// The same for latencies, which take 6 KiB for each side and kind that is used.
pub const MAX_LATENCY_REVISIONS: usize = 4;
/// Latencies are kept from 1 µs to this, to 3 %; a longer one counts as this one.
pub const LONGEST_LATENCY: Duration = Duration::from_secs(60);

/// All topics of one client.
#[derive(Debug, Default)]
pub struct Registry {
    topics: RwLock<HashMap<Arc<str>, Arc<TopicMetrics>>>,
}

impl Registry {
    /// The metrics of a topic, made when they are first asked for.
    #[must_use]
    pub fn topic(&self, topic: &Arc<str>) -> Arc<TopicMetrics> {
        if let Some(metrics) = self
            .topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(topic)
        {
            return Arc::clone(metrics);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            topics
                .entry(Arc::clone(topic))
                .or_insert_with(|| Arc::new(TopicMetrics::new(Arc::clone(topic)))),
        )
    }

    /// The totals of every topic and revision, for the control plane.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        self.sorted()
            .iter()
            .flat_map(|topic| topic.counters())
            .collect()
    }

    /// All metrics in the Prometheus text format, version 0.0.4; `gauges` are numbers of the whole client: name, help, value.
    #[must_use]
    pub fn prometheus(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = prometheus::render(&self.sorted());
        for (name, help, value) in gauges {
            prometheus::gauge(&mut text, name, help, *value);
        }
        text
    }

    fn sorted(&self) -> Vec<Arc<TopicMetrics>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut topics: Vec<_> = topics.values().cloned().collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        topics
    }
}

/// One topic's counters and latencies. A record takes no lock and no memory, except for the first of a revision.
#[derive(Debug)]
pub struct TopicMetrics {
    topic: Arc<str>,
    counters: ByRevision<CounterRow>,
    latencies: ByRevision<LatencyRow>,
    events: [[AtomicU64; EVENTS]; 2],
}

#[derive(Debug, Default)]
struct CounterRow {
    sent: [AtomicU64; 2],
    send_errors: [AtomicU64; 2],
    handled: [AtomicU64; 2],
    duplicates: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct LatencyRow {
    send: [Latencies; 2],
    handle: [Latencies; 2],
}

/// Something that is counted by side only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A send was tried again on the same side.
    Retry,
    /// A send was refused by a seal and went out under a newer plan, or to the other side.
    Rerouted,
    /// A send that failed for certain in `DualWrite` went to the other side.
    FailedOver,
    /// A delivery was given back.
    Nack,
    /// A delivery waits because its key is claimed elsewhere, or the deduplication store does not answer.
    SetAside,
    /// A delivery of an ordered topic waits until its group has handled what was sent before its key changed sides. Counts each look.
    Held,
    /// An ack came after the queue had gone to another member; a redelivery is dropped by its key.
    StaleAck,
    /// A key was not claimed because the deduplication store is full: the message waits. Counts each try.
    DedupFull,
    /// A queue has come to a message that cannot be read, and stands there.
    Unreadable,
}

/// How many kinds there are.
const EVENTS: usize = Event::Unreadable as usize + 1;

impl TopicMetrics {
    fn new(topic: Arc<str>) -> Self {
        TopicMetrics {
            topic,
            counters: ByRevision::new(MAX_REVISIONS),
            latencies: ByRevision::new(MAX_LATENCY_REVISIONS),
            events: Default::default(),
        }
    }

    /// A send succeeded.
    pub fn sent(&self, revision: Revision, side: Side, latency: Duration) {
        let side = side.index();
        self.counters.count(revision, |row| add(&row.sent[side]));
        self.latencies
            .count(revision, |row| row.send[side].record(latency));
    }

    /// A send ended with an error.
    pub fn send_failed(&self, revision: Revision, side: Side) {
        self.counters
            .count(revision, |row| add(&row.send_errors[side.index()]));
    }

    /// A handler succeeded; `latency` is from the delivery to the ack.
    pub fn handled(&self, revision: Revision, side: Side, latency: Duration) {
        let side = side.index();
        self.counters.count(revision, |row| add(&row.handled[side]));
        self.latencies
            .count(revision, |row| row.handle[side].record(latency));
    }

    /// A duplicate was dropped before its handler.
    pub fn duplicate(&self, revision: Revision, side: Side) {
        self.counters
            .count(revision, |row| add(&row.duplicates[side.index()]));
    }

    /// Counts an event.
    pub fn event(&self, event: Event, side: Side) {
        add(&self.events[side.index()][event as usize]);
    }

    /// The totals by revision.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        let rows = self.counters.all();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|(revision, row)| Counters {
                topic: Arc::clone(&self.topic),
                revision: *revision,
                sent: totals(&row.sent),
                send_errors: totals(&row.send_errors),
                retries: [0; 2],
                handled: totals(&row.handled),
                duplicates: totals(&row.duplicates),
            })
            .collect();
        if let Some(last) = rows.last_mut() {
            last.retries = self.events(Event::Retry);
        }
        rows
    }

    fn events(&self, event: Event) -> [u64; 2] {
        [0, 1].map(|side| self.events[side][event as usize].load(Ordering::Relaxed))
    }
}

impl Row for CounterRow {
    fn move_into(&self, other: &Self) {
        let pairs = [
            (&self.sent, &other.sent),
            (&self.send_errors, &other.send_errors),
            (&self.handled, &other.handled),
            (&self.duplicates, &other.duplicates),
        ];
        for (from, to) in pairs {
            for (from, to) in from.iter().zip(to) {
                to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

impl Row for LatencyRow {
    fn move_into(&self, other: &Self) {
        for side in [0, 1] {
            self.send[side].move_into(&other.send[side]);
            self.handle[side].move_into(&other.handle[side]);
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn totals(counts: &[AtomicU64; 2]) -> [u64; 2] {
    [0, 1].map(|side| counts[side].load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_revisions_are_added_up_and_nothing_is_forgotten() {
        let registry = Registry::default();
        let metrics = registry.topic(&"orders".into());
        for revision in 1..=100 {
            metrics.sent(Revision(revision), Side::Target, Duration::from_micros(5));
        }
        metrics.sent(Revision(3), Side::Source, Duration::from_secs(600));
        let counters = registry.counters();
        assert!(counters.len() <= MAX_REVISIONS);
        assert_eq!(counters.iter().map(|row| row.sent[1]).sum::<u64>(), 100);
        assert_eq!(counters.iter().map(|row| row.sent[0]).sum::<u64>(), 1);
        assert!(counters.is_sorted_by_key(|row| row.revision));
    }

    #[test]
    fn retries_are_reported_once_whatever_the_revisions() {
        let registry = Registry::default();
        let metrics = registry.topic(&"orders".into());
        metrics.event(Event::Retry, Side::Source);
        metrics.sent(Revision(1), Side::Source, Duration::from_micros(5));
        metrics.event(Event::Retry, Side::Source);
        metrics.sent(Revision(2), Side::Source, Duration::from_micros(5));
        let retries: u64 = registry.counters().iter().map(|row| row.retries[0]).sum();
        assert_eq!(2_u64, retries);
    }

    #[test]
    fn prometheus_text_names_topic_side_and_revision() {
        let registry = Registry::default();
        let metrics = registry.topic(&"or\"ders\\".into());
        metrics.sent(Revision(7), Side::Source, Duration::from_millis(2));
        metrics.event(Event::Nack, Side::Target);
        let text = registry.prometheus(&[("crossfade_dedup_keys", "Keys.", 3)]);
        assert!(
            text.contains(
                r#"crossfade_sent_total{topic="or\"ders\\",side="source",revision="7"} 1"#
            )
        );
        assert!(text.contains(r#"crossfade_nacks_total{topic="or\"ders\\",side="target"} 1"#));
        assert!(text.contains("# TYPE crossfade_send_seconds summary"));
        let count =
            r#"crossfade_send_seconds_count{topic="or\"ders\\",side="source",revision="7"} 1"#;
        assert!(text.contains(count), "{text}");
        assert!(text.contains("# TYPE crossfade_dedup_keys gauge\ncrossfade_dedup_keys 3\n"));
    }

    #[test]
    fn latencies_are_kept_for_a_few_revisions_and_none_is_forgotten() {
        let registry = Registry::default();
        let metrics = registry.topic(&"orders".into());
        for revision in 1..=100 {
            metrics.sent(Revision(revision), Side::Source, Duration::from_millis(2));
            metrics.handled(Revision(revision), Side::Target, Duration::from_millis(9));
        }
        let text = registry.prometheus(&[]);
        for (name, side) in [("send", "source"), ("handle", "target")] {
            let prefix = format!("crossfade_{name}_seconds_count");
            let counts: Vec<u64> = text
                .lines()
                .filter(|line| line.starts_with(&prefix) && line.contains(side))
                .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
                .collect();
            assert_eq!(counts.len(), MAX_LATENCY_REVISIONS, "{text}");
            assert_eq!(counts.iter().sum::<u64>(), 100);
        }
    }
}
