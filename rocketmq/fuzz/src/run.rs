//! Many executions, and what came of them.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{decoder, draw, memory};

/// What came of many executions.
#[derive(Debug)]
pub struct Report {
    /// What was run: `decoder`, `connection` or `clients`.
    pub target: &'static str,
    /// How often.
    pub executions: u64,
    /// How long it took.
    pub took: Duration,
    /// The executions that failed, by number, with what they said; the first 16.
    pub failed: Vec<(u64, String)>,
    /// What panics said, also those of tasks that no execution waits for; the first 16.
    pub said: Vec<String>,
    /// How many failed: panics of the code under test, and of the checks of what it read.
    pub panics: u64,
    /// The most heap that one execution needed, in bytes; of connections and clients, all that there were at a time.
    pub peak_bytes: usize,
    /// The execution that needed it; of connections and clients, the last one.
    pub peak_execution: u64,
}

/// The most heap that one execution may need, and all connections that are open at a time. One pull may inflate to 16 MiB, one message alone to 64 MiB,
/// and a buffer that grows has half as much again beside it for a moment.
pub const MAX_PEAK_BYTES: usize = 128 << 20;

/// No more failures than this are kept.
pub(crate) const KEPT: usize = 16;

impl Report {
    pub(crate) fn new(target: &'static str) -> Report {
        Report {
            target,
            executions: 0,
            took: Duration::ZERO,
            failed: Vec::new(),
            said: Vec::new(),
            panics: 0,
            peak_bytes: 0,
            peak_execution: 0,
        }
    }

    pub(crate) fn fail(&mut self, execution: u64, panic: &(dyn Any + Send)) {
        self.panics += 1;
        if self.failed.len() < KEPT {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.failed.push((execution, text.unwrap_or_default()));
        }
    }

    /// Nothing failed, and memory stayed within its bounds: [`MAX_PEAK_BYTES`].
    #[must_use]
    pub fn holds(&self) -> bool {
        self.panics == 0 && self.peak_bytes <= MAX_PEAK_BYTES
    }

    /// One JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let failed = self.failed.iter();
        let failed = failed.map(|(execution, text)| json!({"execution": execution, "text": text}));
        json!({
            "target": self.target,
            "executions": self.executions,
            "seconds": self.took.as_secs_f64(),
            "executions_per_second": self.executions as f64 / self.took.as_secs_f64(),
            "panics": self.panics,
            "failed": failed.collect::<Vec<_>>(),
            "said": self.said,
            "peak_bytes": self.peak_bytes,
            "peak_execution": self.peak_execution,
        })
    }
}

/// Executions `from..from + count` of the decoder, one after the other. Memory is measured where [`memory::Counting`] is the allocator.
#[must_use]
pub fn decoder(seed: u64, from: u64, count: u64) -> Report {
    of("decoder", from, count, |execution| {
        decoder::execute(&mut draw::of(seed, execution));
    })
}

/// Executions of anything: `execute` gets the number of each. One that panics has failed.
#[must_use]
pub fn of(target: &'static str, from: u64, count: u64, execute: impl Fn(u64)) -> Report {
    let mut report = Report::new(target);
    let begun = Instant::now();
    for execution in from..from.saturating_add(count) {
        let work = AssertUnwindSafe(|| execute(execution));
        let (peak, result) = memory::peak_of(|| catch_unwind(work));
        if peak > report.peak_bytes {
            (report.peak_bytes, report.peak_execution) = (peak, execution);
        }
        if let Err(panic) = result {
            report.fail(execution, &*panic);
        }
        report.executions += 1;
    }
    report.took = begun.elapsed();
    report
}
