//! `crossfade-rocketmq` beside the Java client of the broker's version: the same broker, the same run, rounds in turn, medians and their ratio.
//!
//! ```text
//! scripts/rocketmq up && set -a && . .clusters/env && set +a && cargo bench -p crossfade --bench rocketmq_vs_java
//! ```
//! For each size of body: synchronous sends with 1, 32 and 256 in flight, and reading with a new group. About 4 minutes for both clusters. Behind `--`:
//! - `--only source|target` takes one of them;
//! - `--body 256,4096` other sizes; `--rounds N` more or fewer rounds (3); `--seconds S` longer or shorter rounds of sends (2);
//! - `--json` prints one JSON object after the table.
//!
//! Both clients are programs of their own that obey the same lines, one of them at a time; what they use is read from `/proc` in the same way. Each
//! client is as an application has it: ours on tokio's multi-threaded runtime with its defaults, a task for each send in flight; Java's with a thread
//! for each, as its calls block, and a heap of 512 MiB at most. Three settings of the Java client are not its defaults, so that both do the same:
//! it does not compress (it would from 4 KiB on), does not send again what the broker refused, and begins a new group at the first message.
//!
//! - p50 and p99 are of sends that were stored, from the call to its return; reading has a rate only, from the first message to the last.
//! - CPU is user and system time of the whole process, in steps of 10 ms, from the order to its answer: joining and leaving the group are in it.
//! - Resident is `VmRSS` at the end of a round, peak is `VmHWM` of the round. A program sends and reads, and keeps the times of a round.
//! - Refused: brokers that are busy turn sends away (`[TIMEOUT_CLEAN_QUEUE]`); the loop goes on, and such a send is in no other figure.
//! - Allocations are ours alone, with 1 in flight, in rounds of their own: all that the process allocates meanwhile, the message with its properties and
//!   the answer among it, but for the body, which the messages share.
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints")]

mod counting;
mod options;
mod ours;
mod program;
mod report;

use std::{
    env,
    error::Error,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use self::{
    options::Options,
    program::{Answer, Program, Round},
    report::{Report, Row, Table},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const IN_FLIGHT: [u32; 3] = [1, 32, 256];
const QUEUES: u32 = 8;
/// Messages that a round of reading takes.
const READ: u64 = 60_000;
const COUNTED_SENDS: u32 = 2_000;
/// The compilers of the JVMs, here and in the broker, need a while.
const WARM_UP_MS: u64 = 4_000;
const FIRST_MS: u64 = 200;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [program::OBEY, server] = *words.iter().map(String::as_str).collect::<Vec<_>>() {
        return ours::obey(server);
    }
    let options = Options::parse(&words)?;
    let mut report = Report::new(load()?);
    for (side, variable, version) in [
        ("source", "CROSSFADE_TEST_SOURCE", "4.9.7"),
        ("target", "CROSSFADE_TEST_TARGET", "5.5.0"),
    ] {
        if options.only.as_ref().is_some_and(|only| only != side) {
            continue;
        }
        let Ok(address) = env::var(variable) else {
            println!("skipped: rocketmq_vs_java on the {side}: no broker ({variable})");
            continue;
        };
        // As scripts/rocketmq names them.
        let variable = format!("CROSSFADE_{}_VERSION", side.to_uppercase());
        let version = env::var(variable).unwrap_or_else(|_| version.to_owned());
        let mut table = Table::begin(side, &version, &options);
        compare(&address, &version, &options, &mut table)?;
        report.tables.push(table);
    }
    report.end(load()?, options.json)
}

/// Of the last minute.
fn load() -> Result<f64> {
    let loads = fs::read_to_string("/proc/loadavg")?;
    let first = loads.split(' ').next().unwrap_or_default();
    Ok(first.parse()?)
}

fn compare(address: &str, version: &str, options: &Options, table: &mut Table) -> Result<()> {
    let server = address.trim_start_matches("rocketmq://");
    let mut programs = [Program::ours(server)?, Program::java(server, version)?];
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    for body in &options.bodies {
        let topic = format!("bench-{stamp}-{body}");
        programs[0].ask(&format!("create {topic} {QUEUES}"))?;
        let done = one_size(&mut programs, &topic, *body, options, table);
        programs[0].ask(&format!("delete {topic}"))?;
        done?;
    }
    for program in programs {
        program.stop()?;
    }
    Ok(())
}

/// All rounds with bodies of one size, in a topic of their own.
fn one_size(
    programs: &mut [Program; 2],
    topic: &str,
    body: usize,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let mut stored = 0;
    // One alone first: of many Java threads that ask for the same route at once, those that wait too long for the others fail.
    for (in_flight, milliseconds) in [(1, FIRST_MS), (32, WARM_UP_MS)] {
        for program in &mut *programs {
            let order = format!("send {topic} {body} {in_flight} {milliseconds}");
            stored += program.ask(&order)?.messages;
        }
    }
    for in_flight in IN_FLIGHT {
        let milliseconds = options.seconds * 1_000;
        let order = format!("send {topic} {body} {in_flight} {milliseconds}");
        let rounds = in_turn(programs, options.rounds, |_, _| order.clone())?;
        stored += rounds.iter().flatten().map(Round::messages).sum::<u64>();
        table.add(Row::new("send", body, Some(in_flight), &rounds));
    }
    let counted = programs[0].ask(&format!("count {topic} {body} {COUNTED_SENDS}"))?;
    table.allocations(body, counted.allocations, counted.allocated_bytes);
    stored += counted.messages;

    while stored < READ {
        let filled = programs[0].ask(&format!("send {topic} {body} 32 500"))?;
        stored += filled.messages;
    }
    let read = |who: usize, round: usize| format!("read {topic} {topic}-{who}-{round} {READ}");
    let mut rounds = in_turn(programs, options.rounds + 1, read)?;
    for rounds in &mut rounds {
        // The first one warms up.
        rounds.remove(0);
    }
    table.add(Row::new("read", body, None, &rounds));
    Ok(())
}

/// One round of ours, one of Java's, and again. The order may depend on the program and on the round.
fn in_turn(
    programs: &mut [Program; 2],
    rounds: usize,
    order: impl Fn(usize, usize) -> String,
) -> Result<[Vec<Round>; 2]> {
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (who, program) in programs.iter_mut().enumerate() {
            all[who].push(program.measure(&order(who, round))?);
        }
    }
    Ok(all)
}
