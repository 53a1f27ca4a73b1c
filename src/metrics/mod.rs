//! Counters and latencies per topic, side and revision.

mod prometheus;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    control::wire::Counters,
    side::{Revision, Side},
};

/// Revisions of one topic that keep counters of their own; the oldest are added up into the one after them.
pub const MAX_REVISIONS: usize = 32;
/// Latencies are kept from 1 µs to this, with two significant digits; a longer one counts as this one.
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

/// One topic's counters and latencies. Every record is one short lock and no allocation, except for the first of a revision.
#[derive(Debug)]
pub struct TopicMetrics {
    topic: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    revisions: VecDeque<Counters>,
    extra: [Extra; 2],
    send: [Histogram<u32>; 2],
    handle: [Histogram<u32>; 2],
}

/// What is counted by side only.
#[derive(Clone, Copy, Debug, Default)]
struct Extra {
    retries: u64,
    rerouted: u64,
    failed_over: u64,
    nacks: u64,
    set_aside: u64,
    stale_acks: u64,
    dedup_full: u64,
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
    /// An ack came after the queue had gone to another member; a redelivery is dropped by its key.
    StaleAck,
    /// A key was not claimed because the deduplication store is full: the message waits. Counts each try.
    DedupFull,
}

impl TopicMetrics {
    fn new(topic: Arc<str>) -> Self {
        let longest = u64::try_from(LONGEST_LATENCY.as_micros()).unwrap_or(u64::MAX);
        let empty = || Histogram::new_with_bounds(1, longest, 2).expect("the bounds are in order");
        TopicMetrics {
            topic,
            inner: Mutex::new(Inner {
                revisions: VecDeque::with_capacity(MAX_REVISIONS + 1),
                extra: [Extra::default(); 2],
                send: [empty(), empty()],
                handle: [empty(), empty()],
            }),
        }
    }

    /// A send succeeded.
    pub fn sent(&self, revision: Revision, side: Side, latency: Duration) {
        let mut inner = self.lock();
        inner.at(&self.topic, revision).sent[side.index()] += 1;
        record(&mut inner.send[side.index()], latency);
    }

    /// A send ended with an error.
    pub fn send_failed(&self, revision: Revision, side: Side) {
        self.lock().at(&self.topic, revision).send_errors[side.index()] += 1;
    }

    /// A handler succeeded; `latency` is from the delivery to the ack.
    pub fn handled(&self, revision: Revision, side: Side, latency: Duration) {
        let mut inner = self.lock();
        inner.at(&self.topic, revision).handled[side.index()] += 1;
        record(&mut inner.handle[side.index()], latency);
    }

    /// A duplicate was dropped before its handler.
    pub fn duplicate(&self, revision: Revision, side: Side) {
        self.lock().at(&self.topic, revision).duplicates[side.index()] += 1;
    }

    /// Counts an event.
    pub fn event(&self, event: Event, side: Side) {
        let mut inner = self.lock();
        let extra = &mut inner.extra[side.index()];
        let count = match event {
            Event::Retry => &mut extra.retries,
            Event::Rerouted => &mut extra.rerouted,
            Event::FailedOver => &mut extra.failed_over,
            Event::Nack => &mut extra.nacks,
            Event::SetAside => &mut extra.set_aside,
            Event::StaleAck => &mut extra.stale_acks,
            Event::DedupFull => &mut extra.dedup_full,
        };
        *count += 1;
    }

    /// The totals by revision.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        let inner = self.lock();
        let mut rows: Vec<Counters> = inner.revisions.iter().cloned().collect();
        if let Some(last) = rows.last_mut() {
            last.retries = inner.extra.map(|extra| extra.retries);
        }
        rows
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The counters of a revision. Nearly always it is the last one.
    fn at(&mut self, topic: &Arc<str>, revision: Revision) -> &mut Counters {
        let place = match self
            .revisions
            .iter()
            .rposition(|row| row.revision <= revision)
        {
            Some(place) if self.revisions[place].revision == revision => place,
            before => {
                let place = before.map_or(0, |place| place + 1);
                let row = Counters {
                    topic: Arc::clone(topic),
                    revision,
                    ..Counters::default()
                };
                self.revisions.insert(place, row);
                self.fold(place)
            }
        };
        &mut self.revisions[place]
    }

    /// Keeps the number of rows bounded; answers where the row at `place` is now.
    fn fold(&mut self, place: usize) -> usize {
        if self.revisions.len() <= MAX_REVISIONS {
            return place;
        }
        if let (Some(oldest), Some(next)) = (self.revisions.pop_front(), self.revisions.front_mut())
        {
            for side in Side::BOTH.map(Side::index) {
                next.sent[side] += oldest.sent[side];
                next.send_errors[side] += oldest.send_errors[side];
                next.handled[side] += oldest.handled[side];
                next.duplicates[side] += oldest.duplicates[side];
            }
        }
        place.saturating_sub(1)
    }
}

fn record(histogram: &mut Histogram<u32>, latency: Duration) {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros.max(1));
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
        assert!(text.contains("# TYPE crossfade_dedup_keys gauge\ncrossfade_dedup_keys 3\n"));
    }
}
