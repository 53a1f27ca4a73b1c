//! `crossfade-model`: explores, prints what held and what broke.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod report;

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use crossfade_model::{
    fleet::{Bounds, Faults, Scene},
    mutation::{self, Mutation},
    order,
    plan::{self, Family, MOST},
    run::{Outcome, run, run_ordered},
};

use report::Report;

/// Explores the coordinator's own code over a small world: every order of events within bounds; and shows that each rule that is switched off is missed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Only this mutation, with its counter-example; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "bounds")]
    mutation: Vec<String>,
    /// Every fleet from every stage within other bounds, instead of all else.
    #[arg(long, value_name = "CHANGES,SENDS,FAULTS", value_parser = bounds)]
    bounds: Option<Bounds>,
    /// With --bounds: half messages instead of the other faults.
    #[arg(long, requires = "bounds")]
    half: bool,
    /// Only the explorations of ordered topics.
    #[arg(long, conflicts_with_all = ["bounds", "mutation"])]
    ordered: bool,
    /// With --ordered: those that take minutes more, too.
    #[arg(long, requires = "ordered")]
    wide: bool,
    /// Explorations at a time. Default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// One thing to do: a family's exploration, or a mutation to be caught.
#[derive(Clone, Copy, Debug)]
enum Job {
    Explore(&'static str, What),
    Catch(Rule),
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
enum What {
    Stages(Scene),
    Order(order::Scene),
}

/// A rule that is switched off.
#[derive(Clone, Copy, Debug)]
struct Rule {
    name: &'static str,
    how: &'static str,
    lie: Lie,
}

#[derive(Clone, Copy, Debug)]
enum Lie {
    Stages(Mutation),
    Order(order::Mutation),
}

/// Every mutation, of stages and of order.
fn rules() -> impl Iterator<Item = Rule> {
    let stages = mutation::ALL.iter().map(|entry| Rule {
        name: entry.name,
        how: entry.how,
        lie: Lie::Stages(entry.mutation),
    });
    stages.chain(order::ALL.iter().map(|entry| Rule {
        name: entry.name,
        how: entry.how,
        lie: Lie::Order(entry.mutation),
    }))
}

/// What came of it; of a mutation that was not caught, the last exploration.
#[derive(Debug)]
struct Done {
    job: Job,
    outcome: Outcome,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let jobs = match jobs(&args) {
        Ok(jobs) => jobs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let done = work(&jobs, args.threads.unwrap_or(cores).max(1));
    let report = Report::new(&done, begun.elapsed());
    match args.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.text()),
    }
    match report.holds() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn jobs(args: &Args) -> Result<Vec<Job>, String> {
    if let Some(mut bounds) = args.bounds {
        if args.half {
            bounds.kinds = Faults::HALF;
        }
        let family = Family {
            name: "asked",
            fleets: &[0, 1, 2, 3, 4, 5, 6, 7, 8],
            bounds,
        };
        return Ok(family
            .scenes()
            .map(|scene| Job::Explore(family.name, What::Stages(scene)))
            .collect());
    }
    let mut jobs = Vec::new();
    if args.ordered {
        jobs.extend(of_order(&order::FAMILIES));
        if args.wide {
            jobs.extend(of_order(&order::WIDE));
        }
        let of_order = |rule: &Rule| matches!(rule.lie, Lie::Order(_));
        jobs.extend(rules().filter(of_order).map(Job::Catch));
        return Ok(jobs);
    }
    if args.mutation.is_empty() {
        for family in plan::FAMILIES {
            jobs.extend(
                family
                    .scenes()
                    .map(|scene| Job::Explore(family.name, What::Stages(scene))),
            );
        }
        jobs.extend(of_order(&order::FAMILIES));
        jobs.extend(rules().map(Job::Catch));
        return Ok(jobs);
    }
    for name in &args.mutation {
        let rule = rules().find(|rule| rule.name == name);
        let names = || rules().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
        jobs.push(Job::Catch(rule.ok_or_else(|| {
            format!("no mutation has the name {name:?}; there are {}", names())
        })?));
    }
    Ok(jobs)
}

/// Explorations of ordered topics.
fn of_order(families: &'static [order::Family]) -> impl Iterator<Item = Job> {
    families.iter().flat_map(|family| {
        let scenes = family.scenes();
        scenes.map(move |scene| Job::Explore(family.name, What::Order(scene)))
    })
}

/// Does everything, `threads` at a time, and keeps the order.
fn work(jobs: &[Job], threads: usize) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(*job);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push(Done { job: *job, outcome });
                    let last = done.last().map(Done::line).unwrap_or_default();
                    eprintln!("{:3} of {} {last}", done.len(), jobs.len());
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(job: Job) -> Outcome {
    match job {
        Job::Explore(_, What::Stages(scene)) => run(scene, None, MOST),
        Job::Explore(_, What::Order(scene)) => run_ordered(scene, None, MOST),
        Job::Catch(rule) => match rule.lie {
            Lie::Stages(lie) => run(plan::scene_of(lie), Some(lie), MOST),
            Lie::Order(lie) => run_ordered(order::scene_of(lie), Some(lie), MOST),
        },
    }
}

fn bounds(text: &str) -> Result<Bounds, String> {
    let numbers: Vec<u8> = text
        .split(',')
        .map_while(|part| part.parse().ok())
        .collect();
    match numbers[..] {
        [changes, sends, faults] => Ok(Bounds {
            changes: changes.into(),
            sends,
            faults,
            kinds: Faults::MOST,
        }),
        _ => Err("three numbers, as in 3,1,1".into()),
    }
}
