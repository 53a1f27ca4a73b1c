//! The Prometheus text format, version 0.0.4.

use std::{fmt::Write as _, sync::Arc};

use super::{
    Event, LatencyRow, TopicMetrics,
    latency::{Latencies, Snapshot},
};
use crate::{control::wire::Counters, side::Side};

type ByRevision = (&'static str, &'static str, fn(&Counters) -> &[u64; 2]);
type BySide = (&'static str, &'static str, Event);
type Latency = (
    &'static str,
    &'static str,
    fn(&LatencyRow) -> &[Latencies; 2],
);

const BY_REVISION: [ByRevision; 4] = [
    (
        "crossfade_sent_total",
        "Messages stored by a broker.",
        |row| &row.sent,
    ),
    (
        "crossfade_send_errors_total",
        "Sends that ended with an error.",
        |row| &row.send_errors,
    ),
    (
        "crossfade_handled_total",
        "Messages handled with success.",
        |row| &row.handled,
    ),
    (
        "crossfade_duplicates_total",
        "Duplicates dropped before the handler.",
        |row| &row.duplicates,
    ),
];

const BY_SIDE: [BySide; 9] = [
    (
        "crossfade_send_retries_total",
        "Sends tried again on the same side.",
        Event::Retry,
    ),
    (
        "crossfade_send_rerouted_total",
        "Sends refused by a seal that went out elsewhere.",
        Event::Rerouted,
    ),
    (
        "crossfade_send_failed_over_total",
        "Definite failures taken by the other side.",
        Event::FailedOver,
    ),
    (
        "crossfade_nacks_total",
        "Deliveries given back.",
        Event::Nack,
    ),
    (
        "crossfade_set_aside_total",
        "Deliveries that waited for a claim.",
        Event::SetAside,
    ),
    (
        "crossfade_held_total",
        "Looks at deliveries of moved keys that still had to wait.",
        Event::Held,
    ),
    (
        "crossfade_stale_acks_total",
        "Acks after the queue had gone to another member.",
        Event::StaleAck,
    ),
    (
        "crossfade_dedup_full_total",
        "Tries to claim a key while the deduplication store was full.",
        Event::DedupFull,
    ),
    (
        "crossfade_unreadable_total",
        "Messages that cannot be read: their queues stand there.",
        Event::Unreadable,
    ),
];

const LATENCIES: [Latency; 2] = [
    (
        "crossfade_send_seconds",
        "From the call of send to the broker's answer.",
        |row| &row.send,
    ),
    (
        "crossfade_handle_seconds",
        "From the delivery to the ack.",
        |row| &row.handle,
    ),
];

pub(super) fn render(topics: &[Arc<TopicMetrics>]) -> String {
    let mut out = String::new();
    for (name, help, pick) in BY_REVISION {
        header(&mut out, name, help, "counter");
        for topic in topics {
            let label = escape(&topic.topic);
            for row in topic.counters() {
                for side in Side::BOTH {
                    let count = pick(&row)[side.index()];
                    let revision = row.revision;
                    let _ = writeln!(
                        out,
                        "{name}{{topic=\"{label}\",side=\"{side}\",revision=\"{revision}\"}} {count}"
                    );
                }
            }
        }
    }
    for (name, help, event) in BY_SIDE {
        header(&mut out, name, help, "counter");
        for topic in topics {
            let label = escape(&topic.topic);
            for (side, count) in Side::BOTH.into_iter().zip(topic.events(event)) {
                let _ = writeln!(out, "{name}{{topic=\"{label}\",side=\"{side}\"}} {count}");
            }
        }
    }
    for (name, help, pick) in LATENCIES {
        header(&mut out, name, help, "summary");
        for topic in topics {
            let label = escape(&topic.topic);
            for (revision, row) in topic.latencies.all() {
                for (side, latencies) in Side::BOTH.into_iter().zip(pick(&row)) {
                    let labels =
                        format!("topic=\"{label}\",side=\"{side}\",revision=\"{revision}\"");
                    summary(&mut out, name, &labels, &latencies.read());
                }
            }
        }
    }
    out
}

/// One number of the whole client.
pub(super) fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, help, "gauge");
    let _ = writeln!(out, "{name} {value}");
}

fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Nothing for what was never used.
fn summary(out: &mut String, name: &str, labels: &str, read: &Snapshot) {
    let count = read.count();
    if count == 0 {
        return;
    }
    for quantile in [0.5, 0.99, 0.999] {
        let seconds = read.quantile_us(quantile) as f64 / 1e6;
        let _ = writeln!(out, "{name}{{{labels},quantile=\"{quantile}\"}} {seconds}");
    }
    let sum = read.sum_us as f64 / 1e6;
    let _ = writeln!(
        out,
        "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}"
    );
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
