//! Medians and ratios, as a table and as JSON.

use serde::Serialize;

use crate::{
    Result,
    options::Options,
    program::{JAVA_HEAP, Round},
};

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    load_before: f64,
    load_after: f64,
    pub(crate) tables: Vec<Table>,
}

/// One cluster's.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    side: &'static str,
    version: String,
    rounds: usize,
    java_options: &'static str,
    rows: Vec<Row>,
    allocations: Vec<Allocations>,
}

/// What was measured in rounds, of both clients.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: &'static str,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    ours: Medians,
    java: Medians,
}

/// Of the rounds of one client.
#[derive(Debug, Serialize)]
struct Medians {
    per_second: f64,
    /// Of sends only.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<f64>,
    cpu_seconds_per_million: f64,
    resident_mib: f64,
    peak_mib: f64,
    /// No median: of all rounds together.
    refused: u64,
}

/// Of one send of ours.
#[derive(Debug, Serialize)]
struct Allocations {
    body_bytes: usize,
    per_send: f64,
    bytes_per_send: f64,
}

impl Report {
    pub(crate) fn new(load: f64) -> Report {
        Report {
            load_before: load,
            load_after: load,
            tables: Vec::new(),
        }
    }

    /// Prints what is left to print.
    pub(crate) fn end(mut self, load: f64, json: bool) -> Result<()> {
        self.load_after = load;
        println!(
            "load average of a minute: {:.2} before, {load:.2} after (that of the benchmark itself in it)",
            self.load_before
        );
        if json {
            println!("{}", serde_json::to_string(&self)?);
        }
        Ok(())
    }
}

impl Table {
    pub(crate) fn begin(side: &'static str, version: &str, options: &Options) -> Table {
        let rounds = options.rounds;
        println!(
            "{side}: broker and Java client {version}, {JAVA_HEAP}; ours / Java's; medians of {rounds} rounds; p50 and p99 of sends only"
        );
        println!(
            "{:<26} {:>24} {:>15} {:>15} {:>21} {:>13} {:>13} {:>9}",
            "",
            "messages/s",
            "p50 us",
            "p99 us",
            "CPU s/million",
            "resident MiB",
            "peak MiB",
            "refused"
        );
        Table {
            side,
            version: version.to_owned(),
            rounds,
            java_options: JAVA_HEAP,
            rows: Vec::new(),
            allocations: Vec::new(),
        }
    }

    /// Prints and keeps it.
    pub(crate) fn add(&mut self, row: Row) {
        let Row { ours, java, .. } = &row;
        let what = match row.in_flight {
            Some(in_flight) => format!("{} {} B, {in_flight} in flight", row.what, row.body_bytes),
            None => format!("{} {} B", row.what, row.body_bytes),
        };
        let pair = |value: fn(&Medians) -> f64| format!("{:.0} / {:.0}", value(ours), value(java));
        let times = |value: fn(&Medians) -> Option<f64>| match (value(ours), value(java)) {
            (Some(ours), Some(java)) => format!("{ours:.0} / {java:.0}"),
            _ => "-".to_owned(),
        };
        let cpu = (ours.cpu_seconds_per_million, java.cpu_seconds_per_million);
        println!(
            "{what:<26} {:>24} {:>15} {:>15} {:>21} {:>13} {:>13} {:>9}",
            format!(
                "{} x {:.2}",
                pair(|medians| medians.per_second),
                ours.per_second / java.per_second
            ),
            times(|medians| medians.p50_us),
            times(|medians| medians.p99_us),
            format!("{:.1} / {:.1} x {:.2}", cpu.0, cpu.1, cpu.0 / cpu.1),
            pair(|medians| medians.resident_mib),
            pair(|medians| medians.peak_mib),
            format!("{} / {}", ours.refused, java.refused),
        );
        self.rows.push(row);
    }

    /// The same for what one send of ours allocates.
    pub(crate) fn allocations(&mut self, body_bytes: usize, per_send: f64, bytes_per_send: f64) {
        println!(
            "send {body_bytes} B: {per_send:.2} allocations of {bytes_per_send:.0} bytes together, without the body (ours, 1 in flight)"
        );
        self.allocations.push(Allocations {
            body_bytes,
            per_send,
            bytes_per_send,
        });
    }
}

impl Row {
    pub(crate) fn new(
        what: &'static str,
        body_bytes: usize,
        in_flight: Option<u32>,
        [ours, java]: &[Vec<Round>; 2],
    ) -> Row {
        Row {
            what,
            body_bytes,
            in_flight,
            ours: Medians::of(ours, in_flight.is_some()),
            java: Medians::of(java, in_flight.is_some()),
        }
    }
}

impl Medians {
    fn of(rounds: &[Round], with_times: bool) -> Medians {
        let median = |value: fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Medians {
            per_second: median(|round| round.messages() as f64 / round.answer.seconds),
            p50_us: with_times.then(|| median(|round| round.answer.p50_us)),
            p99_us: with_times.then(|| median(|round| round.answer.p99_us)),
            cpu_seconds_per_million: median(|round| {
                round.cpu_seconds * 1e6 / round.messages() as f64
            }),
            resident_mib: median(|round| round.resident_mib),
            peak_mib: median(|round| round.peak_mib),
            refused: rounds.iter().map(|round| round.answer.refused).sum(),
        }
    }
}
