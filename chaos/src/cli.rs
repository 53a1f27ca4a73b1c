//! The command line.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use crate::{
    clusters::{self, Clusters},
    control::MARGIN,
    failure::{Result, failed},
    frozen,
    outcome::Outcome,
    process::Program,
    progress, run as journey,
    scene::Setting,
    schedule::Volume,
    tally::MOST_GROUPS,
};

/// A control plane that is stopped stays so beyond the end of every lease for this long at least.
const BEYOND: Duration = Duration::from_secs(2);

/// Kills and freezes real processes and brokers while a topic moves between two RocketMQ clusters, and judges what came out.
///
/// It starts clusters, a control plane and `crossfade load` instances of its own, walks the topic through all stages with two rollbacks, and does
/// what the seed says to them meanwhile. Then everything is drained and ended, and the history checker reads what every process wrote. Exit 0 only
/// if nothing acked was lost, nothing came from nowhere, and every message that was handled twice is accounted for. Progress goes to standard
/// error. At the end, and on SIGINT and SIGTERM, everything that it started is ended.
#[derive(Debug, Parser)]
#[command(
    name = "crossfade-chaos",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    journey: Journey,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Freeze a producer with sends under way, move the topic to target_only, wake the producer: what its sends got, and where the messages went.
    FrozenProducer(FrozenProducer),
}

#[derive(Args, Debug)]
struct Journey {
    /// At least so many sends succeed.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000), value_name = "N")]
    messages: u64,
    /// SIGKILLs of instances, each followed by a new process under the same name.
    #[arg(long, default_value_t = 9, value_parser = small, value_name = "K")]
    kills: usize,
    /// SIGSTOPs of instances, each followed by SIGCONT.
    #[arg(long, default_value_t = 2, value_parser = small, value_name = "S")]
    stops: usize,
    /// How long a stopped instance stays so, at least.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    stop_seconds: u64,
    /// SIGKILLs of each of the two brokers.
    #[arg(long, default_value_t = 1, value_parser = small, value_name = "N")]
    broker_kills: usize,
    /// SIGKILLs of the control plane.
    #[arg(long, default_value_t = 3, value_parser = small, value_name = "N")]
    control_kills: usize,
    /// SIGSTOPs of the control plane, each for longer than every lease it has given, followed by SIGCONT.
    #[arg(long, default_value_t = 1, value_parser = small, value_name = "N")]
    control_stops: usize,
    /// How long one step between neighbouring stages may take.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=3_600), value_name = "SECONDS")]
    step_timeout: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct FrozenProducer {
    /// How long the brokers may take to forget the frozen producer, before an operator confirms it gone.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(0..=3_600), value_name = "SECONDS")]
    evidence: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// The same seed gives the same schedule.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    seed: u64,
    /// Producing instances.
    #[arg(long, default_value_t = 3, value_parser = some, value_name = "N")]
    producers: usize,
    /// Consuming instances.
    #[arg(long, default_value_t = 3, value_parser = some, value_name = "N")]
    consumers: usize,
    /// Consumer groups; each of them gets every message.
    #[arg(long, default_value_t = 1, value_parser = some, value_name = "N")]
    groups: usize,
    /// Messages a second, all producers together.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "R")]
    rate: u64,
    /// So many handlers in a hundred fail, and their messages come again after a second.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=50), value_name = "PERCENT")]
    fail_percent: u8,
    /// Queues of the topic on each side.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    queues: u32,
    /// How long an instance counts as alive without a request.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=600), value_name = "SECONDS")]
    lease: u64,
    /// The run ends as a failure after so long.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_440), value_name = "MINUTES")]
    limit: u64,
    /// For histories, logs, stores and clusters; it must be empty and is kept. Without it: a new one under the system's temporary folder, which goes
    /// away after a success.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Another build of the `crossfade` program than the one inside this one.
    #[arg(long, value_name = "FILE")]
    crossfade: Option<PathBuf>,
    /// The script that starts the clusters.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rocketmq"), value_name = "FILE")]
    rocketmq: PathBuf,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the program on the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli)),
        Err(error) => Err(failed(format!("no threads: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            progress(format_args!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        None => {
            let Journey { common, .. } = &cli.journey;
            let volume = Volume {
                producers: common.producers,
                consumers: common.consumers,
                kills: cli.journey.kills,
                stops: cli.journey.stops,
                stop_length: Duration::from_secs(cli.journey.stop_seconds),
                broker_kills: cli.journey.broker_kills,
                control_kills: cli.journey.control_kills,
                control_stops: cli.journey.control_stops,
                control_stop_length: Duration::from_secs(common.lease) + MARGIN + BEYOND,
            };
            let step = Duration::from_secs(cli.journey.step_timeout);
            let messages = cli.journey.messages;
            on_own_ground(common, async |setting, clusters| {
                let options = journey::Options {
                    messages,
                    volume,
                    setting,
                    step,
                };
                journey::run(&options, clusters).await
            })
            .await
        }
        Some(Command::FrozenProducer(args)) => {
            let evidence = Duration::from_secs(args.evidence);
            on_own_ground(&args.common, async |setting, clusters| {
                frozen::run(&setting, evidence, clusters).await
            })
            .await
        }
    }
}

/// Clusters come up, the run goes, whatever its end the clusters go down again.
async fn on_own_ground<O: Outcome>(
    common: &Common,
    go: impl AsyncFnOnce(Setting, Clusters) -> Result<O>,
) -> Result<()> {
    common.check()?;
    let told = |error: std::io::Error| failed(error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
    let folder = Folder::make(common.dir.as_deref())?;
    let brokers = folder.path.join("clusters");
    let went = async {
        progress(format_args!(
            "starting the clusters in {}",
            brokers.display()
        ));
        let clusters = Clusters::up(&common.rocketmq, &brokers).await?;
        let setting = common.setting(&folder.path)?;
        go(setting, clusters).await
    };
    let outcome = tokio::select! {
        outcome = went => outcome,
        name = either(&mut interrupt, &mut terminate) => Err(failed(format!("ended by {name}"))),
        () = sleep(Duration::from_secs(common.limit * 60)) => {
            Err(failed(format!("no end within {} minutes (--limit)", common.limit)))
        }
    };
    progress("stopping the clusters");
    let down = clusters::down(&common.rocketmq, &brokers).await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            folder.keep();
            return Err(failure);
        }
    };
    let text = if common.json {
        outcome.json()
    } else {
        outcome.text()
    };
    // A reader that has gone away is no error of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    let faults = outcome.faults();
    if !faults.is_empty() {
        folder.keep();
        return Err(failed(faults.join("; ")));
    }
    folder.remove()?;
    down
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Where a run writes.
struct Folder {
    path: PathBuf,
    ours: bool,
}

impl Folder {
    fn make(given: Option<&Path>) -> Result<Self> {
        if let Some(path) = given {
            let told = |error| failed(format!("{}: {error}", path.display()));
            std::fs::create_dir_all(path).map_err(told)?;
            if std::fs::read_dir(path).map_err(told)?.next().is_some() {
                return Err(failed(format!(
                    "{} is not empty: name another --dir",
                    path.display()
                )));
            }
            let path = path.canonicalize().map_err(told)?;
            return Ok(Folder { path, ours: false });
        }
        let made = tempfile::Builder::new()
            .prefix("crossfade-chaos-")
            .tempdir();
        let made = made.map_err(|error| failed(format!("no temporary folder: {error}")))?;
        Ok(Folder {
            path: made.keep(),
            ours: true,
        })
    }

    fn keep(&self) {
        progress(format_args!(
            "histories and logs are kept in {}",
            self.path.display()
        ));
    }

    fn remove(&self) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        let removed = std::fs::remove_dir_all(&self.path);
        removed.map_err(|error| failed(format!("{}: {error}", self.path.display())))
    }
}

impl Common {
    fn check(&self) -> Result<()> {
        if self.groups > self.consumers {
            return Err(failed(format!(
                "{} groups need as many consumers; there are {} (--consumers)",
                self.groups, self.consumers
            )));
        }
        if self.groups > MOST_GROUPS {
            return Err(failed(format!("at most {MOST_GROUPS} groups")));
        }
        Ok(())
    }

    fn setting(&self, folder: &Path) -> Result<Setting> {
        Ok(Setting {
            folder: folder.to_owned(),
            program: match &self.crossfade {
                Some(path) => Program::Other(path.clone()),
                None => Program::own()?,
            },
            seed: self.seed,
            producers: self.producers,
            consumers: self.consumers,
            groups: self.groups,
            rate: self.rate,
            fail_percent: self.fail_percent,
            queues: self.queues,
            lease: Duration::from_secs(self.lease),
        })
    }
}

fn small(text: &str) -> std::result::Result<usize, String> {
    number(text, 0)
}

fn some(text: &str) -> std::result::Result<usize, String> {
    number(text, 1)
}

fn number(text: &str, least: usize) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=1_000).contains(&number) => Ok(number),
        _ => Err(format!("a number from {least} to 1000")),
    }
}
