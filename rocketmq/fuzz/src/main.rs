//! `crossfade-rocketmq-fuzz`: many executions, one JSON object for each target.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{panic, process::ExitCode};

use clap::{Parser, ValueEnum};
use crossfade_rocketmq_fuzz::{clients, connection, memory::Counting, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives the decoder, the connections and the producers and consumers of crossfade-rocketmq what no honest broker would send. Prints one JSON object for each target; exit 0 only
/// when nothing panicked, everything that was whole was read as it was written, and memory stayed within its bounds.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Executions of each target; of connections a hundredth of it, of clients a thousandth.
    #[arg(long, default_value_t = 100_000)]
    executions: u64,
    /// Everything is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first execution: one that failed is run again with its number and --executions 1.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Target {
    Decoder,
    Connection,
    Clients,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Failures are in the report.
    panic::set_hook(Box::new(|_| {}));
    let mut reports = Vec::new();
    for target in [Target::Decoder, Target::Connection, Target::Clients] {
        if args.target.is_some_and(|only| only != target) {
            continue;
        }
        let (run, part): (fn(u64, u64, u64) -> run::Report, _) = match target {
            Target::Decoder => (run::decoder, 1),
            Target::Connection => (connection::run, 100),
            Target::Clients => (clients::run, 1_000),
        };
        let part = if args.target.is_some() { 1 } else { part };
        reports.push(run(args.seed, args.from, args.executions.div_ceil(part)));
    }
    for report in &reports {
        println!("{}", report.json());
    }
    match reports.iter().all(run::Report::holds) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
