//! `crossfade demo`: a topic crosses from one cluster to another while its applications run.

mod fleet;
mod journey;
mod kind;
mod ledger;
mod order;
mod pace;
mod patience;
mod progress;
mod report;
mod sender;

use clap::Parser;

use self::{kind::Kind, progress::Progress};
use super::{credentials::CredentialFiles, serve::log};

/// Watch a topic cross from one cluster to another while its applications run.
///
/// Two producers and three consumers use the SDK; the control plane runs beside them. All five stages forward, one rollback on the way, one
/// consumer killed and replaced, the control plane crashed and restarted once. Without addresses both clusters are embedded in this process.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// The cluster that the topic leaves: rocketmq://host:port or memory://name.
    #[arg(long, requires = "target", value_name = "URL")]
    pub(super) source: Option<String>,
    /// The cluster that the topic moves to.
    #[arg(long, requires = "source", value_name = "URL")]
    pub(super) target: Option<String>,
    #[command(flatten)]
    pub(super) credentials: CredentialFiles,
    /// How many messages are sent in all: 700 to 2000000.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(700..=2_000_000), value_name = "N")]
    pub(super) messages: u64,
    /// What kind of messages crosses.
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub(super) kind: Kind,
    /// Of the draws between the two sides.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(super) seed: u64,
}

/// Runs the demo and prints its report; an error when anything was lost, doubled, inverted or turned away, or a stage carried no traffic.
pub(crate) async fn run(args: Args, json: bool) -> Result<(), String> {
    // Only what RUST_LOG asks for.
    log("off");
    let progress = Progress::new(args.messages);
    let outcome = journey::run(&args, &progress).await;
    progress.done();
    let report = outcome?;
    report.print(json)?;
    let faults = report.faults();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("; "))
    }
}
