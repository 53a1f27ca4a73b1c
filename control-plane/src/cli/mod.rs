//! The `crossfade` program.

mod demo;
mod fault;
mod history;
mod instance;
mod load;
mod serve;
mod show;
mod topic;
mod words;

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::fault::{Fault, failed, tell};
use crate::Operator;

/// Moves message topics from one broker cluster to another while the applications keep running.
///
/// 把消息主题从一个集群迁移到另一个集群，应用不停机。
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
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
  crossfade topic weight orders 30%
  crossfade topic advance orders --to target_only --wait
  crossfade topic rollback orders --wait           # one step back
  crossfade instance list
  crossfade load produce --topic orders --instance rehearsal-p1 --history p1.jsonl
  crossfade history check *.jsonl                  # what became of each message";

/// What every command that speaks to a control plane takes.
#[derive(Args, Clone, Debug)]
struct Common {
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
    /// Answer in JSON, errors too.
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
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
    #[command(subcommand)]
    Topic(topic::Command),
    /// See the applications' instances; say which ones are gone for good.
    #[command(subcommand)]
    Instance(instance::Command),
    /// Rehearse a move on your own clusters: one real instance that sends or handles numbered messages and writes down what happens to each.
    #[command(subcommand)]
    Load(load::Command),
    /// Judge what instances have written down.
    #[command(subcommand)]
    History(history::Command),
}

/// Runs the program on the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.common.json;
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

async fn dispatch(cli: Cli) -> Result<(), Fault> {
    let Cli { common, command } = cli;
    match command {
        Command::Demo(args) => demo::run(args, common.json).await.map_err(failed),
        Command::Serve(args) => serve::run(args).await,
        Command::Topic(command) => topic::run(command, &common.operator()?, common.json).await,
        Command::Instance(command) => {
            instance::run(command, &common.operator()?, common.json).await
        }
        Command::Load(command) => load::run(command, &common).await,
        Command::History(command) => history::run(command, common.json),
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
