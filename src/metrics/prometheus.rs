//! The Prometheus text format, version 0.0.4.

use std::{fmt::Write as _, sync::Arc};

use hdrhistogram::Histogram;

use super::{Extra, Inner, TopicMetrics};
use crate::{control::wire::Counters, side::Side};

type ByRevision = (&'static str, &'static str, fn(&Counters) -> &[u64; 2]);
type BySide = (&'static str, &'static str, fn(&Extra) -> u64);
type Latency = (
    &'static str,
    &'static str,
    fn(&Inner) -> &[Histogram<u32>; 2],
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

const BY_SIDE: [BySide; 7] = [
    (
        "crossfade_send_retries_total",
        "Sends tried again on the same side.",
        |row| row.retries,
    ),
    (
        "crossfade_send_rerouted_total",
        "Sends refused by a seal that went out elsewhere.",
        |row| row.rerouted,
    ),
    (
        "crossfade_send_failed_over_total",
        "Definite failures taken by the other side.",
        |row| row.failed_over,
    ),
    ("crossfade_nacks_total", "Deliveries given back.", |row| {
        row.nacks
    }),
    (
        "crossfade_set_aside_total",
        "Deliveries that waited for a claim.",
        |row| row.set_aside,
    ),
    (
        "crossfade_stale_acks_total",
        "Acks after the queue had gone to another member.",
        |row| row.stale_acks,
    ),
    (
        "crossfade_dedup_full_total",
        "Tries to claim a key while the deduplication store was full.",
        |row| row.dedup_full,
    ),
];

const LATENCIES: [Latency; 2] = [
    (
        "crossfade_send_seconds",
        "From the call of send to the broker's answer.",
        |inner| &inner.send,
    ),
    (
        "crossfade_handle_seconds",
        "From the delivery to the ack.",
        |inner| &inner.handle,
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
    for (name, help, pick) in BY_SIDE {
        header(&mut out, name, help, "counter");
        for topic in topics {
            let label = escape(&topic.topic);
            let extra = topic.lock().extra;
            for side in Side::BOTH {
                let count = pick(&extra[side.index()]);
                let _ = writeln!(out, "{name}{{topic=\"{label}\",side=\"{side}\"}} {count}");
            }
        }
    }
    for (name, help, pick) in LATENCIES {
        header(&mut out, name, help, "summary");
        for topic in topics {
            let label = escape(&topic.topic);
            let inner = topic.lock();
            for side in Side::BOTH {
                let histogram = &pick(&inner)[side.index()];
                summary(
                    &mut out,
                    name,
                    &format!("topic=\"{label}\",side=\"{side}\""),
                    histogram,
                );
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

fn summary(out: &mut String, name: &str, labels: &str, histogram: &Histogram<u32>) {
    for quantile in [0.5, 0.99, 0.999] {
        let seconds = histogram.value_at_quantile(quantile) as f64 / 1e6;
        let _ = writeln!(out, "{name}{{{labels},quantile=\"{quantile}\"}} {seconds}");
    }
    let count = histogram.len();
    let sum = histogram.mean() * count as f64 / 1e6;
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
