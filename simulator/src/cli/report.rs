//! What all runs together have shown.

use std::{collections::BTreeMap, time::Instant};

use crossfade_simulator::{Fault, HttpReport, Scenario};
use serde_json::json;

use super::{command, work::Done};

/// How often progress is told, in runs.
const PROGRESS: u64 = 500;

pub(super) struct Sum {
    begun: Instant,
    jobs: usize,
    runs: u64,
    messages: u64,
    failed: Vec<String>,
    unlike: Vec<String>,
    faults: BTreeMap<Fault, [u64; 2]>,
    published: usize,
    reopened: usize,
    redelivered: u64,
    http: HttpReport,
    /// Pairs, and those of which both faults have touched something.
    pairs: [u64; 2],
    /// The others, as words.
    untouched: Vec<String>,
}

impl Sum {
    pub(super) fn new(jobs: usize) -> Self {
        Sum {
            begun: Instant::now(),
            jobs,
            runs: 0,
            messages: 0,
            failed: Vec::new(),
            unlike: Vec::new(),
            faults: BTreeMap::new(),
            published: 0,
            reopened: 0,
            redelivered: 0,
            http: HttpReport::default(),
            pairs: [0; 2],
            untouched: Vec::new(),
        }
    }

    pub(super) fn held(&self) -> bool {
        self.failed.is_empty() && self.unlike.is_empty()
    }

    pub(super) fn add(&mut self, done: Done) {
        let outcome = done.outcome;
        for line in &outcome.trace {
            println!("{line}");
        }
        self.runs += 1;
        self.messages += outcome.report.messages;
        self.published += outcome.published;
        self.reopened += outcome.reopened;
        self.redelivered += outcome.report.redelivered_after_crash;
        self.http.connections += outcome.http.connections;
        self.http.ok += outcome.http.ok;
        self.http.not_modified += outcome.http.not_modified;
        self.http.refused += outcome.http.refused;
        self.http.unanswered += outcome.http.unanswered;
        for (fault, count) in outcome.faults {
            self.faults.entry(fault).or_default()[0] += count;
        }
        for (fault, count) in outcome.effects {
            self.faults.entry(fault).or_default()[1] += count;
        }
        if let Some(both) = done.pair {
            self.pairs[0] += 1;
            self.pairs[1] += u64::from(both);
            if !both && let Scenario::Step(step) = done.run.scenario {
                let [first, second] = step.faults.map(Fault::name);
                let pair = format!("{} to {}: {first}, {second}", step.from, step.to);
                eprintln!("not felt: {pair}");
                self.untouched.push(pair);
            }
        }
        if !outcome.violations.is_empty() {
            let what = outcome.violations.join("; ");
            let again = command(&done.run);
            eprintln!("{what} {:?}\n  {again}", outcome.report.examples);
            self.failed.push(format!("{what}: {again}"));
        }
        if done.unlike {
            let again = command(&done.run);
            eprintln!("two runs, two traces\n  {again}");
            self.unlike.push(again);
        }
        if self.runs.is_multiple_of(PROGRESS) {
            eprintln!("{} runs, {} failed", self.runs, self.failed.len());
        }
    }

    pub(super) fn print(&self, as_json: bool) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = self.runs as f64 / seconds;
        let per_core = rate / self.jobs as f64;
        if as_json {
            let faults: BTreeMap<_, _> = self
                .faults
                .iter()
                .map(|(fault, [begun, felt])| (fault, json!({"begun": begun, "felt": felt})))
                .collect();
            let object = json!({
                "runs": self.runs,
                "seconds": seconds,
                "threads": self.jobs,
                "runs_per_second": rate,
                "runs_per_second_and_thread": per_core,
                "messages": self.messages,
                "publications": self.published,
                "drains_reopened": self.reopened,
                "redelivered_after_crash": self.redelivered,
                "faults": faults,
                "http": self.http,
                "pairs": self.pairs[0],
                "pairs_both_felt": self.pairs[1],
                "pairs_not_felt": self.untouched,
                "traces_unlike": self.unlike,
                "violations": self.failed,
            });
            println!("{object}");
            return;
        }
        let table = |what: &str, value: String| println!("{what:<28} {value:>14}");
        table("runs", self.runs.to_string());
        table("seconds", format!("{seconds:.1}"));
        table("runs a second and thread", format!("{per_core:.1}"));
        table("threads", self.jobs.to_string());
        table("messages", self.messages.to_string());
        table("publications", self.published.to_string());
        table("drains reopened", self.reopened.to_string());
        table("redelivered after a crash", self.redelivered.to_string());
        if self.http.connections > 0 {
            table("HTTP connections", self.http.connections.to_string());
            table("HTTP answers", self.http.ok.to_string());
            table("HTTP 304", self.http.not_modified.to_string());
            table("HTTP refused", self.http.refused.to_string());
            table("HTTP without an answer", self.http.unanswered.to_string());
        }
        if self.pairs[0] > 0 {
            table("pairs of faults", self.pairs[0].to_string());
            table("pairs, both felt", self.pairs[1].to_string());
        }
        table("traces unlike", self.unlike.len().to_string());
        table("violations", self.failed.len().to_string());
        println!("\n{:<28} {:>14} {:>14}", "fault", "begun", "felt");
        for (fault, [begun, felt]) in &self.faults {
            println!("{:<28} {begun:>14} {felt:>14}", fault.name());
        }
    }
}
