//! `crossfade load`: one real instance as its own process, which writes down what happens to each of its messages.

mod body;
mod consume;
mod instance;
mod pace;
mod produce;
mod tally;

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;

use super::{
    Control,
    credentials::CredentialFiles,
    fault::{Fault, failed},
    progress,
    serve::{log, stop_signal},
};

/// How often a line of progress is written.
const PROGRESS: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Produce(produce::Args),
    Consume(consume::Args),
}

/// What both kinds take.
#[derive(Clone, Debug, clap::Args)]
struct Shared {
    /// The topic. Take one of its own for a rehearsal: what others send to it looks like messages from nowhere.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// The instance's name: the same after a restart, different in every process that runs at the same time.
    #[arg(long, value_name = "NAME")]
    instance: String,
    /// Where each call, success, ambiguous error, failure, handler entry and completion is appended, as a line of JSON. A restarted process
    /// may go on with the file of the one before.
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// Without contact to the control plane for a lease: go on with the last plan, or stop.
    #[arg(long, value_name = "continue|stop", default_value = "continue")]
    lease_mode: String,
    /// Of all draws: with the same one the same messages get the same keys, and the same handlers fail.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    credentials: CredentialFiles,
    /// A key of the library's configuration (see CONFIGURATION.md), such as producer.send_timeout_ms=30000.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub(super) async fn run(command: Command, control: &Control, json: bool) -> Result<(), Fault> {
    log("warn");
    match command {
        Command::Produce(args) => {
            until_stopped(async |stop| produce::run(args, control, json, stop).await).await
        }
        Command::Consume(args) => {
            until_stopped(async |stop| consume::run(args, control, json, stop).await).await
        }
    }
}

/// Runs `work` and tells it when SIGINT or SIGTERM has come: it is to end in good order then. A second signal ends it at once.
async fn until_stopped(
    work: impl AsyncFnOnce(watch::Receiver<bool>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let signal =
        || stop_signal().map_err(|error| failed(format!("signals cannot be waited for: {error}")));
    let (tell, told) = watch::channel(false);
    let first = signal()?;
    let work = work(told);
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return outcome,
        _ = first => {}
    }
    let second = signal()?;
    progress("stopping: what is under way is finished first; another signal ends it at once");
    tell.send_replace(true);
    tokio::select! {
        outcome = work => outcome,
        _ = second => Err(failed("ended before everything under way was finished")),
    }
}

/// Resolves when it is time to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The other end lives as long as the work.
    let _ = stop.wait_for(|stop| *stop).await;
}
