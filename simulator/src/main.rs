//! `crossfade-sim`: runs seeds, prints what held and what broke.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use crossfade::stage::Stage;
use crossfade_simulator::{Fault, Outcome, Scenario, run};
use serde_json::json;

/// Runs whole fleets with virtual time and faults from seeds.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How long faults come, in seconds of virtual time; coming to rest takes longer.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Every step between neighbouring stages with every pair of faults instead, once for each seed.
    #[arg(long)]
    pairs: bool,
    /// Operators walk, and nothing goes wrong.
    #[arg(long, conflicts_with = "pairs")]
    calm: bool,
    /// Prints the trace of each run.
    #[arg(long)]
    trace: bool,
    /// Runs everything twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// One JSON object at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<String>,
    unlike: u64,
    messages: u64,
    faults: BTreeMap<Fault, u64>,
    published: usize,
    reopened: usize,
    redelivered: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let begun = Instant::now();
    let mut sum = Sum::default();
    let length = Duration::from_secs(args.seconds);
    for seed in args.from..args.from.saturating_add(args.seeds) {
        if args.pairs {
            for (from, to) in edges() {
                for first in Fault::ALL {
                    for second in Fault::ALL {
                        let faults = [first, second];
                        one(
                            &args,
                            &mut sum,
                            seed,
                            Scenario::Step { from, to, faults },
                            length,
                        );
                    }
                }
            }
        } else if args.calm {
            one(&args, &mut sum, seed, Scenario::Calm, length);
        } else {
            one(&args, &mut sum, seed, Scenario::Random, length);
        }
    }
    report(&args, &sum, begun.elapsed());
    match sum.failed.is_empty() && sum.unlike == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Every step between two neighbouring stages.
fn edges() -> impl Iterator<Item = (Stage, Stage)> {
    let all = Stage::ALL.into_iter();
    all.flat_map(|from| Stage::ALL.map(|to| (from, to)))
        .filter(|(from, to)| from.is_neighbour(*to))
}

fn one(args: &Args, sum: &mut Sum, seed: u64, scenario: Scenario, length: Duration) {
    let outcome = run(seed, scenario, length, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    if args.twice && run(seed, scenario, length, false).trace_hash != outcome.trace_hash {
        sum.unlike += 1;
        eprintln!("seed {seed}, {scenario:?}: two runs, two traces");
    }
    add(sum, seed, scenario, outcome);
    if sum.runs.is_multiple_of(100) {
        eprintln!("{} runs, {} failed", sum.runs, sum.failed.len());
    }
}

fn add(sum: &mut Sum, seed: u64, scenario: Scenario, outcome: Outcome) {
    sum.runs += 1;
    sum.messages += outcome.report.messages;
    sum.published += outcome.published;
    sum.reopened += outcome.reopened;
    sum.redelivered += outcome.report.redelivered_after_crash;
    for (fault, count) in outcome.faults {
        *sum.faults.entry(fault).or_default() += count;
    }
    if !outcome.violations.is_empty() {
        let what = outcome.violations.join("; ");
        eprintln!(
            "seed {seed}, {scenario:?}: {what} {:?}",
            outcome.report.examples
        );
        sum.failed
            .push(format!("seed {seed}, {scenario:?}: {what}"));
    }
}

fn report(args: &Args, sum: &Sum, took: Duration) {
    let rate = sum.runs as f64 / took.as_secs_f64();
    if args.json {
        let object = json!({
            "runs": sum.runs,
            "violations": sum.failed,
            "traces_unlike": sum.unlike,
            "messages": sum.messages,
            "faults": sum.faults,
            "publications": sum.published,
            "reopened": sum.reopened,
            "redelivered_after_crash": sum.redelivered,
            "seconds": took.as_secs_f64(),
            "runs_per_second": rate,
        });
        println!("{object}");
        return;
    }
    println!(
        "{} runs in {:.1} s ({rate:.1}/s on one core), {} failed, {} messages, {} publications, {} drains reopened",
        sum.runs,
        took.as_secs_f64(),
        sum.failed.len(),
        sum.messages,
        sum.published,
        sum.reopened,
    );
    for (fault, count) in &sum.faults {
        println!("{count:>8} {fault:?}");
    }
}
