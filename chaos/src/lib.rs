//! Real processes under fire: `crossfade load` instances, a control plane and the brokers of two RocketMQ clusters are killed and frozen while a topic
//! goes through all stages, and the history checker judges what came out.
//!
//! Every process is real and is killed by SIGKILL, as a machine or an orchestrator would; nothing is told to it before. What happens when is drawn
//! from a seed; what the processes are doing at that moment is not, so a run does not repeat itself: its report and its histories are the evidence.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

pub mod cli;
pub mod clusters;
pub mod control;
pub mod explain;
pub mod failure;
pub mod fates;
pub mod fleet;
pub mod frozen;
mod outcome;
pub mod process;
pub mod repeats;
pub mod report;
pub mod run;
pub mod scene;
pub mod schedule;
pub mod tally;
pub mod timeline;
pub mod verdict;

use std::io::Write as _;

/// Writes a line of progress to standard error.
pub(crate) fn progress(line: impl std::fmt::Display) {
    // Nobody reads it any more: no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
