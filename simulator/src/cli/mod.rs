//! The command line.

mod report;
mod work;

use std::{process::ExitCode, str::FromStr, time::Duration};

use clap::Parser;
use crossfade::stage::Stage;
use crossfade_simulator::{Fault, FaultSet, Mutation, Run, Scenario, Step};

use self::{report::Sum, work::Work};

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
    /// Every step between neighbouring stages with every pair of faults instead, tried at other moments until both have touched something.
    #[arg(long)]
    pairs: bool,
    /// With --pairs: at so many moments at the most.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// One step with two faults: FROM:TO:FAULT:FAULT:ATTEMPT, as a failure names it.
    #[arg(long, conflicts_with = "pairs")]
    step: Option<StepArg>,
    /// Only these kinds of faults, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["pairs", "step", "calm"])]
    only: Vec<Fault>,
    /// Operators walk, and nothing goes wrong.
    #[arg(long, conflicts_with_all = ["pairs", "step"])]
    calm: bool,
    /// Everybody reaches the control plane over HTTP.
    #[arg(long)]
    http: bool,
    /// Breaks a part on purpose: a run that finds nothing has failed to see it.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Prints the trace of each run.
    #[arg(long)]
    trace: bool,
    /// Runs everything twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Runs at the same time, each on its own thread. Default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// One JSON object at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct StepArg(Step);

impl FromStr for StepArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [from, to, first, second, attempt] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(
                "FROM:TO:FAULT:FAULT:ATTEMPT, such as source_only:dual_read:crash:stall:0".into(),
            );
        };
        let stage = |text: &str| {
            let mut all = Stage::ALL.into_iter();
            all.find(|stage| stage.to_string() == text)
                .ok_or_else(|| format!("{text:?} is no stage"))
        };
        Ok(StepArg(Step {
            from: stage(from)?,
            to: stage(to)?,
            faults: [first.parse()?, second.parse()?],
            attempt: attempt
                .parse()
                .map_err(|_| format!("{attempt:?} is no number"))?,
        }))
    }
}

/// The command that repeats a run.
fn command(run: &Run) -> String {
    let mut command = format!(
        "scripts/simulate --seeds 1 --from {} --seconds {}",
        run.seed,
        run.length.as_secs()
    );
    match run.scenario {
        Scenario::Calm => command += " --calm",
        Scenario::Random => {}
        Scenario::Step(Step {
            from,
            to,
            faults: [first, second],
            attempt,
        }) => {
            let (first, second) = (first.name(), second.name());
            command += &format!(" --step {from}:{to}:{first}:{second}:{attempt}");
        }
    }
    if run.faults != FaultSet::all() {
        let only: Vec<_> = run.faults.iter().map(Fault::name).collect();
        command += &format!(" --only {}", only.join(","));
    }
    if run.http {
        command += " --http";
    }
    if let Some(mutation) = run.mutation {
        command += &format!(" --mutation {}", mutation.name());
    }
    command + " --trace"
}

impl Args {
    fn run(&self, seed: u64, scenario: Scenario) -> Run {
        Run {
            seed,
            scenario,
            faults: match self.only.is_empty() {
                true => FaultSet::all(),
                false => self.only.iter().copied().collect(),
            },
            length: Duration::from_secs(self.seconds),
            http: self.http,
            mutation: self.mutation,
        }
    }

    /// Everything that is to be done.
    fn work(&self) -> Vec<Work> {
        let seeds = self.from..self.from.saturating_add(self.seeds);
        let one = |scenario| move |seed| Work::One(self.run(seed, scenario));
        if let Some(StepArg(step)) = self.step {
            return seeds.map(one(Scenario::Step(step))).collect();
        }
        if self.calm {
            return seeds.map(one(Scenario::Calm)).collect();
        }
        if !self.pairs {
            return seeds.map(one(Scenario::Random)).collect();
        }
        let mut pairs = Vec::new();
        for seed in seeds {
            for (from, to) in edges() {
                for (index, first) in Fault::ALL.into_iter().enumerate() {
                    for second in &Fault::ALL[index..] {
                        let step = Step {
                            from,
                            to,
                            faults: [first, *second],
                            attempt: 0,
                        };
                        pairs.push(Work::Pair(self.run(seed, Scenario::Step(step)), step));
                    }
                }
            }
        }
        pairs
    }
}

/// Every step between two neighbouring stages.
fn edges() -> impl Iterator<Item = (Stage, Stage)> {
    let all = Stage::ALL.into_iter();
    all.flat_map(|from| Stage::ALL.map(|to| (from, to)))
        .filter(|(from, to)| from.is_neighbour(*to))
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = match args.trace {
        // Traces of several runs must not be mixed.
        true => 1,
        false => args.jobs.unwrap_or(cores).max(1),
    };
    let mut sum = Sum::new(jobs);
    work::all(&args, args.work(), jobs, |done| sum.add(done));
    sum.print(args.json);
    match sum.held() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
