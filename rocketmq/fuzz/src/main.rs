//! `crossfade-rocketmq-fuzz`: many executions, one JSON object for each target.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{panic, process::ExitCode};

use clap::{Parser, ValueEnum};
use crossfade_rocketmq_fuzz::{connection, memory::Counting, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives the decoder and the connections of crossfade-rocketmq bytes that no honest broker would send. Prints one JSON object for each target; exit 0 only
/// when nothing panicked, everything that was whole was read as it was written, and memory stayed within its bounds.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Executions of each target; of connections a hundredth of it.
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
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Failures are in the report.
    panic::set_hook(Box::new(|_| {}));
    let mut reports = Vec::new();
    if args.target != Some(Target::Connection) {
        reports.push(run::decoder(args.seed, args.from, args.executions));
    }
    if args.target != Some(Target::Decoder) {
        let few = match args.target {
            None => args.executions.div_ceil(100),
            Some(_) => args.executions,
        };
        reports.push(connection::run(args.seed, args.from, few));
    }
    for report in &reports {
        println!("{}", report.json());
    }
    match reports.iter().all(run::Report::holds) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
