//! The `crossfade` program.

mod audit;
mod credentials;
mod demo;
mod fault;
#[cfg(test)]
mod hints;
mod history;
mod instance;
mod load;
mod serve;
mod show;
mod topic;
mod words;

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use self::fault::{Fault, failed, misused, tell};
use crate::Operator;

/// Moves message topics from one broker cluster to another while the applications keep running.
///
/// 把消息主题从一个集群迁移到另一个集群，应用不停机。
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Answer in JSON, errors too, except those of the command line itself.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
A topic goes through five stages, one at a time, forward or back:
  source_only 初始状态   dual_read 开启双读   dual_write 双读双写   draining 切流中   target_only 切流完成

Examples:
  crossfade demo                                   # see it happen, without any broker
  crossfade serve --source 'rocketmq://10.0.0.1:9876' --target 'rocketmq://10.0.1.1:9876'
  crossfade topic add orders --group billing,shipping
  crossfade topic check orders                     # what the next step still waits for
  crossfade topic advance orders --wait            # one step
  crossfade topic weight orders 30%                # before dual_write, which begins with 50 % otherwise
  crossfade topic advance orders --to target_only --wait
  crossfade topic rollback orders --wait           # one step back
  crossfade instance list
  crossfade load produce --topic orders --instance rehearsal-p1 --history p1.jsonl
  crossfade history check *.jsonl                  # what became of each message";

/// A command that speaks to a control plane.
#[derive(Args, Clone, Debug)]
struct Speaking<C: Subcommand> {
    #[command(flatten)]
    control: Control,
    #[command(subcommand)]
    command: C,
}

/// Where the control plane is, and who asks.
#[derive(Args, Clone, Debug)]
struct Control {
    /// Where the control plane is.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CROSSFADE_CONTROL",
        default_value = "http://127.0.0.1:7070"
    )]
    control: String,
    /// The operator's token.
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "CROSSFADE_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

impl Control {
    fn operator(&self) -> Result<Operator, Fault> {
        Operator::new(&self.control, self.token.as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    /// Run the control plane.
    Serve(serve::Args),
    /// Add topics, move them from stage to stage, see what they wait for.
    Topic(Speaking<topic::Command>),
    /// See the applications' instances; say which ones are gone for good.
    Instance(Speaking<instance::Command>),
    /// What was decided, by whom and why, the newest first.
    #[command(
        after_help = "Examples:\n  crossfade audit\n  crossfade audit orders --limit 20 --json"
    )]
    Audit {
        #[command(flatten)]
        control: Control,
        #[command(flatten)]
        args: audit::Args,
    },
    /// Rehearse a move on your own clusters: one real instance that sends or handles numbered messages and writes down what happens to each.
    Load(Speaking<load::Command>),
    /// Judge what instances have written down.
    #[command(subcommand)]
    History(history::Command),
}

/// Runs the program on the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match below_zero(&error, std::env::args()) {
            Some(fault) => return tell(&fault, std::env::args().any(|word| word == "--json")),
            None => error.exit(),
        },
    };
    let json = cli.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tell(&failed(format!("no threads: {error}")), json),
    };
    let outcome = runtime.block_on(dispatch(cli));
    // What still runs in the background is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => tell(&fault, json),
    }
}

/// A weight below zero looks like an option that does not exist.
fn below_zero(error: &clap::Error, mut words: impl Iterator<Item = String>) -> Option<Fault> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let is_share = |word: &str| {
        let digits = word.strip_prefix('-')?;
        let digits = digits
            .strip_suffix('%')
            .or_else(|| digits.strip_suffix("bp"))?;
        digits.parse::<f64>().ok()
    };
    let share = words.find(|word| is_share(word).is_some())?;
    words::weight(&share).err().map(misused)
}

async fn dispatch(cli: Cli) -> Result<(), Fault> {
    let Cli { json, command } = cli;
    match command {
        Command::Demo(args) => demo::run(args, json).await.map_err(failed),
        Command::Serve(args) => serve::run(args, json).await,
        Command::Topic(asked) => topic::run(asked.command, &asked.control.operator()?, json).await,
        Command::Instance(asked) => {
            instance::run(asked.command, &asked.control.operator()?, json).await
        }
        Command::Audit { control, args } => audit::run(args, &control.operator()?, json).await,
        Command::Load(asked) => load::run(asked.command, &asked.control, json).await,
        Command::History(command) => history::run(command, json),
    }
}

/// Writes a line to standard output. A reader that has gone away is no error of ours.
fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a line of progress to standard error.
fn progress(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_below_zero_is_out_of_range_and_no_option() {
        let told = |line: &str| {
            let words = || line.split(' ').map(str::to_owned);
            let error = Cli::try_parse_from(words()).unwrap_err();
            below_zero(&error, words())
        };
        for weight in ["-5%", "-0.5%", "-3000bp"] {
            let fault = told(&format!("crossfade topic weight orders {weight} --wait")).unwrap();
            assert_eq!(fault.code(), "invalid_request");
            let text = fault.to_string();
            assert!(
                text.contains(weight) && text.contains("0% to 100%"),
                "{text}"
            );
        }
        for other in ["--nothing", "-x", "-5", "-%"] {
            assert!(told(&format!("crossfade topic weight orders {other}")).is_none());
        }
    }

    #[test]
    fn share_of_failing_handlers_below_zero_is_out_of_range() {
        let line =
            "crossfade load consume --topic t --group g --instance i --history h --fail-percent";
        for percent in ["-5", "101"] {
            let words = line.split(' ').chain([percent]);
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{error}");
            assert!(error.to_string().contains("0..=100"), "{error}");
        }
    }
}
