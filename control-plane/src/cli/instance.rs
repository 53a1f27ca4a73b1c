//! `crossfade instance ...`.

use serde_json::json;

use super::{fault::Fault, progress, say, show};
use crate::Operator;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// All instances that are known: what they do, and whether they may still act.
    List,
    /// Say that the lost processes under a name are gone for good, so that they block no more. It goes to the audit log.
    ///
    /// Be sure: a process that is only cut off still sends by its last plan.
    #[command(
        after_help = "Example:\n  crossfade instance confirm-gone orders-7 --reason 'host 10.0.3.7 was switched off, ticket 4711'"
    )]
    ConfirmGone {
        /// The instance's name.
        name: String,
        /// How you know.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) async fn run(command: Command, operator: &Operator, json: bool) -> Result<(), Fault> {
    match command {
        Command::List => {
            let instances = operator.instances().await?;
            say(if json {
                json!(instances).to_string()
            } else {
                show::instances(&instances)
            });
        }
        Command::ConfirmGone { name, reason } => {
            let still_listed = operator.confirm_gone(&name, &reason).await?;
            if json {
                say(
                    json!({"instance": name, "confirmed_gone": true, "still_listed": still_listed}),
                );
            } else {
                say(format_args!("{name}: confirmed gone"));
                for sign in still_listed {
                    progress(format_args!("warning: {name} may still run: {sign}"));
                }
            }
        }
    }
    Ok(())
}
